package layer2

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var (
	ourMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	theirMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	strange  = net.HardwareAddr{2, 0, 0, 0, 0, 0x66} // of a host outside of the cluster
)

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// who has 192.0.2.1, tell 192.0.2.2
const arpFrame = "ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 c0000202 000000000000 c0000201"

// who has 2001:db8::1, tell 2001:db8::2, with the source link-layer option
const nsFrame = "3333ff000001 020000000002 86dd 6000000000203aff" +
	"20010db8000000000000000000000002 ff0200000000000000000001ff000001" +
	"8700 0000 00000000 20010db8000000000000000000000001 0101020000000002"

func TestARPQuestions(t *testing.T) {
	change := func(at int, to ...byte) []byte {
		b := mustHex(t, arpFrame)
		copy(b[at:], to)
		return b
	}
	for _, tc := range []struct {
		name  string
		frame []byte
		ok    bool
	}{
		{"a request is a question", change(0), true},
		{"so is a probe", change(28, 0, 0, 0, 0), true},
		{"so is a request with padding", append(change(0), make([]byte, 18)...), true},
		{"an announcement is none", change(28, 192, 0, 2, 1), false},
		{"a reply is none", change(20, 0, 2), false},
		{"a request from a group is none", change(22, 1), false},
		{"a request from nobody is none", change(22, 0, 0, 0, 0, 0, 0), false},
		{"another medium is none", change(14, 0, 6), false},
		{"another network protocol is none", change(16, 0x86, 0xdd), false},
		{"other lengths are none", change(18, 8), false},
		{"another EtherType is none", change(12, 8, 0), false},
		{"a cut frame is none", change(0)[:41], false},
		{"nothing is none", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, ok := parseARP(tc.frame)
			if ok := ok && q.asks(); ok != tc.ok {
				t.Fatalf("question: %t, want %t", ok, tc.ok)
			}
			if tc.ok && (q.target != netip.MustParseAddr("192.0.2.1") || !bytes.Equal(q.from[:], theirMAC)) {
				t.Errorf("got %v", q)
			}
		})
	}
}

func TestNeighborSolicitations(t *testing.T) {
	const sender, to, target, option = 14 + 8, 14 + 24, 14 + 40 + 8, 14 + 40 + 24
	change := func(at int, with ...byte) []byte {
		b := mustHex(t, nsFrame)
		copy(b[at:], with)
		return b
	}
	unspecified := make([]byte, 16)
	noOption := change(19, 24)[:option]
	for _, tc := range []struct {
		name  string
		frame []byte
		ok    bool
	}{
		{"a solicitation is a question", change(0), true},
		{"so is one without options", noOption, true},
		{"so is a unicast one", change(to, mustHex(t, "20010db8000000000000000000000001")...), true},
		{"so is one that other options precede", append(change(19, 40)[:option], mustHex(t, "0e01000000000000 0101020000000002")...), true},
		{"so is duplicate address detection", append(append([]byte{}, noOption[:sender]...), append(unspecified, noOption[sender+16:]...)...), true},
		{"duplicate address detection with a source option is none", change(sender, unspecified...), false},
		{"one from another link is none", change(21, 254), false},
		{"one with a code is none", change(55, 1), false},
		{"an advertisement is none", change(54, 136), false},
		{"one for a group is none", change(target, 0xff), false},
		{"one from a group is none", change(sender, 0xff), false},
		{"an option of length 0 is none", change(option+1, 0), false},
		{"an option longer than the message is none", change(option+1, 2), false},
		{"a source option with a group is none", change(option+2, 1), false},
		{"a length beyond the frame is none", change(18, 1), false},
		{"a length below a solicitation is none", change(19, 16), false},
		{"IPv4 is none", change(14, 0x40), false},
		{"a cut frame is none", change(0)[:77], false},
		{"nothing is none", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, ok := parseNDP(tc.frame)
			if ok := ok && q.solicitation; ok != tc.ok {
				t.Fatalf("question: %t, want %t", ok, tc.ok)
			}
			if tc.ok && (q.target != netip.MustParseAddr("2001:db8::1") || !bytes.Equal(q.from[:], theirMAC)) {
				t.Errorf("got %v", q)
			}
		})
	}
}

func TestDuplicateAddressDetectionMustComeToTheGroup(t *testing.T) {
	b := mustHex(t, nsFrame)[:14+40+24]
	b[19] = 24
	copy(b[14+8:], make([]byte, 16))
	if _, ok := parseNDP(b); !ok {
		t.Fatal("to the group: not a question")
	}
	b[14+39] = 9
	if _, ok := parseNDP(b); ok {
		t.Error("to another group: a question")
	}
}

