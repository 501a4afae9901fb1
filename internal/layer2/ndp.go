package layer2

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	icmpv6                = 58
	ndpHopLimit           = 255 // no router passes on what has it: it proves that a packet comes from this link
	neighborSolicitation  = 135
	neighborAdvertisement = 136

	sourceLinkLayerOption = 1
	targetLinkLayerOption = 2

	naSolicited = 1 << 30
	naOverride  = 1 << 29

	ipv6Off       = 14 // of the IPv6 header in its frame
	ipv6HeaderLen = 40
	ndpOff        = ipv6Off + ipv6HeaderLen
	ndpBodyLen    = 24 // type, code, checksum, flags, target
	linkOptionLen = 8
	ndpFrameLen   = ndpOff + ndpBodyLen // without options
	frameMax      = 14 + 1500           // with as many as a message could carry on Ethernet
)

var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = hwAddr{0x33, 0x33, 0, 0, 0, 1}
)

// ndpPrologue drops what is neither a neighbor solicitation nor an advertisement from this link (RFC 4861, section
// 7.1), and what was sent to another host.
var ndpPrologue = slices.Concat(
	[]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: ipv6Off + 6, Size: 2}, // next header and hop limit
	}, need(icmpv6<<8|ndpHopLimit),
	[]bpf.Instruction{bpf.LoadAbsolute{Off: ndpOff, Size: 2}}, // type and code
	need(neighborSolicitation<<8, neighborAdvertisement<<8),
)

// ndpFields are the last 32 bits of the target and of the IPv6 source.
var ndpFields = [2]uint32{ndpOff + 20, ipv6Off + 20}

// ndpMessage is a solicitation or an advertisement. A solicitation asks for target, and says that its sender is reached
// at from; an advertisement says that target is. The sender of a solicitation is :: when a host checks that nobody has an address
// before it takes it (RFC 4862, section 5.4).
type ndpMessage struct {
	solicitation   bool
	from           hwAddr
	sender, target netip.Addr
}

// parseNDP reads a message out of an Ethernet frame, by the rules of RFC 4861, sections 7.1.1 and 7.1.2. It does not
// verify the checksum: between interfaces of one machine the kernel leaves it unfinished, and on a wire Ethernet's
// own has been verified.
func parseNDP(frame []byte) (m ndpMessage, ok bool) {
	if len(frame) < ndpFrameLen || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IPV6 {
		return m, false
	}
	header, body := frame[ipv6Off:ndpOff], frame[ndpOff:]
	payload := int(binary.BigEndian.Uint16(header[4:]))
	if header[0]>>4 != 6 || header[6] != icmpv6 || header[7] != ndpHopLimit || payload < ndpBodyLen || payload > len(body) {
		return m, false
	}
	body = body[:payload]
	if body[0] != neighborSolicitation && body[0] != neighborAdvertisement || body[1] != 0 {
		return m, false
	}
	m.solicitation = body[0] == neighborSolicitation
	m.sender = netip.AddrFrom16([16]byte(header[8:]))
	m.target = netip.AddrFrom16([16]byte(body[8:]))
	to := netip.AddrFrom16([16]byte(header[24:]))
	if m.target.IsMulticast() || m.sender.IsMulticast() || m.sender.Is4In6() || m.target.Is4In6() {
		return m, false
	}
	if m.probes() && to != solicitedNode(m.target) {
		return m, false
	}
	m.from = hwAddr(frame[6:])
	option := byte(targetLinkLayerOption)
	if m.solicitation {
		option = sourceLinkLayerOption
	}
	told, ok := linkLayerAddress(body[ndpBodyLen:], option)
	if !ok || m.probes() && told != (hwAddr{}) {
		return m, false
	}
	if told != (hwAddr{}) {
		m.from = told
	}
	return m, m.from.unicast()
}

// probes tells whether the message is the question of a host that wants to have the address.
func (m ndpMessage) probes() bool { return m.solicitation && m.sender.IsUnspecified() }

