package announce

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/layer2"
)

// electorate is what is known for the elections of all addresses that have the same advertisements.
type electorate struct {
	facts     []fact // of each node and member, by name
	rebalance bool   // a node that is preferred takes an address from one that is not
}

// fact is what is known of a node in relation to some advertisements.
type fact struct {
	candidate  election.Candidate // without Reachable and Endpoint
	scope      layer2.Scope
	interfaces []layer2.Interface
}

// candidates returns what is known of each node and member in relation to an address. It is overwritten by the next
// call.
func (p *planner) candidates(addr netip.Addr) []election.Candidate {
	p.scratch = p.scratch[:0]
	for _, f := range p.electorate(addr).facts {
		c := f.candidate
		c.Reachable = slices.ContainsFunc(f.interfaces, func(i layer2.Interface) bool { return f.scope.Includes(i, addr) })
		c.Endpoint = slices.ContainsFunc(p.holders[addr], func(k types.NamespacedName) bool { return p.services[k].servedBy(c.Node) })
		p.scratch = append(p.scratch, c)
	}
	return p.scratch
}

// electorate returns what is known for the election of an address.
func (p *planner) electorate(addr netip.Addr) electorate {
	chosen := p.advertisements(addr)
	key := string(chosen)
	if e, ok := p.facts[key]; ok {
		return e
	}
	var e electorate
	advertisements := make([]config.L2Advertisement, 0, len(chosen)/4)
	for ; len(chosen) > 0; chosen = chosen[4:] {
		a := p.config.L2Advertisements[binary.BigEndian.Uint32(chosen)]
		advertisements = append(advertisements, a)
		e.rebalance = e.rebalance || a.Rebalance == v1beta1.RebalanceOnPreference
	}
	names := map[string]struct{}{}
	for n := range p.nodes {
		names[n] = struct{}{}
	}
	for n := range p.members {
		names[n] = struct{}{}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		e.facts = append(e.facts, p.fact(name, advertisements))
	}
	p.facts[key] = e
	return e
}

// advertisements returns those that announce an address, as their indices, four bytes each: they select its pool and at
// least one of the Services that hold it.
func (p *planner) advertisements(addr netip.Addr) (indices []byte) {
	pool := p.poolOf(addr)
	if pool == "" {
		return nil
	}
	selected := func(a config.L2Advertisement) bool {
		return slices.ContainsFunc(p.holders[addr], func(k types.NamespacedName) bool { return a.SelectsService(p.services[k].labels) })
	}
	for i, a := range p.config.L2Advertisements {
		if a.SelectsPool(pool) && selected(a) {
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
		ServicePathDown:    member.Health.ServicePathDown,
		Draining:           n.draining || member.Health.Draining,
		NotReady:           n.notReady,
		Cordoned:           n.cordoned,
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

// absentInterfaces returns the interfaces on which a node announces an address, for a stand-in.
func absentInterfaces(facts []fact, node string, addr netip.Addr) (out []layer2.Absent) {
	for _, f := range facts {
		if f.candidate.Node != node {
			continue
		}
		for _, i := range f.interfaces {
			if i.MAC != nil && f.scope.Includes(i, addr) {
				out = append(out, layer2.Absent{Name: i.Name, MAC: i.MAC})
			}
		}
	}
	return out
}

// poolOf returns the name of the pool that an address is of. One that lies outside of all pools is of the pool that
// was noted when it was given, as long as that exists: pools that shrink keep their holders. No pool is "".
func (p *planner) poolOf(addr netip.Addr) string {
	if pool, ok := p.config.PoolOf(addr); ok {
		return pool.Name
	}
	for _, key := range p.holders[addr] {
		for _, h := range p.services[key].held {
			if h.Addr != addr {
				continue
			}
			if p.config.HasPool(h.Pool) {
				return h.Pool
			}
		}
	}
	return ""
}
