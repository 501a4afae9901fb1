package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/announce"
	"heraldlb.io/herald/internal/assign"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/ipam"
	"heraldlb.io/herald/internal/service"
)

// Change is what a Simulation changes; more than one thing may.
type Change struct {
	Without []string          // nodes that are gone, with the pods on them
	Drain   []string          // nodes that are marked for a drain
	Apply   *config.Resources // objects that are applied; nil for none
}

// Simulation is what would come of a Change.
type Simulation struct {
	// Kept is how many addresses would be announced as they are.
	Kept int `json:"kept"`
	// Moves are the addresses that another node would announce by ARP and NDP.
	Moves []Move `json:"moves"`
	// Lost are the addresses that nobody would announce any more, and Gained those that somebody would.
	Lost   []Loss `json:"lost"`
	Gained []Move `json:"gained"`
	// Routers are the addresses that other nodes than now would tell routers of.
	Routers []Rerouting `json:"routers"`
	// Services are those that would have other addresses.
	Services []Readdressing `json:"services"`
	// Refused are objects that would not be accepted, or not in full.
	Refused []Finding `json:"refused"`
}

// Move is the way of an address from one node to another; empty is none.
type Move struct {
	Address  string   `json:"address"`
	Services []string `json:"services"`
	From     string   `json:"from,omitempty"`
	To       string   `json:"to,omitempty"`
}

// Loss is an address that nobody would announce any more.
type Loss struct {
	Address  string   `json:"address"`
	Services []string `json:"services"`
	Why      []string `json:"why"` // what would stand against each node
}

// Rerouting says which nodes would begin and end to tell routers of an address.
type Rerouting struct {
	Address string   `json:"address"`
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Nodes   int      `json:"nodes"` // that would tell it
}

// Readdressing says which addresses a Service would gain and lose.
type Readdressing struct {
	Service string   `json:"service"`
	Lost    []string `json:"lost,omitempty"`
	Gained  []string `json:"gained,omitempty"`
	Why     string   `json:"why,omitempty"`
}

// Harmful tells whether something would be worse than before.
func (s Simulation) Harmful() bool {
	return len(s.Lost) > 0 || len(s.Refused) > 0 || slices.ContainsFunc(s.Services, func(r Readdressing) bool { return len(r.Lost) > 0 })
}

// Simulate asks the code of the controller and the speakers what would come of a change.
func Simulate(s *Snapshot, c Change) Simulation {
	out := Simulation{Moves: []Move{}, Lost: []Loss{}, Gained: []Move{}, Routers: []Rerouting{}, Services: []Readdressing{}, Refused: []Finding{}}
	var memory config.Memory
	cfg, problems := memory.New(s.Resources)
	scene := s.scene(cfg)
	before := announce.Survey(scene)
	if c.Apply != nil {
		applied := s.applied(*c.Apply)
		next, faults := memory.New(applied)
		for _, p := range faults {
			if !slices.Contains(problems, p) {
				f := failure(p.Kind+"/"+p.Name, p.Reason, p.Text(), "")
				if p.Condition == config.ConditionResolvedRefs {
					f.Severity = SeverityWarning
				}
				out.Refused = append(out.Refused, f)
			}
		}
		scene.Services, out.Services = s.readdressed(cfg, next, applied)
		scene.Config = next
	}
	gone := func(node string) bool { return slices.Contains(c.Without, node) }
	scene.Members = slices.DeleteFunc(scene.Members, func(m gossip.Member) bool { return gone(m.Node) })
	scene.EndpointSlices = without(scene.EndpointSlices, gone)
	scene.Nodes = drained(scene.Nodes, c.Drain)
	out.compare(s.heard(before), s.heard(announce.Survey(scene)))
	return out
}

// heard leaves out the peers with which a node has no session now. One that is new is taken to get one.
func (s *Snapshot) heard(outlooks []announce.Outlook) []announce.Outlook {
	deaf := map[string]bool{}
	for _, p := range Peers(s) {
		deaf[p.Node+"/"+p.Peer] = p.State != established
	}
	for _, o := range outlooks {
		for i := range o.Routes {
			r := &o.Routes[i]
			r.Peers = slices.DeleteFunc(r.Peers, func(peer string) bool { return deaf[r.Node+"/"+peer] })
		}
	}
	return outlooks
}

// compare notes how what would be differs from what is.
func (out *Simulation) compare(before, after []announce.Outlook) {
	was, is := byAddress(before), byAddress(after)
	addrs := slices.Collect(func(yield func(netip.Addr) bool) {
		for _, o := range append(before, after...) {
			if !yield(o.Addr) {
				return
			}
		}
	})
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, addr := range slices.Compact(addrs) {
		b, a := was[addr], is[addr]
		m := Move{addr.String(), keys(b, a), b.Owner, a.Owner}
		switch {
		case announcedBy(b) && !announcedBy(a):
			out.Lost = append(out.Lost, Loss{m.Address, m.Services, against(a)})
		case !announcedBy(b) && announcedBy(a):
			out.Gained = append(out.Gained, m)
		case b.Owner != a.Owner:
			out.Moves = append(out.Moves, m)
		case announcedBy(a):
			out.Kept++
		}
		if added, removed := difference(told(a), told(b)), difference(told(b), told(a)); len(added)+len(removed) > 0 {
			out.Routers = append(out.Routers, Rerouting{m.Address, added, removed, len(told(a))})
		}
	}
}

func byAddress(all []announce.Outlook) map[netip.Addr]announce.Outlook {
	out := make(map[netip.Addr]announce.Outlook, len(all))
	for _, o := range all {
		out[o.Addr] = o
	}
	return out
}

