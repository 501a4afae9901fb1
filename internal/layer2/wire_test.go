package layer2

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
)

var nobody = net.HardwareAddr{2, 0, 0, 0, 0, 0xee}

// isARP tells whether a frame is an ARP packet of this operation that says where sender is.
func isARP(frame []byte, op arp.Operation, sender string) (arp.Packet, bool) {
	var f ethernet.Frame
	var p arp.Packet
	if f.UnmarshalBinary(frame) != nil || f.EtherType != ethernet.EtherTypeARP || p.UnmarshalBinary(f.Payload) != nil {
		return p, false
	}
	return p, p.Operation == op && p.SenderIP == netip.MustParseAddr(sender)
}

// isNA tells whether a frame is a neighbor advertisement for target; to is the IPv6 destination.
func isNA(frame []byte, target string) (na *ndp.NeighborAdvertisement, to netip.Addr, ok bool) {
	if len(frame) < 78 || binary.BigEndian.Uint16(frame[12:]) != 0x86dd || frame[20] != icmpv6 || frame[21] != 255 {
		return nil, to, false
	}
	m, err := ndp.ParseMessage(frame[54:])
	if err != nil {
		return nil, to, false
	}
	na, ok = m.(*ndp.NeighborAdvertisement)
	return na, netip.AddrFrom16([16]byte(frame[38:54])), ok && na.TargetAddress == netip.MustParseAddr(target)
}

func (w *wire) askARP(sender, target string, to net.HardwareAddr) {
	w.t.Helper()
	w.send(appendARP(nil, hw(to), hw(w.mac), arpRequest, hw(w.mac), netip.MustParseAddr(sender), hwAddr{}, netip.MustParseAddr(target)))
}

func (w *wire) askNDP(sender, target string, toIP netip.Addr, to net.HardwareAddr) {
	w.t.Helper()
	w.send(appendNDP(nil, hw(to), hw(w.mac), netip.MustParseAddr(sender), toIP, neighborSolicitation, 0, netip.MustParseAddr(target), 0, hwAddr{}))
}

// answers asks for an address that is announced only to know when earlier questions have been dealt with, and
// returns how often the other address was answered for until then.
func (w *wire) answersBefore(fence, addr string) int {
	w.t.Helper()
	w.askARP("192.0.2.99", fence, ethernet.Broadcast)
	n := 0
	for _, f := range w.until("the answer for "+fence, func(f []byte) bool {
		p, ok := isARP(f, arp.OperationReply, fence)
		return ok && bytes.Equal(p.TargetHardwareAddr, w.mac)
	}) {
		if p, ok := isARP(f, arp.OperationReply, addr); ok && bytes.Equal(p.TargetHardwareAddr, w.mac) {
			n++
		}
	}
	return n
}

func TestAKernelResolvesAnnouncedAddresses(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	a := start(t)
	usesInterface(t, a, "lan0", true)
	check(t, a.Ready())
	a.Apply(onSubnet("192.0.2.100", "2001:db8::100"), nil)
	for _, addr := range []string{"192.0.2.100", "2001:db8::100"} {
		if mac := n.resolve(addr); !bytes.Equal(mac, ourMAC) {
			t.Errorf("%s is at %v, want %v", addr, mac, ourMAC)
		}
	}
}

func TestATakeoverCorrectsWhatNeighborsBelieve(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	a := start(t)
	usesInterface(t, a, "lan0", true)
	vips := []string{"192.0.2.100", "2001:db8::100"}
	for _, addr := range vips {
		n.believe("lan0", addr, nobody)
	}
	a.Apply(onSubnet(vips...), nil)
	for _, addr := range vips {
		eventually(t, "the neighbor knows the new owner of "+addr, func() bool { return bytes.Equal(n.knows(addr), ourMAC) })
	}
}

func TestAnnouncementsOnTheWire(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, nil)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	w := n.tap("lan0")
	a.Apply(onSubnet("192.0.2.100"), nil)
	w.until("an ARP announcement", func(f []byte) bool {
		p, ok := isARP(f, arp.OperationRequest, "192.0.2.100")
		return ok && p.TargetIP == p.SenderIP && bytes.Equal(f[:6], ethernet.Broadcast) && bytes.Equal(f[6:12], ourMAC)
	})
	w.until("its repeat in the other form", func(f []byte) bool {
		p, ok := isARP(f, arp.OperationReply, "192.0.2.100")
		return ok && p.TargetIP == p.SenderIP && bytes.Equal(f[:6], ethernet.Broadcast)
	})
	a.Apply(onSubnet("2001:db8::100"), nil)
	for range 2 {
		w.until("an unsolicited neighbor advertisement", func(f []byte) bool {
			na, to, ok := isNA(f, "2001:db8::100")
			return ok && na.Override && !na.Solicited && to == allNodes && hwAddr(f[:6]) == allNodesMAC
		})
	}
}

