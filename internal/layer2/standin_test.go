package layer2

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// absentMAC is that of a node in whose place we answer.
var absentMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xab}

// inPlace answers for addresses in the place of a node whose interface has the other MAC.
func inPlace(s ...string) map[netip.Addr]Scope {
	out := onSubnet(s...)
	for a, scope := range out {
		scope.Absent = []Absent{{Name: "lan0", MAC: absentMAC}}
		out[a] = scope
	}
	return out
}

// gratuitous tells whether a frame announces addr without having been asked.
func gratuitous(frame []byte, addr string) bool {
	if p, ok := isARP(frame, arp.OperationRequest, addr); ok {
		return p.TargetIP == p.SenderIP
	}
	if p, ok := isARP(frame, arp.OperationReply, addr); ok {
		return p.TargetIP == p.SenderIP
	}
	na, _, ok := isNA(frame, addr)
	return ok && !na.Solicited
}

// announcementsBefore announces another address and returns how many announcements of addr come up to its third one: in
// that time an address that was announced when this one was is announced three times.
func (w *wire) announcementsBefore(a *Announcer, fence, addr string) int {
	w.t.Helper()
	a.Apply(onSubnet(fence), nil)
	seen, n := 0, 0
	for _, f := range w.until("the third announcement of "+fence, func(f []byte) bool {
		if gratuitous(f, fence) {
			seen++
		}
		return seen == 3
	}) {
		if gratuitous(f, addr) {
			n++
		}
	}
	return n
}

func (w *wire) untilARPAnswer(addr string, mac net.HardwareAddr) {
	w.t.Helper()
	w.askARP("192.0.2.2", addr, ethernet.Broadcast)
	w.until("the answer that "+addr+" is at "+mac.String(), func(f []byte) bool {
		p, ok := isARP(f, arp.OperationReply, addr)
		return ok && bytes.Equal(p.TargetHardwareAddr, w.mac) && bytes.Equal(p.SenderHardwareAddr, mac)
	})
}

func TestAStandInAnswersWithTheAbsentNodesMAC(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	a := start(t)
	usesInterface(t, a, "lan0", true)
	vips := []string{"192.0.2.100", "2001:db8::100"}
	a.Apply(inPlace(vips...), nil)
	for _, addr := range vips {
		if mac := n.resolve(addr); !bytes.Equal(mac, absentMAC) {
			t.Errorf("%s is at %v, want %v", addr, mac, absentMAC)
		}
	}
	if got := testutil.ToFloat64(a.metrics.standIns); got != 2 {
		t.Errorf("herald_layer2_stand_in_addresses is %v, want 2", got)
	}
	if got := testutil.ToFloat64(a.metrics.addresses); got != 0 {
		t.Errorf("herald_layer2_announced_addresses is %v, want 0", got)
	}
}

// A switch learns from the source of each frame where a MAC is: the absent node's is not here.
func TestAStandInsFramesComeFromItsOwnMAC(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, nil)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	w := n.tap("lan0")
	a.Apply(inPlace("192.0.2.100", "2001:db8::100"), nil)
	w.askARP("192.0.2.2", "192.0.2.100", ethernet.Broadcast)
	vip := netip.MustParseAddr("2001:db8::100")
	group := solicitedNode(vip)
	w.askNDP("2001:db8::2", vip.String(), group, groupMAC(group).net())
	sawARP, sawNA := false, false
	for _, f := range w.until("both answers", func(f []byte) bool {
		if _, ok := isARP(f, arp.OperationReply, "192.0.2.100"); ok {
			sawARP = true
		}
		if _, _, ok := isNA(f, vip.String()); ok {
			sawNA = true
		}
		return sawARP && sawNA
	}) {
		if bytes.Equal(f[6:12], absentMAC) {
			t.Errorf("a frame comes from the absent node's MAC: %x", f)
		}
	}
}

func TestAStandInAnnouncesNothing(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, nil)
	a := start(t)
	usesInterface(t, a, "lan0", true)
	w := n.tap("lan0")
	a.Apply(inPlace("192.0.2.100", "2001:db8::100"), nil)
	if got := w.announcementsBefore(a, "192.0.2.200", "192.0.2.100"); got != 0 {
		t.Errorf("the IPv4 address was announced %d times", got)
	}
	if got := w.announcementsBefore(a, "2001:db8::200", "2001:db8::100"); got != 0 {
		t.Errorf("the IPv6 address was announced %d times", got)
	}
	// Not when the interface is back either, which is when all owned addresses are announced again.
	n.carrier("lan0", false)
	usesInterface(t, a, "lan0", false)
	n.carrier("lan0", true)
	w = n.tap("lan0")
	usesInterface(t, a, "lan0", true)
	if got := w.announcementsBefore(a, "192.0.2.201", "192.0.2.100"); got != 0 {
		t.Errorf("after the interface was away it was announced %d times", got)
	}
}

func TestFromStandInToOwnerAndBack(t *testing.T) {
	n := newNeighbor(t)
	n.connect("lan0", ourMAC, []string{"192.0.2.11/24", "2001:db8::11/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	a := start(t)
	usesInterface(t, a, "lan0", true)
	vips := []string{"192.0.2.100", "2001:db8::100"}
	a.Apply(inPlace(vips...), nil)
	for _, addr := range vips {
		n.resolve(addr)
	}
	a.Apply(onSubnet(vips...), nil)
	for _, addr := range vips {
		eventually(t, "the neighbor is told that "+addr+" is here now", func() bool { return bytes.Equal(n.knows(addr), ourMAC) })
	}
	if got := testutil.ToFloat64(a.metrics.standIns); got != 0 {
		t.Errorf("herald_layer2_stand_in_addresses is %v as owner, want 0", got)
	}

	w := n.tap("lan0")
	a.Apply(inPlace(vips...), nil)
	w.untilARPAnswer("192.0.2.100", absentMAC) // what was announced before is past
	if got := w.announcementsBefore(a, "192.0.2.200", "192.0.2.100"); got != 0 {
		t.Errorf("standing in again, it announced the address %d times", got)
	}
	a.Apply(nil, addrs(vips...))
	w.askARP("192.0.2.2", "192.0.2.100", ethernet.Broadcast)
	if got := w.answersBefore("192.0.2.200", "192.0.2.100"); got != 0 {
		t.Errorf("withdrawn, it answered %d times", got)
	}
	if got := testutil.ToFloat64(a.metrics.standIns); got != 0 {
		t.Errorf("herald_layer2_stand_in_addresses is %v in the end, want 0", got)
	}
}

func TestWhichMACAStandInTells(t *testing.T) {
	other := net.HardwareAddr{2, 0, 0, 0, 0, 0xac}
	absent := []Absent{{Name: "eth0", MAC: absentMAC}, {Name: "eth1", MAC: other}}
	for _, tc := range []struct {
		name, on string
		scope    Scope
		want     net.HardwareAddr
	}{
		{"its own, when it stands in for nobody", "eth0", Scope{BySubnet: true}, nil},
		{"that of the interface of the same name", "eth1", Scope{Absent: absent}, other},
		{"that of the first one, when none has the name", "lan0", Scope{Absent: absent}, absentMAC},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.scope.standIn(tc.on); got != hw(tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	if (Scope{Absent: absent}).Equal(Scope{Absent: absent[:1]}) || (Scope{Absent: absent[:1]}).Equal(Scope{Absent: []Absent{{Name: "eth0", MAC: other}}}) {
		t.Error("scopes with other MACs are equal")
	}
}
