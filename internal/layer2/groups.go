package layer2

import (
	"errors"
	"net/netip"
	"os"

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
	members map[netip.Addr]*membership
}

// membership counts the addresses that share a group: it is made of the last 24 bits only.
type membership struct {
	fd   int
	refs int
}

func newGroups(index int) *groups {
	return &groups{index: index, members: map[netip.Addr]*membership{}}
}

// join makes the interface a member once more.
func (g *groups) join(group netip.Addr) error {
	if m, ok := g.members[group]; ok {
		m.refs++
		return nil
	}
	for _, fd := range g.fds {
		err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, g.request(group))
		if err == nil {
			g.members[group] = &membership{fd: fd, refs: 1}
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
	if err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, g.request(group)); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("setsockopt IPV6_JOIN_GROUP", err)
	}
	g.fds = append(g.fds, fd)
	g.members[group] = &membership{fd: fd, refs: 1}
	return nil
}

// leave undoes one join.
func (g *groups) leave(group netip.Addr) {
	m, ok := g.members[group]
	if !ok {
		return
	}
	if m.refs--; m.refs > 0 {
		return
	}
	delete(g.members, group)
	// It can only fail when the interface is gone, and the membership with it.
	_ = unix.SetsockoptIPv6Mreq(m.fd, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, g.request(group))
}

// close leaves all groups.
func (g *groups) close() {
	for _, fd := range g.fds {
		unix.Close(fd)
	}
	g.fds = nil
	clear(g.members)
}

func (g *groups) request(group netip.Addr) *unix.IPv6Mreq {
	return &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.index)}
}
