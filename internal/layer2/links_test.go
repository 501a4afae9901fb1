package layer2

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/ethernet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func linkOf(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	check(t, err)
	return l
}

func TestAnInterfaceThatIsRenamedAnswersUnderItsNewName(t *testing.T) {
	n := dual(t)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	a.Apply(map[netip.Addr]Scope{netip.MustParseAddr("192.0.2.100"): {BySubnet: true}, netip.MustParseAddr("203.0.113.1"): {Interfaces: []string{"wan*"}}}, nil)
	l := linkOf(t, "lan0")
	check(t, netlink.LinkSetDown(l)) // older kernels rename only what is down
	check(t, netlink.LinkSetName(l, "wan0"))
	check(t, netlink.LinkSetUp(l))
	usesInterface(t, a, "lan0", false)
	usesInterface(t, a, "wan0", true)
	if mac := n.resolve("192.0.2.100"); !bytes.Equal(mac, ourMAC) {
		t.Errorf("the address is at %v, want %v", mac, ourMAC)
	}
	w := n.tap("lan0")
	w.askARP("192.0.2.2", "203.0.113.1", ethernet.Broadcast)
	if got := w.answersBefore("192.0.2.100", "203.0.113.1"); got != 1 {
		t.Errorf("an address for the new name was answered for %d times, want once", got)
	}
}

func TestAnInterfaceThatIsSetDownIsOutAndComesBack(t *testing.T) {
	n := dual(t)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	a.Apply(onSubnet("192.0.2.100"), nil)
	check(t, netlink.LinkSetDown(linkOf(t, "lan0")))
	usesInterface(t, a, "lan0", false)
	check(t, netlink.LinkSetUp(linkOf(t, "lan0")))
	usesInterface(t, a, "lan0", true)
	if mac := n.resolve("192.0.2.100"); !bytes.Equal(mac, ourMAC) {
		t.Errorf("the address is at %v, want %v", mac, ourMAC)
	}
}

func TestAnInterfaceThatLosesItsAddressesIsOut(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24"}, []string{"192.0.2.2/24"})
	a := start(t)
	usesInterface(t, a, "lan0", true)
	a.Apply(onSubnet("192.0.2.100"), nil)
	w := n.tap("lan0")
	check(t, netlink.AddrDel(linkOf(t, "lan0"), address(t, "192.0.2.11/24")))
	usesInterface(t, a, "lan0", false)
	w.askARP("192.0.2.2", "192.0.2.100", ethernet.Broadcast)
	check(t, netlink.AddrAdd(linkOf(t, "lan0"), address(t, "192.0.2.12/24")))
	usesInterface(t, a, "lan0", true)
	a.Apply(onSubnet("192.0.2.200"), nil)
	if got := w.answersBefore("192.0.2.200", "192.0.2.100"); got != 0 {
		t.Errorf("without a subnet it answered %d times", got)
	}
	if mac := n.resolve("192.0.2.100"); !bytes.Equal(mac, ourMAC) {
		t.Errorf("the address is at %v, want %v", mac, ourMAC)
	}
}

func TestALinkWithTheSmallestMTU(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24"}, []string{"192.0.2.2/24"})
	check(t, netlink.LinkSetMTU(linkOf(t, "lan0"), 1280))
	there, err := n.nl.LinkByName("lan0")
	check(t, err)
	check(t, n.nl.LinkSetMTU(there, 1280))
	check(t, netlink.AddrAdd(linkOf(t, "lan0"), address(t, "2001:db8::11/64")))
	check(t, n.nl.AddrAdd(there, address(t, "2001:db8::2/64")))
	a := start(t)
	usesInterface(t, a, "lan0", true)
	a.Apply(onSubnet("192.0.2.100", "2001:db8::100"), nil)
	for _, addr := range []string{"192.0.2.100", "2001:db8::100"} {
		if mac := n.resolve(addr); !bytes.Equal(mac, ourMAC) {
			t.Errorf("%s is at %v, want %v", addr, mac, ourMAC)
		}
	}
}

func TestAVLANSpeaksForItself(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24"}, []string{"192.0.2.2/24"})
	vlan := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "lan0.7", ParentIndex: linkOf(t, "lan0").Attrs().Index}, VlanId: 7}
	addLink(t, vlan, "198.51.100.11/24")
	there, err := n.nl.LinkByName("lan0")
	check(t, err)
	theirs := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "lan0.7", ParentIndex: there.Attrs().Index}, VlanId: 7}
	check(t, n.nl.LinkAdd(theirs))
	check(t, n.nl.AddrAdd(theirs, address(t, "198.51.100.2/24")))
	check(t, n.nl.LinkSetUp(theirs))

	a := start(t)
	usesInterface(t, a, "lan0.7", true)
	a.Apply(onSubnet("192.0.2.100", "198.51.100.100"), nil)
	for _, addr := range []string{"192.0.2.100", "198.51.100.100"} {
		if mac := n.resolve(addr); !bytes.Equal(mac, ourMAC) {
			t.Errorf("%s is at %v, want %v", addr, mac, ourMAC)
		}
	}
	w := n.tap("lan0")
	w.askARP("192.0.2.2", "198.51.100.100", ethernet.Broadcast)
	if got := w.answersBefore("192.0.2.100", "198.51.100.100"); got != 0 {
		t.Errorf("the VLAN's address was answered for %d times on its parent", got)
	}
}

