package announce

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/layer2"
)

// fact is what is known of a node in relation to the advertisements of an address, the same for all addresses that have
// the same ones.
type fact struct {
	candidate  election.Candidate // without Reachable and Endpoint
	scope      layer2.Scope
	interfaces []layer2.Interface
}

// factsOf returns what is known of each node and member in relation to an address, by name.
func (p *planner) factsOf(addr netip.Addr, services []types.NamespacedName) []fact {
	chosen := p.advertisements(addr, services)
	key := string(chosen)
	if f, ok := p.facts[key]; ok {
		return f
	}
	advertisements := make([]config.L2Advertisement, 0, len(chosen)/4)
	for ; len(chosen) > 0; chosen = chosen[4:] {
		advertisements = append(advertisements, p.config.L2Advertisements[binary.BigEndian.Uint32(chosen)])
	}
	names := map[string]struct{}{}
	for n := range p.nodes {
		names[n] = struct{}{}
	}
	for n := range p.members {
		names[n] = struct{}{}
	}
	out := make([]fact, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, p.fact(name, advertisements))
	}
	p.facts[key] = out
	return out
}

// advertisements returns those that announce an address, as their indices, four bytes each: they select its pool and at
// least one of the Services that hold it.
func (p *planner) advertisements(addr netip.Addr, services []types.NamespacedName) (indices []byte) {
	pool := p.poolOf(addr)
	if pool == "" {
		return nil
	}
	for i, a := range p.config.L2Advertisements {
		if a.SelectsPool(pool) && slices.ContainsFunc(services, func(k types.NamespacedName) bool { return a.SelectsService(p.services[k].labels) }) {
			indices = binary.BigEndian.AppendUint32(indices, uint32(i))
		}
	}
	return indices
}

// fact gathers what is known of one node.
func (p *planner) fact(name string, advertisements []config.L2Advertisement) fact {
	n, known := p.nodes[name]
	member, alive := p.members[name]
	f := fact{candidate: election.Candidate{
		Node:               name,
		Alive:              alive,
		Excluded:           n.excluded,
		NetworkUnavailable: n.networkUnavailable,
		NotReady:           n.notReady,
		Draining:           member.Health.Draining,
		Away:               member.Away,
	}}
	if known {
		f.scope, f.candidate.Weight, f.candidate.Selected = scope(advertisements, n)
	}
	for _, i := range member.Health.Interfaces {
		f.interfaces = append(f.interfaces, layer2.Interface{Name: i.Name, MAC: i.MAC, ARP: i.ARP, NDP: i.NDP, Subnets: i.Subnets})
	}
	return f
}

// scope returns on which interfaces of a node the advertisements announce, how much they prefer the node, and whether
// any selects it.
func scope(advertisements []config.L2Advertisement, n node) (s layer2.Scope, weight int, selected bool) {
	for _, a := range advertisements {
		if !a.SelectsNode(n.labels) {
			continue
		}
		selected = true
		weight += a.Weight(n.labels)
		if a.Interfaces == nil {
			s.BySubnet = true
		}
		s.Interfaces = append(s.Interfaces, a.Interfaces...)
	}
	slices.Sort(s.Interfaces)
	s.Interfaces = slices.Compact(s.Interfaces)
	return s, weight, selected
}