func TestEveryKindOfQuestionIsAnswered(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, nil)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	a.Apply(onSubnet("192.0.2.100", "2001:db8::100"), nil)
	w := n.tap("lan0")

	for _, tc := range []struct {
		name, sender string
		to           net.HardwareAddr
	}{
		{"a broadcast ARP request", "192.0.2.2", ethernet.Broadcast},
		{"a unicast ARP request", "192.0.2.2", ourMAC},
		{"an ARP probe", "0.0.0.0", ethernet.Broadcast},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.askARP(tc.sender, "192.0.2.100", tc.to)
			w.until("a reply to "+tc.name, func(f []byte) bool {
				p, ok := isARP(f, arp.OperationReply, "192.0.2.100")
				return ok && bytes.Equal(f[:6], w.mac) && p.TargetIP == netip.MustParseAddr(tc.sender) && bytes.Equal(p.SenderHardwareAddr, ourMAC)
			})
		})
	}
	vip := netip.MustParseAddr("2001:db8::100")
	group := solicitedNode(vip)
	for _, tc := range []struct {
		name, sender string
		toIP         netip.Addr
		to           net.HardwareAddr
	}{
		{"a solicitation to the group without source option", "2001:db8::2", group, groupMAC(group).net()},
		{"a unicast solicitation", "2001:db8::2", vip, ourMAC},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.askNDP(tc.sender, "2001:db8::100", tc.toIP, tc.to)
			w.until("an answer to "+tc.name, func(f []byte) bool {
				na, to, ok := isNA(f, "2001:db8::100")
				return ok && na.Solicited && na.Override && to == netip.MustParseAddr(tc.sender) && bytes.Equal(f[:6], w.mac)
			})
		})
	}
	t.Run("duplicate address detection", func(t *testing.T) {
		// Away from the announcements, which look the same as the answer.
		a.Quiesce()
		w.askARP("192.0.2.2", "192.0.2.100", ethernet.Broadcast)
		w.until("an answer that fences off earlier announcements", func(f []byte) bool {
			p, ok := isARP(f, arp.OperationReply, "192.0.2.100")
			return ok && bytes.Equal(p.TargetHardwareAddr, w.mac)
		})
		w.askNDP("::", "2001:db8::100", group, groupMAC(group).net())
		w.until("an answer to all nodes", func(f []byte) bool {
			na, to, ok := isNA(f, "2001:db8::100")
			return ok && !na.Solicited && to == allNodes
		})
	})
}

func TestSilence(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24"}, nil)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	w := n.tap("lan0")
	const fence = "192.0.2.200"

	t.Run("an address of another subnet is not answered for", func(t *testing.T) {
		a.Apply(onSubnet(fence, "203.0.113.1"), nil)
		w.askARP("192.0.2.2", "203.0.113.1", ethernet.Broadcast)
		if got := w.answersBefore(fence, "203.0.113.1"); got != 0 {
			t.Errorf("answered %d times", got)
		}
	})
	t.Run("unless the interface is named", func(t *testing.T) {
		a.Apply(map[netip.Addr]Scope{netip.MustParseAddr("203.0.113.1"): {Interfaces: []string{"lan0"}}}, nil)
		w.askARP("192.0.2.2", "203.0.113.1", ethernet.Broadcast)
		if got := w.answersBefore(fence, "203.0.113.1"); got != 1 {
			t.Errorf("answered %d times", got)
		}
	})
	t.Run("or another interface is", func(t *testing.T) {
		a.Apply(map[netip.Addr]Scope{netip.MustParseAddr("203.0.113.1"): {Interfaces: []string{"lan9"}}}, nil)
		w.askARP("192.0.2.2", "203.0.113.1", ethernet.Broadcast)
		if got := w.answersBefore(fence, "203.0.113.1"); got != 0 {
			t.Errorf("answered %d times", got)
		}
	})
	t.Run("an address that was never announced is not answered for", func(t *testing.T) {
		w.askARP("192.0.2.2", "192.0.2.55", ethernet.Broadcast)
		if got := w.answersBefore(fence, "192.0.2.55"); got != 0 {
			t.Errorf("answered %d times", got)
		}
	})
	t.Run("a request for another host is not answered", func(t *testing.T) {
		w.askARP("192.0.2.2", fence, nobody)
		if got := w.answersBefore(fence, fence); got != 1 {
			t.Errorf("answered %d times, want once for the fence itself", got)
		}
	})
	t.Run("an announced address is answered for, and no more once it is withdrawn", func(t *testing.T) {
		a.Apply(onSubnet("192.0.2.100"), nil)
		w.askARP("192.0.2.2", "192.0.2.100", ethernet.Broadcast)
		if got := w.answersBefore(fence, "192.0.2.100"); got != 1 {
			t.Fatalf("answered %d times, want 1", got)
		}
		a.Apply(nil, addrs("192.0.2.100"))
		w.askARP("192.0.2.2", "192.0.2.100", ethernet.Broadcast)
		if got := w.answersBefore(fence, "192.0.2.100"); got != 0 {
			t.Errorf("answered %d times after it was withdrawn", got)
		}
	})
}