func TestAMACVLANSpeaksForItself(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24"}, []string{"192.0.2.2/24", "203.0.113.2/24"})
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 8}
	addLink(t, &netlink.Macvlan{
		LinkAttrs: netlink.LinkAttrs{Name: "mv0", ParentIndex: linkOf(t, "lan0").Attrs().Index, HardwareAddr: mac},
		Mode:      netlink.MACVLAN_MODE_BRIDGE,
	}, "203.0.113.11/24")
	a := start(t)
	usesInterface(t, a, "mv0", true)
	a.Apply(onSubnet("192.0.2.100", "203.0.113.100"), nil)
	for addr, want := range map[string]net.HardwareAddr{"192.0.2.100": ourMAC, "203.0.113.100": mac} {
		if got := n.resolve(addr); !bytes.Equal(got, want) {
			t.Errorf("%s is at %v, want %v", addr, got, want)
		}
	}
}

// addLink makes an interface with an address, up, until the test ends; a kernel that cannot skips the test.
func addLink(t *testing.T, l netlink.Link, addr string) {
	t.Helper()
	if err := netlink.LinkAdd(l); err != nil {
		t.Skipf("this kernel has no %s: %v", l.Type(), err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(l) }) // it may be gone with its parent
	check(t, netlink.AddrAdd(l, address(t, addr)))
	check(t, netlink.LinkSetUp(l))
}

func TestWhichInterfacesAreUsable(t *testing.T) {
	const good = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP | unix.IFF_BROADCAST
	for _, tc := range []struct {
		name   string
		attrs  netlink.LinkAttrs
		master string
		want   bool
	}{
		{"one that is up with carrier", netlink.LinkAttrs{RawFlags: good, HardwareAddr: ourMAC}, "", true},
		{"one without carrier", netlink.LinkAttrs{RawFlags: unix.IFF_UP, HardwareAddr: ourMAC}, "", false},
		{"one that has just lost it", netlink.LinkAttrs{RawFlags: good &^ unix.IFF_LOWER_UP, HardwareAddr: ourMAC}, "", false},
		{"one that is down", netlink.LinkAttrs{RawFlags: good &^ unix.IFF_UP, HardwareAddr: ourMAC}, "", false},
		{"the loopback", netlink.LinkAttrs{RawFlags: good | unix.IFF_LOOPBACK, HardwareAddr: make([]byte, 6)}, "", false},
		{"a tunnel", netlink.LinkAttrs{RawFlags: good | unix.IFF_POINTOPOINT}, "", false},
		{"one that resolves nothing", netlink.LinkAttrs{RawFlags: good | unix.IFF_NOARP, HardwareAddr: ourMAC}, "", false},
		{"InfiniBand, whose addresses are longer", netlink.LinkAttrs{RawFlags: good, HardwareAddr: make([]byte, 20)}, "", false},
		{"a bridge's port", netlink.LinkAttrs{RawFlags: good, HardwareAddr: ourMAC, MasterIndex: 3}, "bridge", false},
		{"a bond's member", netlink.LinkAttrs{RawFlags: good, HardwareAddr: ourMAC, MasterIndex: 3}, "bond", false},
		{"a team's member", netlink.LinkAttrs{RawFlags: good, HardwareAddr: ourMAC, MasterIndex: 3}, "team", false},
		{"a port of Open vSwitch", netlink.LinkAttrs{RawFlags: good, HardwareAddr: ourMAC, MasterIndex: 3}, "openvswitch", false},
		{"an interface in a VRF", netlink.LinkAttrs{RawFlags: good, HardwareAddr: ourMAC, MasterIndex: 3}, "vrf", true},
	} {
		if got := usable(&tc.attrs, tc.master); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.name, got, tc.want)
		}
	}
}

