package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"

	"heraldlb.io/herald/internal/bfd"
	"heraldlb.io/herald/internal/config"
)

// parallel lets tests run side by side whose links are their own.
func parallel(t *testing.T) {
	if !underRace { // see noRace
		t.Parallel()
	}
}

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

// named counts the links that linkName has named.
var named atomic.Int32

// linkName names a link as no other of this process is or was: for a minute, Go takes a name for the interface that had it before.
func linkName() string { return fmt.Sprintf("un%d", named.Add(1)) }

// newLink makes a host whose link has link-local addresses only: fe80::11 at the node, and one at the router. Its name is from linkName.
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

func unnumberedFRR(link string) string {
	return strings.ReplaceAll(`
router bgp 64513
 bgp router-id 192.0.2.1
 no bgp ebgp-requires-policy
 neighbor LINK interface remote-as external
 neighbor LINK password secret
 neighbor LINK bfd
 address-family ipv6 unicast
  neighbor LINK activate
 exit-address-family

bfd
`, "LINK", link)
}

func TestUnnumberedFRR(t *testing.T) {
	parallel(t)
	link := linkName()
	h := newLink(t, link, "fe80::1/64")
	f := newFRR(h, unnumberedFRR(link))
	peers := peersOf(t, "tor {interface: "+link+", myASN: 64512, dynamicASN: external, passwordSecret: {name: s}}")
	peers[0].Password = "secret"
	peers[0].BFD = &config.BFDProfile{ReceiveInterval: 300 * time.Millisecond, TransmitInterval: 300 * time.Millisecond, DetectMultiplier: 3}
	s := newSpeaker(t)
	monitor, err := bfd.New(log.NewNopLogger(), prometheus.NewRegistry(), s.PathChanged)
	check(t, err)
	t.Cleanup(func() { check(t, monitor.Close()) })
	s.Watch(monitor)
	run(t, s)
	s.Apply(peers, toAll("203.0.113.1/32", "2001:db8:2::1/128"))
	found := func(f *frr, router string) {
		t.Helper()
		for _, prefix := range []string{"203.0.113.1/32", "2001:db8:2::1/128"} {
			has(t, f.route, prefix, "64512", "fe80::11")
			eventually(t, "the router's kernel sends "+prefix+" to the node", func() bool { return h.sendsTo(prefix) == "fe80::11" })
		}
		eventually(t, "BFD is up, with "+router, func() bool {
			got := sessionOf(s, "tor")
			return got.Address == netip.MustParseAddr(router+"%"+link) && got.BFD != nil && got.BFD.State == bfd.Up
		})
	}
	found(f, "fe80::1")

	t.Log("another router takes its place")
	f.stop()
	there, err := h.nl.LinkByName(link)
	check(t, err)
	check(t, h.nl.LinkSetDown(there)) // which takes its addresses
	check(t, h.nl.AddrAdd(there, address(t, "fe80::2/64")))
	eventually(t, "the node's kernel says so", func() bool { // at most once a second
		here, err := netlink.LinkByName(link)
		return err == nil && here.Attrs().OperState != netlink.OperUp
	})
	check(t, h.nl.LinkSetUp(there))
	onlyLinkLocal(t, h.nl, link, "fe80::2/64")
	found(newFRR(h, unnumberedFRR(link)), "fe80::2")
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
	parallel(t)
	link := linkName()
	b := newBIRD(newLink(t, link, "fe80::1/64"), unnumberedBIRD(link))
	s := newSpeaker(t)
	run(t, s)
	s.Apply(peersOf(t, "tor {interface: "+link+", myASN: 64512, peerASN: 64513}"), toAll("203.0.113.1/32", "2001:db8:2::1/128"))
	has(t, b.route, "203.0.113.1/32", "BGP.as_path: 64512", "BGP.next_hop: :: fe80::11", "via fe80::11 on "+link)
	has(t, b.route, "2001:db8:2::1/128", "BGP.as_path: 64512", "via fe80::11 on "+link)
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
	noRace(t)
	parallel(t)
	first, second := linkName(), linkName()
	b := newBIRD(newLink(t, first, "fe80::1/64"), unnumberedBIRD(first))
	c := newBIRD(newLink(t, second, "fe80::1/64"), unnumberedBIRD(second))
	s := newSpeaker(t)
	run(t, s)
	peers := peersOf(t,
		"first {interface: "+first+", myASN: 64512, peerASN: 64513}",
		"second {interface: "+second+", myASN: 64512, peerASN: 64513}",
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
