package layer2

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// groups are the solicited-node groups of one interface. Being a member makes the interface accept the group's
// frames and makes the kernel send MLD reports, without which a switch that snoops would not forward them.
//
// A socket holds a limited number of memberships (net.core.optmem_max; 2,340 by today's default): more sockets are
// opened as they fill up. The sockets are bound to nothing and receive nothing.
//
// The kernel takes the longer for each the more there are, seconds for ten thousand. So they are joined and left by a
// goroutine of their own, in the order in which that was wanted, and nobody waits for it.
type groups struct {
	index   int
	wake    chan struct{}
	fds     []int                      // these two are of run
	members map[netip.Addr]*membership // by group

	mu   sync.Mutex
	todo []groupChange
}

// groupChange is an address whose group is to be joined or left.
type groupChange struct {
	addr  netip.Addr
	leave bool
}

// membership knows the addresses that share a group, most often one: a group is made of the last 24 bits only.
type membership struct {
	fd    int
	addrs []netip.Addr
}

func newGroups(index int) *groups {
	return &groups{index: index, wake: make(chan struct{}, 1), members: map[netip.Addr]*membership{}}
}

// change has groups joined or left, soon.
func (g *groups) change(changes ...groupChange) {
	if len(changes) == 0 {
		return
	}
	g.mu.Lock()
	g.todo = append(g.todo, changes...)
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// run does what is wanted until ctx is done, and leaves all groups then. refused is told of each group that cannot be joined.
func (g *groups) run(ctx context.Context, refused func(error)) {
	defer g.close()
	for {
		g.mu.Lock()
		todo := g.todo
		g.todo = nil
		g.mu.Unlock()
		for _, c := range todo {
			if ctx.Err() != nil {
				return
			}
			if c.leave {
				g.leave(c.addr)
			} else if err := g.join(c.addr); err != nil {
				refused(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		}
	}
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