// linkLayerAddress returns the address in an option of this type, the zero one when there is no such option; not ok when
// the options are malformed.
func linkLayerAddress(options []byte, wanted byte) (a hwAddr, ok bool) {
	for len(options) > 0 {
		if len(options) < linkOptionLen {
			return a, false
		}
		n := int(options[1]) * 8
		if n == 0 || n > len(options) {
			return a, false
		}
		if options[0] == wanted {
			a = hwAddr(options[2:])
		}
		options = options[n:]
	}
	return a, true
}

// ndpAnswer answers a question. Who asked from :: has no address to answer to yet, and is answered so that all nodes hear
// it (RFC 4861, section 7.2.4). For source and mac see arpAnswer.
func ndpAnswer(b []byte, source, mac hwAddr, q ndpMessage) []byte {
	if q.probes() {
		return unsolicited(b, source, mac, q.target)
	}
	return appendNDP(b, q.from, source, q.target, q.sender, neighborAdvertisement, naSolicited|naOverride, q.target, targetLinkLayerOption, mac)
}

// unsolicitedNA tells the link where addr is reached (RFC 4861, section 7.2.6).
func unsolicitedNA(b []byte, mac hwAddr, addr netip.Addr) []byte {
	return unsolicited(b, mac, mac, addr)
}

// unsolicited makes an advertisement to all nodes. As every advertisement of ours it overrides what the receivers believed,
// since an address that moved is the reason for most of them. Its IPv6 source is the address itself: it needs no other
// address on the interface, and a switch that guards sources sees the binding that it has to learn.
func unsolicited(b []byte, source, mac hwAddr, addr netip.Addr) []byte {
	return appendNDP(b, allNodesMAC, source, addr, allNodes, neighborAdvertisement, naOverride, addr, targetLinkLayerOption, mac)
}

// ndpProbe asks who has addr as duplicate address detection does, without touching anybody's table (RFC 4862, section
// 5.4.2).
func ndpProbe(b []byte, mac hwAddr, addr netip.Addr) []byte {
	group := solicitedNode(addr)
	return appendNDP(b, groupMAC(group), mac, netip.IPv6Unspecified(), group, neighborSolicitation, 0, addr, 0, hwAddr{})
}

// appendNDP appends a frame to b, with a link-layer address option when option is not 0.
func appendNDP(b []byte, toMAC, source hwAddr, from, to netip.Addr, kind byte, flags uint32, target netip.Addr, option byte, linkAddr hwAddr) []byte {
	length := ndpBodyLen
	if option != 0 {
		length += linkOptionLen
	}
	b = append(b, toMAC[:]...)
	b = append(b, source[:]...)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IPV6)
	header := len(b)
	f, t, a := from.As16(), to.As16(), target.As16()
	b = append(b, 6<<4, 0, 0, 0, 0, byte(length), icmpv6, ndpHopLimit)
	b = append(b, f[:]...)
	b = append(b, t[:]...)
	b = append(b, kind, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, flags)
	b = append(b, a[:]...)
	if option != 0 {
		b = append(b, option, linkOptionLen/8)
		b = append(b, linkAddr[:]...)
	}
	body := b[header+ipv6HeaderLen:]
	binary.BigEndian.PutUint16(body[2:], checksum(b[header+8:], uint32(length)+icmpv6))
	return b
}

// checksum is that of ICMPv6 (RFC 4443, section 2.3) over the addresses and the message, which follow each other; their
// length is even. The rest of the pseudo-header is its sum.
func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// solicitedNode returns the group in which a node that has addr listens (RFC 4291, section 2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	a := addr.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
}

// groupMAC returns the Ethernet address of an IPv6 group (RFC 2464, section 7).
func groupMAC(group netip.Addr) hwAddr {
	g := group.As16()
	return hwAddr{0x33, 0x33, g[12], g[13], g[14], g[15]}
}
