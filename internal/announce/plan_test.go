package announce

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/service"
)

func pool(name string, addresses ...string) *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1beta1.IPAddressPoolSpec{Addresses: addresses}}
}

func advertisement(name string, spec v1beta1.L2AdvertisementSpec) *v1beta1.L2Advertisement {
	return &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
}

func mustConfig(t interface{ Fatalf(string, ...any) }, pools []*v1beta1.IPAddressPool, advs ...*v1beta1.L2Advertisement) *config.Config {
	c, problems := config.New(config.Resources{Pools: pools, L2Advertisements: advs})
	if len(problems) > 0 {
		t.Fatalf("the test's configuration is bad: %v", problems)
	}
	return c
}

func on(name string, subnets ...string) gossip.Interface {
	i := gossip.Interface{Name: name, MAC: net.HardwareAddr{2, 0, 0, 0, 0, name[len(name)-1]}, ARP: true, NDP: true}
	for _, s := range subnets {
		i.Subnets = append(i.Subnets, netip.MustParsePrefix(s))
	}
	return i
}

func alive(node string, interfaces ...gossip.Interface) gossip.Member {
	return gossip.Member{Node: node, Health: gossip.Health{Interfaces: interfaces}}
}

func nodeFacts(nodes ...*corev1.Node) map[string]node {
	out := map[string]node{}
	for _, n := range nodes {
		out[n.Name] = nodeOf(n)
	}
	return out
}

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "web", Name: name}
}

func cluster(addrs ...string) contribution { return holds(contribution{anywhere: true}, addrs...) }

func local(node string, addrs ...string) contribution {
	return holds(contribution{nodes: map[string]struct{}{node: {}}}, addrs...)
}

func holds(c contribution, addrs ...string) contribution {
	for _, a := range addrs {
		c.held = append(c.held, service.Held{Addr: netip.MustParseAddr(a), Pool: "lan"})
	}
	return c
}

