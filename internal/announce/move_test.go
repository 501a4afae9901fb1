package announce

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/election"
)

func TestWhatAMoveLooksLike(t *testing.T) {
	m := Move{Addrs: []netip.Addr{vipAddr, netip.MustParseAddr("2001:db8::1")}, Until: time.Date(2026, 1, 2, 12, 0, 30, 0, time.UTC)}
	const text = "192.0.2.100,2001:db8::1 until 2026-01-02T12:00:30Z"
	if m.String() != text {
		t.Errorf("it is written %q, want %q", m, text)
	}
	if got, err := ParseMove(text); err != nil || !slices.Equal(got.Addrs, m.Addrs) || !got.Until.Equal(m.Until) {
		t.Errorf("%q is read as %v, %v", text, got, err)
	}
	for _, text := range []string{"", "192.0.2.100", "192.0.2.100 until tomorrow", " until 2026-01-02T12:00:30Z", "shop until 2026-01-02T12:00:30Z", "192.0.2.100, until 2026-01-02T12:00:30Z"} {
		if m, err := ParseMove(text); err == nil {
			t.Errorf("%q is read as %v", text, m)
		}
	}
}

// Each story begins with three nodes of which n1 has the address, and n2 is asked to take it.
func TestAnAddressIsMovedByHand(t *testing.T) {
	type story struct {
		*speakers
		t     *testing.T
		value string
	}
	ask := func(s *story, node string, until time.Duration) error {
		s.value = Move{Addrs: []netip.Addr{vipAddr}, Until: s.now.Add(until)}.String()
		return s.planners[node].setMove(s.value, s.now)
	}
	at := func(s *story, node string) {
		s.t.Helper()
		s.agree(s.t)
		if got := s.owners(s.t); got[node] != 1 {
			s.t.Errorf("it is at %v, want %s", got, node)
		}
	}
	for name, tell := range map[string]func(s *story){
		"it moves, and the owner before goes on until it hears of the claim": func(s *story) {
			if err := ask(s, "n2", time.Minute); err != nil {
				s.t.Fatal(err)
			}
			p := s.planners["n2"].plan(s.now)
			if len(p.claims) != 1 || p.changes[0].taken != election.Requested || p.changes[0].from != "n1" || p.changes[0].new.Owner != "n2" {
				s.t.Fatalf("n2 does %+v", p)
			}
			before := s.planners["n1"]
			if before.plan(s.now); before.decisions[vipAddr].Owner != "n1" {
				s.t.Errorf("n1 has not heard of it and decides %+v", before.decisions[vipAddr])
			}
			before.setClaims(p.claims, s.now)
			if p := before.plan(s.now); len(p.claims) != 0 || p.changes[0].new.Owner != "n2" {
				s.t.Errorf("n1 hears of it and does %+v", p)
			}
			s.planners["n3"].setClaims(p.claims, s.now)
			at(s, "n2")
		},
		"it stays where it was moved to, for as long as the wish is there and after": func(s *story) {
			_ = ask(s, "n2", time.Minute)
			at(s, "n2")
			s.all(func(p *planner) { p.everything() })
			at(s, "n2")
			_ = s.planners["n2"].setMove("", s.now)
			at(s, "n2")
		},
		"what was done once is not done again": func(s *story) {
			_ = ask(s, "n2", time.Minute)
			at(s, "n2")
			s.all(func(p *planner) { p.setClaims(claimOf("n3", p.claims[vipAddr].Epoch&^1+3), s.now) })
			_ = s.planners["n2"].setMove(s.value, s.now)
			at(s, "n3")
		},
		"one that has it already has done what it was asked": func(s *story) {
			_ = ask(s, "n1", time.Minute)
			at(s, "n1")
			_ = ask(s, "n2", time.Minute)
			at(s, "n2")
		},
		"two that were asked for the same address do not fight": func(s *story) {
			_ = ask(s, "n2", time.Minute)
			_ = ask(s, "n3", time.Minute)
			s.agree(s.t)
			if got := s.owners(s.t); got["n1"] > 0 || got[""] > 0 {
				s.t.Errorf("it is at %v", got)
			}
		},
		"a wish whose time is over counts for nothing": func(s *story) {
			_ = ask(s, "n2", -time.Second)
			at(s, "n1")
		},
		"one that would last too long does not either, and an error says so": func(s *story) {
			if err := ask(s, "n2", time.Hour); err == nil {
				s.t.Error("no error")
			}
			at(s, "n1")
		},
		"a node that cannot have it does not take it, and does when it can": func(s *story) {
			_ = ask(s, "n2", time.Minute)
			s.service("shop", local("n1", vip))
			at(s, "n1")
			both := local("n1", vip)
			both.nodes["n2"] = struct{}{}
			s.now = s.now.Add(59 * time.Second)
			s.service("shop", both)
			at(s, "n2")
		},
		"a node that could have it too late does not take it": func(s *story) {
			_ = ask(s, "n2", time.Minute)
			s.service("shop", local("n1", vip))
			at(s, "n1")
			s.now = s.now.Add(time.Minute)
			s.service("shop", cluster(vip))
			at(s, "n1")
		},
		"a node that is being drained does not take it": func(s *story) {
			n2 := readyNode("n2")
			n2.Annotations = map[string]string{AnnotationDrain: "true"}
			s.nodes(nodeFacts(readyNode("n1"), n2, readyNode("n3")))
			_ = ask(s, "n2", time.Minute)
			at(s, "n1")
		},
		"a preference that moves addresses is stronger": func(s *story) {
			n1 := readyNode("n1")
			n1.Labels["fast"] = "yes"
			s.nodes(nodeFacts(n1, readyNode("n2"), readyNode("n3")))
			s.config(mustConfig(s.t, []*v1beta1.IPAddressPool{pool("lan", "192.0.2.0/24")}, advertisement("all", v1beta1.L2AdvertisementSpec{
				Rebalance:              v1beta1.RebalanceOnPreference,
				PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{{Weight: 1, Preference: metav1.LabelSelector{MatchLabels: map[string]string{"fast": "yes"}}}},
			})))
			_ = ask(s, "n2", time.Minute)
			at(s, "n1")
		},
		"who sees less than half of the cluster takes nothing": func(s *story) {
			_ = ask(s, "n2", time.Minute)
			p := s.planners["n2"]
			p.setNodes(nodeFacts(readyNode("n1"), readyNode("n2"), readyNode("n3"), readyNode("n4"), readyNode("n5"), readyNode("n6"), readyNode("n7")))
			if plan := p.plan(s.now); len(plan.claims) > 0 {
				s.t.Errorf("it claims %+v", plan.claims)
			}
		},
		"who has not joined yet takes nothing until it has": func(s *story) {
			p := s.planners["n2"]
			p.setJoined(false)
			_ = ask(s, "n2", time.Minute)
			at(s, "n1")
			p.setJoined(true)
			at(s, "n2")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _, _ := threeNodes(t)
			s.service("shop", cluster(vip))
			s.all(func(p *planner) { p.setClaims(claimOf("n1", 3), s.now) })
			s.agree(t)
			tell(&story{s, t, ""})
		})
	}
}
