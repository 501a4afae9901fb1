package bgp

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"heraldlb.io/herald/internal/bfd"
	"heraldlb.io/herald/internal/config"
)

// run has a Speaker run until the test ends.
func run(t *testing.T, s *Speaker) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
}

// onlyLinkLocal makes an address the only link-local one of an interface.
func onlyLinkLocal(t *testing.T, nl *netlink.Handle, name, wanted string) {
	t.Helper()
	l, err := nl.LinkByName(name)
	check(t, err)
	eventually(t, name+" is up", func() bool {
		l, err := nl.LinkByName(name)
		return err == nil && l.Attrs().OperState == netlink.OperUp
	})
	addrs, err := nl.AddrList(l, netlink.FAMILY_V6)
	check(t, err)
	for _, a := range addrs {
		if a.IP.IsLinkLocalUnicast() && a.IPNet.String() != wanted {
			check(t, nl.AddrDel(l, &a))
		}
	}
}

// newLink makes a host whose link has link-local addresses only: fe80::11 at the node, and one at the router. Each test has
// links of its own names: for a minute, Go takes a name for the interface that had it before.
func newLink(t *testing.T, name, router string) *host {
	t.Helper()
	h := newHost(t, name, []string{"fe80::11/64"}, []string{router})
	here, err := netlink.NewHandle()
	check(t, err)
	t.Cleanup(here.Close)
	onlyLinkLocal(t, here, name, "fe80::11/64")
	onlyLinkLocal(t, h.nl, name, router)
	return h
}

const unnumberedFRR = `
router bgp 64513
 bgp router-id 192.0.2.1
 no bgp ebgp-requires-policy
 neighbor un0 interface remote-as external
 neighbor un0 bfd
 address-family ipv6 unicast
  neighbor un0 activate
 exit-address-family
`

func TestUnnumberedFRR(t *testing.T) {
	t.Parallel() // its links are its own
	h := newLink(t, "un0", "fe80::1/64")
	f := newFRRWithKernel(h, unnumberedFRR)
	peers := peersOf(t, "tor {interface: un0, myASN: 64512, dynamicASN: external}")
	peers[0].BFD = &config.BFDProfile{ReceiveInterval: time.Second, TransmitInterval: time.Second, DetectMultiplier: 3}
	s, w := newSpeaker(t), &fakeWatcher{}
	s.Watch(w)
	run(t, s)
	s.Apply(peers, toAll("203.0.113.1/32", "2001:db8:2::1/128"))
	has(t, f.route, "203.0.113.1/32", "64512", "fe80::11")
	has(t, f.route, "2001:db8:2::1/128", "64512", "fe80::11")
	for _, prefix := range []string{"203.0.113.1/32", "2001:db8:2::1/128"} {
		eventually(t, "the router's kernel sends "+prefix+" to the node", func() bool { return h.sendsTo(prefix) == "fe80::11" })
	}
	if got := sessionOf(s, "tor").Address; got != netip.MustParseAddr("fe80::1%un0") {
		t.Errorf("the router is taken to be at %v", got)
	}
	w.mu.Lock()
	want := bfd.Session{Peer: netip.MustParseAddr("fe80::1%un0"), Local: netip.MustParseAddr("fe80::11"),
		Profile: bfd.Profile{ReceiveInterval: time.Second, TransmitInterval: time.Second, DetectMultiplier: 3}}
	if len(w.sessions) != 1 || w.sessions[0] != want {
		t.Errorf("BFD sessions: %+v, want one: %+v", w.sessions, want)
	}
	w.mu.Unlock()

	t.Run("another router takes its place", func(t *testing.T) {
		f.stop()
		there, err := h.nl.LinkByName("un0")
		check(t, err)
		check(t, h.nl.LinkSetDown(there)) // which takes its addresses
		check(t, h.nl.AddrAdd(there, address(t, "fe80::2/64")))
		eventually(t, "the node's kernel says so", func() bool { // at most once a second
			here, err := netlink.LinkByName("un0")
			return err == nil && here.Attrs().OperState != netlink.OperUp
		})
		check(t, h.nl.LinkSetUp(there))
		onlyLinkLocal(t, h.nl, "un0", "fe80::2/64")
		g := newFRRWithKernel(h, unnumberedFRR)
		has(t, g.route, "203.0.113.1/32", "64512", "fe80::11")
		if got := sessionOf(s, "tor").Address; got != netip.MustParseAddr("fe80::2%un0") {
			t.Errorf("the router is taken to be at %v", got)
		}
	})
}