func TestABondAnswersForItsMembers(t *testing.T) {
	n := newNeighbor(t)
	bond := netlink.NewLinkBond(netlink.LinkAttrs{Name: "bond0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 7}})
	bond.Mode = netlink.BOND_MODE_ACTIVE_BACKUP
	bond.Miimon = 10
	if err := netlink.LinkAdd(bond); err != nil {
		t.Skipf("this kernel has no bonds: %v", err)
	}
	t.Cleanup(func() { check(t, netlink.LinkDel(bond)) })
	for i, member := range []string{"member0", "member1"} {
		n.connect(member, net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}, []string{fmt.Sprintf("192.0.2.%d/24", 20+i)}, nil)
		l := linkOf(t, member)
		check(t, netlink.LinkSetDown(l)) // as it must be to be enslaved
		check(t, netlink.LinkSetBondSlave(l, bond))
		check(t, netlink.LinkSetUp(l))
	}
	check(t, netlink.AddrAdd(bond, address(t, "192.0.2.11/24")))
	check(t, netlink.LinkSetUp(bond))
	a := start(t)
	usesInterface(t, a, "bond0", true)
	usesInterface(t, a, "member0", false)
	usesInterface(t, a, "member1", false)
	a.Apply(onSubnet("192.0.2.100", "192.0.2.200"), nil)
	w := n.tap("member0")
	w.askARP("192.0.2.2", "192.0.2.100", ethernet.Broadcast)
	if got := w.answersBefore("192.0.2.200", "192.0.2.100"); got != 1 {
		t.Errorf("answered %d times, want 1", got)
	}
}

func TestABurstOfInterfaceEventsIsFollowedToItsEnd(t *testing.T) {
	n := dual(t)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	// A bridge without ports is as far from the link as the dummy interface that kube-proxy makes for IPVS.
	dummy := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "ipvs0"}}
	check(t, netlink.LinkAdd(dummy))
	t.Cleanup(func() { check(t, netlink.LinkDel(dummy)) })
	last := netip.MustParseAddr("10.96.0.0")
	for range 2000 {
		last = last.Next()
		check(t, netlink.AddrAdd(dummy, address(t, last.String()+"/32")))
	}
	eventually(t, "the last address is known", func() bool {
		return len(a.KernelAddresses(func(addr netip.Addr) bool { return addr == last })) == 1
	})
	a.Apply(onSubnet("192.0.2.100"), nil)
	if mac := n.resolve("192.0.2.100"); !bytes.Equal(mac, ourMAC) {
		t.Errorf("the address is at %v, want %v", mac, ourMAC)
	}
}

func TestAKernelThatAnswersByItselfIsFound(t *testing.T) {
	dual(t)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	vips := addrs("192.0.2.100", "2001:db8::100")
	a.Apply(onSubnet("192.0.2.100", "2001:db8::100"), nil)
	found := func() string {
		var out []string
		for _, k := range a.KernelAddresses(func(addr netip.Addr) bool { return slices.Contains(vips, addr) }) {
			out = append(out, fmt.Sprintf("%s at %s on %s", k.Addr, k.Bound, k.Interface))
		}
		return strings.Join(out, "; ")
	}
	if got := found(); got != "" {
		t.Fatalf("found %s before there was anything", got)
	}

	dummy := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "ipvs0"}} // in the place of the one that kube-proxy makes for IPVS
	check(t, netlink.LinkAdd(dummy))
	t.Cleanup(func() { check(t, netlink.LinkDel(dummy)) })
	for _, vip := range vips {
		check(t, netlink.AddrAdd(dummy, address(t, netip.PrefixFrom(vip, vip.BitLen()).String())))
	}
	eventually(t, "the IPv4 address is found, which the kernel answers for on every interface", func() bool {
		return found() == "192.0.2.100 at ipvs0 on lan0"
	})
	const ignore = "/proc/sys/net/ipv4/conf/all/arp_ignore"
	check(t, os.WriteFile(ignore, []byte("1"), 0o644)) // strict ARP
	t.Cleanup(func() { check(t, os.WriteFile(ignore, []byte("0"), 0o644)) })
	if got := found(); got != "" {
		t.Errorf("with strict ARP: found %s", got)
	}
	check(t, netlink.AddrAdd(linkOf(t, "lan0"), address(t, "192.0.2.100/32")))
	check(t, netlink.AddrAdd(linkOf(t, "lan0"), address(t, "2001:db8::100/128")))
	eventually(t, "both are found on the interface itself", func() bool {
		return found() == "192.0.2.100 at lan0 on lan0; 2001:db8::100 at lan0 on lan0"
	})
	check(t, netlink.AddrDel(linkOf(t, "lan0"), address(t, "192.0.2.100/32")))
	eventually(t, "the one that is removed is found no more", func() bool { return found() == "2001:db8::100 at lan0 on lan0" })
}

func TestHowTheKernelAnswersARP(t *testing.T) {
	conf := t.TempDir()
	set := func(name, value string) {
		check(t, os.MkdirAll(filepath.Join(conf, name), 0o755))
		check(t, os.WriteFile(filepath.Join(conf, name, "arp_ignore"), []byte(value+"\n"), 0o644))
	}
	set("all", "1")
	set("eth0", "0")
	set("eth1", "2")
	set("eth0.100", "8")
	set("odd", "many")
	for name, want := range map[string]int{"eth0": 1, "eth1": 2, "eth0.100": 8, "odd": 1, "absent": 1} {
		if got := setting(conf, name, "arp_ignore"); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, tc := range []struct {
		name   string
		addr   netip.Addr
		here   bool
		ignore int
		want   bool
	}{
		{"an IPv4 address of the interface", v4, true, 0, true},
		{"the same with strict ARP", v4, true, 1, true},
		{"the same when ARP is not answered at all", v4, true, 8, false},
		{"an IPv4 address of another interface", v4, false, 0, true},
		{"the same with strict ARP", v4, false, 1, false},
		{"an IPv6 address of the interface", v6, true, 0, true},
		{"an IPv6 address of another interface", v6, false, 0, false},
	} {
		if got := kernelAnswers(tc.addr, tc.here, tc.ignore); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.name, got, tc.want)
		}
	}
}
