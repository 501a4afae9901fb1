package announce

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/gossip"
)

// epoch is when a test begins.
var epoch = time.Unix(0, 0)

// speakers are the planners of several nodes that are told the same, and whose claims reach each other at once.
type speakers struct {
	planners map[string]*planner
	now      time.Time
}

func newSpeakers(names ...string) *speakers {
	s := &speakers{map[string]*planner{}, epoch}
	for _, n := range names {
		s.planners[n] = newPlanner(n)
		s.planners[n].setJoined(true)
	}
	return s
}

// all tells every planner the same.
func (s *speakers) all(tell func(p *planner)) {
	for _, p := range s.planners {
		tell(p)
	}
}

func (s *speakers) config(c *config.Config)    { s.all(func(p *planner) { p.setConfig(c) }) }
func (s *speakers) nodes(n map[string]node)    { s.all(func(p *planner) { p.setNodes(n) }) }
func (s *speakers) members(m ...gossip.Member) { s.all(func(p *planner) { p.setMembers(m) }) }
func (s *speakers) service(n string, c contribution) {
	s.all(func(p *planner) { p.setService(key(n), c) })
}

// agree lets them plan and hear of each other's claims until nobody has anything to say, and returns what changed on the
// way, by planner. Nobody who is not a member says anything.
func (s *speakers) agree(t testing.TB) map[string][]change {
	t.Helper()
	changes := map[string][]change{}
	for round := 0; ; round++ {
		if round > 20 {
			t.Fatalf("they go on to claim: %+v", changes)
		}
		var claims []gossip.Claim
		for _, name := range slices.Sorted(maps.Keys(s.planners)) {
			p := s.planners[name]
			if m, alive := p.members[name]; !alive || m.Away {
				continue
			}
			plan := p.plan(s.now)
			claims = append(claims, plan.claims...)
			changes[name] = append(changes[name], plan.changes...)
		}
		if len(claims) == 0 {
			return changes
		}
		s.all(func(p *planner) { p.setClaims(claims, s.now) })
	}
}

// decision is what a planner decided on an address.
func (s *speakers) decision(self, addr string) Decision {
	return s.planners[self].decisions[netip.MustParseAddr(addr)]
}

// owners counts the addresses of each owner, and fails when two planners disagree.
func (s *speakers) owners(t testing.TB) map[string]int {
	t.Helper()
	counts := map[string]int{}
	var first *planner
	for _, name := range slices.Sorted(maps.Keys(s.planners)) {
		p := s.planners[name]
		if m, alive := p.members[name]; !alive || m.Away {
			continue
		}
		if first == nil {
			first = p
			for _, d := range p.decisions {
				counts[d.Owner]++
			}
		}
		for addr, d := range p.decisions {
			if d.Owner != first.decisions[addr].Owner {
				t.Fatalf("%s holds %q for the owner of %s, and %s %q", name, d.Owner, addr, first.self, first.decisions[addr].Owner)
			}
		}
	}
	return counts
}
