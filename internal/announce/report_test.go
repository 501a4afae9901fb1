package announce

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/bgp"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/layer2"
)

// said prints announcements, as "web/shop Owner L2 eth0".
func said(announcements []v1beta1.Announcement) string {
	var out []string
	for _, a := range announcements {
		words := []string{a.Namespace + "/" + a.Name, string(a.Role), string(a.Protocol), strings.Join(a.Interfaces, "+"), strings.Join(a.Peers, "+"), a.Reason, a.Message}
		out = append(out, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
	}
	return strings.Join(out, ", ")
}

// The steps happen in order to the planners of n1, n2 and n3. What each has to tell of one address is looked at.
func TestWhatIsToldOfAnAddress(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.100")
	n1, n2 := alive("n1", on("eth0", "192.0.2.0/24"), on("eth1", "192.0.2.0/24")), alive("n2", on("eth0", "192.0.2.0/24"))
	n3 := alive("n3", on("eth0", "10.0.0.0/8"))
	const lan = "IPAddressPool lan {addresses: [192.0.2.0/24]}"
	sessions := map[string]bgp.Session{"tor": {Peer: "tor", State: bgp.Established, Families: []v1beta1.IPFamily{v1beta1.IPv4}}}
	stranger := net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
	const advice = "give that host another address, or exclude this one from the pool"
	s := newSpeakers("n1", "n2", "n3")
	use := func(lines ...string) { s.config(bgpConfig(t, append([]string{lan}, lines...)...)) }
	s.nodes(nodeFacts(readyNode("n1"), readyNode("n2"), readyNode("n3")))
	s.members(n1, n2, n3)
	for _, step := range []struct {
		name string
		do   func()
		want string // of each node that has something to tell
	}{
		{"nobody announces what no advertisement selects", func() { use(); s.service("shop", cluster("192.0.2.100")) },
			"n3: web/shop None NoAdvertisement no L2Advertisement and no BGPAdvertisement in force selects pool lan and Service web/shop: create one, or see the conditions of those there are"},
		{"the owner announces it where it can", func() {
			use("L2Advertisement all {}", "L2Advertisement one {nodeSelectors: [{matchLabels: {kubernetes.io/hostname: n1}}], interfaces: [eth1]}")
			s.rename("n1")
		},
			"n1: web/shop Owner L2 eth0+eth1"},
		{"also where a stranger uses it too", func() { s.conflict("n1", layer2.Conflict{Addr: addr, MAC: stranger, Interface: "eth1"}) },
			"n1: web/shop Owner L2 eth0+eth1 AddressConflict 02:00:00:00:00:99 uses it too on the link of eth1 of node n1: " + advice},
		{"but not where the stranger had it first", func() { s.conflict("n1", layer2.Conflict{Addr: addr, MAC: stranger, Interface: "eth1", Held: true}) },
			"n1: web/shop Owner L2 eth0 AddressConflict 02:00:00:00:00:99 had it first on the link of eth1 of node n1: " + advice},
		{"and nowhere where it had it everywhere", func() {
			s.conflict("n1", layer2.Conflict{Addr: addr, MAC: stranger, Interface: "eth0", Held: true}, layer2.Conflict{Addr: addr, MAC: stranger, Interface: "eth1", Held: true})
		}, "n1: web/shop None AddressConflict 02:00:00:00:00:99 had it first on the link of eth1 of node n1: " + advice},
		{"until it is gone", func() { s.conflict("n1") }, "n1: web/shop Owner L2 eth0+eth1"},
		{"each Service that holds the address is told of", func() { s.service("blog", cluster("192.0.2.100")) },
			"n1: web/blog Owner L2 eth0+eth1, web/shop Owner L2 eth0+eth1"},
		{"another one answers while the owner is away", func() { away := n1; away.Away = true; s.members(away, n2, n3) },
			"n1: web/blog Owner L2 eth0+eth1, web/shop Owner L2 eth0+eth1; n2: web/blog StandIn L2 eth0, web/shop StandIn L2 eth0"},
		{"and no more when it is back", func() { s.members(n1, n2, n3); s.service("blog", contribution{}) },
			"n1: web/shop Owner L2 eth0+eth1"},
		{"without endpoints nobody announces it", func() { s.service("shop", holds(contribution{}, "192.0.2.100")) },
			"n3: web/shop None NoEndpoints Service web/shop has no ready endpoint: see its pods"},
		{"where all nodes are unfit each one's reason is told, by the first that is there", func() {
			s.service("shop", local("n3", "192.0.2.100"))
			s.members(n1, n3)
		}, "n3: web/shop None NoEligibleNode by L2 no node can: n1: no endpoint can be served from it (NoEndpoint); n2: its speaker is gone and its node does not answer (NotAlive); n3: it has no usable interface for the address (NoInterface)"},
		{"the next one tells when that one is gone", func() { s.members(n1) },
			"n1: web/shop None NoEligibleNode by L2 no node can: n1: no endpoint can be served from it (NoEndpoint); n2, n3: its speaker is gone and its node does not answer (NotAlive)"},
		{"a cluster of one node says that its label keeps it away", func() {
			only := readyNode("n1")
			only.Labels[corev1.LabelNodeExcludeBalancers] = ""
			s.service("shop", cluster("192.0.2.100"))
			s.nodes(nodeFacts(only))
		}, "n1: web/shop None NoEligibleNode by L2 no node can: n1: it is labelled node.kubernetes.io/exclude-from-external-load-balancers (ExcludedByLabel)"},
		{"with BGP each node that can tells routers, and there is nothing to complain of", func() {
			s.nodes(nodeFacts(readyNode("n1"), readyNode("n2"), readyNode("n3")))
			s.members(n1, n2, n3)
			use("BGPAdvertisement all {nodeSelectors: [{matchLabels: {kubernetes.io/hostname: n1}}]}", "BGPPeer tor {peerAddress: 198.51.100.1, myASN: 64512, peerASN: 64513}")
		}, "n1: web/shop Owner BGP tor"},
		{"a peer that takes the other family only does not listen", func() {
			sessions = map[string]bgp.Session{"tor": {Peer: "tor", State: bgp.Established, Families: []v1beta1.IPFamily{v1beta1.IPv6}}}
		}, "n1: web/shop Owner BGP"},
		{"without a node that the advertisement selects nobody does", func() { s.service("shop", local("n2", "192.0.2.100")) },
			"n3: web/shop None NoEligibleNode by BGP no node can: n1, n3: no endpoint can be served from it (NoEndpoint); n2: no BGPAdvertisement of pool lan selects it (NotSelected)"},
		{"nor without a peer", func() {
			use("BGPAdvertisement all {}", "BGPPeer tor {nodeSelectors: [{matchLabels: {kubernetes.io/hostname: n1}}], peerAddress: 198.51.100.1, myASN: 64512, peerASN: 64513}")
		}, "n3: web/shop None NoEligibleNode by BGP no node can: n1, n3: no endpoint can be served from it (NoEndpoint); n2: no BGPPeer selects it (NoPeer)"},
		{"an address of no pool is announced by nobody", func() {
			s.service("shop", contribution{})
			s.service("shop", func() contribution { c := cluster("192.0.2.100"); c.held[0].Pool = "gone"; return c }())
			s.config(bgpConfig(t, "IPAddressPool other {addresses: [10.0.0.0/24]}", "L2Advertisement all {}"))
		}, "n3: web/shop None NoAdvertisement the address is of no IPAddressPool: add it to one, or let the Service ask for another address"},
		{"there is nothing to tell of an address without a Service", func() { s.service("shop", contribution{}) }, ""},
	} {
		step.do()
		s.agree(t)
		var got []string
		for _, name := range slices.Sorted(maps.Keys(s.planners)) {
			p := s.planners[name]
			p.routeChanges()
			if _, alive := p.members[name]; !alive {
				continue
			}
			if told := said(p.announcements(addr, sessions)); told != "" {
				got = append(got, name+": "+told)
			}
		}
		if text := strings.Join(got, "; "); text != step.want {
			t.Fatalf("%s:\n%q, want\n%q", step.name, text, step.want)
		}
	}
}

// conflict tells a node's planner which strangers there are.
func (s *speakers) conflict(node string, all ...layer2.Conflict) { s.planners[node].setConflicts(all) }

// rename has a node claim whatever is claimed.
func (s *speakers) rename(node string) {
	s.now = s.now.Add(time.Second)
	s.all(func(p *planner) {
		for addr := range p.holders {
			p.setClaims([]gossip.Claim{{Addr: addr, Node: node, Epoch: 1 << 20}}, s.now)
		}
	})
}

// shownReport remembers what it was told.
type shownReport struct {
	mu     sync.Mutex
	node   types.UID
	status v1beta1.SpeakerStatus
	about  map[netip.Addr][]v1beta1.Announcement
	calls  int // that told of any address
}

func (r *shownReport) SetStatus(node types.UID, s v1beta1.SpeakerStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.node, r.status = node, s
}

func (r *shownReport) SetAnnouncements(changed map[netip.Addr][]v1beta1.Announcement) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.about == nil {
		r.about = map[netip.Addr][]v1beta1.Announcement{}
	}
	if len(changed) > 0 {
		r.calls++
	}
	maps.Copy(r.about, changed)
}