// sendsTo returns the next hop of a prefix in the host's kernel, empty when there is none.
func (h *host) sendsTo(prefix string) string {
	family := netlink.FAMILY_V4
	if strings.Contains(prefix, ":") {
		family = netlink.FAMILY_V6
	}
	routes, err := h.nl.RouteList(nil, family)
	check(h.t, err)
	for _, r := range routes {
		if r.Dst == nil || r.Dst.String() != prefix {
			continue
		}
		if via, is := r.Via.(*netlink.Via); is {
			return via.Addr.String()
		}
		return r.Gw.String()
	}
	return ""
}

func TestUnnumberedBIRD(t *testing.T) {
	t.Parallel() // its links are its own
	b := newBIRD(newLink(t, "un1", "fe80::1/64"), unnumberedBIRD("un1"))
	s := newSpeaker(t)
	run(t, s)
	s.Apply(peersOf(t, "tor {interface: un1, myASN: 64512, peerASN: 64513}"), toAll("203.0.113.1/32", "2001:db8:2::1/128"))
	has(t, b.route, "203.0.113.1/32", "BGP.as_path: 64512", "BGP.next_hop: :: fe80::11", "via fe80::11 on un1")
	has(t, b.route, "2001:db8:2::1/128", "BGP.as_path: 64512", "via fe80::11 on un1")
}

func unnumberedBIRD(link string) string {
	return `
protocol radv { interface "` + link + `" { max ra interval 10; default lifetime 0; }; }
protocol bgp nodes {
  local as 64513; neighbor range fe80::/10 as 64512; interface "` + link + `";
  ipv4 { import all; export none; extended next hop; };
  ipv6 { import all; export none; };
}
`
}

func TestRoutersOfOneLinkLocalAddressAreToldTheirOwn(t *testing.T) {
	t.Parallel() // its links are its own
	b := newBIRD(newLink(t, "un2", "fe80::1/64"), unnumberedBIRD("un2"))
	c := newBIRD(newLink(t, "un3", "fe80::1/64"), unnumberedBIRD("un3"))
	s := newSpeaker(t)
	run(t, s)
	peers := peersOf(t,
		"first {interface: un2, myASN: 64512, peerASN: 64513}",
		"second {interface: un3, myASN: 64512, peerASN: 64513}",
	)
	s.Apply(peers, prefixes(map[string][]Route{
		"203.0.113.1/32": {{Peers: []string{"first"}}},
		"203.0.113.2/32": {{Peers: []string{"second"}}},
		"203.0.113.3/32": {{Peers: []string{"first"}, Communities: config.Communities{Standard: []uint32{1<<16 | 1}}}, {Peers: []string{"second"}, Communities: config.Communities{Standard: []uint32{1<<16 | 2}}}},
	}))
	has(t, b.route, "203.0.113.3/32", "(1,1)")
	has(t, c.route, "203.0.113.3/32", "(1,2)")
	has(t, b.route, "203.0.113.1/32")
	has(t, c.route, "203.0.113.2/32")
	if b.route("203.0.113.2/32") != "" || c.route("203.0.113.1/32") != "" {
		t.Error("a router was told what is for the other")
	}
	since := sessionOf(s, "second").Since
	s.Apply(peers[1:], nil)
	hasNot(t, b.route, "203.0.113.3/32")
	if got := sessionOf(s, "second"); got.State != Established || got.Since != since {
		t.Errorf("the other session was touched: %+v", got)
	}
}
