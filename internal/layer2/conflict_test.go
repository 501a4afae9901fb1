package layer2

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fresh announces addresses that are new to the cluster.
func fresh(s ...string) map[netip.Addr]Scope {
	out := onSubnet(s...)
	for a, scope := range out {
		scope.Probe = true
		out[a] = scope
	}
	return out
}

// claim says, as an ARP announcement or an advertisement, that addr is at mac.
func (w *wire) claim(addr string, mac net.HardwareAddr) {
	w.t.Helper()
	frame := announcement(nil, hw(mac), netip.MustParseAddr(addr), 0)
	w.send(frame)
}

// isProbe tells whether a frame asks for addr as RFC 5227 and RFC 4862 have it asked for before it is used.
func isProbe(frame []byte, addr string) bool {
	if p, ok := parseARP(frame); ok {
		return p.probes() && p.target == netip.MustParseAddr(addr)
	}
	m, ok := parseNDP(frame)
	return ok && m.probes() && m.target == netip.MustParseAddr(addr)
}

func (n *neighbor) addAddress(name, addr string) {
	n.t.Helper()
	l, err := n.nl.LinkByName(name)
	check(n.t, err)
	check(n.t, n.nl.AddrAdd(l, address(n.t, addr)))
}

func (n *neighbor) removeAddress(name, addr string) {
	n.t.Helper()
	l, err := n.nl.LinkByName(name)
	check(n.t, err)
	check(n.t, n.nl.AddrDel(l, address(n.t, addr)))
}

// dual connects a link of both families.
func dual(t testing.TB) *neighbor {
	t.Helper()
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	return n
}

func TestANewAddressIsProbedFirst(t *testing.T) {
	n := dual(t)
	a := start(t)
	a.SetPeers(nil)
	usesInterface(t, a, "lan0", true)
	w := n.tap("lan0")
	for _, addr := range []string{"192.0.2.100", "2001:db8::100"} {
		began := time.Now()
		a.Apply(fresh(addr), nil)
		asked := 0
		for _, f := range w.until("the first announcement of "+addr, func(f []byte) bool { return gratuitous(f, addr) }) {
			if isProbe(f, addr) {
				asked++
			}
		}
		if asked != probes {
			t.Errorf("%s was asked for %d times before, want %d", addr, asked, probes)
		}
		if took := time.Since(began); took < probes*probeInterval {
			t.Errorf("%s was announced after %v", addr, took)
		}
		if mac := n.resolve(addr); !bytes.Equal(mac, ourMAC) {
			t.Errorf("%s is at %v, want %v", addr, mac, ourMAC)
		}
	}
	if got := a.Conflicts(); len(got) > 0 {
		t.Errorf("conflicts: %v", got)
	}
}

func TestAnAddressThatIsTakenOverIsNotDelayedByAProbe(t *testing.T) {
	n := dual(t)
	a := start(t)
	a.SetPeers(nil)
	usesInterface(t, a, "lan0", true)
	w := n.tap("lan0")
	a.Apply(onSubnet("192.0.2.100"), nil)
	for _, f := range w.until("its announcement", func(f []byte) bool { return gratuitous(f, "192.0.2.100") }) {
		if isProbe(f, "192.0.2.100") {
			t.Error("it was asked for first")
		}
	}
	w.until("the question whether anybody else has it, afterwards", func(f []byte) bool { return isProbe(f, "192.0.2.100") })
}

func TestAnAddressThatAStrangerHasIsLeftAlone(t *testing.T) {
	n := dual(t)
	a := start(t)
	a.SetPeers([]net.HardwareAddr{absentMAC})
	usesInterface(t, a, "lan0", true)
	vips := []string{"192.0.2.100", "2001:db8::100"}
	n.addAddress("lan0", "192.0.2.100/24")
	n.addAddress("lan0", "2001:db8::100/64")
	w := n.tap("lan0")
	a.Apply(fresh(vips...), nil)
	theirs := net.HardwareAddr{2, 0, 0, 0, 0xff, ourMAC[5]}
	eventually(t, "both conflicts are told", func() bool {
		got := a.Conflicts()
		return len(got) == 2 && !slices.ContainsFunc(got, func(c Conflict) bool {
			return !c.Held || c.Interface != "lan0" || !bytes.Equal(c.MAC, theirs)
		})
	})
	if got := testutil.ToFloat64(a.metrics.conflicts); got != 2 {
		t.Errorf("herald_layer2_conflicts_total is %v, want 2", got)
	}
	for _, addr := range vips {
		if got := w.announcementsBefore(a, "192.0.2.20"+addr[len(addr)-1:], addr); got != 0 {
			t.Errorf("%s was announced %d times", addr, got)
		}
		a.Apply(nil, addrs("192.0.2.20"+addr[len(addr)-1:]))
	}
	w.askARP("192.0.2.2", "192.0.2.100", ethernet.Broadcast)
	if got := w.answersBefore2(a, "192.0.2.210", "192.0.2.100"); got != 0 {
		t.Errorf("answered %d times", got)
	}
}

