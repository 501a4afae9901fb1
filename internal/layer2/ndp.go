package layer2

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	icmpv6                = 58
	neighborSolicitation  = 135
	sourceLinkLayerOption = 1

	ipv6HeaderLen = 40
	ndpBodyLen    = 24                              // type, code, checksum, reserved, target
	nsFrameLen    = 14 + ipv6HeaderLen + ndpBodyLen // without options
	nsFrameMax    = 14 + 1500                       // with as many as a solicitation could carry on Ethernet
)

var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

// ndpFilter lets neighbor solicitations pass that were sent to us or to a group. A hop limit of 255 proves that
// they come from this link (RFC 4861, section 7.1.1).
var ndpFilter = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 5},
	bpf.LoadAbsolute{Off: 14 + 6, Size: 2}, // next header and hop limit
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpv6<<8 | ndp.HopLimit, SkipTrue: 3},
	bpf.LoadAbsolute{Off: 14 + ipv6HeaderLen, Size: 2}, // type and code
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: neighborSolicitation << 8, SkipTrue: 1},
	bpf.RetConstant{Val: nsFrameMax},
	bpf.RetConstant{Val: 0},
}

// ndpQuestion is a neighbor solicitation: who has target, tell sender. The sender is :: when a host checks that
// nobody has an address before it takes it (RFC 4862, section 5.4).
type ndpQuestion struct {
	from           hwAddr
	sender, target netip.Addr
}

// parseNS reads a solicitation out of an Ethernet frame, by the rules of RFC 4861, section 7.1.1. It does not
// verify the checksum: between interfaces of one machine the kernel leaves it unfinished, and on a wire Ethernet's
// own has been verified.
func parseNS(frame []byte) (q ndpQuestion, ok bool) {
	if len(frame) < nsFrameLen || binary.BigEndian.Uint16(frame[12:]) != uint16(ethernet.EtherTypeIPv6) {
		return q, false
	}
	header, body := frame[14:14+ipv6HeaderLen], frame[14+ipv6HeaderLen:]
	payload := int(binary.BigEndian.Uint16(header[4:]))
	if header[0]>>4 != 6 || header[6] != icmpv6 || header[7] != ndp.HopLimit || payload < ndpBodyLen || payload > len(body) {
		return q, false
	}
	body = body[:payload]
	if body[0] != neighborSolicitation || body[1] != 0 {
		return q, false
	}
	q.from = hwAddr(frame[6:12])
	q.sender = netip.AddrFrom16([16]byte(header[8:24]))
	q.target = netip.AddrFrom16([16]byte(body[8:24]))
	to := netip.AddrFrom16([16]byte(header[24:40]))
	if q.target.IsMulticast() || q.sender.IsMulticast() || q.sender.Is4In6() || q.target.Is4In6() {
		return q, false
	}
	if q.sender.IsUnspecified() && to != solicitedNode(q.target) {
		return q, false
	}
	for options := body[ndpBodyLen:]; len(options) > 0; {
		if len(options) < 8 {
			return q, false
		}
		n := int(options[1]) * 8
		if n == 0 || n > len(options) {
			return q, false
		}
		if options[0] == sourceLinkLayerOption {
			if q.sender.IsUnspecified() {
				return q, false
			}
			q.from = hwAddr(options[2:8])
		}
		options = options[n:]
	}
	return q, q.from.unicast()
}

// solicitedAdvertisement answers a question. Who asked from :: has no address to answer to yet, and is answered so
// that all nodes hear it (RFC 4861, section 7.2.4). For source and mac see arpReply.
func solicitedAdvertisement(source, mac net.HardwareAddr, q ndpQuestion) ([]byte, error) {
	if q.sender.IsUnspecified() {
		return advertisement(source, mac, q.target, false, allNodes, allNodesMAC)
	}
	return advertisement(source, mac, q.target, true, q.sender, q.from[:])
}

// unsolicitedAdvertisement tells the link where addr is reached (RFC 4861, section 7.2.6).
func unsolicitedAdvertisement(mac net.HardwareAddr, addr netip.Addr) ([]byte, error) {
	return advertisement(mac, mac, addr, false, allNodes, allNodesMAC)
}

// advertisement makes the frame of a neighbor advertisement. It overrides what the receiver believed, since an
// address that moved is the reason for most of them. Its IPv6 source is the address itself: it needs no other address on
// the interface, and a switch that guards sources sees the binding that it has to learn.
func advertisement(source, mac net.HardwareAddr, addr netip.Addr, solicited bool, to netip.Addr, toMAC net.HardwareAddr) ([]byte, error) {
	body, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Solicited:     solicited,
		Override:      true,
		TargetAddress: addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	}, addr, to)
	if err != nil {
		return nil, err
	}
	packet := make([]byte, ipv6HeaderLen, ipv6HeaderLen+len(body))
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:], uint16(len(body)))
	packet[6] = icmpv6
	packet[7] = ndp.HopLimit
	copy(packet[8:24], addr.AsSlice())
	copy(packet[24:40], to.AsSlice())
	f := ethernet.Frame{Destination: toMAC, Source: source, EtherType: ethernet.EtherTypeIPv6, Payload: append(packet, body...)}
	return f.MarshalBinary()
}

// solicitedNode returns the group in which a node that has addr listens (RFC 4291, section 2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	a := addr.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
}

// groupMAC returns the Ethernet address of an IPv6 group (RFC 2464, section 7).
func groupMAC(group netip.Addr) net.HardwareAddr {
	g := group.As16()
	return net.HardwareAddr{0x33, 0x33, g[12], g[13], g[14], g[15]}
}