func TestARPFramesReadAsAnotherImplementationReadsThem(t *testing.T) {
	addr, asker := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	none := netip.IPv4Unspecified()
	zero := net.HardwareAddr{0, 0, 0, 0, 0, 0}
	all := net.HardwareAddr(ethernet.Broadcast)
	for _, tc := range []struct {
		name                   string
		frame                  []byte
		to                     net.HardwareAddr
		op                     arp.Operation
		senderMAC, targetMAC   net.HardwareAddr
		senderAddr, targetAddr netip.Addr
	}{
		{"an announcement", gratuitousARP(nil, hw(ourMAC), addr, 0), all, arp.OperationRequest, ourMAC, zero, addr, addr},
		{"its repeat, in the other form", gratuitousARP(nil, hw(ourMAC), addr, 1), all, arp.OperationReply, ourMAC, ourMAC, addr, addr},
		{"the one after it", gratuitousARP(nil, hw(ourMAC), addr, 2), all, arp.OperationRequest, ourMAC, zero, addr, addr},
		{"a probe", arpProbe(nil, hw(ourMAC), addr), all, arp.OperationRequest, ourMAC, zero, none, addr},
		{"an answer", arpAnswer(nil, hw(ourMAC), hw(ourMAC), arpPacket{from: hw(theirMAC), sender: asker, target: addr}), theirMAC, arp.OperationReply, ourMAC, theirMAC, addr, asker},
		{"an answer in another's place", arpAnswer(nil, hw(ourMAC), hw(absentMAC), arpPacket{from: hw(theirMAC), sender: asker, target: addr}), theirMAC, arp.OperationReply, absentMAC, theirMAC, addr, asker},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var f ethernet.Frame
			var p arp.Packet
			check(t, f.UnmarshalBinary(tc.frame))
			check(t, p.UnmarshalBinary(f.Payload))
			if p.Operation != tc.op || p.SenderIP != tc.senderAddr || p.TargetIP != tc.targetAddr ||
				!bytes.Equal(p.SenderHardwareAddr, tc.senderMAC) || !bytes.Equal(p.TargetHardwareAddr, tc.targetMAC) {
				t.Errorf("got %+v", p)
			}
			if !bytes.Equal(f.Destination, tc.to) || !bytes.Equal(f.Source, ourMAC) || f.EtherType != ethernet.EtherTypeARP {
				t.Errorf("got a frame from %v to %v of type %v", f.Source, f.Destination, f.EtherType)
			}
		})
	}
}

func TestNDPFramesReadAsAnotherImplementationReadsThem(t *testing.T) {
	addr, asker := netip.MustParseAddr("2001:db8::1:2"), netip.MustParseAddr("2001:db8::2")
	target := func(mac net.HardwareAddr) []ndp.Option {
		return []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}}
	}
	q := ndpMessage{solicitation: true, from: hw(theirMAC), sender: asker, target: addr}
	dad := ndpMessage{solicitation: true, from: hw(theirMAC), sender: netip.IPv6Unspecified(), target: addr}
	groupOf := groupMAC(solicitedNode(addr))
	for _, tc := range []struct {
		name     string
		frame    []byte
		toMAC    net.HardwareAddr
		from, to netip.Addr
		want     ndp.Message
	}{
		{"an announcement", unsolicitedNA(nil, hw(ourMAC), addr), allNodesMAC[:], addr, allNodes,
			&ndp.NeighborAdvertisement{Override: true, TargetAddress: addr, Options: target(ourMAC)}},
		{"an answer", ndpAnswer(nil, hw(ourMAC), hw(ourMAC), q), theirMAC, addr, asker,
			&ndp.NeighborAdvertisement{Override: true, Solicited: true, TargetAddress: addr, Options: target(ourMAC)}},
		{"an answer in another's place", ndpAnswer(nil, hw(ourMAC), hw(absentMAC), q), theirMAC, addr, asker,
			&ndp.NeighborAdvertisement{Override: true, Solicited: true, TargetAddress: addr, Options: target(absentMAC)}},
		{"an answer to who has no address yet", ndpAnswer(nil, hw(ourMAC), hw(ourMAC), dad), allNodesMAC[:], addr, allNodes,
			&ndp.NeighborAdvertisement{Override: true, TargetAddress: addr, Options: target(ourMAC)}},
		{"a probe", ndpProbe(nil, hw(ourMAC), addr), groupOf[:], netip.IPv6Unspecified(), solicitedNode(addr),
			&ndp.NeighborSolicitation{TargetAddress: addr}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want, err := ndp.MarshalMessageChecksum(tc.want, tc.from, tc.to)
			check(t, err)
			if got := tc.frame[ndpOff:]; !bytes.Equal(got, want) {
				t.Errorf("the message is %x, want %x", got, want)
			}
			header := slices.Concat([]byte{0x60, 0, 0, 0, 0, byte(len(want)), 58, 255}, tc.from.AsSlice(), tc.to.AsSlice())
			if got := tc.frame[ipv6Off:ndpOff]; !bytes.Equal(got, header) {
				t.Errorf("the IPv6 header is %x, want %x", got, header)
			}
			if got, want := tc.frame[:ipv6Off], slices.Concat(tc.toMAC, ourMAC, []byte{0x86, 0xdd}); !bytes.Equal(got, want) {
				t.Errorf("the Ethernet header is %x, want %x", got, want)
			}
		})
	}
}

