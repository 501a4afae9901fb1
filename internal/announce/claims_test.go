package announce

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
)

const vip = "192.0.2.100"

var vipAddr = netip.MustParseAddr(vip)

// threeNodes are planners that see each other and know a configuration and no Service.
func threeNodes(t testing.TB) (s *speakers, n1, n2, n3 gossip.Member) {
	s = newSpeakers("n1", "n2", "n3")
	s.config(mustConfig(t, []*v1beta1.IPAddressPool{pool("lan", "192.0.2.0/24")}, advertisement("all", v1beta1.L2AdvertisementSpec{})))
	s.nodes(nodeFacts(readyNode("n1"), readyNode("n2"), readyNode("n3")))
	eth0 := on("eth0", "192.0.2.0/24")
	n1, n2, n3 = alive("n1", eth0), alive("n2", eth0), alive("n3", eth0)
	s.members(n1, n2, n3)
	return s, n1, n2, n3
}

func claimOf(node string, epoch uint64) []gossip.Claim {
	return []gossip.Claim{{Addr: vipAddr, Node: node, Epoch: epoch}}
}

func TestTheOwnerBeforeGoesOnUntilItHearsOfTheClaim(t *testing.T) {
	s, n1, n2, _ := threeNodes(t)
	s.service("shop", cluster(vip))
	s.members(n1, n2)
	s.planners["n1"].setClaims(claimOf("n1", 3), s.now)
	s.planners["n2"].setClaims(claimOf("n1", 3), s.now)
	s.agree(t)
	n1.Health.Draining = true
	s.members(n1, n2)
	before, after := s.planners["n1"], s.planners["n2"]
	before.plan(s.now)
	if d := before.decisions[vipAddr]; d.Owner != "n1" || d.Heir != "n2" {
		t.Fatalf("n1 drains and decides %+v", d)
	}
	p := after.plan(s.now)
	if len(p.claims) != 1 || p.changes[0].taken != election.Draining || p.changes[0].from != "n1" || p.changes[0].new.Owner != "n2" {
		t.Fatalf("n2 does %+v", p)
	}
	before.setClaims(p.claims, s.now)
	if p := before.plan(s.now); len(p.claims) != 0 || p.changes[0].new.Owner != "n2" || p.changes[0].new.Reason != election.Draining {
		t.Errorf("n1 hears of it and does %+v", p)
	}
}

// Who has not met its peers, or looks for them again, cannot know who has an address. It keeps what it has.
func TestWhoHasNotJoinedClaimsNothing(t *testing.T) {
	s, n1, _, _ := threeNodes(t)
	s.members(n1) // alone, as it seems
	p := s.planners["n1"]
	p.setJoined(false)
	p.setService(key("shop"), cluster(vip))
	if plan := p.plan(s.now); len(plan.claims) != 0 || p.decisions[vipAddr].Owner != "" {
		t.Fatalf("before it has joined it does %+v and decides %+v", plan, p.decisions[vipAddr])
	}
	p.setClaims(claimOf("n1", 3), s.now) // of its own life before
	if p.plan(s.now); p.decisions[vipAddr].Owner != "" {
		t.Errorf("before it has joined it announces its own address again: %+v", p.decisions[vipAddr])
	}
	p.setJoined(true)
	if plan := p.plan(s.now); len(plan.claims) != 0 || p.decisions[vipAddr].Owner != "n1" {
		t.Errorf("it has joined and does %+v, and decides %+v", plan, p.decisions[vipAddr])
	}
	p.setJoined(false)
	p.setService(key("blog"), cluster("192.0.2.101"))
	if plan := p.plan(s.now); len(plan.claims) != 0 || p.decisions[vipAddr].Owner != "n1" {
		t.Errorf("it looks around again and does %+v, and decides %+v", plan, p.decisions[vipAddr])
	}
}

