package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

const (
	ipv6HeaderLen   = 40
	ethernetHdrLen  = 14
	protocolICMPv6  = 58
	neighborHopMark = 255 // RFC 4861, 7.1: proof that no router forwarded the message
)

// NDP multicasts n neighbour solicitations for target on an interface of the calling thread's network namespace and
// counts the solicited advertisements by the target link-layer address that they give. More than one key means that more
// than one station claims the address.
func NDP(ctx context.Context, ifname string, target netip.Addr, n int) (map[string]int, error) {
	if !target.Is6() || target.Is4In6() {
		return nil, fmt.Errorf("NDP for %s: not an IPv6 address, use ARP", target)
	}
	ifi, prefixes, err := interfaceAddresses(ifname)
	if err != nil {
		return nil, fmt.Errorf("NDP for %s: %w", target, err)
	}
	from, ok := source(prefixes, target)
	if !ok {
		return nil, fmt.Errorf("NDP for %s: interface %s has no IPv6 address to ask from: give it one", target, ifname)
	}
	q, err := ndpQuestion(ifi.HardwareAddr, from, target)
	if err != nil {
		return nil, fmt.Errorf("NDP for %s: %w", target, err)
	}
	counts, err := ask(ctx, ifi, q, n)
	if err != nil {
		return counts, fmt.Errorf("NDP for %s: %w", target, err)
	}
	return counts, nil
}

func ndpQuestion(mac net.HardwareAddr, from, target netip.Addr) (question, error) {
	raw, err := NDPQuestion(mac, from, target)
	if err != nil {
		return question{}, err
	}
	return question{
		etherType: int(ethernet.EtherTypeIPv6), to: net.HardwareAddr(raw[:6]), frame: raw,
		answerer: func(b []byte) (string, bool) { return ndpAnswerer(b, from, target) },
	}, nil
}

func ndpAnswerer(b []byte, from, target netip.Addr) (string, bool) {
	about, mac, ok := NDPAnswer(b, from)
	if !ok || about != target {
		return "", false
	}
	return mac, true
}

// NDPQuestion is the frame of a multicast neighbour solicitation for target.
func NDPQuestion(mac net.HardwareAddr, from, target netip.Addr) ([]byte, error) {
	group, err := ndp.SolicitedNodeMulticast(target)
	if err != nil {
		return nil, err
	}
	solicitation := &ndp.NeighborSolicitation{
		TargetAddress: target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}},
	}
	message, err := ndp.MarshalMessageChecksum(solicitation, from, group)
	if err != nil {
		return nil, err
	}
	frame := ethernet.Frame{Destination: multicastMAC(group), Source: mac, EtherType: ethernet.EtherTypeIPv6, Payload: ipv6Packet(from, group, message)}
	return frame.MarshalBinary()
}

// multicastMAC maps an IPv6 multicast group to Ethernet (RFC 2464, 7).
func multicastMAC(group netip.Addr) net.HardwareAddr {
	a := group.As16()
	return net.HardwareAddr{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

func ipv6Packet(from, to netip.Addr, message []byte) []byte {
	b := make([]byte, ipv6HeaderLen, ipv6HeaderLen+len(message))
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(len(message)))
	b[6], b[7] = protocolICMPv6, neighborHopMark
	source, destination := from.As16(), to.As16()
	copy(b[8:], source[:])
	copy(b[24:], destination[:])
	return append(b, message...)
}

// NDPAnswer returns whose address a frame tells, and the MAC. It accepts solicited advertisements sent to from only. One without
// a link-layer option is counted under the Ethernet source, to which a host would go on sending (RFC 4861, 7.2.5).
func NDPAnswer(b []byte, from netip.Addr) (target netip.Addr, mac string, ok bool) {
	if len(b) < ethernetHdrLen+ipv6HeaderLen {
		return netip.Addr{}, "", false
	}
	header, message := b[ethernetHdrLen:ethernetHdrLen+ipv6HeaderLen], b[ethernetHdrLen+ipv6HeaderLen:]
	length := int(binary.BigEndian.Uint16(header[4:]))
	to, _ := netip.AddrFromSlice(header[24:40])
	if header[6] != protocolICMPv6 || header[7] != neighborHopMark || to != from || length > len(message) {
		return netip.Addr{}, "", false
	}
	parsed, err := ndp.ParseMessage(message[:length])
	if err != nil {
		return netip.Addr{}, "", false
	}
	advertisement, ok := parsed.(*ndp.NeighborAdvertisement)
	if !ok || !advertisement.Solicited {
		return netip.Addr{}, "", false
	}
	for _, o := range advertisement.Options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == ndp.Target {
			return advertisement.TargetAddress, l.Addr.String(), true
		}
	}
	return advertisement.TargetAddress, net.HardwareAddr(b[6:12]).String(), true
}