// The steps happen in order to the planners of n1 and n2. What n1 makes of them is looked at.
func TestTheLifeOfAPlan(t *testing.T) {
	lan := []*v1beta1.IPAddressPool{pool("lan", "192.0.2.100-192.0.2.199", "2001:db8::100/120")}
	all := advertisement("all", v1beta1.L2AdvertisementSpec{})
	eth0 := on("eth0", "192.0.2.0/24", "2001:db8::/64")
	n1, n2 := readyNode("n1"), readyNode("n2")
	excluded, lost := readyNode("n1"), readyNode("n1")
	excluded.Labels[corev1.LabelNodeExcludeBalancers] = ""
	lost.Status.Conditions[0].Status = corev1.ConditionUnknown
	draining := alive("n1", eth0)
	draining.Health.Draining = true

	p := newSpeakers("n1", "n2")
	for _, step := range []struct {
		name   string
		do     func()
		addr   string
		owner  string
		reason election.Reason
		scope  string // interfaces named, or "subnet"
	}{
		{"a Service without configuration has no owner", func() {
			p.nodes(nodeFacts(n1))
			p.members(alive("n1", eth0))
			p.service("shop", cluster("192.0.2.100", "2001:db8::101"))
		}, "192.0.2.100", "", election.NotSelected, ""},
		{"a pool alone is announced by nobody", func() { p.config(mustConfig(t, lan)) }, "192.0.2.100", "", election.NotSelected, ""},
		{"an advertisement announces it", func() { p.config(mustConfig(t, lan, all)) }, "192.0.2.100", "n1", election.Fit, "subnet"},
		{"and the IPv6 address too", func() {}, "2001:db8::101", "n1", election.Fit, "subnet"},
		{"without a working ARP socket IPv4 goes", func() {
			noARP := eth0
			noARP.ARP = false
			p.members(alive("n1", noARP))
		}, "192.0.2.100", "", election.NoInterface, ""},
		{"and IPv6 stays", func() {}, "2001:db8::101", "n1", election.Fit, "subnet"},
		{"an interface of another subnet does not do", func() {
			p.members(alive("n1", on("eth0", "198.51.100.0/24")))
		}, "192.0.2.100", "", election.NoInterface, ""},
		{"unless the advertisement names it", func() {
			p.config(mustConfig(t, lan, advertisement("eth0", v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth0"}})))
		}, "192.0.2.100", "n1", election.Fit, "eth0"},
		{"an advertisement for other nodes does not select this one", func() {
			p.members(alive("n1", eth0))
			p.config(mustConfig(t, lan, advertisement("others", v1beta1.L2AdvertisementSpec{
				NodeSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{corev1.LabelHostname: "n2"}}}})))
		}, "192.0.2.100", "", election.NotSelected, ""},
		{"an excluded node announces nothing", func() {
			p.config(mustConfig(t, lan, all))
			p.nodes(nodeFacts(excluded))
		}, "192.0.2.100", "", election.ExcludedByLabel, ""},
		{"a node that is not Ready does, while it is alone", func() { p.nodes(nodeFacts(lost)) }, "192.0.2.100", "n1", election.Fit, "subnet"},
		{"and yields to one that is", func() {
			p.nodes(nodeFacts(lost, n2))
			p.members(alive("n1", eth0), alive("n2", eth0))
		}, "192.0.2.100", "n2", election.NotReady, ""},
		{"a draining one yields too", func() {
			p.nodes(nodeFacts(n1, n2))
			p.members(draining, alive("n2", eth0))
		}, "192.0.2.100", "n2", election.Draining, ""},
		{"who drains no more is given nothing back", func() { p.members(alive("n1", eth0), alive("n2", eth0)) }, "192.0.2.100", "n2", election.Claimed, ""},
		{"the dead are replaced", func() { p.members(alive("n1", eth0)) }, "192.0.2.100", "n1", election.Fit, "subnet"},
		{"a member whose Node is gone is not chosen", func() {
			p.nodes(nodeFacts(n1))
			p.members(draining, alive("n2", eth0))
		}, "192.0.2.100", "n1", election.Fit, "subnet"},
		{"without an endpoint nobody announces", func() {
			p.nodes(nodeFacts(n1, n2))
			p.members(alive("n1", eth0), alive("n2", eth0))
			p.service("shop", holds(contribution{}, "192.0.2.100"))
		}, "192.0.2.100", "", election.NoEndpoint, ""},
		{"the address that it gave back is nobody's", func() {}, "2001:db8::101", "", "", ""},
		{"policy Local goes where the endpoint is", func() { p.service("shop", local("n2", "192.0.2.100")) }, "192.0.2.100", "n2", election.NoEndpoint, ""},
		{"an address that is shared is served by the endpoints of all who share it", func() { p.service("mail", local("n1", "192.0.2.100")) },
			"192.0.2.100", "n2", election.Claimed, ""},
		{"and follows those that are left", func() { p.service("shop", contribution{}) }, "192.0.2.100", "n1", election.Fit, "subnet"},
		{"a pool that shrinks keeps its holders", func() {
			p.config(mustConfig(t, []*v1beta1.IPAddressPool{pool("lan", "192.0.2.150-192.0.2.199")}, all))
		}, "192.0.2.100", "n1", election.Fit, "subnet"},
		{"so does one that an edit puts out of force", func() {
			c, _ := config.New(config.Resources{Pools: []*v1beta1.IPAddressPool{pool("lan", "192.0.2.1")}, L2Advertisements: []*v1beta1.L2Advertisement{all}})
			p.config(c)
		}, "192.0.2.100", "n1", election.Fit, "subnet"},
		{"a pool that is gone does not", func() {
			p.config(mustConfig(t, []*v1beta1.IPAddressPool{pool("other", "192.0.2.150-192.0.2.199")}, all))
		}, "192.0.2.100", "", election.NotSelected, ""},
		{"a Service that is gone leaves nothing", func() { p.service("mail", contribution{}) }, "192.0.2.100", "", "", ""},
	} {
		step.do()
		p.agree(t)
		d := p.decision("n1", step.addr)
		scope := ""
		switch {
		case d.Scope.BySubnet:
			scope = "subnet"
		case len(d.Scope.Interfaces) == 1:
			scope = d.Scope.Interfaces[0]
		}
		if d.Owner != step.owner || d.Reason != step.reason || scope != step.scope {
			t.Fatalf("%s: %s has owner %q, reason %q, scope %q; want %q, %q, %q", step.name, step.addr, d.Owner, d.Reason, scope, step.owner, step.reason, step.scope)
		}
	}
	p.now = p.now.Add(3 * strangerTime)
	p.agree(t)
	for _, p := range p.planners {
		if len(p.services)+len(p.holders)+len(p.decisions)+len(p.dirty)+len(p.claims)+len(p.vacancies)+len(p.disputes)+len(p.strangers)+len(p.contested) != 0 {
			t.Errorf("something is left: %+v", p)
		}
	}
}

// Two Services share an address, and advertisements select one, the other or both.
func TestAdvertisementsSelectServices(t *testing.T) {
	lan := []*v1beta1.IPAddressPool{pool("lan", "192.0.2.100-192.0.2.199")}
	labelled := func(key, value string) []metav1.LabelSelector {
		return []metav1.LabelSelector{{MatchLabels: map[string]string{key: value}}}
	}
	advertise := func(name, tier, iface string) *v1beta1.L2Advertisement {
		return advertisement(name, v1beta1.L2AdvertisementSpec{ServiceSelectors: labelled("tier", tier), Interfaces: []string{iface}})
	}
	member := []gossip.Member{alive("n1", on("eth0", "192.0.2.0/24"), on("eth1", "192.0.2.0/24"))}
	addr := netip.MustParseAddr("192.0.2.100")
	tier := func(tier string) contribution {
		c := cluster(addr.String())
		c.labels = map[string]string{"tier": tier}
		return c
	}
	p := newPlanner("n1")
	p.setJoined(true)
	p.setNodes(nodeFacts(readyNode("n1")))
	p.setMembers(member)
	for _, step := range []struct {
		name       string
		do         func()
		reason     election.Reason
		interfaces []string
	}{
		{"no advertisement selects the Service", func() {
			p.setConfig(mustConfig(t, lan, advertise("gold", "gold", "eth0"), advertise("iron", "iron", "eth1")))
			p.setService(key("shop"), tier("tin"))
		}, election.NotSelected, nil},
		{"its labels change", func() { p.setService(key("shop"), tier("gold")) }, election.Fit, []string{"eth0"}},
		{"another Service shares the address", func() { p.setService(key("mail"), tier("iron")) }, election.Fit, []string{"eth0", "eth1"}},
		{"the first one goes", func() { p.setService(key("shop"), contribution{}) }, election.Fit, []string{"eth1"}},
		{"the other's advertisement goes", func() { p.setConfig(mustConfig(t, lan, advertise("gold", "gold", "eth0"))) }, election.NotSelected, nil},
	} {
		step.do()
		p.plan(epoch)
		if d := p.decisions[addr]; d.Reason != step.reason || !slices.Equal(d.Scope.Interfaces, step.interfaces) || d.Scope.BySubnet {
			t.Fatalf("%s: reason %q, scope %+v; want %q on %v", step.name, d.Reason, d.Scope, step.reason, step.interfaces)
		}
	}
}

func TestThePreferredNodeIsAsked(t *testing.T) {
	lan := []*v1beta1.IPAddressPool{pool("lan", "192.0.2.0/24")}
	prefer := func(node string, weight int32) v1beta1.PreferredNodeSelector {
		return v1beta1.PreferredNodeSelector{Weight: weight, Preference: metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelHostname: node}}}
	}
	p := newPlanner("n1")
	p.setNodes(nodeFacts(readyNode("n1"), readyNode("n2"), readyNode("n3")))
	p.setMembers([]gossip.Member{alive("n1", on("eth0", "192.0.2.0/24")), alive("n2", on("eth0", "192.0.2.0/24")), alive("n3", on("eth0", "192.0.2.0/24"))})
	// n2 has the greatest sum over the advertisements that announce the address; n3's weight is of another pool's.
	p.setConfig(mustConfig(t, append(lan, pool("other", "198.51.100.0/24")),
		advertisement("a", v1beta1.L2AdvertisementSpec{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{prefer("n1", 50), prefer("n2", 30)}}),
		advertisement("b", v1beta1.L2AdvertisementSpec{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{prefer("n2", 30)}}),
		advertisement("c", v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"other"}, PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{prefer("n3", 100)}})))
	a := netip.MustParseAddr("192.0.2.1")
	for range 20 {
		p.setService(key(a.String()), cluster(a.String()))
		a = a.Next()
	}
	for _, c := range p.plan(epoch).changes {
		if c.new.Heir != "n2" {
			t.Errorf("%s is to be claimed by %q", c.new.Addr, c.new.Heir)
		}
	}
}

