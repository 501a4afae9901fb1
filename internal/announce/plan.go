package announce

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/layer2"
)

// Decision is what a Plan says of one address.
type Decision struct {
	Addr     netip.Addr
	Services []types.NamespacedName // that hold the address, sorted

	// Owner is the node that should announce the address; empty when none may.
	Owner string
	// Reason is why this node is not the owner; Fit when it is.
	Reason election.Reason
	// StandIn is the node that answers in the owner's place, and with its MAC, while the owner is away; empty when it is not
	// or nobody can.
	StandIn string
	// Scope is where this node announces the address, or answers as the stand-in; the zero Scope when it does neither.
	Scope layer2.Scope
}

func (d Decision) equal(o Decision) bool {
	return d.Addr == o.Addr && d.Owner == o.Owner && d.Reason == o.Reason && d.StandIn == o.StandIn &&
		d.Scope.Equal(o.Scope) && slices.Equal(d.Services, o.Services)
}

// planner holds the Plan, which is a pure function of what it was told last: the configuration, the Services with
// their endpoints, the nodes and the members. It recomputes only the addresses that a change can touch, so that the
// cost of a Service's change does not grow with the number of Services.
type planner struct {
	self    string
	config  *config.Config
	nodes   map[string]node
	members map[string]gossip.Member

	services  map[types.NamespacedName]contribution
	holders   map[netip.Addr][]types.NamespacedName // sorted
	decisions map[netip.Addr]Decision

	routes *routes // what BGP tells

	facts map[string][]fact // by advertisements; computed when needed, forgotten when configuration, nodes or members change
	dirty map[netip.Addr]struct{}
}

func newPlanner(self string) *planner {
	return &planner{
		self:      self,
		config:    &config.Config{},
		nodes:     map[string]node{},
		members:   map[string]gossip.Member{},
		services:  map[types.NamespacedName]contribution{},
		holders:   map[netip.Addr][]types.NamespacedName{},
		decisions: map[netip.Addr]Decision{},
		routes:    newRoutes(),
		facts:     map[string][]fact{},
		dirty:     map[netip.Addr]struct{}{},
	}
}

func (p *planner) setConfig(c *config.Config) {
	p.routes.all = true
	p.config = c
	p.everything()
}

func (p *planner) setNodes(nodes map[string]node) {
	if maps.EqualFunc(p.nodes, nodes, node.equal) {
		return
	}
	p.nodes = nodes
	p.everything()
}

func (p *planner) setMembers(members []gossip.Member) {
	next := make(map[string]gossip.Member, len(members))
	for _, m := range members {
		next[m.Node] = m
	}
	if maps.EqualFunc(p.members, next, func(x, y gossip.Member) bool { return x.Away == y.Away && x.Health.Equal(y.Health) }) {
		return
	}
	p.members = next
	p.everything()
}

// everything marks all addresses.
func (p *planner) everything() {
	clear(p.facts)
	for addr := range p.holders {
		p.dirty[addr] = struct{}{}
		p.routes.touch(addr)
	}
}

// setService replaces what a Service adds; the zero contribution is that of a Service that is gone.
func (p *planner) setService(key types.NamespacedName, c contribution) {
	old := p.services[key]
	if old.equal(c) {
		return
	}
	p.routes.touch(old.addrs()...)
	p.routes.touch(c.addrs()...)
	for _, addr := range old.addrs() {
		p.dirty[addr] = struct{}{}
		p.holders[addr] = slices.DeleteFunc(p.holders[addr], func(k types.NamespacedName) bool { return k == key })
		if len(p.holders[addr]) == 0 {
			delete(p.holders, addr)
		}
	}
	for _, addr := range c.addrs() {
		p.dirty[addr] = struct{}{}
		p.holders[addr] = append(p.holders[addr], key)
		slices.SortFunc(p.holders[addr], compareKeys)
	}
	if len(c.held) == 0 {
		delete(p.services, key)
	} else {
		p.services[key] = c
	}
}

// change is how a Decision differs from the one before. An address that is new or gone has a zero Decision on that
// side, but for its Addr.
type change struct{ old, new Decision }

// plan brings the Plan up to date and returns what changed, by address.
func (p *planner) plan() []change {
	var changes []change
	for addr := range p.dirty {
		old, was := p.decisions[addr]
		if !was {
			old = Decision{Addr: addr}
		}
		next := p.decide(addr)
		if len(next.Services) > 0 {
			p.decisions[addr] = next
		} else {
			delete(p.decisions, addr)
		}
		if !old.equal(next) {
			changes = append(changes, change{old, next})
		}
	}
	clear(p.dirty)
	slices.SortFunc(changes, func(x, y change) int { return x.new.Addr.Compare(y.new.Addr) })
	return changes
}

// decide holds the election of one address.
func (p *planner) decide(addr netip.Addr) Decision {
	d := Decision{Addr: addr, Services: slices.Clone(p.holders[addr])}
	if len(d.Services) == 0 {
		return d
	}
	facts := p.factsOf(addr, d.Services)
	candidates := make([]election.Candidate, len(facts))
	for i, f := range facts {
		candidates[i] = f.candidate
		candidates[i].Reachable = slices.ContainsFunc(f.interfaces, func(i layer2.Interface) bool { return f.scope.Includes(i, addr) })
		candidates[i].Endpoint = slices.ContainsFunc(d.Services, func(k types.NamespacedName) bool { return p.services[k].servedBy(f.candidate.Node) })
	}
	d.Owner, _ = election.Owner(addr, candidates)
	var absent []layer2.Absent
	if standIn, ok := election.StandIn(addr, candidates); ok {
		if absent = absentInterfaces(facts, d.Owner, addr); len(absent) > 0 {
			d.StandIn = standIn
		}
	}
	d.Reason = election.NotAlive
	for i, v := range election.Explain(addr, candidates) {
		if v.Node != p.self {
			continue
		}
		d.Reason = v.Reason
		switch p.self {
		case d.Owner:
			d.Scope = facts[i].scope
		case d.StandIn:
			d.Scope = facts[i].scope
			d.Scope.Absent = absent
		}
	}
	return d
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

// interfaces returns the interfaces that advertisements name, sorted.
func (p *planner) interfaces() []string {
	var out []string
	for _, a := range p.config.L2Advertisements {
		out = append(out, a.Interfaces...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func compareKeys(x, y types.NamespacedName) int { return strings.Compare(x.String(), y.String()) }
