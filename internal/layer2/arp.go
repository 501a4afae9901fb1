package layer2

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// hwAddr is an Ethernet address, as an array so that it is a key and parsing a question allocates nothing.
type hwAddr [6]byte

var broadcast = hwAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// hw makes an array of a hardware address; one of another length becomes the zero address.
func hw(mac net.HardwareAddr) (a hwAddr) {
	if len(mac) == len(a) {
		copy(a[:], mac)
	}
	return a
}

func (a hwAddr) net() net.HardwareAddr { return slices.Clone(a[:]) }

// unicast tells whether a frame can be sent to this address and reach one host only. Without this check a forged
// question would make us answer to everybody.
func (a hwAddr) unicast() bool { return a[0]&1 == 0 && a != hwAddr{} }

const (
	arpRequest = 1
	arpReply   = 2

	arpOff      = 14 // of the ARP packet in its frame
	arpSender   = arpOff + 14
	arpTarget   = arpOff + 24
	arpFrameLen = arpOff + 28 // without padding
)

// arpPrologue drops what is not ARP for IPv4 over Ethernet, and what was sent to another host: that is seen when
// something puts the interface into promiscuous mode.
var arpPrologue = slices.Concat(
	[]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: arpOff, Size: 4}, // hardware type, protocol type
	}, need(0x0001_0800),
	[]bpf.Instruction{bpf.LoadAbsolute{Off: arpOff + 4, Size: 4}}, // address lengths, operation
	need(0x0604_0000|arpRequest, 0x0604_0000|arpReply),
)

// arpFields are the target and the sender: who is asked for, and who says where it is.
var arpFields = [2]uint32{arpTarget, arpSender}

// arpPacket is a request or a reply. Every packet says that sender is reached at from, except a probe (RFC 5227,
// section 2.1.1), whose sender is 0.0.0.0; a request asks for target.
type arpPacket struct {
	request        bool
	from           hwAddr
	sender, target netip.Addr
}

// parseARP reads a packet out of an Ethernet frame. It checks again what the filter checked, so that it can be
// trusted with any bytes.
func parseARP(frame []byte) (p arpPacket, ok bool) {
	if len(frame) < arpFrameLen ||
		binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_ARP ||
		binary.BigEndian.Uint32(frame[arpOff:]) != 0x0001_0800 ||
		binary.BigEndian.Uint16(frame[arpOff+4:]) != 0x0604 {
		return p, false
	}
	op := binary.BigEndian.Uint16(frame[arpOff+6:])
	p.request = op == arpRequest
	p.from = hwAddr(frame[arpOff+8:])
	p.sender = netip.AddrFrom4([4]byte(frame[arpSender:]))
	p.target = netip.AddrFrom4([4]byte(frame[arpTarget:]))
	return p, (op == arpRequest || op == arpReply) && p.from.unicast()
}

// asks tells whether the packet is a question. A request whose sender asks for its own address is an announcement
// (RFC 5227, section 2.3) and none.
func (p arpPacket) asks() bool { return p.request && p.sender != p.target }

// probes tells whether the packet is the question of a host that wants to have the address.
func (p arpPacket) probes() bool { return p.request && p.sender.IsUnspecified() }

// arpAnswer answers a question with the MAC that the address is reached at. It leaves from source, which is another one
// when this node answers in the place of an absent one: a switch must not learn the other's MAC here.
func arpAnswer(b []byte, source, mac hwAddr, q arpPacket) []byte {
	return appendARP(b, q.from, source, arpReply, mac, q.target, q.from, q.sender)
}

// gratuitousARP tells the link where addr is reached. The nth announcement of an address is a request when n is
// even, an ARP Announcement as RFC 5227, section 3 wants it; when n is odd it is the reply form of RFC 5944,
// section 4.6. Each form updates hosts that ignore the other; alternating them costs half of sending both.
func gratuitousARP(b []byte, mac hwAddr, addr netip.Addr, n int) []byte {
	if n%2 == 0 {
		return appendARP(b, broadcast, mac, arpRequest, mac, addr, hwAddr{}, addr)
	}
	return appendARP(b, broadcast, mac, arpReply, mac, addr, mac, addr)
}

// arpProbe asks who has addr without touching anybody's table (RFC 5227, section 2.1.1).
func arpProbe(b []byte, mac hwAddr, addr netip.Addr) []byte {
	return appendARP(b, broadcast, mac, arpRequest, mac, netip.IPv4Unspecified(), hwAddr{}, addr)
}

// appendARP appends a frame to b.
func appendARP(b []byte, to, source hwAddr, op uint16, senderMAC hwAddr, sender netip.Addr, targetMAC hwAddr, target netip.Addr) []byte {
	b = append(b, to[:]...)
	b = append(b, source[:]...)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_ARP)
	b = append(b, 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, op)
	s, t := sender.As4(), target.As4()
	b = append(b, senderMAC[:]...)
	b = append(b, s[:]...)
	b = append(b, targetMAC[:]...)
	return append(b, t[:]...)
}
