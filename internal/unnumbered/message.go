package unnumbered

import (
	"net/netip"

	"golang.org/x/net/ipv6"
)

const (
	hopLimit = 255 // of all such messages: no router passes them on

	advertisementLength = 16 // without options
	solicitationLength  = 8
	optionUnit          = 8 // bytes
)

var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

// The kernel puts in the checksums.

// advertisement is a Router Advertisement of a node that is no default router, with nothing in it for hosts to use
// (RFC 4861, section 4.2): the router lifetime is 0, and everything else is unspecified.
func advertisement() []byte {
	return append([]byte{byte(ipv6.ICMPTypeRouterAdvertisement)}, make([]byte, advertisementLength-1)...)
}

// solicitation is a Router Solicitation (RFC 4861, section 4.1).
func solicitation() []byte {
	return append([]byte{byte(ipv6.ICMPTypeRouterSolicitation)}, make([]byte, solicitationLength-1)...)
}

// valid makes the checks of RFC 4861, section 6.1.2, on a Router Advertisement; the kernel has made that of the checksum.
// A router that says that it is no default router is one nevertheless: on such links many do.
func valid(b []byte, from netip.Addr, hops int) bool {
	if !from.Is6() || !from.IsLinkLocalUnicast() || hops != hopLimit {
		return false
	}
	if len(b) < advertisementLength || b[0] != byte(ipv6.ICMPTypeRouterAdvertisement) || b[1] != 0 {
		return false
	}
	for options := b[advertisementLength:]; len(options) > 0; {
		if len(options) < optionUnit {
			return false
		}
		length := int(options[1]) * optionUnit
		if length == 0 || length > len(options) {
			return false
		}
		options = options[length:]
	}
	return true
}