// String is how the speaker stands and what it announces.
func (r *shownReport) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, c := range r.status.Conditions {
		out = append(out, c.Type+"="+string(c.Status))
	}
	out = append(out, fmt.Sprint("members=", r.status.Gossip.Members, r.status.Gossip.Away, r.status.Gossip.Missing))
	if r.status.Draining {
		out = append(out, "draining")
	}
	for _, addr := range slices.SortedFunc(maps.Keys(r.about), netip.Addr.Compare) {
		out = append(out, cmp.Or(said(r.about[addr]), "nothing of "+addr.String()))
	}
	return strings.Join(out, " ")
}

// shows waits until nothing happens any more, and compares.
func (w *world) shows(r *shownReport, when, want string) {
	w.t.Helper()
	time.Sleep(time.Second) // driven time
	synctest.Wait()
	if got := r.String(); got != want {
		w.t.Fatalf("%s:\n%s, want\n%s", when, got, want)
	}
}

func TestTheLoopReports(t *testing.T) {
	yes := true
	n2 := alive("n2", on("eth0", "192.0.2.0/24"))
	run := func(name string, story func(t *testing.T, w *world, r *shownReport)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &shownReport{}
				w := newWorldWith(t, func(l *Loop) { l.ReportTo(r, "v9") })
				story(t, w, r)
			})
		})
	}
	run("how the speaker stands and what it announces", func(t *testing.T, w *world, r *shownReport) {
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100"))
		w.slices.Add(slice("shop-1", "shop", endpoint("n1", &yes, &yes)))
		w.shows(r, "before the ring is joined", "Ready=False members=0 [] [n1 n2]")
		w.ring.become(nil)
		w.shows(r, "alone", "Ready=True ServicePathHealthy=True members=1 [] [n2] web/shop Owner L2 eth0")
		w.ring.become(nil, n2)
		w.shows(r, "with another one", "Ready=True ServicePathHealthy=True members=2 [] [] web/shop Owner L2 eth0")
		away := n2
		away.Away = true
		w.ring.become(nil, away)
		w.shows(r, "which is away", "Ready=True ServicePathHealthy=True members=2 [n2] [] web/shop Owner L2 eth0")
		w.ring.become(nil, n2)
		w.ring.hear("n2", "192.0.2.100")
		w.shows(r, "which claims the address", "Ready=True ServicePathHealthy=True members=2 [] [] nothing of 192.0.2.100")
		if r.status.Version != "v9" || len(r.status.Interfaces) != 1 || r.status.Interfaces[0].MAC != "02:00:00:00:00:01" || !slices.Equal(r.status.Interfaces[0].Subnets, []string{"192.0.2.0/24"}) {
			t.Errorf("status %+v", r.status)
		}
	})
	run("a speaker that is restarted says so and keeps what it announces", func(t *testing.T, w *world, r *shownReport) {
		w.ring.become(nil, n2)
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100"))
		w.slices.Add(slice("shop-1", "shop", endpoint("n1", &yes, &yes)))
		w.shows(r, "at first", "Ready=True ServicePathHealthy=True members=2 [] [] web/shop Owner L2 eth0")
		w.stop()
		w.shows(r, "at the end", "Ready=False ServicePathHealthy=True members=2 [] [] web/shop Owner L2 eth0")
	})
	run("an address that a stranger had first is not announced", func(t *testing.T, w *world, r *shownReport) {
		w.ring.become(nil, n2)
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100"))
		w.slices.Add(slice("shop-1", "shop", endpoint("n1", &yes, &yes)))
		stands := "Ready=True ServicePathHealthy=True members=2 [] [] "
		w.shows(r, "at first", stands+"web/shop Owner L2 eth0")
		meets := func(all ...layer2.Conflict) {
			w.driver.mu.Lock()
			w.driver.conflicts = all
			w.driver.mu.Unlock()
			w.driver.changed <- struct{}{}
		}
		meets(layer2.Conflict{Addr: netip.MustParseAddr("192.0.2.100"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Interface: "eth0", Held: true})
		w.shows(r, "with a stranger", stands+"web/shop None AddressConflict 02:00:00:00:00:09 had it first on the link of eth0 of node n1: give that host another address, or exclude this one from the pool")
		meets()
		w.shows(r, "who is gone", stands+"web/shop Owner L2 eth0")
	})
	run("one that is drained announces nothing in the end", func(t *testing.T, w *world, r *shownReport) {
		w.ring.become(nil)
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100"))
		w.slices.Add(slice("shop-1", "shop", endpoint("n1", &yes, &yes)))
		cordoned := readyNode("n1", "192.0.2.11")
		cordoned.Spec.Unschedulable = true
		cordoned.Annotations = map[string]string{AnnotationDrain: "true"}
		w.nodes.Modify(cordoned)
		w.shows(r, "while somebody is needed", "Ready=True ServicePathHealthy=True members=1 [] [n2] draining web/shop Owner L2 eth0")
		w.stop()
		w.shows(r, "at the end", "Ready=False ServicePathHealthy=True members=1 [] [n2] draining nothing of 192.0.2.100")
	})
	run("nothing that stays is told again", func(t *testing.T, w *world, r *shownReport) {
		w.ring.become(nil, n2)
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100"))
		w.slices.Add(slice("shop-1", "shop", endpoint("n1", &yes, &yes)))
		w.services.Add(lbService("lost", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.101"))
		w.announces("the one with an endpoint", "192.0.2.100")
		w.mu.Lock()
		w.told = nil
		w.mu.Unlock()
		calls := r.calls
		for range 50 { // as resyncs and caches that were refilled bring them
			w.services.Modify(lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100"))
			w.slices.Modify(slice("shop-1", "shop", endpoint("n1", &yes, &yes)))
			w.nodes.Modify(readyNode("n2", "192.0.2.12"))
			w.ring.become(nil, n2)
			w.driver.carrier(true)
			time.Sleep(10 * time.Second)
		}
		w.announces("still", "192.0.2.100")
		w.tells("after 50 resyncs")
		if r.calls != calls {
			t.Errorf("addresses were told of %d times again", r.calls-calls)
		}
	})
	run("a node that is asked to takes an address over, and the Service tells why", func(t *testing.T, w *world, r *shownReport) {
		w.ring.become(nil, n2)
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100"))
		w.slices.Add(slice("shop-1", "shop", endpoint("n1", &yes, &yes), endpoint("n2", &yes, &yes)))
		synctest.Wait()
		w.ring.hear("n2", "192.0.2.100")
		w.announces("n2 has claimed it", "")
		w.mu.Lock()
		w.told = nil
		w.mu.Unlock()
		n1 := readyNode("n1", "192.0.2.11")
		n1.Annotations = map[string]string{AnnotationMove: Move{Addrs: []netip.Addr{vipAddr}, Until: time.Now().Add(time.Minute)}.String()}
		w.nodes.Modify(n1)
		w.announces("it is asked", "192.0.2.100")
		w.tells("it is asked", "shop Normal AddressMoved: 192.0.2.100 is announced from node n1, and from n2 no more: a person asked for the move (Requested)")
		w.nodes.Modify(readyNode("n1", "192.0.2.11"))
		w.announces("the wish is gone", "192.0.2.100")
	})
	run("reverse path filters are told of while they drop anything", func(t *testing.T, w *world, r *shownReport) {
		w.ring.become(nil, n2)
		said := func(filtered ...layer2.Filtered) *metav1.Condition {
			w.driver.mu.Lock()
			w.driver.filtered = filtered
			w.driver.mu.Unlock()
			time.Sleep(filterInterval)
			w.driver.changed <- struct{}{}
			synctest.Wait()
			return meta.FindStatusCondition(r.status.Conditions, v1beta1.SpeakerReversePathFiltered)
		}
		if c := said(); c != nil {
			t.Errorf("it says %+v of nothing", c)
		}
		const want = "what clients beyond the subnets of eth1 send to addresses that are announced there is dropped, since rp_filter is 1 (strict) for it and replies to them leave by eth0"
		if c := said(layer2.Filtered{Interface: "eth1", Default: "eth0"}); c == nil || c.Status != metav1.ConditionTrue || c.Reason != "StrictReversePathFilter" || c.Message != want {
			t.Errorf("it says %+v", c)
		}
		if c := said(); c != nil {
			t.Errorf("it goes on to say %+v", c)
		}
	})
	run("a driver that cannot announce is told of", func(t *testing.T, w *world, r *shownReport) {
		w.ring.become(nil)
		w.announces("nothing yet", "")
		fails := func(err error) metav1.Condition {
			w.driver.mu.Lock()
			w.driver.fault = err
			w.driver.mu.Unlock()
			w.driver.changed <- struct{}{}
			w.announces("nothing still", "")
			return *meta.FindStatusCondition(r.status.Conditions, v1beta1.SpeakerReady)
		}
		if c := fails(errors.New("layer 2: ARP on eth0: operation not permitted")); c.Status != metav1.ConditionFalse || c.Message != "layer 2: ARP on eth0: operation not permitted" {
			t.Errorf("it says %+v", c)
		}
		if c := fails(nil); c.Status != metav1.ConditionTrue {
			t.Errorf("it goes on to say %+v", c)
		}
	})
	run("a kernel that answers by itself is told of once, at the Node", func(t *testing.T, w *world, r *shownReport) {
		w.ring.become(nil, n2)
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100"))
		w.slices.Add(slice("shop-1", "shop", endpoint("n2", &yes, &yes)))
		bound := func(k ...layer2.KernelAddress) {
			w.driver.mu.Lock()
			w.driver.kernel = k
			w.driver.mu.Unlock()
			w.driver.changed <- struct{}{}
		}
		ours := layer2.KernelAddress{Addr: netip.MustParseAddr("192.0.2.100"), Bound: "kube-ipvs0", Interface: "eth0"}
		w.announces("another node's address", "")
		bound(layer2.KernelAddress{Addr: netip.MustParseAddr("192.0.2.11"), Bound: "eth0", Interface: "eth0"})
		w.announces("the node's own address is none of a Service", "")
		w.tells("so nothing is wrong")
		bound(ours)
		w.announces("an address of a Service", "")
		bound(ours)
		w.announces("stays", "")
		w.tells("it is told once", "n1 Warning KernelAnswers: the kernel of node n1 answers by itself for addresses of Services, 1 now, such as 192.0.2.100 on eth0, "+
			"because they are bound to kube-ipvs0: set strictARP: true in kube-proxy's IPVS configuration, or net.ipv4.conf.all.arp_ignore=1 and arp_announce=2 on the node, or remove the addresses")
		if k := r.status.KernelAddresses; len(k) != 1 || k[0] != (v1beta1.KernelAddress{Address: "192.0.2.100", Bound: "kube-ipvs0", Interface: "eth0"}) {
			t.Errorf("status lists %v", k)
		}
		const metric = "herald_layer2_kernel_addresses"
		if got := w.gauge(metric); got != 1 {
			t.Errorf("%s is %v, want 1", metric, got)
		}
		bound()
		w.announces("and goes", "")
		if k := r.status.KernelAddresses; len(k) != 0 {
			t.Errorf("status still lists %v", k)
		}
		if got := w.gauge(metric); got != 0 {
			t.Errorf("%s is %v, want 0", metric, got)
		}
		bound(ours)
		w.announces("and comes back", "")
		if w.mu.Lock(); len(w.told) != 1 {
			t.Errorf("told %q", w.told)
		}
		w.mu.Unlock()
	})
}

func TestWithoutBGPEachPeerWaitsAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &shownReport{}
		w := newWorldWith(t, func(l *Loop) {
			l.SpeakNoBGP()
			l.ReportTo(r, "v9")
		})
		asn := int64(64512)
		w.bgpPeers.Add(&v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Spec: v1beta1.BGPPeerSpec{
			PeerAddress: "198.51.100.1", MyASN: &asn, PeerASN: &asn, PasswordSecret: &v1beta1.SecretReference{Name: "unread"},
		}})
		w.bgpAdv.Add(&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "all"}})
		w.ring.become(nil)
		yes := true
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100"))
		w.slices.Add(slice("shop-1", "shop", endpoint("n1", &yes, &yes)))
		w.announces("by ARP and NDP as ever", "192.0.2.100")
		time.Sleep(time.Second)
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if s := r.status.Sessions; len(s) != 1 || s[0].Peer != "tor" || s[0].State != "Waiting" || s[0].Reason != "BGPOff" || !strings.Contains(s[0].LastError, "--bgp=false") {
			t.Errorf("sessions %+v, want that tor waits because BGP is off", s)
		}
	})
}

func TestTheLoopTellsOfSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		routers := &fakeBGP{told: map[netip.Prefix][]bgp.Route{}, changed: make(chan struct{}, 1)}
		r := &shownReport{}
		w := newWorldWith(t, func(l *Loop) {
			l.SpeakBGP(routers, time.Second)
			l.ReportTo(r, "v9")
		})
		peer := &v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor", UID: "uid-tor"}, Spec: v1beta1.BGPPeerSpec{PeerAddress: "198.51.100.1"}}
		asn := int64(64512)
		peer.Spec.MyASN, peer.Spec.PeerASN = &asn, &asn
		locked := peer.DeepCopy()
		locked.Name, locked.UID, locked.Spec.PeerAddress = "locked", "uid-locked", "198.51.100.2"
		locked.Spec.PasswordSecret = &v1beta1.SecretReference{Name: "missing"}
		w.bgpPeers.Add(peer)
		w.bgpPeers.Add(locked)
		w.bgpAdv.Add(&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "all"}})
		w.ring.become(nil)
		yes := true
		w.services.Add(lbService("shop", corev1.ServiceExternalTrafficPolicyCluster, "192.0.2.100"))
		w.slices.Add(slice("shop-1", "shop", endpoint("n1", &yes, &yes)))
		w.l2Adv.Delete(advertisement("all", v1beta1.L2AdvertisementSpec{}))

		up := bgp.Session{
			Peer: "tor", Address: netip.MustParseAddr("198.51.100.1"), State: bgp.Established, Since: time.Now(), ASN: 64512,
			Families: []v1beta1.IPFamily{v1beta1.IPv4}, Sent: 1,
		}
		down := up
		down.State, down.LastError = bgp.Active, "Cease: Administrative Shutdown: \"maintenance\""
		about := func(when, announced string, want ...v1beta1.BGPSession) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			r.mu.Lock()
			defer r.mu.Unlock()
			for i := range r.status.Sessions {
				r.status.Sessions[i].Since = metav1.Time{}
			}
			if got := r.status.Sessions; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: the sessions are %+v, want %+v", when, got, want)
			}
			if got := said(r.about[netip.MustParseAddr("192.0.2.100")]); got != announced {
				t.Errorf("%s: told %q, want %q", when, got, announced)
			}
		}
		missing := v1beta1.BGPSession{Peer: "locked", State: "Waiting", Reason: "SecretNotFound", LastError: "Secrets are not read"}
		shown := v1beta1.BGPSession{
			Peer: "tor", Address: "198.51.100.1", State: "Established", Families: []v1beta1.IPFamily{v1beta1.IPv4}, PrefixesSent: 1, PrefixLimit: bgp.MaxPrefixes,
		}
		time.Sleep(2 * time.Second)
		w.mu.Lock()
		w.told = nil
		w.mu.Unlock()
		about("before any session", "web/shop Owner BGP", missing)
		routers.become(up)
		about("up", "web/shop Owner BGP tor", missing, shown)
		w.tells("up", "tor Normal SessionEstablished: node n1 has a BGP session with 198.51.100.1, AS number 64512")
		for range 50 {
			routers.become(up)
			time.Sleep(10 * time.Second)
		}
		w.tells("after 50 looks")
		routers.become(down)
		idle := shown
		idle.State, idle.LastError = "Idle", down.LastError
		about("down", "web/shop Owner BGP", missing, idle)
		w.tells("down", "tor Warning SessionDown: the BGP session of node n1 with 198.51.100.1 has ended: Cease: Administrative Shutdown: \"maintenance\"")
		routers.become(up)
		about("up again", "web/shop Owner BGP tor", missing, shown)
		again := up
		again.Since, again.LastError = up.Since.Add(time.Hour), "the hold timer expired"
		routers.become(again)
		shown.LastError = again.LastError
		about("down and up between two looks", "web/shop Owner BGP tor", missing, shown)
		w.tells("all three", "tor Normal SessionEstablished: node n1 has a BGP session with 198.51.100.1, AS number 64512",
			"tor Warning SessionDown: the BGP session of node n1 with 198.51.100.1 has ended: the hold timer expired",
			"tor Normal SessionEstablished: node n1 has a BGP session with 198.51.100.1, AS number 64512")
	})
}

func TestASpeakerWithoutANodeHasNothingToShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &shownReport{}
		w := newWorldWith(t, func(l *Loop) { l.ReportTo(r, "v9") })
		w.ring.become(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		if r.node != "uid-n1" || !meta.IsStatusConditionTrue(r.status.Conditions, v1beta1.SpeakerReady) {
			t.Errorf("with a Node: %q, %+v", r.node, r.status)
		}
		w.nodes.Delete(readyNode("n1", "192.0.2.11"))
		time.Sleep(time.Second)
		synctest.Wait()
		if r.node != "" {
			t.Errorf("without a Node: %q", r.node)
		}
	})
}

// gauge is the value of a metric that has no labels.
func (w *world) gauge(name string) float64 {
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	w.t.Fatalf("there is no metric %s", name)
	return 0
}
