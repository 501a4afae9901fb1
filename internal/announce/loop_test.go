package announce

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/layer2"
)

// fakeRing is a ring whose members a test decides.
type fakeRing struct {
	mu      sync.Mutex
	self    string
	ready   error
	health  gossip.Health
	others  []gossip.Member
	wanted  []gossip.Peer
	recheck error // what Ready says after Recheck
	claims  map[netip.Addr]gossip.Claim
	heard   []gossip.Claim
	changed chan struct{}
}

func (r *fakeRing) Recheck() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = r.recheck
}

func (r *fakeRing) Want(p []gossip.Peer) { r.mu.Lock(); defer r.mu.Unlock(); r.wanted = p }
func (r *fakeRing) SetHealth(h gossip.Health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health = h
}
func (r *fakeRing) Members() []gossip.Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]gossip.Member{{Node: r.self, Health: r.health}}, r.others...)
}
func (r *fakeRing) Claim(claims []gossip.Claim) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range claims {
		r.claims[c.Addr] = c
	}
}
func (r *fakeRing) Forget(addrs []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range addrs {
		delete(r.claims, a)
	}
}
func (r *fakeRing) TakeClaims() []gossip.Claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.heard
	r.heard = nil
	return out
}

// hear takes in that another node claims an address, against whoever had claimed it.
func (r *fakeRing) hear(node, addr string) {
	r.mu.Lock()
	a := netip.MustParseAddr(addr)
	r.heard = append(r.heard, gossip.Claim{Addr: a, Node: node, Epoch: r.claims[a].Epoch + 2})
	r.mu.Unlock()
	r.changed <- struct{}{}
}
func (r *fakeRing) Changed() <-chan struct{} { return r.changed }
func (r *fakeRing) Ready() error             { r.mu.Lock(); defer r.mu.Unlock(); return r.ready }
func (r *fakeRing) offered() gossip.Health   { r.mu.Lock(); defer r.mu.Unlock(); return r.health }

func (r *fakeRing) become(ready error, others ...gossip.Member) {
	r.mu.Lock()
	r.ready, r.others = ready, others
	r.mu.Unlock()
	r.changed <- struct{}{}
}

// fakeDriver remembers what it was told.
type fakeDriver struct {
	mu        sync.Mutex
	announced map[netip.Addr]layer2.Scope
	applied   int
	reminded  int
	quiet     bool
	used      []string
	down      bool // its interface
	peers     []net.HardwareAddr
	conflicts []layer2.Conflict
	kernel    []layer2.KernelAddress
	fault     error
	filtered  []layer2.Filtered
	changed   chan struct{}
}

func (d *fakeDriver) carrier(on bool) {
	d.mu.Lock()
	d.down = !on
	d.mu.Unlock()
	d.changed <- struct{}{}
}

