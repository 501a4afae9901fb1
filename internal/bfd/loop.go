package bfd

import (
	"errors"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// burst is how many packets are read from a port before the timers are looked at again, so that a flood of them
	// cannot keep this side from sending.
	burst = 256
	// relistenAfter is the pause before a port that another program has is tried again.
	relistenAfter = time.Second
	// breather is the pause after a burst: a flood takes a part of one core, never all of it.
	breather = 2 * time.Millisecond
	// slice is how long the loop's thread wants to compute at a stretch. A short one lets the kernel's scheduler run the
	// thread sooner when it wakes among busy ones, and needs no privilege.
	slice = 100 * time.Microsecond
)

// listener is a port that packets arrive at; it is open while a session needs it.
type listener struct {
	family   socketFamily
	multihop bool

	fd       int // -1 when closed
	err      error
	reopenAt time.Time
}

func newListeners() []*listener {
	var all []*listener
	for _, f := range []socketFamily{ipv4, ipv6} {
		for _, multihop := range []bool{false, true} {
			all = append(all, &listener{family: f, multihop: multihop, fd: -1})
		}
	}
	return all
}

func (l *listener) serves(s Session) bool {
	return l.multihop == s.Multihop && l.family == familyOf(s.Peer)
}

func (l *listener) port() int {
	if l.multihop {
		return multihopPort
	}
	return singleHopPort
}

func (l *listener) close() error {
	if l.fd < 0 {
		return nil
	}
	err := unix.Close(l.fd)
	l.fd = -1
	return err
}

func (m *Monitor) listenerOf(s Session) *listener {
	return m.listeners[slices.IndexFunc(m.listeners, func(l *listener) bool { return l.serves(s) })]
}

// run is the loop, all of whose system calls are made on one thread: it waits for packets, for the next timer and for
// requests. Packets are always read before timers are judged. A node so busy that the thread ran late then finds its peers' packets waiting for it, and does not
// take its own delay for their silence.
func (m *Monitor) run(prepare func()) {
	defer close(m.done)
	runtime.LockOSThread() // never unlocked: the thread ends with the loop, and its scheduling with it
	prepare()
	buf, control := make([]byte, 512), make([]byte, 256)
	for {
		m.wait()
		now := time.Now()
		m.answer(now)
		m.listen(now)
		m.flooded = false
		for _, l := range m.listeners {
			m.flooded = m.drain(l, buf, control) || m.flooded
		}
		m.advance(time.Now())
		if m.ending && len(m.sessions) == 0 {
			_ = m.shut() // nothing is lost with them
			return
		}
	}
}

// preferLatency asks the kernel to run this thread as soon as it wakes: before all ordinary threads where the process has
// CAP_SYS_NICE, and otherwise soon among them, which a kernel older than 6.12 does not know how to.
func preferLatency() {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(0, &attr, 0) == nil {
		return
	}
	attr = unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Runtime: uint64(slice)}
	_ = unix.SchedSetAttr(0, &attr, 0) // without it the thread is scheduled like any other
}

// wait returns when a packet or a request has come or a timer is due.
func (m *Monitor) wait() {
	fds := []unix.PollFd{{Fd: int32(m.wake), Events: unix.POLLIN}}
	for _, l := range m.listeners {
		if l.fd >= 0 {
			fds = append(fds, unix.PollFd{Fd: int32(l.fd), Events: unix.POLLIN})
		}
	}
	at := m.next()
	if m.flooded {
		fds = fds[:1]
		if soon := time.Now().Add(breather); at.IsZero() || soon.Before(at) {
			at = soon
		}
	}
	var timeout *unix.Timespec
	if !at.IsZero() {
		ts := unix.NsecToTimespec(int64(max(0, time.Until(at))))
		timeout = &ts
	}
	_, _ = unix.Ppoll(fds, timeout, nil) // EINTR is the only error, and looking around once more is no harm
	var count [8]byte
	_, _ = unix.Read(m.wake, count[:]) // empties it; EAGAIN when it was not what woke us
}

// next is when the first timer is due, zero for never.
func (m *Monitor) next() time.Time {
	var first time.Time
	add := func(t time.Time) {
		if first.IsZero() || !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	for _, s := range m.sessions {
		add(s.machine.next())
	}
	for _, l := range m.listeners {
		if l.err != nil {
			add(l.reopenAt)
		}
	}
	return first
}

// listen has those ports open that sessions need.
func (m *Monitor) listen(now time.Time) {
	for _, l := range m.listeners {
		needed := slices.ContainsFunc(m.sessions, func(s *session) bool { return l.serves(s.Session) })
		switch {
		case !needed:
			_ = l.close() // nobody wants what was in it
			l.err = nil
		case l.fd < 0 && !now.Before(l.reopenAt):
			l.fd, l.err = listen(l.family, l.port())
			l.reopenAt = now.Add(relistenAfter)
			for _, s := range m.sessions {
				m.publish(s)
			}
		}
	}
}

// drain takes the packets that wait at a port, and tells whether there were more than it took.
func (m *Monitor) drain(l *listener, buf, control []byte) (more bool) {
	if l.fd < 0 {
		return false
	}
	for range burst {
		d, err := receive(l.fd, l.family, buf, control)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false
		}
		if err := m.take(l, d); err != nil {
			m.metrics.dropped.WithLabelValues(err.Error()).Inc()
		}
	}
	return true
}

// take gives a received packet to its session, or says why there is none for it.
func (m *Monitor) take(l *listener, d datagram) error {
	p, err := parse(d.payload)
	if err != nil {
		return err
	}
	now := time.Now()
	i := slices.IndexFunc(m.sessions, func(s *session) bool { return l.serves(s.Session) && s.takes(p, d, now) })
	if i < 0 {
		return errNoSession
	}
	s := m.sessions[i]
	if d.ttl < s.lowestTTL() {
		return errTTL
	}
	s.metrics.received.Inc()
	m.settle(s, s.machine.receive(p, now), now)
	return nil
}

// advance does what is due in every session.
func (m *Monitor) advance(now time.Time) {
	for _, s := range slices.Clone(m.sessions) {
		due := s.machine.sendAt
		r := s.machine.advance(now)
		if len(r.send) > 0 {
			m.metrics.delay.Observe(max(0, now.Sub(due)).Seconds())
		}
		m.settle(s, r, now)
		if s.machine.gone() {
			m.remove(s)
		}
	}
}

// settle does what a machine answered.
func (m *Monitor) settle(s *session, r result, now time.Time) {
	s.transmit(r.send, now)
	if r.change != nil {
		c := *r.change
		c.Peer = s.Peer
		if c.State == Down {
			s.metrics.failures.Inc()
		}
		m.notifier.add(c)
	}
	m.publish(s)
}