// answersBefore2 is answersBefore with a fence that is announced for it.
func (w *wire) answersBefore2(a *Announcer, fence, addr string) int {
	w.t.Helper()
	a.Apply(onSubnet(fence), nil)
	return w.answersBefore(fence, addr)
}

func TestAnAddressThatAStrangerGivesUpIsUsed(t *testing.T) {
	n := dual(t)
	a := start(t)
	a.SetPeers(nil)
	usesInterface(t, a, "lan0", true)
	n.addAddress("lan0", "192.0.2.100/24")
	a.Apply(fresh("192.0.2.100"), nil)
	eventually(t, "the conflict is told", func() bool { return len(a.Conflicts()) == 1 })
	n.removeAddress("lan0", "192.0.2.100/24")
	a.mu.Lock()
	for _, p := range a.ports { // not in ten seconds, but now
		p.mu.Lock()
		p.queue.move(p.queue.entries[netip.MustParseAddr("192.0.2.100")], probing, time.Now())
		p.mu.Unlock()
		p.awake()
	}
	a.mu.Unlock()
	if mac := n.resolve("192.0.2.100"); !bytes.Equal(mac, ourMAC) {
		t.Errorf("the address is at %v, want %v", mac, ourMAC)
	}
	if got := a.Conflicts(); len(got) > 0 {
		t.Errorf("conflicts: %v", got)
	}
}

func TestAStrangerWhoClaimsAnAddressIsToldAndAnswered(t *testing.T) {
	n := dual(t)
	a := start(t)
	a.SetPeers(nil)
	usesInterface(t, a, "lan0", true)
	w := n.tap("lan0")
	for _, addr := range []string{"192.0.2.100", "2001:db8::100"} {
		vip := netip.MustParseAddr(addr)
		a.Apply(onSubnet(addr), nil)
		w.until("the probe after its fifth announcement", func(f []byte) bool { return isProbe(f, addr) })
		changes(a)
		w.claim(addr, strange)
		w.until("the defense", func(f []byte) bool { return gratuitous(f, addr) })
		w.until("the question whether the other still has it", func(f []byte) bool { return isProbe(f, addr) })
		want := Conflict{Addr: vip, MAC: strange, Interface: "lan0"}
		if got := a.Conflicts(); len(got) != 1 || got[0].Addr != vip || !bytes.Equal(got[0].MAC, strange) || got[0].Held || got[0].Interface != "lan0" {
			t.Errorf("conflicts: %v, want %v", got, want)
		}
		if !changes(a) {
			t.Error("Changed told nothing")
		}
		if mac := n.resolve(addr); !bytes.Equal(mac, ourMAC) {
			t.Errorf("%s is at %v, want %v", addr, mac, ourMAC)
		}
		// Claims without end are told and answered once.
		for range 1000 {
			w.claim(addr, strange)
		}
		a.Apply(onSubnet("192.0.2.200"), nil)
		w.askARP("192.0.2.2", "192.0.2.200", ethernet.Broadcast)
		if got := w.announcementsBefore(a, "192.0.2.201", addr); got != 0 {
			t.Errorf("%s was announced %d times more", addr, got)
		}
		a.Apply(nil, append(addrs("192.0.2.200", "192.0.2.201"), vip))
	}
	if got := testutil.ToFloat64(a.metrics.conflicts); got != 2 {
		t.Errorf("herald_layer2_conflicts_total is %v, want 2", got)
	}
}

// changes takes the value out of Changed, and tells whether there was one.
func changes(a *Announcer) bool {
	select {
	case <-a.Changed():
		return true
	default:
		return false
	}
}