func (d *fakeDriver) Use(i []string) { d.mu.Lock(); defer d.mu.Unlock(); d.used = i }
func (d *fakeDriver) Interfaces() []layer2.Interface {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return nil
	}
	return []layer2.Interface{{Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, ARP: true, NDP: true, Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}
}
func (d *fakeDriver) Changed() <-chan struct{} { return d.changed }
func (d *fakeDriver) Apply(announce map[netip.Addr]layer2.Scope, withdraw []netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applied++
	maps.Copy(d.announced, announce)
	for _, a := range withdraw {
		delete(d.announced, a)
	}
}
func (d *fakeDriver) SetPeers(macs []net.HardwareAddr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peers = macs
}
func (d *fakeDriver) Conflicts() []layer2.Conflict {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conflicts
}
func (d *fakeDriver) KernelAddresses(ours func(netip.Addr) bool) (out []layer2.KernelAddress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.kernel {
		if ours(k.Addr) {
			out = append(out, k)
		}
	}
	return out
}
func (d *fakeDriver) Remind() { d.mu.Lock(); defer d.mu.Unlock(); d.reminded++ }
func (d *fakeDriver) FilteredInterfaces() ([]layer2.Filtered, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.filtered, nil
}
func (d *fakeDriver) Ready() error { d.mu.Lock(); defer d.mu.Unlock(); return d.fault }
func (d *fakeDriver) Quiesce()     { d.mu.Lock(); defer d.mu.Unlock(); d.quiet = true }
func (d *fakeDriver) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, a := range slices.SortedFunc(maps.Keys(d.announced), netip.Addr.Compare) {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

// world is a cluster, a ring and a driver around a loop, all in a synctest bubble.
type world struct {
	t                                             *testing.T
	services, slices, nodes, pools, l2Adv, unused *fcache.FakeControllerSource
	bgpPeers, bgpAdv                              *fcache.FakeControllerSource
	ring                                          *fakeRing
	driver                                        *fakeDriver
	registry                                      *prometheus.Registry
	loop                                          *Loop
	mu                                            sync.Mutex
	told                                          []string // the events
	stop                                          func()
}

func newWorld(t *testing.T) *world { return newWorldWith(t, func(*Loop) {}) }

// newWorldWith is newWorld with a loop that is prepared before it runs.
func newWorldWith(t *testing.T, prepare func(*Loop)) *world {
	w := &world{
		t:        t,
		services: fcache.NewFakeControllerSource(), slices: fcache.NewFakeControllerSource(), nodes: fcache.NewFakeControllerSource(),
		pools: fcache.NewFakeControllerSource(), l2Adv: fcache.NewFakeControllerSource(), unused: fcache.NewFakeControllerSource(),
		bgpPeers: fcache.NewFakeControllerSource(), bgpAdv: fcache.NewFakeControllerSource(),
		ring:   &fakeRing{self: "n1", ready: errors.New("not joined"), changed: make(chan struct{}, 1), claims: map[netip.Addr]gossip.Claim{}},
		driver: &fakeDriver{announced: map[netip.Addr]layer2.Scope{}, changed: make(chan struct{}, 1)},

		registry: prometheus.NewRegistry(),
	}
	w.nodes.Add(readyNode("n1", "192.0.2.11"))
	w.nodes.Add(readyNode("n2", "192.0.2.12"))
	w.pools.Add(pool("lan", "192.0.2.100-192.0.2.199"))
	w.l2Adv.Add(advertisement("all", v1beta1.L2AdvertisementSpec{}))
	informer := func(s cache.ListerWatcher, example runtime.Object) cache.SharedIndexInformer {
		return cache.NewSharedIndexInformer(s, example, 0, cache.Indexers{})
	}
	cluster, err := NewCluster(Informers{
		Services: informer(w.services, &corev1.Service{}), EndpointSlices: informer(w.slices, &discoveryv1.EndpointSlice{}),
		Nodes: informer(w.nodes, &corev1.Node{}),
		Config: kube.ConfigObjects{
			IPAddressPools: informer(w.pools, &v1beta1.IPAddressPool{}), L2Advertisements: informer(w.l2Adv, &v1beta1.L2Advertisement{}),
			BGPAdvertisements: informer(w.bgpAdv, &v1beta1.BGPAdvertisement{}), BGPPeers: informer(w.bgpPeers, &v1beta1.BGPPeer{}),
			BFDProfiles: informer(w.unused, &v1beta1.BFDProfile{}), Communities: informer(w.unused, &v1beta1.Community{}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.loop = New(Config{
		Node: "n1", Cluster: cluster, Ring: w.ring, Layer2: w.driver, Gossip: netip.MustParseAddrPort("192.0.2.11:7947"), Events: w,
		Logger: log.NewNopLogger(), Registerer: w.registry, PerService: true,
	})
	prepare(w.loop)
	ctx, cancel := context.WithCancel(t.Context())
	reading, stopReading := context.WithCancel(t.Context())
	read, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		err := cluster.Read(reading)
		close(read)
		if err != nil {
			t.Error(err)
			return
		}
		w.loop.Run(ctx)
	}()
	<-read
	synctest.Wait() // the watches follow, so that what a story changes is seen at once
	w.stop = cancel
	t.Cleanup(func() {
		cancel()
		<-done
		stopReading()
		for _, s := range []*fcache.FakeControllerSource{w.services, w.slices, w.nodes, w.pools, w.l2Adv, w.unused, w.bgpPeers, w.bgpAdv} {
			s.Shutdown()
		}
	})
	return w
}

// Record takes an event.
func (w *world) Record(e kube.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, e.Regarding.Name+" "+e.Type+" "+e.Reason+": "+e.Note)
}

// tells compares the events since it was last asked.
func (w *world) tells(when string, want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.told, want) {
		w.t.Errorf("%s: the events are %q, want %q", when, w.told, want)
	}
	w.told = nil
}

// announces waits until nothing happens any more, and compares.
func (w *world) announces(when, want string) {
	w.t.Helper()
	time.Sleep(time.Second) // driven time: what was going to happen has happened
	synctest.Wait()
	if got := w.driver.String(); got != want {
		w.t.Fatalf("%s: announces %q, want %q", when, got, want)
	}
}

func TestTheLoop(t *testing.T) {
	yes := true
	n2 := alive("n2", on("eth0", "192.0.2.0/24"))
	run := func(name string, story func(t *testing.T, w *world)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { story(t, newWorld(t)) })
		})
	}
	// shop is a Service with an endpoint on n1, so that under policy Local it is n1's.
	shop := lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100")
	endpoints := slice("shop-1", "shop", endpoint("n1", &yes, &yes))

	run("nothing is announced or offered before the ring is joined", func(t *testing.T, w *world) {
		w.services.Add(shop.DeepCopy())
		w.slices.Add(endpoints.DeepCopy())
		w.announces("before", "")
		if h := w.ring.offered(); len(h.Interfaces) != 0 {
			t.Errorf("offers %v", h)
		}
		if err := w.loop.Ready(); err == nil || !strings.Contains(err.Error(), "not joined") {
			t.Errorf("readiness says %v", err)
		}
		w.ring.become(nil)
		w.announces("after", "192.0.2.100")
		if h := w.ring.offered(); len(h.Interfaces) != 1 || h.Interfaces[0].MAC.String() != "02:00:00:00:00:01" {
			t.Errorf("offers %v", h)
		}
		if err := w.loop.Ready(); err != nil {
			t.Errorf("readiness says %v", err)
		}
	})
	run("the announcement follows the Service and its endpoints", func(t *testing.T, w *world) {
		w.ring.become(nil, n2)
		w.announces("an empty cluster", "")
		w.services.Add(shop.DeepCopy())
		w.announces("a Service without endpoints", "")
		w.slices.Add(endpoints.DeepCopy())
		w.announces("with an endpoint", "192.0.2.100")
		moved := shop.DeepCopy()
		moved.Status.LoadBalancer.Ingress[0].IP = "192.0.2.101"
		w.services.Modify(moved)
		w.announces("with another address", "192.0.2.101")
		gone := endpoints.DeepCopy()
		gone.Endpoints = nil
		w.slices.Modify(gone)
		w.announces("without endpoints again", "")
		w.slices.Modify(endpoints.DeepCopy())
		w.announces("and with one", "192.0.2.101")
		w.services.Delete(moved)
		w.announces("without the Service", "")
	})
	run("the configuration counts as it is now", func(t *testing.T, w *world) {
		w.ring.become(nil)
		w.services.Add(shop.DeepCopy())
		w.slices.Add(endpoints.DeepCopy())
		w.announces("at first", "192.0.2.100")
		w.l2Adv.Modify(advertisement("all", v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth9"}}))
		w.announces("advertised on another interface", "")
		if !slices.Equal(w.driver.used, []string{"eth9"}) {
			t.Errorf("the driver is to use %v", w.driver.used)
		}
		w.l2Adv.Modify(advertisement("all", v1beta1.L2AdvertisementSpec{Interfaces: []string{"eth0"}}))
		w.announces("advertised on this one", "192.0.2.100")
		w.l2Adv.Modify(advertisement("all", v1beta1.L2AdvertisementSpec{Interfaces: []string{}}))
		w.announces("an edit that is refused", "192.0.2.100")
		excluded := readyNode("n1", "192.0.2.11")
		excluded.Labels[corev1.LabelNodeExcludeBalancers] = "true"
		w.nodes.Modify(excluded)
		w.announces("excluded", "")
	})
	run("a heartbeat of a node changes nothing", func(t *testing.T, w *world) {
		w.ring.become(nil)
		w.services.Add(shop.DeepCopy())
		w.slices.Add(endpoints.DeepCopy())
		w.announces("at first", "192.0.2.100")
		applied := w.driver.applied
		beat := readyNode("n1", "192.0.2.11")
		beat.Status.Images = []corev1.ContainerImage{{Names: []string{"news"}}}
		w.nodes.Modify(beat)
		w.announces("after it", "192.0.2.100")
		if w.driver.applied != applied {
			t.Errorf("the driver was told %d times more", w.driver.applied-applied)
		}
	})
	run("a speaker that stops on a cordoned node hands over: quiet, answering, then silent", func(t *testing.T, w *world) {
		cordoned := readyNode("n1", "192.0.2.11")
		cordoned.Spec.Unschedulable = true
		w.nodes.Modify(cordoned)
		w.ring.become(nil, n2)
		w.services.Add(shop.DeepCopy())
		w.slices.Add(endpoints.DeepCopy())
		w.announces("at first", "192.0.2.100")
		w.stop()
		synctest.Wait()
		if h := w.ring.offered(); !h.Draining || !w.driver.quiet || w.driver.String() != "192.0.2.100" {
			t.Fatalf("at once: draining %t, quiet %t, announces %q", h.Draining, w.driver.quiet, w.driver.String())
		}
		time.Sleep(handOver - time.Millisecond)
		synctest.Wait()
		if w.driver.String() != "192.0.2.100" {
			t.Fatalf("stopped answering too early")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if w.driver.String() != "" {
			t.Errorf("still announces %q", w.driver.String())
		}
	})
	run("one that stops on a schedulable node is being restarted: it says so, answers, then is silent", func(t *testing.T, w *world) {
		w.ring.become(nil, n2)
		w.services.Add(shop.DeepCopy())
		w.slices.Add(endpoints.DeepCopy())
		w.announces("at first", "192.0.2.100")
		before := w.ring.offered()
		w.stop()
		synctest.Wait()
		if h := w.ring.offered(); h.Draining || !h.Restarting || h.Equal(before) || len(h.Interfaces) != 1 || w.driver.String() != "192.0.2.100" {
			t.Fatalf("at once: says %+v, announces %q", h, w.driver.String())
		}
		time.Sleep(standInTime - time.Millisecond)
		synctest.Wait()
		if w.driver.String() != "192.0.2.100" {
			t.Fatalf("stopped answering too early")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if w.driver.String() != "" {
			t.Errorf("still announces %q", w.driver.String())
		}
	})
	run("one that stops before it offered anything offers nothing then either", func(t *testing.T, w *world) {
		w.announces("before the ring is joined", "")
		w.stop()
		synctest.Wait()
		if h := w.ring.offered(); !h.Equal(gossip.Health{Restarting: true}) {
			t.Errorf("says %+v", h)
		}
	})
	run("a node stands in for one that is away, until it is back or gone", func(t *testing.T, w *world) {
		shop := lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100")
		w.services.Add(shop)
		w.slices.Add(slice("shop-1", "shop", endpoint("n2", &yes, &yes))) // so that it is n2's
		away := n2
		away.Away = true
		w.ring.become(nil, n2)
		w.ring.hear("n2", "192.0.2.100")
		w.announces("n2 owns it", "")
		w.ring.become(nil, away)
		w.announces("n2 is away", "192.0.2.100")
		if s := w.driver.announced[netip.MustParseAddr("192.0.2.100")]; len(s.Absent) != 1 || s.Absent[0].Name != "eth0" {
			t.Errorf("it is announced in scope %+v", s)
		}
		w.ring.become(nil, n2)
		w.announces("n2 is back", "")
		w.ring.become(nil, away)
		w.announces("n2 is away again", "192.0.2.100")
		w.slices.Modify(slice("shop-1", "shop", endpoint("n1", &yes, &yes)))
		w.announces("the endpoint is here now", "192.0.2.100")
		if s := w.driver.announced[netip.MustParseAddr("192.0.2.100")]; len(s.Absent) != 0 {
			t.Errorf("it is this node's, and is announced in scope %+v", s)
		}
		w.ring.become(nil, n2)
		w.slices.Modify(slice("shop-1", "shop", endpoint("n2", &yes, &yes)))
		w.ring.hear("n2", "192.0.2.100")
		w.announces("and there again", "")
		w.ring.become(nil, away)
		w.announces("and n2 is away", "192.0.2.100")
		w.ring.become(nil)
		w.announces("n2 is gone", "")
	})
	run("a stand-in that is restarted itself answers until another one had the time to", func(t *testing.T, w *world) {
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100"))
		w.slices.Add(slice("shop-1", "shop", endpoint("n2", &yes, &yes)))
		away := n2
		away.Away = true
		w.ring.become(nil, away)
		w.ring.hear("n2", "192.0.2.100")
		w.announces("standing in", "192.0.2.100")
		w.stop()
		synctest.Wait()
		if w.driver.String() != "192.0.2.100" {
			t.Fatal("it stopped answering at once")
		}
		time.Sleep(standInTime)
		synctest.Wait()
		if w.driver.String() != "" {
			t.Errorf("still answers for %q", w.driver.String())
		}
	})
	run("a node whose interface is back looks for its peers before it takes an address", func(t *testing.T, w *world) {
		everywhere := lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100")
		w.services.Add(everywhere)
		w.slices.Add(endpoints.DeepCopy())
		w.ring.become(nil)
		w.announces("alone", "192.0.2.100")
		w.driver.carrier(false)
		w.announces("without its interface", "")
		w.ring.recheck = errors.New("looking")
		w.driver.carrier(true)
		w.announces("looking for its peers", "")
		w.ring.become(nil)
		w.announces("still alone", "192.0.2.100")
	})
	run("each change of owner is told once, by the new owner", func(t *testing.T, w *world) {
		anywhere := lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100")
		w.services.Add(anywhere)
		w.slices.Add(endpoints.DeepCopy())
		w.ring.become(nil)
		w.announces("alone", "192.0.2.100")
		w.tells("alone", "shop Normal AddressAnnounced: 192.0.2.100 is announced from node n1")
		w.ring.become(nil, n2)
		w.announces("with a peer", "192.0.2.100")
		w.ring.hear("n2", "192.0.2.100")
		w.announces("that claims the address", "")
		w.tells("claimed by the peer")
		w.ring.become(nil)
		w.announces("and is gone", "192.0.2.100")
		w.tells("and is gone", "shop Normal AddressMoved: 192.0.2.100 is announced from node n1, and from n2 no more: its speaker is gone and its node does not answer (NotAlive)")
		gone := endpoints.DeepCopy()
		gone.Endpoints = nil
		w.slices.Modify(gone)
		w.announces("without endpoints", "")
		w.tells("without endpoints", "shop Warning AddressWithdrawn: 192.0.2.100 is announced from no node, and from n1 no more: no endpoint can be served from it (NoEndpoint)")
		w.slices.Modify(endpoints.DeepCopy())
		w.announces("and with one", "192.0.2.100")
		w.tells("and with one", "shop Normal AddressAnnounced: 192.0.2.100 is announced from node n1 again")
		if got := testutil.ToFloat64(w.loop.metrics.takeovers.WithLabelValues("NotAlive")); got != 1 {
			t.Errorf("%v addresses were taken over from the dead", got)
		}
	})
	run("an address that is new is probed for, and one that is taken over is not", func(t *testing.T, w *world) {
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100"))
		w.slices.Add(endpoints.DeepCopy())
		w.ring.become(nil)
		w.announces("new", "192.0.2.100")
		if !w.driver.announced[netip.MustParseAddr("192.0.2.100")].Probe {
			t.Error("it is not probed for")
		}
		w.ring.become(nil, n2)
		w.ring.hear("n2", "192.0.2.100")
		w.announces("claimed by a peer", "")
		w.ring.become(nil)
		w.announces("taken over", "192.0.2.100")
		if w.driver.announced[netip.MustParseAddr("192.0.2.100")].Probe {
			t.Error("it is probed for")
		}
	})
	run("who comes back from where it could not be heard is contradicted, and nobody else is", func(t *testing.T, w *world) {
		w.services.Add(shop.DeepCopy())
		w.slices.Add(endpoints.DeepCopy())
		reminded := func(when string, want int) {
			t.Helper()
			if w.driver.reminded != want {
				t.Errorf("%s: %d times, want %d", when, w.driver.reminded, want)
			}
		}
		become := func(others ...gossip.Member) {
			w.ring.become(nil, others...)
			synctest.Wait()
		}
		become(n2)
		reminded("at the start", 0)
		away, starting := n2, n2
		away.Away, starting.Health = true, gossip.Health{}
		become(away)
		become(n2)
		reminded("after a restart", 0)
		become()
		become(starting)
		become(n2)
		reminded("after a node was started", 0)
		become()
		become(n2)
		reminded("after a partition", 1)
	})
	run("a stranger that uses the address is told of once", func(t *testing.T, w *world) {
		w.services.Add(shop.DeepCopy())
		w.slices.Add(endpoints.DeepCopy())
		w.ring.become(nil)
		w.announces("at first", "192.0.2.100")
		w.tells("at first", "shop Normal AddressAnnounced: 192.0.2.100 is announced from node n1")
		w.driver.mu.Lock()
		w.driver.conflicts = []layer2.Conflict{{Addr: netip.MustParseAddr("192.0.2.100"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Interface: "eth0"}}
		w.driver.mu.Unlock()
		w.driver.changed <- struct{}{}
		w.announces("and a stranger", "192.0.2.100")
		w.tells("and a stranger", "shop Warning AddressConflict: 192.0.2.100, announced from node n1, is used by 02:00:00:00:00:09 on the link of eth0: this node goes on to answer for it")
		w.driver.changed <- struct{}{}
		w.announces("who stays", "192.0.2.100")
		w.tells("who stays")
	})
	run("a node that drains stops as soon as the last address is claimed", func(t *testing.T, w *world) {
		cordoned := readyNode("n1", "192.0.2.11")
		cordoned.Spec.Unschedulable = true
		w.nodes.Modify(cordoned)
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100"))
		w.slices.Add(endpoints.DeepCopy())
		w.ring.become(nil)
		w.announces("alone", "192.0.2.100")
		w.ring.become(nil, n2)
		w.announces("with a peer", "192.0.2.100")
		w.stop()
		synctest.Wait()
		if w.driver.String() != "192.0.2.100" {
			t.Fatal("it stopped answering before anybody claimed the address")
		}
		w.ring.hear("n2", "192.0.2.100")
		synctest.Wait()
		if w.driver.String() != "" {
			t.Error("it goes on to answer for what is claimed")
		}
	})
	run("a speaker that looks for its peers yields, and claims nothing", func(t *testing.T, w *world) {
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100"))
		w.services.Add(lbService("mail", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.101"))
		w.slices.Add(endpoints.DeepCopy())
		w.slices.Add(slice("mail-1", "mail", endpoint("n1", &yes, &yes)))
		w.ring.become(nil)
		w.announces("alone", "192.0.2.100 192.0.2.101")
		w.ring.become(errors.New("looking"), n2)
		w.ring.hear("n2", "192.0.2.101")
		w.announces("one is claimed", "192.0.2.100")
		w.ring.become(errors.New("looking"))
		w.announces("and the peer is gone again", "192.0.2.100")
		w.ring.become(nil)
		w.announces("and it has looked", "192.0.2.100 192.0.2.101")
	})
	run("a node that stops alone does not wait", func(t *testing.T, w *world) {
		w.ring.become(nil)
		w.services.Add(shop.DeepCopy())
		w.slices.Add(endpoints.DeepCopy())
		w.announces("at first", "192.0.2.100")
		w.stop()
		synctest.Wait()
		if w.driver.String() != "" {
			t.Errorf("still announces %q", w.driver.String())
		}
	})
	run("the ring is told where the nodes are", func(t *testing.T, w *world) {
		w.announces("at first", "")
		want := []gossip.Peer{{Node: "n1", Addr: netip.MustParseAddrPort("192.0.2.11:7947")}, {Node: "n2", Addr: netip.MustParseAddrPort("192.0.2.12:7947")}}
		got := slices.SortedFunc(slices.Values(w.ring.wanted), func(x, y gossip.Peer) int { return strings.Compare(x.Node, y.Node) })
		if !slices.Equal(got, want) {
			t.Errorf("wants %v", got)
		}
	})
}