func TestAnHeirThatLetsItsTimePassIsFollowedByTheNext(t *testing.T) {
	s, _, _, _ := threeNodes(t)
	s.service("shop", cluster(vip))
	p := s.planners["n1"]
	// Nobody but n1 does anything. Before its turn comes it waits for each of the others for no longer than patience.
	for start := s.now; ; {
		plan := p.plan(s.now)
		if len(plan.claims) == 1 {
			if waited := s.now.Sub(start); waited > 3*patience {
				t.Errorf("n1 waited for %v", waited)
			}
			return
		}
		if plan.wake.Sub(s.now) <= 0 || plan.wake.Sub(s.now) > patience {
			t.Fatalf("at %v it wants to be woken at %v", s.now.Sub(start), plan.wake.Sub(start))
		}
		s.now = plan.wake
	}
}

func TestAFaultOfAllServicePathsMovesNothingAndThatOfOneMovesItsAddresses(t *testing.T) {
	s, n1, n2, n3 := threeNodes(t)
	s.service("shop", cluster(vip))
	for _, p := range s.planners {
		p.setClaims(claimOf("n1", 3), s.now)
	}
	s.agree(t)
	path := func(m *gossip.Member, down bool) {
		t.Helper()
		m.Health.ServicePathDown = down
		s.members(n1, n2, n3)
		s.agree(t)
		if d := s.planners["n2"].decisions[vipAddr]; d.Owner != "n1" || d.Heir != "" {
			t.Errorf("%s has its service path down: %t. Decision %+v", m.Node, down, d)
		}
	}
	// Each finds out by itself, the owner first, and so does each that it is over, the owner last.
	for _, m := range []*gossip.Member{&n1, &n2, &n3} {
		path(m, true)
		s.now = s.now.Add(950 * time.Millisecond) // 1.9 s from the first to the last
	}
	s.now = s.now.Add(time.Minute)
	for _, m := range []*gossip.Member{&n3, &n2, &n1} {
		path(m, false)
		s.now = s.now.Add(950 * time.Millisecond) // 1.9 s from the first to the last
	}

	path(&n1, true)
	since := s.now
	for s.planners["n1"].decisions[vipAddr].Owner == "n1" {
		if s.now = s.planners["n2"].wake(); s.now.IsZero() {
			t.Fatal("it stays for ever")
		}
		s.agree(t)
	}
	if took := s.now.Sub(since); took != commonFault {
		t.Errorf("the address moved after %v, want %v", took, commonFault)
	}
	// Death is another matter, also of one whose service path is down.
	owner := s.planners["n1"].decisions[vipAddr].Owner
	if owner == "n3" {
		n2, n3 = n3, n2
	}
	n2.Health.ServicePathDown, n1.Health.ServicePathDown = true, false
	s.members(n1, n2, n3)
	s.agree(t)
	s.members(n1, n3)
	s.agree(t)
	if d := s.planners["n1"].decisions[vipAddr]; d.Owner == owner || d.Owner == "" {
		t.Errorf("%s is dead and decided is %+v", owner, d)
	}
}

// n1 sees no endpoint at n2, which goes on to claim the address: one of the two has stale news.
func TestTwoThatSeeDifferentThingsDoNotFight(t *testing.T) {
	s, _, _, _ := threeNodes(t)
	p := s.planners["n1"]
	p.setService(key("shop"), local("n1", vip))
	var took []time.Duration
	for claim := uint64(3); s.now.Sub(epoch) < 5*time.Minute; claim = p.claims[vipAddr].Epoch&^1 + 3 {
		p.setClaims(claimOf("n2", claim), s.now)
		plan := p.plan(s.now)
		for len(plan.claims) == 0 {
			if plan.wake.IsZero() || !plan.wake.After(s.now) {
				t.Fatalf("n2 has the address for ever: %+v", p.disputes)
			}
			if d := p.decisions[vipAddr]; d.Owner != "n2" {
				t.Fatalf("n1 decides %+v", d)
			}
			s.now = plan.wake
			plan = p.plan(s.now)
		}
		took = append(took, s.now.Sub(epoch))
	}
	want := "[0s 1s 3s 7s 15s 31s 1m3s 2m7s 3m11s 4m15s 5m19s]"
	if got := fmt.Sprint(took); got != want {
		t.Errorf("n1 took the address at %s, want %s", got, want)
	}
	// What it sees changes: that is news, and it does not wait.
	p.setClaims(claimOf("n2", p.claims[vipAddr].Epoch+2), s.now)
	p.plan(s.now)
	p.setMembers([]gossip.Member{alive("n1", on("eth0", "192.0.2.0/24"))})
	if plan := p.plan(s.now); len(plan.claims) != 1 || plan.changes[0].taken != election.NotAlive {
		t.Errorf("n2 is dead and n1 does %+v", plan)
	}
	// Nor does it wait longer and longer for somebody who is not there.
	for range 3 {
		p.setClaims(claimOf("n2", p.claims[vipAddr].Epoch&^1+3), s.now)
		if plan := p.plan(s.now); len(plan.claims) != 0 || plan.wake.Sub(s.now) != disputeFirst {
			t.Fatalf("n2 claims, n1 does not see it and does %+v at %s", plan, s.now)
		}
		s.now = s.now.Add(disputeFirst)
		if plan := p.plan(s.now); len(plan.claims) != 1 {
			t.Errorf("n2 is still not there, and n1 does %+v", plan)
		}
	}
}

