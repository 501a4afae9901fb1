package assign

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/internal/ipam"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/service"
)

// The reasons of the events.
const (
	eventAddressAssigned       = "AddressAssigned"
	eventAddressReleased       = "AddressReleased"
	eventAddressConflict       = "AddressConflict"
	eventAddressReplaced       = "AddressReplaced"
	eventAllocationFailed      = "AllocationFailed"
	eventConfigurationRejected = "ConfigurationRejected"
	eventConfigurationAccepted = "ConfigurationAccepted"
)

// note is what happened to an address of a Service, in words for the Service's owner.
type note struct {
	addr            netip.Addr
	reason, message string
}

// note keeps something to tell with the next write. The format begins with the address. What is kept already is not
// kept twice.
func (e *entry) note(reason, format string, addr netip.Addr, args ...any) {
	n := note{addr, reason, fmt.Sprintf(format, append([]any{addr}, args...)...)}
	if !slices.Contains(e.notes, n) {
		e.notes = append(e.notes, n)
	}
}

// told is one thing that a write changed: an event and a log line.
type told struct {
	warning         bool
	reason, message string
	addrs           []netip.Addr
	cause           string // of a refusal, its reason
}

// tell says what a write changed for a Service that was as in before: its new leases, what it lost, and why it lacks
// something if that is news.
func tell(before *corev1.Service, want kube.ServiceStatus, leases []ipam.Lease, notes []note) []told {
	var all []told
	explained := map[netip.Addr]bool{}
	for _, n := range notes {
		explained[n.addr] = true
		if !slices.Contains(want.Addresses, n.addr) { // else it was lost and came back before anyone saw
			all = append(all, told{n.reason == eventAddressConflict, n.reason, n.message, []netip.Addr{n.addr}, ""})
		}
	}
	if !want.OthersIngress {
		for _, h := range service.HeldBy(before) {
			if !explained[h.Addr] && !slices.Contains(want.Addresses, h.Addr) {
				all = append(all, told{false, eventAddressReleased, fmt.Sprintf("%v is released: the Service does not ask for it", h.Addr), []netip.Addr{h.Addr}, ""})
			}
		}
	}
	gained := slices.DeleteFunc(slices.Clone(leases), func(l ipam.Lease) bool { return shows(before, l.Addr) })
	if len(gained) > 0 {
		all = append(all, told{false, eventAddressAssigned, "Assigned " + spell(gained), addrsOf(gained), ""})
	}
	if c, had := want.Allocated, service.Condition(before); c != nil && c.Status == metav1.ConditionFalse &&
		(had == nil || had.Status != c.Status || had.Reason != c.Reason) {
		all = append(all, told{true, eventAllocationFailed, c.Message, nil, c.Reason})
	}
	return all
}

// condition is what an entry's service.ConditionAllocated should say.
func condition(e *entry) *metav1.Condition {
	c := &metav1.Condition{Type: service.ConditionAllocated}
	c.Status, c.Reason = verdict(e)
	switch {
	case e.refusal == nil:
		c.Message = "Holds " + spell(e.leases)
	case c.Status == metav1.ConditionTrue:
		c.Message = "Holds " + spell(e.leases) + "; " + e.refusal.Message
	default:
		c.Message = sentence(e.refusal.Message)
		if len(e.leases) > 0 {
			c.Message += "; keeps " + spell(e.leases)
		}
	}
	return c
}

// verdict is the condition without its words.
func verdict(e *entry) (metav1.ConditionStatus, string) {
	switch {
	case e.refusal == nil:
		return metav1.ConditionTrue, service.ReasonAssigned
	case len(e.leases) > 0 && len(e.leases) < len(e.req.Families) && !e.req.AllFamilies:
		return metav1.ConditionTrue, service.ReasonPartlyAssigned
	default:
		return metav1.ConditionFalse, string(e.refusal.Reason)
	}
}

// spell writes leases as "192.0.2.1 and 2001:db8::1 from pool lan".
func spell(leases []ipam.Lease) string {
	var b strings.Builder
	for i, l := range leases {
		if i > 0 {
			b.WriteString(" and ")
		}
		b.WriteString(l.Addr.String())
		if i == len(leases)-1 || leases[i+1].Pool != l.Pool {
			b.WriteString(" from pool " + l.Pool)
		}
	}
	return b.String()
}

// sentence begins a clause with a capital, but for one that begins with the name of a field or an annotation.
func sentence(clause string) string {
	first, _, _ := strings.Cut(clause, " ")
	if clause == "" || strings.ContainsAny(first, "./") {
		return clause
	}
	return strings.ToUpper(clause[:1]) + clause[1:]
}