func TestAChangeOfOneServiceTouchesItsAddressesOnly(t *testing.T) {
	p := newPlanner("n1")
	p.setJoined(true)
	p.setConfig(mustConfig(t, []*v1beta1.IPAddressPool{pool("lan", "192.0.2.0/24")}, advertisement("all", v1beta1.L2AdvertisementSpec{})))
	p.setNodes(nodeFacts(readyNode("n1")))
	p.setMembers([]gossip.Member{alive("n1", on("eth0", "192.0.2.0/24"))})
	a := netip.MustParseAddr("192.0.2.0")
	for range 200 {
		p.setService(key(a.String()), cluster(a.String()))
		a = a.Next()
	}
	if n := len(p.plan(epoch).changes); n != 200 {
		t.Fatalf("%d changes, want 200", n)
	}
	p.setService(key("192.0.2.7"), holds(contribution{}, "192.0.2.7"))
	p.setService(key("192.0.2.8"), cluster("192.0.2.8"))
	if len(p.dirty) != 1 {
		t.Errorf("%d addresses are looked at again, want 1", len(p.dirty))
	}
	if got := p.plan(epoch).changes; len(got) != 1 || got[0].old.Owner != "n1" || got[0].new.Owner != "" {
		t.Errorf("changes: %+v", got)
	}
	p.setNodes(nodeFacts(readyNode("n1")))
	p.setMembers([]gossip.Member{alive("n1", on("eth0", "192.0.2.0/24"))})
	if got := p.plan(epoch).changes; len(got) != 0 {
		t.Errorf("news that is none made changes: %+v", got)
	}
}