func TestAnInterfaceThatComesLater(t *testing.T) {
	n := newNeighbor(t)
	a := start(t)
	eventually(t, "readiness says that there is no interface", func() bool {
		err := a.Ready()
		return err != nil && strings.Contains(err.Error(), "no interface")
	})
	a.Apply(onSubnet("192.0.2.100", "2001:db8::100"), nil)
	n.connect("late0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	for _, addr := range []string{"192.0.2.100", "2001:db8::100"} {
		if mac := n.resolve(addr); !bytes.Equal(mac, ourMAC) {
			t.Errorf("%s is at %v, want %v", addr, mac, ourMAC)
		}
	}
	check(t, a.Ready())

	late, err := netlink.LinkByName("late0")
	check(t, err)
	check(t, netlink.LinkDel(late))
	usesInterface(t, a, "late0", false)
	n.connect("late0", net.HardwareAddr{2, 0, 0, 0, 0, 9}, []string{"192.0.2.11/24"}, []string{"192.0.2.2/24"})
	if mac := n.resolve("192.0.2.100"); mac[5] != 9 {
		t.Errorf("after the interface was made anew the address is at %v", mac)
	}
}

func TestAnInterfaceWithoutCarrierIsOut(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24"}, nil)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	a.Apply(onSubnet("192.0.2.100"), nil)
	n.carrier("lan0", false)
	usesInterface(t, a, "lan0", false)
	n.carrier("lan0", true)
	w := n.tap("lan0")
	usesInterface(t, a, "lan0", true)
	w.until("an announcement, because the switch may have forgotten", func(f []byte) bool {
		_, ok := isARP(f, arp.OperationRequest, "192.0.2.100")
		return ok
	})
}

func TestASocketThatBreaksIsOpenedAgain(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24"}, []string{"192.0.2.2/24"})
	a := start(t)
	usesInterface(t, a, "lan0", true)
	a.Apply(onSubnet("192.0.2.100"), nil)
	a.mu.Lock()
	for _, p := range a.ports {
		p.socket(protocolARP).close()
	}
	a.mu.Unlock()
	eventually(t, "readiness says so", func() bool { return a.Ready() != nil })
	eventually(t, "it works again", func() bool { return a.Ready() == nil })
	if mac := n.resolve("192.0.2.100"); !bytes.Equal(mac, ourMAC) {
		t.Errorf("the address is at %v, want %v", mac, ourMAC)
	}
}

func TestTheSubnetsFollowTheAddresses(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "192.0.2.12/24", "198.51.100.1/32", "2001:db8::11/64"}, nil)
	a := start(t)
	subnets := func() string {
		for _, i := range a.Interfaces() {
			if i.Name == "lan0" && i.ARP && i.NDP {
				return fmt.Sprint(i.Subnets)
			}
		}
		return "none"
	}
	eventually(t, "both subnets once, and neither host prefix nor link-local", func() bool { return subnets() == "[192.0.2.0/24 2001:db8::/64]" })
	here, err := netlink.LinkByName("lan0")
	check(t, err)
	check(t, netlink.AddrDel(here, address(t, "2001:db8::11/64")))
	eventually(t, "the removed one is gone", func() bool { return subnets() == "[192.0.2.0/24]" })
	check(t, netlink.AddrAdd(here, address(t, "203.0.113.1/24")))
	eventually(t, "the added one is there", func() bool { return subnets() == "[192.0.2.0/24 203.0.113.0/24]" })
}

