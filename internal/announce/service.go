package announce

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/internal/service"
)

// contribution is all that a Service adds to a Plan: the addresses to be announced and where its traffic can be
// served.
type contribution struct {
	held []service.Held

	// labels are the Service's, by which advertisements select it.
	labels labels.Set

	// anywhere: every node can serve it, the policy being Cluster and an endpoint being there.
	anywhere bool
	// nodes: these can, the policy being Local.
	nodes map[string]struct{}
}

// contributionOf reads a Service and its EndpointSlices. A Service that Herald gave no address adds nothing: another
// implementation announces what it gave. It does add what a speaker that only observes would announce, whose controller
// gives nothing.
func contributionOf(svc *corev1.Service, slices []*discoveryv1.EndpointSlice, observes bool) contribution {
	if !service.Marked(svc) && !observes {
		return contribution{}
	}
	c := contribution{held: service.HeldBy(svc), labels: svc.Labels}
	ready, serving := endpoints(slices)
	usable := ready
	if len(ready.nodes) == 0 && !ready.elsewhere {
		// KEP-1669: with no ready endpoint left, those that terminate and still serve get the traffic.
		usable = serving
	}
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		c.nodes = usable.nodes
	} else {
		c.anywhere = usable.elsewhere || len(usable.nodes) > 0
	}
	return c
}

// places is where endpoints are.
type places struct {
	nodes     map[string]struct{}
	elsewhere bool // some are on no node of the cluster, such as virtual machines
}

func (p *places) add(node *string) {
	if node == nil || *node == "" {
		p.elsewhere = true
		return
	}
	p.nodes[*node] = struct{}{}
}

// endpoints tells where the endpoints are that are ready, and those that serve while they terminate. A condition
// that is not set counts as the API says: ready, and serving when ready.
func endpoints(slices []*discoveryv1.EndpointSlice) (ready, serving places) {
	ready.nodes, serving.nodes = map[string]struct{}{}, map[string]struct{}{}
	for _, s := range slices {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			isReady := e.Conditions.Ready == nil || *e.Conditions.Ready
			if isReady {
				ready.add(e.NodeName)
			}
			if isReady || e.Conditions.Serving != nil && *e.Conditions.Serving {
				serving.add(e.NodeName)
			}
		}
	}
	return ready, serving
}

// servedBy tells whether traffic that arrives at the node can be served.
func (c contribution) servedBy(node string) bool {
	if c.anywhere {
		return true
	}
	_, ok := c.nodes[node]
	return ok
}

func (c contribution) equal(o contribution) bool {
	return c.anywhere == o.anywhere && slices.Equal(c.held, o.held) && maps.Equal(c.nodes, o.nodes) && maps.Equal(c.labels, o.labels)
}

// addrs returns the addresses, each once.
func (c contribution) addrs() []netip.Addr {
	var out []netip.Addr
	for _, h := range c.held {
		if !slices.Contains(out, h.Addr) {
			out = append(out, h.Addr)
		}
	}
	return out
}
