package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

// ARP broadcasts n ARP requests for target on an interface of the calling thread's network namespace and counts the
// replies by the sender's hardware address. More than one key means that more than one station claims the address.
func ARP(ctx context.Context, ifname string, target netip.Addr, n int) (map[string]int, error) {
	if !target.Is4() {
		return nil, fmt.Errorf("ARP for %s: not an IPv4 address, use NDP", target)
	}
	ifi, prefixes, err := interfaceAddresses(ifname)
	if err != nil {
		return nil, fmt.Errorf("ARP for %s: %w", target, err)
	}
	from, ok := source(prefixes, target)
	if !ok {
		return nil, fmt.Errorf("ARP for %s: interface %s has no IPv4 address to ask from: give it one", target, ifname)
	}
	q, err := arpQuestion(ifi.HardwareAddr, from, target)
	if err != nil {
		return nil, fmt.Errorf("ARP for %s: %w", target, err)
	}
	counts, err := ask(ctx, ifi, q, n)
	if err != nil {
		return counts, fmt.Errorf("ARP for %s: %w", target, err)
	}
	return counts, nil
}

func arpQuestion(mac net.HardwareAddr, from, target netip.Addr) (question, error) {
	request, err := arp.NewPacket(arp.OperationRequest, mac, from, make(net.HardwareAddr, 6), target)
	if err != nil {
		return question{}, err
	}
	payload, err := request.MarshalBinary()
	if err != nil {
		return question{}, err
	}
	frame := ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: payload}
	raw, err := frame.MarshalBinary()
	if err != nil {
		return question{}, err
	}
	return question{
		etherType: int(ethernet.EtherTypeARP), to: ethernet.Broadcast, frame: raw,
		answerer: func(b []byte) (string, bool) { return arpAnswerer(b, from, target) },
	}, nil
}

// arpAnswerer accepts replies to from only: a gratuitous reply answers nobody's question.
func arpAnswerer(b []byte, from, target netip.Addr) (string, bool) {
	var frame ethernet.Frame
	var reply arp.Packet
	if frame.UnmarshalBinary(b) != nil || reply.UnmarshalBinary(frame.Payload) != nil {
		return "", false
	}
	if reply.Operation != arp.OperationReply || reply.SenderIP != target || reply.TargetIP != from {
		return "", false
	}
	return reply.SenderHardwareAddr.String(), true
}
