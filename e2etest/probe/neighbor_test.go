package probe

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var (
	askerMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x02}
	aliceMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x0a}
	bobMAC   = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x0b}

	asker4, target4 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.100")
	asker6, target6 = netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("2001:db8:1::1:64")
)

// lan puts the test's thread into a fresh network namespace in which br0 is an asker's interface on a LAN with the given
// stations, each in a namespace of its own and each holding the addresses. All of it goes with the test.
func lan(t *testing.T, stations map[string]net.HardwareAddr, addresses ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test's goroutine, and its namespace with it
	here, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: askerMAC}}
	must(netlink.LinkAdd(bridge))
	up(t, nil, "br0", "192.0.2.2/24", "2001:db8:1::2/64")
	for name, mac := range stations {
		there, err := netns.New() // this enters it
		must(err)
		must(netns.Set(here))
		t.Cleanup(func() { there.Close() })
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: bridge.Index},
			PeerName: "eth0", PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(there)}
		must(netlink.LinkAdd(veth))
		must(netlink.LinkSetUp(veth))
		station, err := netlink.NewHandleAt(there)
		must(err)
		t.Cleanup(station.Close)
		up(t, station, "eth0", addresses...)
	}
}

// up gives an interface its addresses, usable at once, and switches it on.
func up(t *testing.T, h *netlink.Handle, name string, addresses ...string) {
	t.Helper()
	if h == nil {
		here, err := netlink.NewHandle()
		if err != nil {
			t.Fatal(err)
		}
		defer here.Close()
		h = here
	}
	link, err := h.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		parsed, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.IP.To4() == nil {
			parsed.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrAdd(link, parsed); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

// linkIsUsable waits until a question is answered at all: a bridge port takes a moment to come up.
func linkIsUsable(t *testing.T) {
	t.Helper()
	eventually(t, "the LAN carries packets", func() bool {
		counts, err := ARP(t.Context(), "br0", netip.MustParseAddr("192.0.2.9"), 1)
		if err != nil {
			t.Fatal(err)
		}
		return len(counts) > 0
	})
}

func TestOneAnswererIsOneKey(t *testing.T) {
	lan(t, map[string]net.HardwareAddr{"alice": aliceMAC}, "192.0.2.9/24", "192.0.2.100/24", "2001:db8:1::1:64/64")
	linkIsUsable(t)
	want := map[string]int{aliceMAC.String(): 20}
	if got, err := ARP(t.Context(), "br0", target4, 20); err != nil || !maps.Equal(got, want) {
		t.Errorf("ARP: %v, %v; want %v", got, err, want)
	}
	if got, err := NDP(t.Context(), "br0", target6, 20); err != nil || !maps.Equal(got, want) {
		t.Errorf("NDP: %v, %v; want %v", got, err, want)
	}

	if got, err := ARP(t.Context(), "br0", netip.MustParseAddr("192.0.2.101"), 2); err != nil || len(got) != 0 {
		t.Errorf("ARP for nobody's address: %v, %v", got, err)
	}
	if got, err := NDP(t.Context(), "br0", netip.MustParseAddr("2001:db8:1::1:65"), 2); err != nil || len(got) != 0 {
		t.Errorf("NDP for nobody's address: %v, %v", got, err)
	}
}

func TestTwoAnswerersAreTwoKeys(t *testing.T) {
	lan(t, map[string]net.HardwareAddr{"alice": aliceMAC, "bob": bobMAC}, "192.0.2.9/24", "192.0.2.100/24", "2001:db8:1::1:64/64")
	linkIsUsable(t)
	want := map[string]int{aliceMAC.String(): 10, bobMAC.String(): 10}
	eventually(t, "both ports carry packets", func() bool {
		counts, err := ARP(t.Context(), "br0", target4, 1)
		return err == nil && len(counts) == 2
	})
	if got, err := ARP(t.Context(), "br0", target4, 10); err != nil || !maps.Equal(got, want) {
		t.Errorf("ARP: %v, %v; want %v", got, err, want)
	}
	if got, err := NDP(t.Context(), "br0", target6, 10); err != nil || !maps.Equal(got, want) {
		t.Errorf("NDP: %v, %v; want %v", got, err, want)
	}
}

func TestWhatCannotBeAskedIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"ARP for an IPv6 address": {second(ARP(t.Context(), "lo", target6, 1)), "use NDP"},
		"NDP for an IPv4 address": {second(NDP(t.Context(), "lo", target4, 1)), "use ARP"},
		"an interface of no name": {second(ARP(t.Context(), "nosuch0", target4, 1)), "interface nosuch0"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", name, c.err, c.want)
		}
	}
}

func second(_ map[string]int, err error) error { return err }