func TestWhatTheClusterSaysIsNoConflict(t *testing.T) {
	n := dual(t)
	second := net.HardwareAddr{2, 0, 0, 0, 0, 0x12} // of this node
	n.connect("lan1", second, []string{"198.51.100.11/24"}, nil)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	usesInterface(t, a, "lan1", true)
	a.Apply(onSubnet("192.0.2.100", "192.0.2.200", "2001:db8::100"), nil)
	w := n.tap("lan0")
	claims := func(mac net.HardwareAddr) []Conflict {
		w.claim("192.0.2.100", mac)
		w.claim("2001:db8::100", mac)
		w.send(appendARP(nil, broadcast, hw(mac), arpReply, hw(mac), netip.MustParseAddr("192.0.2.100"), broadcast, netip.MustParseAddr("192.0.2.2")))
		w.answersBefore("192.0.2.200", "192.0.2.100")
		group := solicitedNode(netip.MustParseAddr("2001:db8::100"))
		w.askNDP("2001:db8::2", "2001:db8::100", group, groupMAC(group).net())
		w.until("the fence of NDP", func(f []byte) bool {
			na, _, ok := isNA(f, "2001:db8::100")
			return ok && na.Solicited
		})
		return a.Conflicts()
	}
	for _, tc := range []struct {
		name string
		mac  net.HardwareAddr
	}{
		{"anybody's, before the peers are known", strange},
		{"a peer's", theirMAC},
		{"this node's, as a stand-in told it", ourMAC},
		{"that of another interface of this node", second},
	} {
		if tc.mac[5] != strange[5] {
			a.SetPeers([]net.HardwareAddr{theirMAC})
		}
		if got := claims(tc.mac); len(got) > 0 {
			t.Errorf("%s: conflicts %v", tc.name, got)
		}
	}
	if got := claims(strange); len(got) != 2 {
		t.Errorf("a stranger's: conflicts %v, want 2", got)
	}
}

func TestAPeerIsRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(Config{}, log.NewNopLogger(), prometheus.NewRegistry())
		if !a.familiar(hw(strange)) {
			t.Error("before the peers are known somebody is a stranger")
		}
		a.SetPeers([]net.HardwareAddr{theirMAC, absentMAC})
		a.SetPeers([]net.HardwareAddr{absentMAC})
		time.Sleep(peerMemory - time.Second)
		if !a.familiar(hw(theirMAC)) {
			t.Error("a peer that has just left is a stranger")
		}
		time.Sleep(2 * time.Second)
		if a.familiar(hw(theirMAC)) {
			t.Error("a peer that left long ago is none")
		}
		if !a.familiar(hw(absentMAC)) || a.familiar(hw(strange)) {
			t.Error("who stayed is a stranger, or a stranger is not")
		}
	})
}

func TestAConflictIsOverWhenTheOtherIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addr := netip.MustParseAddr("192.0.2.1")
		p := deafPort(addr.String(), "192.0.2.9")
		told := make(chan bool, 10)
		p.hooks.conflict = func(_ Conflict, begins bool) { told <- begins }
		p.done = make(chan struct{})
		p.enqueueForTest(addr)
		go p.send(t.Context())
		time.Sleep(5 * time.Second) // its first announcements are over
		p.claimed(addr, hw(strange))
		time.Sleep(30 * time.Second)
		p.claimed(addr, hw(strange))
		time.Sleep(30 * time.Second)
		if len(told) != 1 || !<-told {
			t.Fatal("that a conflict began was not told, or more than that")
		}
		time.Sleep(20 * time.Second)
		if len(told) != 1 || <-told {
			t.Error("that it is over was not told after 50 s of silence")
		}
		if got := p.listConflicts(nil); len(got) > 0 {
			t.Errorf("conflicts: %v", got)
		}
	})
}

func (p *port) enqueueForTest(addr netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.enqueue(addr, false)
}

func TestTwoSpeakersThatAskAtTheSameTimeDoNotHoldEachOtherUp(t *testing.T) {
	// Two speakers that both take an address for new ask for it at once; neither may hold because of the other.
	n := dual(t)
	a := start(t)
	a.SetPeers([]net.HardwareAddr{theirMAC})
	usesInterface(t, a, "lan0", true)
	w := n.tap("lan0")
	a.Apply(fresh("192.0.2.100"), nil)
	w.until("our probe", func(f []byte) bool { return isProbe(f, "192.0.2.100") })
	w.send(arpProbe(nil, hw(theirMAC), netip.MustParseAddr("192.0.2.100")))
	w.until("our announcement", func(f []byte) bool {
		_, ok := isARP(f, arp.OperationRequest, "192.0.2.100")
		return ok && gratuitous(f, "192.0.2.100")
	})
}

func TestAStrangerWhoWantsTheAddressAtTheSameTimeHasIt(t *testing.T) {
	n := dual(t)
	a := start(t)
	a.SetPeers(nil)
	usesInterface(t, a, "lan0", true)
	w := n.tap("lan0")
	for _, addr := range []string{"192.0.2.100", "2001:db8::100"} {
		a.Apply(fresh(addr), nil)
		w.until("our probe", func(f []byte) bool { return isProbe(f, addr) })
		w.send(probe(nil, hw(strange), netip.MustParseAddr(addr)))
		eventually(t, "the conflict is told", func() bool {
			got := a.Conflicts()
			return len(got) == 1 && got[0].Held
		})
		a.Apply(nil, addrs(addr))
	}
}