// Whatever happens in whatever order, the Plan is that of a planner that starts with the last state and the claims. Time
// stands still, so that nothing is in dispute and no heir is passed over; who stands in already is not asked.
func TestThePlanIsAFunctionOfTheLastState(t *testing.T) {
	pools := []*v1beta1.IPAddressPool{pool("lan", "192.0.2.0/25"), pool("wan", "198.51.100.0/24")}
	configs := []*config.Config{
		mustConfig(t, pools),
		mustConfig(t, pools, advertisement("all", v1beta1.L2AdvertisementSpec{})),
		mustConfig(t, pools, advertisement("lan", v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"lan"}, Interfaces: []string{"eth1"}})),
		mustConfig(t, pools[:1], advertisement("n2", v1beta1.L2AdvertisementSpec{
			NodeSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{corev1.LabelHostname: "n2"}}}})),
	}
	addrs := []string{"192.0.2.1", "192.0.2.2", "198.51.100.1", "203.0.113.1"}
	names := []string{"n1", "n2", "n3"}
	rapid.Check(t, func(t *rapid.T) {
		p := newPlanner("n1")
		var c *config.Config
		var nodes map[string]node
		var members []gossip.Member
		services := map[types.NamespacedName]contribution{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 7).Draw(t, "kind") {
			case 6:
				p.setClaims([]gossip.Claim{{
					Addr: netip.MustParseAddr(rapid.SampledFrom(addrs).Draw(t, "addr")), Node: rapid.SampledFrom(names[1:]).Draw(t, "by"),
					Epoch: rapid.Uint64Range(1, 9).Draw(t, "epoch"),
				}}, epoch)
			case 7:
				p.setJoined(rapid.Bool().Draw(t, "joined"))
			case 0:
				c = rapid.SampledFrom(configs).Draw(t, "config")
				p.setConfig(c)
			case 1:
				nodes = map[string]node{}
				for _, n := range names {
					if rapid.Bool().Draw(t, n) {
						nodes[n] = nodeOf(readyNode(n))
					}
				}
				p.setNodes(nodes)
			case 2:
				members = nil
				for _, n := range names {
					if rapid.Bool().Draw(t, n) {
						m := alive(n, on(rapid.SampledFrom([]string{"eth0", "eth1"}).Draw(t, "if"), "192.0.2.0/24"))
						m.Health.Draining = rapid.Bool().Draw(t, "draining")
						m.Away = rapid.Bool().Draw(t, "away")
						members = append(members, m)
					}
				}
				p.setMembers(members)
			default:
				k := key(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "service"))
				held := rapid.SliceOfN(rapid.SampledFrom(addrs), 0, 2).Draw(t, "held")
				con := cluster(held...)
				if rapid.Bool().Draw(t, "local") {
					con = local(rapid.SampledFrom(names).Draw(t, "node"), held...)
				}
				services[k] = con
				p.setService(k, con)
			}
			if rapid.Bool().Draw(t, "plan now") {
				p.plan(epoch)
			}
		}
		p.setJoined(true)
		p.plan(epoch)
		clear(p.disputes)
		for addr, d := range p.decisions {
			d.StandIn = ""
			p.decisions[addr] = d
		}
		p.everything()
		p.plan(epoch)

		fresh := newPlanner("n1")
		fresh.setJoined(true)
		if c != nil {
			fresh.setConfig(c)
		}
		fresh.setNodes(nodes)
		fresh.setMembers(members)
		for _, k := range slices.SortedFunc(maps.Keys(services), compareKeys) {
			fresh.setService(k, services[k])
		}
		for addr, c := range p.claims {
			fresh.setClaims([]gossip.Claim{{Addr: addr, Node: c.Node, Epoch: c.Epoch}}, epoch)
		}
		fresh.plan(epoch)
		if !maps.EqualFunc(p.decisions, fresh.decisions, Decision.equal) {
			t.Fatalf("the Plan is\n%+v, and from scratch\n%+v", p.decisions, fresh.decisions)
		}
	})
}