// FuzzARP and FuzzNDP feed a port whatever may come in, while it has an address and asks for another.
func FuzzARP(f *testing.F) {
	f.Add(mustHex(f, arpFrame))
	f.Add(gratuitousARP(nil, hw(strange), netip.MustParseAddr("192.0.2.1"), 0))
	f.Add(gratuitousARP(nil, hw(strange), netip.MustParseAddr("192.0.2.2"), 1))
	f.Add(arpProbe(nil, hw(strange), netip.MustParseAddr("192.0.2.2")))
	f.Add([]byte{})
	p := deafPort("192.0.2.1", "192.0.2.2")
	handle := p.arpHandler()
	f.Fuzz(func(t *testing.T, frame []byte) {
		handle(frame)
		checkBounds(t, p)
		if m, ok := parseARP(frame); ok && m.asks() {
			answer, ok := parseARP(arpAnswer(nil, hw(ourMAC), hw(ourMAC), m))
			if !ok || answer.sender != m.target || answer.target != m.sender || answer.request {
				t.Errorf("the question %+v is answered by %+v, %t", m, answer, ok)
			}
		}
	})
}

func FuzzNDP(f *testing.F) {
	f.Add(mustHex(f, nsFrame))
	f.Add(mustHex(f, nsFrame)[:ndpFrameLen])
	f.Add(unsolicitedNA(nil, hw(strange), netip.MustParseAddr("2001:db8::1")))
	f.Add(unsolicitedNA(nil, hw(strange), netip.MustParseAddr("2001:db8::2")))
	f.Add(ndpProbe(nil, hw(strange), netip.MustParseAddr("2001:db8::2")))
	f.Add(make([]byte, frameMax))
	f.Add([]byte{})
	p := deafPort("2001:db8::1", "2001:db8::2")
	handle := p.ndpHandler()
	f.Fuzz(func(t *testing.T, frame []byte) {
		handle(frame)
		checkBounds(t, p)
		if m, ok := parseNDP(frame); ok && m.solicitation {
			answer, ok := parseNDP(ndpAnswer(nil, hw(ourMAC), hw(ourMAC), m))
			if !ok || answer.target != m.target || answer.solicitation {
				t.Errorf("the question %+v is answered by %+v, %t", m, answer, ok)
			}
		}
	})
}

// deafPort is a port without sockets that has one address and asks for another.
func deafPort(has, asks string) *port {
	return &port{
		link: link{name: "lan0"},
		mac:  hw(ourMAC),
		addrs: map[netip.Addr]state{
			netip.MustParseAddr(has):  {mac: hw(ourMAC)},
			netip.MustParseAddr(asks): {mac: hw(ourMAC), probing: true},
		},
		conflicts: map[netip.Addr]*conflict{},
		queue:     newQueue(Config{}, tenth),
		metrics:   newMetrics(prometheus.NewRegistry(), live{func() {}, zero, zero}),
		hooks:     hooks{familiar: func(hwAddr) bool { return false }, conflict: func(Conflict, bool) {}},
		wake:      make(chan struct{}, 1),
	}
}

func zero() float64 { return 0 }

// checkBounds fails when what came in made a port grow.
func checkBounds(t *testing.T, p *port) {
	t.Helper()
	if len(p.addrs) != 2 || len(p.conflicts) > 2 || len(p.queue.entries) > 0 {
		t.Fatalf("the port has %d addresses, %d conflicts, %d queued", len(p.addrs), len(p.conflicts), len(p.queue.entries))
	}
}

func TestQuestionsAndAnswersCostNoMemory(t *testing.T) {
	p := deafPort("192.0.2.1", "192.0.2.9")
	p.addrs[netip.MustParseAddr("2001:db8::1")] = state{mac: hw(ourMAC)}
	handleARP, handleNDP := p.arpHandler(), p.ndpHandler()
	a, n := mustHex(t, arpFrame), mustHex(t, nsFrame)
	if got := testing.AllocsPerRun(100, func() { handleARP(a); handleNDP(n) }); got != 0 {
		t.Errorf("%v allocations per two questions, want 0", got)
	}
	if got := testutil.ToFloat64(p.metrics.sendErrors[protocolARP]); got == 0 {
		t.Error("no answer was tried")
	}
}
