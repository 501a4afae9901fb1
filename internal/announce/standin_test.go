package announce

import (
	"maps"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
)

// The steps happen in order to the planners of n1 and n2, which see the same. The address is that of n3, where the only
// endpoint of its Service is.
func TestWhoAnswersWhileTheOwnerIsAway(t *testing.T) {
	pools := []*v1beta1.IPAddressPool{pool("lan", "192.0.2.100-192.0.2.199")}
	all := advertisement("all", v1beta1.L2AdvertisementSpec{})
	const addr = "192.0.2.100"
	eth0, eth1 := on("eth0", "192.0.2.0/24"), on("eth1", "192.0.2.0/24")
	other := on("eth2", "198.51.100.0/24")
	away := func(m gossip.Member) gossip.Member { m.Away = true; return m }
	draining := func(m gossip.Member) gossip.Member { m.Health.Draining = true; return m }
	n1, n2, n3 := alive("n1", eth0), alive("n2", eth0), alive("n3", eth0)

	s := newSpeakers("n1", "n2", "n3")
	s.config(mustConfig(t, pools, all))
	s.nodes(nodeFacts(readyNode("n1"), readyNode("n2"), readyNode("n3")))
	s.service("shop", local("n3", "192.0.2.100"))
	s.members(n1, n2, n3)
	s.agree(t)
	for _, step := range []struct {
		name    string
		members []gossip.Member
		standIn string
		absent  string // names of the interfaces whose MACs are told
	}{
		{"nobody, while it is there", []gossip.Member{n1, draining(n2), n3}, "", ""},
		{"another one, as soon as it is away", []gossip.Member{n1, draining(n2), away(n3)}, "n1", "eth0"},
		{"one that drains yields", []gossip.Member{draining(n1), n2, away(n3)}, "n2", "eth0"},
		{"one that is away too is passed over", []gossip.Member{away(n1), draining(n2), away(n3)}, "n2", "eth0"},
		{"nobody, when all are away", []gossip.Member{away(n1), away(n2), away(n3)}, "", ""},
		{"one without an interface there is passed over", []gossip.Member{alive("n1", other), draining(n2), away(n3)}, "n2", "eth0"},
		{"all its interfaces there are told, and no other", []gossip.Member{n1, draining(n2), away(alive("n3", eth0, eth1, other))}, "n1", "eth0 eth1"},
		{"nobody, when its MAC is not known", []gossip.Member{n1, n2, away(alive("n3", gossip.Interface{Name: "eth0", ARP: true, Subnets: eth0.Subnets}))}, "", ""},
		{"nobody, when it is back", []gossip.Member{n1, draining(n2), n3}, "", ""},
	} {
		s.members(step.members...)
		s.agree(t)
		for _, self := range []string{"n1", "n2"} {
			s.planners[self].plan(s.now)
			d := s.decision(self, addr)
			if d.Owner != "n3" || d.StandIn != step.standIn {
				t.Fatalf("%s: to %s %q stands in for %q; want %q for n3", step.name, self, d.StandIn, d.Owner, step.standIn)
			}
			absent := ""
			for i, a := range d.Scope.Absent {
				if i > 0 {
					absent += " "
				}
				absent += a.Name
				if want := on(a.Name).MAC; a.MAC.String() != want.String() {
					t.Errorf("%s: %s is said to have MAC %v, want %v", step.name, a.Name, a.MAC, want)
				}
			}
			want := ""
			if self == step.standIn {
				want = step.absent
			}
			if absent != want || d.Scope.BySubnet != (self == step.standIn) || d.Reason == election.Fit {
				t.Errorf("%s: %s has reason %q and scope %+v, want the MACs of %q", step.name, self, d.Reason, d.Scope, want)
			}
		}
	}
	s.members(n1, draining(n2))
	s.agree(t)
	for _, self := range []string{"n1", "n2"} {
		if d := s.decision(self, addr); d.Owner != "" || d.StandIn != "" || len(d.Scope.Absent) != 0 {
			t.Errorf("when it is gone: %+v", d)
		}
	}
}

// An address that several nodes could own stays with the one that is away, and moves when that is gone.
func TestAnAbsenceMovesNothing(t *testing.T) {
	s := newSpeakers("n1", "n2", "n3")
	s.config(mustConfig(t, []*v1beta1.IPAddressPool{pool("lan", "192.0.2.0/24")}, advertisement("all", v1beta1.L2AdvertisementSpec{})))
	s.nodes(nodeFacts(readyNode("n1"), readyNode("n2"), readyNode("n3")))
	n1, n2, n3 := alive("n1", on("eth0", "192.0.2.0/24")), alive("n2", on("eth0", "192.0.2.0/24")), alive("n3", on("eth0", "192.0.2.0/24"))
	s.members(n1, n2, n3)
	a := netip.MustParseAddr("192.0.2.1")
	for range 50 {
		s.service(a.String(), cluster(a.String()))
		a = a.Next()
	}
	s.agree(t)
	before := s.owners(t)
	if before["n2"] < 10 {
		t.Fatalf("n2 owns %d of the addresses", before["n2"])
	}
	away := n2
	away.Away = true
	s.members(n1, away, n3)
	stoodIn := 0
	for _, c := range s.agree(t)["n1"] {
		if c.new.Owner != c.old.Owner || c.new.Owner != "n2" || c.new.StandIn == "" || c.new.StandIn == "n2" {
			t.Errorf("when n2 went away %+v became %+v", c.old, c.new)
		}
		stoodIn++
	}
	if stoodIn != before["n2"] {
		t.Errorf("%d of %d addresses are stood in for", stoodIn, before["n2"])
	}
	s.members(n1, n2, n3)
	s.agree(t)
	if after := s.owners(t); !maps.Equal(before, after) {
		t.Errorf("when n2 is back the owners are %v, before %v", after, before)
	}
	s.members(n1, n3)
	s.agree(t)
	if after := s.owners(t); after["n1"]+after["n3"] != 50 || after["n1"] < before["n1"] || after["n3"] < before["n3"] {
		t.Errorf("when n2 is gone the owners are %v, before %v", after, before)
	}
}

func TestAMemberThatIsAwayAndHasNoNodeOwnsNothing(t *testing.T) {
	p := newPlanner("n1")
	p.setConfig(mustConfig(t, []*v1beta1.IPAddressPool{pool("lan", "192.0.2.0/24")}, advertisement("all", v1beta1.L2AdvertisementSpec{
		NodeSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{corev1.LabelHostname: "n2"}}}})))
	p.setNodes(nodeFacts(readyNode("n1")))
	gone := alive("n2", on("eth0", "192.0.2.0/24"))
	gone.Away = true
	p.setMembers([]gossip.Member{alive("n1", on("eth0", "192.0.2.0/24")), gone})
	p.setService(key("shop"), cluster("192.0.2.100"))
	p.plan(epoch)
	if d := p.decisions[netip.MustParseAddr("192.0.2.100")]; d.Owner != "" || d.StandIn != "" {
		t.Errorf("%+v", d)
	}
}
