package layer2

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// hwAddr is an Ethernet address, as an array so that parsing a question allocates nothing.
type hwAddr [6]byte

// unicast tells whether a frame can be sent to this address and reach one host only. Without this check a forged
// question would make us answer to everybody.
func (a hwAddr) unicast() bool { return a[0]&1 == 0 && a != hwAddr{} }

// arpFilter lets requests for IPv4 addresses pass that were sent to us or to all. What was meant for another host
// is seen when something puts the interface into promiscuous mode, and is no question to us.
var arpFilter = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 9},
	bpf.LoadAbsolute{Off: 14, Size: 4}, // hardware type Ethernet, protocol type IPv4
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x0001_0800, SkipTrue: 7},
	bpf.LoadAbsolute{Off: 18, Size: 4}, // address lengths 6 and 4, operation request
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x0604_0001, SkipTrue: 5},
	// A request whose sender asks for its own address is an announcement (RFC 5227, section 2.3) and no question.
	bpf.LoadAbsolute{Off: 28, Size: 4},
	bpf.StoreScratch{Src: bpf.RegA, N: 0},
	bpf.LoadAbsolute{Off: 38, Size: 4},
	bpf.LoadScratch{Dst: bpf.RegX, N: 0},
	bpf.JumpIfX{Cond: bpf.JumpNotEqual, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: arpFrameLen},
}

// arpFrameLen is the length of an Ethernet frame with an ARP packet in it, without padding.
const arpFrameLen = 14 + 28

// arpQuestion is an ARP request: who has target, tell sender. The sender is 0.0.0.0 in a probe (RFC 5227).
type arpQuestion struct {
	from           hwAddr
	sender, target netip.Addr
}

// parseARP reads a request out of an Ethernet frame. It checks again what the filter checked, so that it can be
// trusted with any bytes.
func parseARP(frame []byte) (q arpQuestion, ok bool) {
	if len(frame) < arpFrameLen ||
		binary.BigEndian.Uint16(frame[12:]) != uint16(ethernet.EtherTypeARP) ||
		binary.BigEndian.Uint32(frame[14:]) != 0x0001_0800 ||
		binary.BigEndian.Uint32(frame[18:]) != 0x0604_0001 {
		return q, false
	}
	q.from = hwAddr(frame[22:28])
	q.sender = netip.AddrFrom4([4]byte(frame[28:32]))
	q.target = netip.AddrFrom4([4]byte(frame[38:42]))
	return q, q.from.unicast() && q.sender != q.target
}

// arpReply answers a question with the MAC that the address is reached at. It leaves from source, which is another one
// when this node answers in the place of an absent one: a switch must not learn the other's MAC here.
func arpReply(source, mac net.HardwareAddr, q arpQuestion) ([]byte, error) {
	return arpFrame(source, arp.OperationReply, mac, q.target, q.from[:], q.sender, q.from[:])
}

// gratuitousARP tells the link where addr is reached. The nth announcement of an address is a request when n is
// even, an ARP Announcement as RFC 5227, section 3 wants it; when n is odd it is the reply form of RFC 5944,
// section 4.6. Each form updates hosts that ignore the other; alternating them costs half of sending both.
func gratuitousARP(mac net.HardwareAddr, addr netip.Addr, n int) ([]byte, error) {
	if n%2 == 0 {
		return arpFrame(mac, arp.OperationRequest, mac, addr, make(net.HardwareAddr, 6), addr, ethernet.Broadcast)
	}
	return arpFrame(mac, arp.OperationReply, mac, addr, mac, addr, ethernet.Broadcast)
}

func arpFrame(source net.HardwareAddr, op arp.Operation, senderMAC net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr, to net.HardwareAddr) ([]byte, error) {
	p, err := arp.NewPacket(op, senderMAC, sender, targetMAC, target)
	if err != nil {
		return nil, err
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	f := ethernet.Frame{Destination: to, Source: source, EtherType: ethernet.EtherTypeARP, Payload: payload}
	return f.MarshalBinary()
}
