package announce

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
)

// Scene is what the speakers of a cluster know, for a Survey.
type Scene struct {
	Config         *config.Config
	Services       []corev1.Service
	EndpointSlices []discoveryv1.EndpointSlice
	Nodes          []corev1.Node
	Members        []gossip.Member
	Claims         map[netip.Addr]string // the node that announces an address by ARP and NDP
}

// Outlook is what becomes of one address in a Scene, once every speaker has done what it would.
type Outlook struct {
	Addr     netip.Addr
	Services []types.NamespacedName
	Pool     string // empty when no pool has the address

	// L2 and BGP name the advertisements that announce the address, on whatever node.
	L2, BGP []string

	// Owner announces the address by ARP and NDP; empty for nobody.
	Owner    string
	Verdicts []election.Verdict // why each node owns it or does not, by node
	Routes   []Route            // by node
}

// Route is a node that announces an address to routers.
type Route struct {
	Node  string
	Peers []string // those that are configured for the node and told of the address; there may be none
}

// planner is a planner that knows the Scene, and belongs to no node.
func (s Scene) planner() *planner {
	p := newPlanner("")
	p.setConfig(s.Config)
	nodes := make(map[string]node, len(s.Nodes))
	for i := range s.Nodes {
		nodes[s.Nodes[i].Name] = nodeOf(&s.Nodes[i])
	}
	p.setNodes(nodes)
	p.setMembers(s.Members)
	endpoints := map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for i := range s.EndpointSlices {
		key := serviceOf(&s.EndpointSlices[i])
		endpoints[key] = append(endpoints[key], &s.EndpointSlices[i])
	}
	for i := range s.Services {
		key := types.NamespacedName{Namespace: s.Services[i].Namespace, Name: s.Services[i].Name}
		p.setService(key, contributionOf(&s.Services[i], endpoints[key], false))
	}
	for addr, owner := range s.Claims {
		p.claims[addr] = election.Claim{Node: owner, Epoch: 1}
	}
	return p
}

// Stays tells whether an address would stay at a node if somebody moved it there: Fit, or why it would not.
func (s Scene) Stays(addr netip.Addr, node string) election.Reason {
	p := s.planner()
	p.self = node
	return p.stays(addr, p.candidates(addr))
}

// Survey tells what becomes of every address, in the order of the addresses. It asks the speakers' own code.
func Survey(s Scene) []Outlook {
	p := s.planner()
	p.plan(time.Time{})

	out := make([]Outlook, 0, len(p.holders))
	for _, addr := range slices.SortedFunc(maps.Keys(p.holders), netip.Addr.Compare) {
		out = append(out, p.outlook(addr))
	}
	p.addRoutes(out, s.Nodes)
	return out
}

// outlook is what becomes of an address by ARP and NDP.
func (p *planner) outlook(addr netip.Addr) Outlook {
	o := Outlook{Addr: addr, Services: p.holders[addr], Pool: p.poolOf(addr)}
	for chosen := p.advertisements(addr); len(chosen) > 0; chosen = chosen[4:] {
		o.L2 = append(o.L2, p.config.L2Advertisements[binary.BigEndian.Uint32(chosen)].Name)
	}
	for _, a := range p.config.BGPAdvertisements {
		if o.Pool != "" && a.SelectsPool(o.Pool) &&
			slices.ContainsFunc(o.Services, func(k types.NamespacedName) bool { return a.SelectsService(p.services[k].labels) }) {
			o.BGP = append(o.BGP, a.Name)
		}
	}
	o.Owner = cmp.Or(p.spread.Heir(addr), p.decisions[addr].Owner)
	o.Verdicts = election.Explain(p.candidates(addr), o.Owner)
	return o
}

// addRoutes adds what the nodes whose speakers are there tell routers.
func (p *planner) addRoutes(outlooks []Outlook, nodes []corev1.Node) {
	for _, n := range nodes {
		if _, alive := p.members[n.Name]; !alive {
			continue
		}
		peers, _ := p.config.PeersOn(config.Node{Name: n.Name, Labels: n.Labels, Annotations: n.Annotations})
		for i := range outlooks {
			told := p.announcedAs(outlooks[i].Addr, n.Name)
			if len(told) == 0 {
				continue
			}
			route := Route{Node: n.Name}
			for _, peer := range peers {
				for _, indices := range told {
					if slices.ContainsFunc(indices, func(a int) bool { return p.config.BGPAdvertisements[a].SelectsPeer(peer.Name) }) {
						route.Peers = append(route.Peers, peer.Name)
						break
					}
				}
			}
			outlooks[i].Routes = append(outlooks[i].Routes, route)
		}
	}
	for i := range outlooks {
		slices.SortFunc(outlooks[i].Routes, func(x, y Route) int { return cmp.Compare(x.Node, y.Node) })
	}
}

// Because says in words, as a clause about the node, why a node does not own an address.
func Because(reason election.Reason) string {
	switch reason {
	case election.Claimed:
		return "it could own the address, which another node has"
	case election.Unclaimed:
		return "it could own the address, which nobody has claimed yet"
	}
	return because[reason]
}
