package announce

import (
	"fmt"
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
	addr := netip.MustParseAddr("192.0.2.100")
	eth0, eth1 := on("eth0", "192.0.2.0/24"), on("eth1", "192.0.2.0/24")
	other := on("eth2", "198.51.100.0/24")
	away := func(m gossip.Member) gossip.Member { m.Away = true; return m }
	draining := func(m gossip.Member) gossip.Member { m.Health.Draining = true; return m }
	n1, n2, n3 := alive("n1", eth0), alive("n2", eth0), alive("n3", eth0)

	planners := map[string]*planner{"n1": newPlanner("n1"), "n2": newPlanner("n2")}
	for _, p := range planners {
		p.setConfig(mustConfig(t, pools, all))
		p.setNodes(nodeFacts(readyNode("n1"), readyNode("n2"), readyNode("n3")))
		p.setService(key("shop"), local("n3", "192.0.2.100"))
	}
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
		for self, p := range planners {
			p.setMembers(step.members)
			p.plan()
			d := p.decisions[addr]
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
	for _, p := range planners {
		p.setMembers([]gossip.Member{n1, draining(n2)})
		p.plan()
		if d := p.decisions[addr]; d.Owner != "" || d.StandIn != "" || len(d.Scope.Absent) != 0 {
			t.Errorf("when it is gone: %+v", d)
		}
	}
}

// An address that several nodes could own stays with the one that is away, and moves when that is gone.
func TestAnAbsenceMovesNothing(t *testing.T) {
	p := newPlanner("n1")
	p.setConfig(mustConfig(t, []*v1beta1.IPAddressPool{pool("lan", "192.0.2.0/24")}, advertisement("all", v1beta1.L2AdvertisementSpec{})))
	var nodes []*corev1.Node
	var members []gossip.Member
	for i := range 3 {
		n := fmt.Sprintf("n%d", i+1)
		nodes = append(nodes, readyNode(n))
		members = append(members, alive(n, on("eth0", "192.0.2.0/24")))
	}
	p.setNodes(nodeFacts(nodes...))
	p.setMembers(members)
	a := netip.MustParseAddr("192.0.2.1")
	for range 50 {
		p.setService(key(a.String()), cluster(a.String()))
		a = a.Next()
	}
	p.plan()
	members[1].Away = true
	p.setMembers(members)
	stoodIn := 0
	for _, c := range p.plan() {
		if c.new.Owner != c.old.Owner || c.new.Owner != "n2" || c.new.StandIn == "" || c.new.StandIn == "n2" {
			t.Errorf("when n2 went away %+v became %+v", c.old, c.new)
		}
		stoodIn++
	}
	if stoodIn == 0 {
		t.Fatal("n2 owned nothing")
	}
	p.setMembers([]gossip.Member{members[0], members[2]})
	for _, c := range p.plan() {
		if c.new.Owner != c.old.StandIn || c.new.StandIn != "" {
			t.Errorf("when n2 was gone %+v became %+v: who stood in takes over", c.old, c.new)
		}
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
	p.plan()
	if d := p.decisions[netip.MustParseAddr("192.0.2.100")]; d.Owner != "" || d.StandIn != "" {
		t.Errorf("%+v", d)
	}
}
