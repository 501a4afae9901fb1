package ipam

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/internal/service"
)

// Considered is what a request could get from a pool for one family. Reason is empty when the pool has an address for it.
type Considered struct {
	Pool   string
	Family corev1.IPFamily
	Reason service.Reason
	Why    string // a clause
}

// Consider goes through the pools in the order in which the request would be served from them, and says of each why it
// would be passed over. It gives nothing.
func (a *Allocator) Consider(req service.Request) []Considered {
	if closed := a.closedTo(&req); closed != nil {
		return []Considered{{req.Pool, "", closed.Reason, closed.Message}}
	}
	p := planner{a: a, req: &req, choice: a.choiceOf(&req)}
	p.spent, _ = a.spent(req.Key.Namespace)
	var out []Considered
	for _, one := range p.inOrder() {
		for _, name := range req.Families {
			f := familyOf(name)
			c := Considered{Pool: one.Name, Family: name}
			if one.inForce && p.choice.has(one) && a.serving[f].has(one.rank) && !p.spent.has(one.rank) {
				c.Why = fmt.Sprintf("has a free %s address", name)
			} else {
				c.Reason, c.Why = p.passOver(one, f)
			}
			out = append(out, c)
		}
	}
	return out
}
