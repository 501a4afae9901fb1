package layer2

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

var (
	ourMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	theirMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
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
const arpRequest = "ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 c0000202 000000000000 c0000201"

// who has 2001:db8::1, tell 2001:db8::2, with the source link-layer option
const nsRequest = "3333ff000001 020000000002 86dd 6000000000203aff" +
	"20010db8000000000000000000000002 ff0200000000000000000001ff000001" +
	"8700 0000 00000000 20010db8000000000000000000000001 0101020000000002"

func TestARPQuestions(t *testing.T) {
	change := func(at int, to ...byte) []byte {
		b := mustHex(t, arpRequest)
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
			if ok != tc.ok {
				t.Fatalf("question: %t, want %t", ok, tc.ok)
			}
			if ok && (q.target != netip.MustParseAddr("192.0.2.1") || !bytes.Equal(q.from[:], theirMAC)) {
				t.Errorf("got %v", q)
			}
		})
	}
}

func TestNeighborSolicitations(t *testing.T) {
	const sender, to, target, option = 14 + 8, 14 + 24, 14 + 40 + 8, 14 + 40 + 24
	change := func(at int, with ...byte) []byte {
		b := mustHex(t, nsRequest)
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
			q, ok := parseNS(tc.frame)
			if ok != tc.ok {
				t.Fatalf("question: %t, want %t", ok, tc.ok)
			}
			if ok && (q.target != netip.MustParseAddr("2001:db8::1") || !bytes.Equal(q.from[:], theirMAC)) {
				t.Errorf("got %v", q)
			}
		})
	}
}

func TestDuplicateAddressDetectionMustComeToTheGroup(t *testing.T) {
	b := mustHex(t, nsRequest)[:14+40+24]
	b[19] = 24
	copy(b[14+8:], make([]byte, 16))
	if _, ok := parseNS(b); !ok {
		t.Fatal("to the group: not a question")
	}
	b[14+39] = 9
	if _, ok := parseNS(b); ok {
		t.Error("to another group: a question")
	}
}

func TestGratuitousARPAlternatesItsForm(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	for n, want := range []arp.Operation{arp.OperationRequest, arp.OperationReply, arp.OperationRequest} {
		frame, err := gratuitousARP(ourMAC, addr, n)
		if err != nil {
			t.Fatal(err)
		}
		var f ethernet.Frame
		var p arp.Packet
		if err := f.UnmarshalBinary(frame); err != nil {
			t.Fatal(err)
		}
		if err := p.UnmarshalBinary(f.Payload); err != nil {
			t.Fatal(err)
		}
		if p.Operation != want || p.SenderIP != addr || p.TargetIP != addr || !bytes.Equal(p.SenderHardwareAddr, ourMAC) ||
			!bytes.Equal(f.Destination, ethernet.Broadcast) || !bytes.Equal(f.Source, ourMAC) {
			t.Errorf("announcement %d is %+v to %v", n, p, f.Destination)
		}
	}
}

func FuzzQuestions(f *testing.F) {
	f.Add(mustHex(f, arpRequest))
	f.Add(mustHex(f, nsRequest))
	f.Add(mustHex(f, nsRequest)[:78])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if q, ok := parseARP(frame); ok {
			if _, err := arpReply(ourMAC, ourMAC, q); err != nil {
				t.Errorf("ARP question %v cannot be answered: %v", q, err)
			}
		}
		if q, ok := parseNS(frame); ok {
			if _, err := solicitedAdvertisement(ourMAC, ourMAC, q); err != nil {
				t.Errorf("solicitation %v cannot be answered: %v", q, err)
			}
		}
	})
}

func TestOtherPeoplesQuestionsCostNoMemory(t *testing.T) {
	p := &port{addrs: map[netip.Addr]net.HardwareAddr{}}
	a, n := mustHex(t, arpRequest), mustHex(t, nsRequest)
	if got := testing.AllocsPerRun(100, func() { p.answerARP(a); p.answerNDP(n) }); got != 0 {
		t.Errorf("%v allocations per two questions, want 0", got)
	}
}
