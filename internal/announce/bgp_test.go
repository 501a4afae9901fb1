package announce

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/config"
)

// fakeBGP remembers what it was told.
type fakeBGP struct {
	mu    sync.Mutex
	peers []string
	told  map[netip.Prefix][]bgp.Route
	calls int
	left  []bgp.Departure
}

func (f *fakeBGP) Apply(peers []bgp.Peer, changed map[netip.Prefix][]bgp.Route) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.peers = nil
	for _, p := range peers {
		f.peers = append(f.peers, p.Name)
	}
	maps.Copy(f.told, changed)
}

func (f *fakeBGP) Leave(_ context.Context, d bgp.Departure, _ time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = append(f.left, d)
}

// bgpConfig reads documents "Kind name {spec}", the first being the oldest.
func bgpConfig(t *testing.T, lines ...string) *config.Config {
	t.Helper()
	var b strings.Builder
	for i, l := range lines {
		f := strings.SplitN(l, " ", 3)
		fmt.Fprintf(&b, "---\napiVersion: heraldlb.io/v1beta1\nkind: %s\nmetadata: {name: %s, creationTimestamp: \"2026-01-01T00:00:%02dZ\"}\nspec: %s\n", f[0], f[1], i, f[2])
	}
	r, problems := config.Parse("cm", map[string]string{"config": b.String()})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c, problems := config.New(r)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}

// shown prints changes, as "prefix: peers attributes", sorted.
func shown(changed map[netip.Prefix][]bgp.Route) []string {
	var out []string
	for prefix, routes := range changed {
		line := prefix.String() + ":"
		for _, r := range routes {
			line += " " + strings.Join(r.Peers, "+")
			if r.Peers == nil {
				line += "all"
			}
			if r.LocalPref != nil {
				line += fmt.Sprintf(" pref=%d", *r.LocalPref)
			}
			if len(r.Communities) > 0 {
				line += fmt.Sprintf(" communities=%v", r.Communities)
			}
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// The steps happen in order to one planner, which is that of node n1 with the peers tor1 and tor2.
func TestWhatRoutersAreTold(t *testing.T) {
	const lan, peers = "IPAddressPool lan {addresses: [192.0.2.0/24, '2001:db8::/64']}", "BGPPeer %s {peerAddress: 198.51.100.%d, myASN: 64512, peerASN: 64513}"
	tor1, tor2 := fmt.Sprintf(peers, "tor1", 1), fmt.Sprintf(peers, "tor2", 2)
	use := func(p *planner, lines ...string) {
		p.setConfig(bgpConfig(t, append([]string{lan, tor1, tor2}, lines...)...))
	}
	excluded := readyNode("n1")
	excluded.Labels[corev1.LabelNodeExcludeBalancers] = ""
	p := newPlanner("n1")
	p.routes.usePeers([]string{"tor1", "tor2"})
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"a pool alone is not announced", func() {
			use(p)
			p.setNodes(nodeFacts(readyNode("n1")))
			p.setService(key("shop"), cluster("192.0.2.1", "2001:db8::1"))
		}, nil},
		{"an advertisement announces its addresses to every peer", func() { use(p, "BGPAdvertisement all {}") },
			[]string{"192.0.2.1/32: all", "2001:db8::1/128: all"}},
		{"the same again is no change", func() { use(p, "BGPAdvertisement all {}") }, nil},
		{"another Service touches its own prefix", func() { p.setService(key("blog"), cluster("192.0.2.2")) }, []string{"192.0.2.2/32: all"}},
		{"policy Local without an endpoint here is not announced", func() { p.setService(key("blog"), local("n2", "192.0.2.2")) }, []string{"192.0.2.2/32:"}},
		{"and with one it is", func() { p.setService(key("blog"), local("n1", "192.0.2.2")) }, []string{"192.0.2.2/32: all"}},
		{"a Service without endpoints is withdrawn", func() { p.setService(key("blog"), holds(contribution{}, "192.0.2.2")) }, []string{"192.0.2.2/32:"}},
		{"an older advertisement's attributes prevail, and communities add up", func() {
			use(p, "BGPAdvertisement all {communities: ['1:1']}",
				"BGPAdvertisement some {peers: [tor2], communities: ['1:2']}")
		}, []string{"192.0.2.1/32: tor1 communities=[65537] tor2 communities=[65537 65538]", "2001:db8::1/128: tor1 communities=[65537] tor2 communities=[65537 65538]"}},
		{"an aggregate is announced once for all within", func() {
			use(p, "BGPAdvertisement all {aggregationLength: 25, localPref: 200}")
		}, []string{"192.0.2.0/25: all pref=200", "192.0.2.1/32:", "2001:db8::1/128: all pref=200"}},
		{"more addresses within are no change", func() { p.setService(key("blog"), cluster("192.0.2.2")) }, nil},
		{"it stays while one is left", func() { p.setService(key("shop"), contribution{}) }, []string{"2001:db8::1/128:"}},
		{"an excluded node announces nothing", func() { p.setNodes(nodeFacts(excluded)) }, []string{"192.0.2.0/25:"}},
		{"nor does one that no advertisement selects", func() {
			p.setNodes(nodeFacts(readyNode("n1")))
			use(p, "BGPAdvertisement all {nodeSelectors: [{matchLabels: {kubernetes.io/hostname: n2}}]}")
		}, nil},
		{"a peer that no advertisement names is told nothing", func() { use(p, "BGPAdvertisement one {peers: [tor1]}") }, []string{"192.0.2.2/32: tor1"}},
		{"without its peer there is nothing to tell", func() { p.routes.usePeers([]string{"tor2"}) }, []string{"192.0.2.2/32:"}},
	} {
		step.do()
		if got := shown(p.routeChanges()); !slices.Equal(got, step.want) {
			t.Fatalf("%s: changed %q, want %q", step.name, got, step.want)
		}
	}
}
