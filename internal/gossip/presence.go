package gossip

import (
	"maps"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lookTries is how many times a node is called in one look: one packet that is lost is no death.
	lookTries = 3

	// lookFresh is how long the outcome of a look counts. A member that is dead was suspected, and looked for, that much
	// earlier at most.
	lookFresh = 500 * time.Millisecond
)

// look is a short look for a node on the network. Its outcome may be read once done is closed.
type look struct {
	done    chan struct{}
	present bool
	at      time.Time
}

// stale tells whether the outcome counts no more. It is called with the ring's lock held.
func (l *look) stale() bool { return !l.at.IsZero() && time.Since(l.at) >= lookFresh }

// lookFor looks for a node, unless somebody does so already or just has. It is called with the lock held.
func (r *Ring) lookFor(node string, addr netip.AddrPort) *look {
	if l := r.looks[node]; l != nil && !l.stale() {
		return l
	}
	maps.DeleteFunc(r.looks, func(_ string, l *look) bool { return l.stale() })
	l := &look{done: make(chan struct{})}
	r.looks[node] = l
	go func() {
		there := r.cfg.present(addr, r.tuning.look)
		r.mu.Lock()
		l.present, l.at = there, time.Now()
		r.mu.Unlock()
		close(l.done)
	}()
	return l
}

// called hears how a call of a peer by TCP ended. When a member's node was silent this member looks for it, and asks its
// peers to do the same: should it be found dead, everybody knows already whether its node is there.
func (r *Ring) called(node string, accepted, refused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if refused {
		r.refused[node] = true
	} else {
		delete(r.refused, node)
	}
	m, alive := r.members[node]
	if !alive || accepted || refused {
		return
	}
	if l := r.looks[node]; l == nil || l.stale() {
		r.suspected = append(r.suspected, node)
		notify(r.toTell)
	}
	r.lookFor(node, m.Addr)
}

// suspect hears that a peer could not reach a member.
func (r *Ring) suspect(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, alive := r.members[node]; alive && node != r.cfg.Node {
		r.lookFor(node, m.Addr)
	}
}

// present tells whether a node is there, its speaker or not: a TCP connection to the gossip port is accepted by the one
// and refused by the other's kernel, and a node that is dead does neither. It takes as long as within for a node that is
// silent. It asks the kernel in the end, not the clock: an answer that this process was too busy to see in time counts.
func present(addr netip.AddrPort, within time.Duration) bool {
	var fds []unix.PollFd
	defer func() {
		for _, p := range fds {
			if p.Fd >= 0 {
				unix.Close(int(p.Fd))
			}
		}
	}()
	for range lookTries {
		fd, err := connect(addr)
		if err == unix.EINPROGRESS {
			fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT})
		} else if fd >= 0 {
			unix.Close(fd)
		}
		if err == nil || err == unix.ECONNREFUSED {
			return true
		}
		if answered(fds, within/lookTries) {
			return true
		}
	}
	return false
}

// connect begins a connection. The error is EINPROGRESS when it is not known yet what becomes of it.
func connect(addr netip.AddrPort) (fd int, err error) {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()})
	if addr.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, to)
}

// answered waits until one of the connections is accepted or refused, for a limited time.
func answered(fds []unix.PollFd, within time.Duration) bool {
	for deadline := time.Now().Add(within); ; {
		left := max(0, time.Until(deadline))
		_, err := unix.Poll(fds, int(left.Milliseconds()))
		if err != nil && err != unix.EINTR {
			return false
		}
		for i := range fds {
			if fds[i].Revents == 0 {
				continue
			}
			errno, err := unix.GetsockoptInt(int(fds[i].Fd), unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && (errno == 0 || unix.Errno(errno) == unix.ECONNREFUSED) {
				return true
			}
			unix.Close(int(fds[i].Fd)) // unreachable, says a router or this node's own kernel
			fds[i] = unix.PollFd{Fd: -1}
		}
		if left < time.Millisecond {
			return false
		}
	}
}