func TestSourceIsWhereAHostWouldAskFrom(t *testing.T) {
	prefixes := []netip.Prefix{
		netip.MustParsePrefix("fe80::2/64"), netip.MustParsePrefix("198.51.100.2/24"), netip.MustParsePrefix("192.0.2.2/24"),
		netip.MustParsePrefix("2001:db8:9::2/64"), netip.MustParsePrefix("2001:db8:1::2/64"),
	}
	for _, c := range []struct{ name, target, want string }{
		{"its own subnet's address", "192.0.2.100", "192.0.2.2"},
		{"any address for one on no subnet", "203.0.113.1", "198.51.100.2"},
		{"its own IPv6 subnet's address", "2001:db8:1::1:64", "2001:db8:1::2"},
		{"a global address rather than link-local", "2001:db8:7::1", "2001:db8:9::2"},
		{"link-local for link-local", "fe80::9", "fe80::2"},
	} {
		if got, ok := source(prefixes, netip.MustParseAddr(c.target)); !ok || got.String() != c.want {
			t.Errorf("%s: %s is asked for from %s", c.name, c.target, got)
		}
	}
	if got, ok := source(prefixes[:1], target4); ok {
		t.Errorf("without an IPv4 address, IPv4 is asked from %s", got)
	}
}

func TestOnlyAnswersToTheQuestionCount(t *testing.T) {
	reply := func(op arp.Operation, sender, to netip.Addr) []byte {
		p, err := arp.NewPacket(op, aliceMAC, sender, askerMAC, to)
		if err != nil {
			t.Fatal(err)
		}
		payload, err1 := p.MarshalBinary()
		frame, err2 := (&ethernet.Frame{Destination: askerMAC, Source: bobMAC, EtherType: ethernet.EtherTypeARP, Payload: payload}).MarshalBinary()
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return frame
	}
	advertise := func(na ndp.NeighborAdvertisement, to netip.Addr, hopLimit byte) []byte {
		message, err1 := ndp.MarshalMessageChecksum(&na, target6, to)
		packet := ipv6Packet(target6, to, message)
		packet[7] = hopLimit
		frame, err2 := (&ethernet.Frame{Destination: askerMAC, Source: bobMAC, EtherType: ethernet.EtherTypeIPv6, Payload: packet}).MarshalBinary()
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return frame
	}
	withMAC := []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: aliceMAC}}
	arpQ := func(b []byte) (string, bool) { return arpAnswerer(b, asker4, target4) }
	ndpQ := func(b []byte) (string, bool) { return ndpAnswerer(b, asker6, target6) }
	good := advertise(ndp.NeighborAdvertisement{Solicited: true, TargetAddress: target6, Options: withMAC}, asker6, 255)
	for _, c := range []struct {
		name  string
		ask   func([]byte) (string, bool)
		frame []byte
		want  string // empty: no answer
	}{
		{"a reply", arpQ, reply(arp.OperationReply, target4, asker4), aliceMAC.String()},
		{"a request", arpQ, reply(arp.OperationRequest, target4, asker4), ""},
		{"a reply about another address", arpQ, reply(arp.OperationReply, asker4, asker4), ""},
		{"a gratuitous reply", arpQ, reply(arp.OperationReply, target4, target4), ""},
		{"rubbish for ARP", arpQ, []byte{1, 2, 3}, ""},
		{"an advertisement", ndpQ, good, aliceMAC.String()},
		{"one without a link-layer option", ndpQ, advertise(ndp.NeighborAdvertisement{Solicited: true, TargetAddress: target6}, asker6, 255), bobMAC.String()},
		{"an unsolicited one", ndpQ, advertise(ndp.NeighborAdvertisement{TargetAddress: target6, Options: withMAC}, asker6, 255), ""},
		{"one about another address", ndpQ, advertise(ndp.NeighborAdvertisement{Solicited: true, TargetAddress: asker6, Options: withMAC}, asker6, 255), ""},
		{"one to somebody else", ndpQ, advertise(ndp.NeighborAdvertisement{Solicited: true, TargetAddress: target6, Options: withMAC}, target6, 255), ""},
		{"one that a router forwarded", ndpQ, advertise(ndp.NeighborAdvertisement{Solicited: true, TargetAddress: target6, Options: withMAC}, asker6, 254), ""},
		{"one that is cut off", ndpQ, good[:len(good)-1], ""},
		{"rubbish for NDP", ndpQ, []byte{1, 2, 3}, ""},
	} {
		if got, ok := c.ask(c.frame); ok != (c.want != "") || got != c.want {
			t.Errorf("%s gives %q, want %q", c.name, got, c.want)
		}
	}
}
