package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	singleHopPort = 3784 // RFC 5881, section 4
	multihopPort  = 4784 // RFC 5883, section 5
	// Packets come from a port in this range, the same for the life of a session (RFC 5881, section 4).
	firstSourcePort = 49152
	lastSourcePort  = 65535
	// maxTTL is what packets leave with and, over a single hop, must arrive with: no router passes it on unlowered, so
	// that nobody further away can pretend to be the peer (RFC 5881, section 5).
	maxTTL = 255
	// networkControl is the DSCP CS6, so that a full queue drops users' packets first.
	networkControl = 0xc0
)

// socketFamily says what differs between the families.
type socketFamily struct {
	domain, level                             int
	ttl, receiveTTL, class, packetInfo        int
	ttlMessage, packetInfoMessage, indexBytes int // indexBytes is where a packet info has the interface
}

var (
	ipv4 = socketFamily{unix.AF_INET, unix.IPPROTO_IP, unix.IP_TTL, unix.IP_RECVTTL, unix.IP_TOS, unix.IP_PKTINFO,
		unix.IP_TTL, unix.IP_PKTINFO, 0}
	ipv6 = socketFamily{unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_RECVHOPLIMIT, unix.IPV6_TCLASS, unix.IPV6_RECVPKTINFO,
		unix.IPV6_HOPLIMIT, unix.IPV6_PKTINFO, 16}
)

func familyOf(a netip.Addr) socketFamily {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

type option struct{ level, name, value int }

// openUDP opens a socket that never blocks.
func openUDP(f socketFamily, options ...option) (int, error) {
	fd, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return -1, err
	}
	if f.domain == unix.AF_INET6 {
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return -1, errors.Join(fmt.Errorf("set socket option %d: %w", o.name, err), unix.Close(fd))
		}
	}
	return fd, nil
}

// listen opens the socket that all packets to a port arrive at. It shares the port with nobody: two programs of a node
// that both speak BFD would each see some packets of the other's.
func listen(f socketFamily, port int) (int, error) {
	fd, err := openUDP(f, option{f.level, f.receiveTTL, 1}, option{f.level, f.packetInfo, 1})
	if err != nil {
		return -1, fmt.Errorf("listen on UDP port %d: %w", port, err)
	}
	if err = unix.Bind(fd, socketAddress(f.any(), port, 0)); err == nil {
		return fd, nil
	}
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("%w: another program of this node speaks BFD; stop it, or remove bfdProfile from the BGPPeers of this node", err)
	}
	return -1, errors.Join(fmt.Errorf("listen on UDP port %d: %w", port, err), unix.Close(fd))
}

func (f socketFamily) any() netip.Addr {
	if f.domain == unix.AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// sender is the socket that one session's packets leave from. It is not connected: the route, and with it the source
// address that the kernel chooses, is that of the moment.
type sender struct {
	fd      int
	to      unix.Sockaddr
	ifindex int // of the interface it is bound to, 0 when to none
}

// openSender opens the socket for a session, on a source port of its own.
func openSender(s Session) (*sender, error) {
	f := familyOf(s.Peer)
	fd, err := openUDP(f, option{f.level, f.ttl, maxTTL}, option{f.level, f.class, networkControl},
		option{unix.SOL_SOCKET, unix.SO_RCVBUF, 0}) // nothing is read from it
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	out := &sender{fd: fd}
	if err := out.bind(f, s); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	port := singleHopPort
	if s.Multihop {
		port = multihopPort
	}
	out.to = socketAddress(s.Peer, port, out.ifindex)
	return out, nil
}

func (out *sender) bind(f socketFamily, s Session) error {
	if name := s.device(); name != "" {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		out.ifindex = ifi.Index
		if err := unix.BindToDevice(out.fd, name); err != nil {
			return fmt.Errorf("bind to interface %s: %w", name, err)
		}
	}
	local := f.any()
	if s.Local.IsValid() {
		local = s.Local
	}
	// Ports that others have are met now and then; half of thousands never.
	var err error
	for range 64 {
		port := firstSourcePort + rand.IntN(lastSourcePort-firstSourcePort+1)
		if err = unix.Bind(out.fd, socketAddress(local, port, out.ifindex)); !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("send from %v: %w", local, err)
	}
	return nil
}

// device is the interface that a session is bound to, empty for none.
func (s Session) device() string {
	if s.Interface != "" {
		return s.Interface
	}
	return s.Peer.Zone()
}

func (out *sender) send(b []byte) error { return unix.Sendto(out.fd, b, unix.MSG_DONTWAIT, out.to) }

// datagram is a received packet and how it came.
type datagram struct {
	payload []byte
	from    netip.Addr // without zone
	ttl     int        // 0 when the kernel did not say
	ifindex int
}

// receive reads the next packet; an error means that there is none now. The payload is good until the next call with
// the same buffers.
func receive(fd int, f socketFamily, buf, control []byte) (datagram, error) {
	n, cn, _, from, err := unix.Recvmsg(fd, buf, control, unix.MSG_DONTWAIT)
	if err != nil {
		return datagram{}, err
	}
	d := datagram{payload: buf[:n]}
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		d.from = netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		d.from = netip.AddrFrom16(a.Addr)
	}
	d.ttl, d.ifindex = f.ancillary(control[:cn])
	return d, nil
}

// ancillary finds the TTL and the interface in control messages.
func (f socketFamily) ancillary(control []byte) (ttl, ifindex int) {
	for len(control) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return ttl, ifindex
		}
		control = rest
		switch {
		case int(h.Level) != f.level:
		case int(h.Type) == f.ttlMessage && len(data) >= 4:
			ttl = int(binary.NativeEndian.Uint32(data))
		case int(h.Type) == f.packetInfoMessage && len(data) >= f.indexBytes+4:
			ifindex = int(binary.NativeEndian.Uint32(data[f.indexBytes:]))
		}
	}
	return ttl, ifindex
}

func socketAddress(a netip.Addr, port, ifindex int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	out := &unix.SockaddrInet6{Port: port, Addr: a.As16()}
	if a.IsLinkLocalUnicast() {
		out.ZoneId = uint32(ifindex)
	}
	return out
}

// passing tells whether an error of a socket says nothing about it: no packet is waiting, or a buffer is full.
func passing(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.ENOBUFS)
}