// The network between n1 and the other two was cut. Both sides took the address.
func TestWhoeverSeesTheMajorityKeepsTheAddress(t *testing.T) {
	s, n1, n2, n3 := threeNodes(t)
	s.service("shop", cluster(vip))
	s.all(func(p *planner) { p.setClaims(claimOf("n2", 3), s.now) })
	s.agree(t)
	s.planners["n1"].setMembers([]gossip.Member{n1})
	s.planners["n2"].setMembers([]gossip.Member{n2, n3})
	s.planners["n3"].setMembers([]gossip.Member{n2, n3})
	alone := s.planners["n1"].plan(s.now)
	if len(alone.claims) != 1 || !s.planners["n1"].claims[vipAddr].Weak() {
		t.Fatalf("n1 is alone and does %+v", alone)
	}
	for _, name := range []string{"n2", "n3"} {
		if p := s.planners[name].plan(s.now); len(p.claims) != 0 {
			t.Fatalf("%s claims %v", name, p.claims)
		}
	}
	s.members(n1, n2, n3)
	s.planners["n2"].setClaims(alone.claims, s.now)
	back := s.planners["n2"].plan(s.now)
	if len(back.claims) != 1 || back.claims[0].Node != "n2" || len(back.changes) != 0 {
		t.Fatalf("n2 hears of it and does %+v", back)
	}
	s.planners["n1"].setClaims(back.claims, s.now)
	s.planners["n1"].plan(s.now)
	if d := s.decision("n1", vip); d.Owner != "n2" {
		t.Errorf("n1 decides %+v", d)
	}
	// The same claim against a speaker that has just started, and announced nothing meanwhile, counts.
	fresh := newSpeakers("n2")
	fresh.config(s.planners["n2"].config)
	fresh.nodes(s.planners["n2"].nodes)
	fresh.members(n1, n2, n3)
	fresh.service("shop", cluster(vip))
	fresh.planners["n2"].setClaims(alone.claims, s.now)
	if p := fresh.planners["n2"].plan(s.now); len(p.claims) != 0 || p.changes[0].new.Owner != "n1" {
		t.Errorf("n2 has been restarted and does %+v", p)
	}
}

func TestClaimsThatCountForNothing(t *testing.T) {
	for name, claims := range map[string][]gossip.Claim{
		"of who is not a member":   claimOf("n9", 99),
		"with an absurd epoch":     claimOf("n2", 1<<63),
		"for an address of nobody": {{Addr: netip.MustParseAddr("192.0.2.200"), Node: "n2", Epoch: 5}},
		"for one of no pool":       {{Addr: netip.MustParseAddr("203.0.113.1"), Node: "n2", Epoch: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			s, n1, _, _ := threeNodes(t)
			s.members(n1)
			p := s.planners["n1"]
			p.setService(key("shop"), cluster(vip))
			p.plan(s.now)
			p.setClaims(claims, s.now)
			p.plan(s.now)
			if d := p.decisions[vipAddr]; d.Owner != "n1" || len(p.decisions) != 1 {
				t.Errorf("n1 decides %+v", p.decisions)
			}
			s.now = s.now.Add(2 * strangerTime)
			p.plan(s.now)
			s.now = s.now.Add(2 * strangerTime)
			p.plan(s.now)
			if len(p.claims) != 1 || len(p.strangers) != 0 {
				t.Errorf("what is kept: %v %v", p.claims, p.strangers)
			}
		})
	}
}

