package layer2

import (
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// protocol is one of the two that a port speaks.
type protocol int

const (
	protocolARP protocol = iota
	protocolNDP
	protocols
)

func (p protocol) String() string { return [...]string{"arp", "ndp"}[p] }

func protocolOf(addr netip.Addr) protocol {
	if addr.Is4() {
		return protocolARP
	}
	return protocolNDP
}

// program returns the kernel filter for the addresses of a cover.
func (p protocol) program(c *cover) []bpf.Instruction {
	if p == protocolARP {
		return c.program(arpPrologue, arpFields, arpFrameLen)
	}
	return c.program(ndpPrologue, ndpFields, frameMax)
}

func (p protocol) etherType() int {
	if p == protocolARP {
		return unix.ETH_P_ARP
	}
	return unix.ETH_P_IPV6
}

// announcement makes the frame of an address's nth announcement.
func announcement(b []byte, mac hwAddr, addr netip.Addr, n int) []byte {
	if addr.Is4() {
		return gratuitousARP(b, mac, addr, n)
	}
	return unsolicitedNA(b, mac, addr)
}

// probe makes the frame that asks whether anybody has an address.
func probe(b []byte, mac hwAddr, addr netip.Addr) []byte {
	if addr.Is4() {
		return arpProbe(b, mac, addr)
	}
	return ndpProbe(b, mac, addr)
}