func TestABridgeAnswersOnceForItsPorts(t *testing.T) {
	n := newNeighbor(t)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 7}}}
	check(t, netlink.LinkAdd(bridge))
	t.Cleanup(func() { check(t, netlink.LinkDel(bridge)) })
	for i, port := range []string{"port0", "port1"} {
		n.connect(port, net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}, []string{fmt.Sprintf("192.0.2.%d/24", 20+i)}, nil)
		l, err := netlink.LinkByName(port)
		check(t, err)
		check(t, netlink.LinkSetMaster(l, bridge))
	}
	check(t, netlink.AddrAdd(bridge, address(t, "192.0.2.11/24")))
	check(t, netlink.LinkSetUp(bridge))
	a := start(t)
	usesInterface(t, a, "br0", true)
	usesInterface(t, a, "port0", false)
	a.Apply(onSubnet("192.0.2.100", "192.0.2.200"), nil)
	w := n.tap("port0")
	w.askARP("192.0.2.2", "192.0.2.100", ethernet.Broadcast)
	if got := w.answersBefore("192.0.2.200", "192.0.2.100"); got != 1 {
		t.Errorf("answered %d times, want 1", got)
	}
}

func TestMoreGroupsThanOneSocketHolds(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, []string{"2001:db8::2/64"})
	a := start(t)
	usesInterface(t, a, "lan0", true)
	many := map[netip.Addr]Scope{}
	last := netip.MustParseAddr("2001:db8::1:0")
	for range 5000 {
		many[last] = Scope{BySubnet: true}
		last = last.Next()
	}
	last = last.Prev()
	a.Apply(many, nil)
	if mac := n.resolve(last.String()); !bytes.Equal(mac, ourMAC) {
		t.Errorf("%s is at %v, want %v", last, mac, ourMAC)
	}
	groups := func() int { return solicitedGroups(t, "lan0", netip.MustParsePrefix("ff02::1:ff01:0/112")) }
	eventually(t, "it is a member of 5000 groups", func() bool { return groups() == 5000 })
	a.Apply(nil, []netip.Addr{last})
	eventually(t, "it has left one", func() bool { return groups() == 4999 })
	// What is withdrawn while it is still being joined is left.
	a.Apply(nil, slices.Collect(maps.Keys(many)))
	a.Apply(many, nil)
	a.Apply(nil, slices.Collect(maps.Keys(many)))
	eventually(t, "it is a member of none", func() bool { return groups() == 0 })
}

// solicitedGroups counts the groups within a prefix that the kernel has an interface be a member of.
func solicitedGroups(t *testing.T, ifname string, within netip.Prefix) (n int) {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/net/igmp6")
	check(t, err)
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[1] != ifname {
			continue
		}
		raw, err := hex.DecodeString(fields[2])
		check(t, err)
		if group, ok := netip.AddrFromSlice(raw); ok && within.Contains(group) {
			n++
		}
	}
	return n
}

func TestWithoutNetRawItSaysSo(t *testing.T) {
	const child = "HERALD_TEST_WITHOUT_NET_RAW"
	if os.Getenv(child) == "" {
		n := newNeighbor(t)
		n.connect("lan0", ourMAC, []string{"192.0.2.11/24"}, nil)
		exe, err := os.CreateTemp("/tmp", "layer2-*.test") // readable by nobody, unlike the test's own directory
		check(t, err)
		t.Cleanup(func() { os.Remove(exe.Name()) })
		self, err := os.ReadFile("/proc/self/exe")
		check(t, err)
		_, err = exe.Write(self)
		check(t, err)
		check(t, exe.Chmod(0o755))
		check(t, exe.Close())
		cmd := exec.CommandContext(t.Context(), exe.Name(), "-test.run=^TestWithoutNetRawItSaysSo$", "-test.v")
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), child+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestWithoutNetRawItSaysSo") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	a := start(t)
	eventually(t, "readiness names the interface and the reason", func() bool {
		err := a.Ready()
		return err != nil && strings.Contains(err.Error(), "arp on lan0") && strings.Contains(err.Error(), "operation not permitted")
	})
	if got := a.Interfaces(); len(got) != 0 {
		t.Errorf("it offers %v", got)
	}
}
