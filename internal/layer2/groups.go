package layer2

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// groups are the solicited-node groups of one interface. Being a member makes the interface accept the group's
// frames and makes the kernel send MLD reports, without which a switch that snoops would not forward them.
//
// A socket holds a limited number of memberships (net.core.optmem_max; 2,340 by today's default): more sockets are
// opened as they fill up. The sockets are bound to nothing and receive nothing.
type groups struct {
	index   int
	fds     []int
	members map[netip.Addr]*membership // by group
}

// membership knows the addresses that share a group, most often one: a group is made of the last 24 bits only.
type membership struct {
	fd    int
	addrs []netip.Addr
}

func newGroups(index int) *groups {
	return &groups{index: index, members: map[netip.Addr]*membership{}}
}

// join makes the interface a member of the group of an address. It may be called again.
func (g *groups) join(addr netip.Addr) error {
	group := solicitedNode(addr)
	if m, ok := g.members[group]; ok {
		if !slices.Contains(m.addrs, addr) {
			m.addrs = append(m.addrs, addr)
		}
		return nil
	}
	for _, fd := range slices.Backward(g.fds) { // the newest one most often has room
		err := g.set(fd, unix.IPV6_JOIN_GROUP, group)
		if err == nil {
			g.members[group] = &membership{fd: fd, addrs: []netip.Addr{addr}}
			return nil
		}
		if !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.ENOBUFS) {
			return os.NewSyscallError("setsockopt IPV6_JOIN_GROUP", err)
		}
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket AF_INET6", err)
	}
	if err := g.set(fd, unix.IPV6_JOIN_GROUP, group); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("setsockopt IPV6_JOIN_GROUP", err)
	}
	g.fds = append(g.fds, fd)
	g.members[group] = &membership{fd: fd, addrs: []netip.Addr{addr}}
	return nil
}

// leave undoes join; an address that never joined is none of its business.
func (g *groups) leave(addr netip.Addr) {
	group := solicitedNode(addr)
	m, ok := g.members[group]
	if !ok {
		return
	}
	m.addrs = slices.DeleteFunc(m.addrs, func(a netip.Addr) bool { return a == addr })
	if len(m.addrs) > 0 {
		return
	}
	delete(g.members, group)
	// It can only fail when the interface is gone, and the membership with it.
	_ = g.set(m.fd, unix.IPV6_LEAVE_GROUP, group)
}

// close leaves all groups.
func (g *groups) close() {
	for _, fd := range g.fds {
		unix.Close(fd)
	}
	g.fds = nil
	clear(g.members)
}

func (g *groups) set(fd, option int, group netip.Addr) error {
	return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, option, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.index)})
}