// A member whose memory is damaged, or that lies, can claim an address with an epoch at the bound. It costs the address that it stays
// with its owner, and nobody the address.
func TestAnEpochAtItsBoundLeavesNoAddressToNobody(t *testing.T) {
	for name, claim := range map[string][]gossip.Claim{
		"of who is not a member":    claimOf("n9", election.MaxEpoch),
		"of a member":               claimOf("n1", election.MaxEpoch),
		"of another one":            claimOf("n3", election.MaxEpoch),
		"with one left":             claimOf("n9", election.MaxEpoch-1),
		"with two, of the minority": claimOf("n9", election.MaxEpoch-2),
	} {
		t.Run(name, func(t *testing.T) {
			s, n1, n2, n3 := threeNodes(t)
			s.service("shop", cluster(vip))
			s.agree(t)
			s.all(func(p *planner) { p.setClaims(claim, s.now) })
			there := map[string]gossip.Member{"n1": n1, "n2": n2, "n3": n3}
			for len(there) > 0 {
				s.members(slices.Collect(maps.Values(there))...)
				for range 10 {
					s.agree(t)
					s.now = s.now.Add(time.Second)
				}
				owner := ""
				for o := range s.owners(t) {
					owner = o
				}
				m, ok := there[owner]
				if !ok {
					t.Fatalf("of %d nodes the owner is %q", len(there), owner)
				}
				away := m
				away.Away = true
				there[owner] = away
				s.members(slices.Collect(maps.Values(there))...)
				s.agree(t)
				if len(there) > 1 && s.owners(t)[owner] != 1 {
					t.Errorf("%s is away and keeps nothing", owner)
				}
				delete(there, owner)
			}
		})
	}
}

func TestAServiceThatIsMadeAgainFindsItsOwner(t *testing.T) {
	s, _, _, _ := threeNodes(t)
	for i := range 20 {
		s.service(fmt.Sprint(i), cluster(fmt.Sprintf("192.0.2.%d", i)))
	}
	s.agree(t)
	before := map[netip.Addr]string{}
	for addr, d := range s.planners["n1"].decisions {
		before[addr] = d.Owner
	}
	for i := range 20 {
		s.service(fmt.Sprint(i), contribution{})
	}
	s.agree(t)
	s.now = s.now.Add(time.Second)
	for i := range 20 {
		s.service(fmt.Sprint(i), cluster(fmt.Sprintf("192.0.2.%d", i)))
	}
	s.agree(t)
	after := map[netip.Addr]string{}
	for addr, d := range s.planners["n1"].decisions {
		after[addr] = d.Owner
	}
	if !maps.Equal(before, after) {
		t.Errorf("the owners were %v and are %v", before, after)
	}
}

// One endpoint changes: what that costs does not grow with the number of Services.
func BenchmarkReplan(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newSpeakers("n1")
			s.config(mustConfig(b, []*v1beta1.IPAddressPool{pool("lan", "10.0.0.0/16")}, advertisement("all", v1beta1.L2AdvertisementSpec{})))
			s.nodes(nodeFacts(readyNode("n1"), readyNode("n2"), readyNode("n3")))
			s.members(alive("n1", on("eth0", "10.0.0.0/16")), alive("n2", on("eth0", "10.0.0.0/16")), alive("n3", on("eth0", "10.0.0.0/16")))
			addr := netip.MustParseAddr("10.0.0.1")
			for range n {
				s.service(addr.String(), cluster(addr.String()))
				addr = addr.Next()
			}
			p := s.planners["n1"]
			p.plan(s.now)
			var claims []gossip.Claim
			for addr, d := range p.decisions {
				if d.Owner == "" {
					claims = append(claims, gossip.Claim{Addr: addr, Node: d.Heir, Epoch: 3})
				}
			}
			p.setClaims(claims, s.now)
			p.plan(s.now)
			for i := 0; b.Loop(); i++ {
				node := fmt.Sprintf("n%d", i%2+1)
				p.setService(key("10.0.0.1"), local(node, "10.0.0.1"))
				p.plan(s.now)
			}
		})
	}
}