func announcedBy(o announce.Outlook) bool { return o.Owner != "" || len(told(o)) > 0 }

// told are the nodes that tell at least one router of the address.
func told(o announce.Outlook) (nodes []string) {
	for _, r := range o.Routes {
		if len(r.Peers) > 0 {
			nodes = append(nodes, r.Node)
		}
	}
	return nodes
}

// against is what keeps each node from an address.
func against(o announce.Outlook) []string {
	switch {
	case len(o.Services) == 0:
		return []string{"no Service has it any more"}
	case o.Pool == "":
		return []string{"no pool has it any more"}
	case len(o.L2)+len(o.BGP) == 0:
		return []string{"no advertisement selects it any more"}
	}
	out := []string{}
	for _, v := range o.Verdicts {
		out = append(out, fmt.Sprintf("%s: %s (%s)", v.Node, announce.Because(v.Reason), v.Reason))
	}
	return out
}

func keys(outlooks ...announce.Outlook) []string {
	out := []string{}
	for _, o := range outlooks {
		for _, k := range o.Services {
			if !slices.Contains(out, k.String()) {
				out = append(out, k.String())
			}
		}
	}
	return out
}

func difference(x, y []string) []string {
	return slices.DeleteFunc(slices.Clone(x), func(s string) bool { return slices.Contains(y, s) })
}

// without leaves out the endpoints on nodes that are gone.
func without(all []discoveryv1.EndpointSlice, gone func(string) bool) []discoveryv1.EndpointSlice {
	out := slices.Clone(all)
	for i := range out {
		out[i].Endpoints = slices.DeleteFunc(slices.Clone(out[i].Endpoints), func(e discoveryv1.Endpoint) bool { return e.NodeName != nil && gone(*e.NodeName) })
	}
	return out
}

// drained marks nodes for a drain.
func drained(all []corev1.Node, names []string) []corev1.Node {
	out := slices.Clone(all)
	for i := range out {
		if slices.Contains(names, out[i].Name) {
			out[i] = *out[i].DeepCopy()
			metav1.SetMetaDataAnnotation(&out[i].ObjectMeta, announce.AnnotationDrain, "true")
		}
	}
	return out
}

// applied are the Snapshot's resources after others were applied: those of a name that is there replace it.
func (s *Snapshot) applied(r config.Resources) config.Resources {
	old := s.Resources
	return config.Resources{
		Pools: overlaid(s, old.Pools, r.Pools), L2Advertisements: overlaid(s, old.L2Advertisements, r.L2Advertisements),
		BGPAdvertisements: overlaid(s, old.BGPAdvertisements, r.BGPAdvertisements), BGPPeers: overlaid(s, old.BGPPeers, r.BGPPeers),
		BFDProfiles: overlaid(s, old.BFDProfiles, r.BFDProfiles), Communities: overlaid(s, old.Communities, r.Communities),
	}
}

func overlaid[T metav1.Object](s *Snapshot, old, changed []T) []T {
	out := slices.Clone(old)
	for _, o := range changed {
		i := slices.IndexFunc(out, func(x T) bool { return x.GetName() == o.GetName() })
		if i < 0 {
			o.SetUID(types.UID("new " + o.GetName()))
			o.SetCreationTimestamp(metav1.NewTime(s.Now))
			out = append(out, o)
			continue
		}
		o.SetUID(out[i].GetUID())
		o.SetCreationTimestamp(out[i].GetCreationTimestamp())
		out[i] = o
	}
	return out
}

// readdressed returns the Services as they would be under another configuration, and what changes for which.
func (s *Snapshot) readdressed(cfg, next *config.Config, applied config.Resources) ([]corev1.Service, []Readdressing) {
	now := assign.NewSurvey(s.Class, cfg, s.Resources, s.Namespaces, s.Services)
	then := assign.NewSurvey(s.Class, next, applied, s.Namespaces, s.Services)
	services, changes := slices.Clone(s.Services), []Readdressing{}
	for i := range services {
		key := types.NamespacedName{Namespace: services[i].Namespace, Name: services[i].Name}
		was, _ := now.Holding(key)
		is, refusal := then.Holding(key)
		had, has := addresses(was), addresses(is)
		r := Readdressing{Service: key.String(), Lost: difference(had, has), Gained: difference(has, had)}
		if len(r.Lost)+len(r.Gained) == 0 {
			continue
		}
		if refusal != nil {
			r.Why = refusal.Message
		}
		changes = append(changes, r)
		services[i] = *services[i].DeepCopy()
		hold(&services[i], is)
	}
	slices.SortFunc(changes, func(x, y Readdressing) int { return cmp.Compare(x.Service, y.Service) })
	return services, changes
}

func addresses(leases []ipam.Lease) (out []string) {
	for _, l := range leases {
		out = append(out, l.Addr.String())
	}
	return out
}

// hold has a Service show leases as the controller would write them.
func hold(svc *corev1.Service, leases []ipam.Lease) {
	svc.Status.LoadBalancer.Ingress = nil
	var pools []string
	for _, l := range leases {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: l.Addr.String()})
		pools = append(pools, l.Pool)
	}
	metav1.SetMetaDataAnnotation(&svc.ObjectMeta, service.AnnotationPool, service.PoolAnnotation(pools))
}

// MoveHead is the head of MoveRows.
var MoveHead = []string{"ADDRESS", "SERVICES", "FROM", "TO"}

// MoveRows are moves as a table.
func MoveRows(all []Move) [][]Cell {
	var rows [][]Cell
	for _, m := range all {
		rows = append(rows, []Cell{{Text: m.Address}, {Text: strings.Join(m.Services, ",")}, {Text: m.From}, {Text: m.To}})
	}
	return rows
}
