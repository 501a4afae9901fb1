package announce

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"

	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/layer2"
)

// fakeBGP remembers what it was told.
type fakeBGP struct {
	mu    sync.Mutex
	peers []string
	told  map[netip.Prefix][]bgp.Route
	calls int
	left  []bgp.Departure

	sessions []bgp.Session
	changed  chan struct{}
}

func (f *fakeBGP) Changed() <-chan struct{} { return f.changed }
func (f *fakeBGP) Sessions() []bgp.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sessions
}

// become makes these the sessions.
func (f *fakeBGP) become(sessions ...bgp.Session) {
	f.mu.Lock()
	f.sessions = sessions
	f.mu.Unlock()
	f.changed <- struct{}{}
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
			if len(r.Communities.Standard) > 0 {
				line += fmt.Sprintf(" communities=%v", r.Communities.Standard)
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
		{"endpoints that come and go elsewhere are no change", func() {
			both := local("n2", "192.0.2.2")
			both.nodes["n1"] = struct{}{}
			p.setService(key("blog"), both)
			p.setService(key("blog"), local("n1", "192.0.2.2"))
			p.setService(key("blog"), both)
		}, nil},
		{"an advertisement by another name is no change", func() { use(p, "BGPAdvertisement any {}") }, nil},
		{"nor are nodes that come and go", func() {
			p.setNodes(nodeFacts(readyNode("n1"), readyNode("n2")))
			p.setNodes(nodeFacts(readyNode("n1")))
		}, nil},
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

// Routers are told before the ring is joined, of all that the cluster has, and the end of the loop is what the Node says.
func TestTheLoopTellsRouters(t *testing.T) {
	for _, c := range []struct {
		name     string
		cordoned bool
		want     bgp.Departure
	}{
		{"a node that stays is being restarted", false, bgp.Restart},
		{"a cordoned one is drained", true, bgp.Drain},
	} {
		t.Run(c.name, func(t *testing.T) {
			routers := &fakeBGP{told: map[netip.Prefix][]bgp.Route{}}
			l := speakingLoop(t, routers, c.cordoned)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			l.Run(ctx) // one step, and the end
			if got := shown(routers.told); !slices.Equal(got, []string{"192.0.2.100/32: all"}) || routers.calls != 1 {
				t.Errorf("told %v in %d calls, want the one address in one", got, routers.calls)
			}
			if !slices.Equal(routers.peers, []string{"open"}) {
				t.Errorf("peers %v, want the one without a Secret that is missing", routers.peers)
			}
			if !slices.Equal(routers.left, []bgp.Departure{c.want}) {
				t.Errorf("left as %v, want %v", routers.left, c.want)
			}
		})
	}
}

// speakingLoop is the loop of n1, whose ring has not been joined.
func speakingLoop(t *testing.T, routers *fakeBGP, cordoned bool) *Loop {
	t.Helper()
	r, problems := config.Parse("cm", map[string]string{"config": `
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.100-192.0.2.199]}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: open}
spec: {peerAddress: 198.51.100.1, myASN: 64512, peerASN: 64513}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: locked}
spec: {peerAddress: 198.51.100.2, myASN: 64512, peerASN: 64513, passwordSecret: {name: missing}}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all}
spec: {}
`})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	served := cluster("192.0.2.100")
	informer := func(example runtime.Object) cache.SharedIndexInformer {
		return cache.NewSharedIndexInformer(fcache.NewFakeControllerSource(), example, 0, cache.Indexers{})
	}
	informers := Informers{
		Services: informer(&corev1.Service{}), EndpointSlices: informer(&discoveryv1.EndpointSlice{}), Nodes: informer(&corev1.Node{}),
		Config: given{resources: r}, Secrets: informer(&corev1.Secret{}),
	}
	cluster, err := NewCluster(informers)
	if err != nil {
		t.Fatal(err)
	}
	n := readyNode("n1", "192.0.2.11")
	n.Spec.Unschedulable = cordoned
	if err := informers.Nodes.GetStore().Add(n); err != nil {
		t.Fatal(err)
	}
	ring := &fakeRing{self: "n1", ready: errors.New("not joined"), changed: make(chan struct{}, 1)}
	l := New(Config{
		Node: "n1", Cluster: cluster, Ring: ring, Layer2: &fakeDriver{announced: map[netip.Addr]layer2.Scope{}, changed: make(chan struct{}, 1)},
		Gossip: netip.MustParseAddrPort("192.0.2.11:7947"), Logger: log.NewNopLogger(), Registerer: prometheus.NewRegistry(),
		PerService: true,
	})
	l.SpeakBGP(routers, time.Second)
	l.planner.setService(key("shop"), served)
	cluster.note(func(p *pending) { p.config, p.nodes = true, true })
	return l
}

// given is a configuration that does not change.
type given struct {
	kube.ConfigSource
	resources config.Resources
}

func (g given) Resources() config.Resources            { return g.resources }
func (given) OnChange(func()) (stop func(), err error) { return func() {}, nil }
