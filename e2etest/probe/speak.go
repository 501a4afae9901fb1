package probe

import (
	"net"
	"net/netip"
)

// Speak sends a packet from an address of this network namespace to a neighbour that does not exist. It must be asked for first, and so
// tells the link who has the address.
func Speak(from netip.Addr) error {
	nobody := netip.MustParseAddr("192.0.2.59")
	if from.Is6() {
		nobody = netip.MustParseAddr("2001:db8:1::59")
	}
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(nobody, 9)))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("hello"))
	return err
}
