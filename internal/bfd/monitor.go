package bfd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// Monitor has the sessions of a node. Its methods may be called from any goroutine.
type Monitor struct {
	metrics  *metrics
	notifier *notifier

	wake int           // an eventfd: the loop has requests
	done chan struct{} // closed when the loop has ended

	mu       sync.Mutex
	requests []request
	closed   bool
	statuses map[netip.Addr]Status

	// What follows belongs to the loop.
	sessions  []*session // those that leave too
	listeners []*listener
	flooded   bool // more packets came than were read in the last round
	ending    bool
}

// request is something that the loop shall do between packets.
type request struct {
	do   func(now time.Time)
	done chan struct{}
}

// New starts a Monitor that has no sessions. Changes are told to notify one after the other, in order, on a goroutine that
// is there for nothing else: it may block, but it must not call Close. The Monitor must be closed.
func New(logger log.Logger, reg prometheus.Registerer, notify func(Change)) (*Monitor, error) {
	return start(logger, reg, notify, preferLatency)
}

// start makes a Monitor whose loop calls prepare on its thread before anything else.
func start(logger log.Logger, reg prometheus.Registerer, notify func(Change), prepare func()) (*Monitor, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("start BFD: open eventfd: %w", err)
	}
	m := &Monitor{
		metrics:   newMetrics(reg),
		notifier:  startNotifier(log.With(logger, "part", "bfd"), notify),
		wake:      wake,
		done:      make(chan struct{}),
		statuses:  map[netip.Addr]Status{},
		listeners: newListeners(),
	}
	go m.run(prepare)
	return m, nil
}

// Set makes these the sessions that there are, at most one to a peer. One that is there already and differs in its profile
// alone goes on with the new intervals; one with another path starts anew, and its peer is told AdminDown first, as
// it is when its session is no longer wanted. Set returns when the loop has taken over the sessions; that their sockets
// cannot be opened is in their Status, and is tried again. A change that notify has been called with just before may be
// that of a session which is no longer wanted.
func (m *Monitor) Set(sessions []Session) {
	m.ask(func(now time.Time) { m.set(sessions, now) })
}

// State returns the status of the session with a peer, and false when there is none.
func (m *Monitor) State(peer netip.Addr) (Status, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.statuses[peer]
	return s, ok
}

// Close tells all peers AdminDown, which takes a tenth of a second, and ends. They then keep the routes unless BGP
// says otherwise. No change is told after Close has returned.
func (m *Monitor) Close() error {
	m.ask(func(now time.Time) {
		m.set(nil, now)
		m.ending = true
	})
	m.mu.Lock()
	first := !m.closed
	m.closed = true
	m.mu.Unlock()
	<-m.done
	if !first {
		return nil
	}
	m.notifier.close()
	return unix.Close(m.wake)
}

// ask has the loop do something, and returns when it is done or the loop has ended.
func (m *Monitor) ask(do func(now time.Time)) {
	r := request{do: do, done: make(chan struct{})}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.requests = append(m.requests, r)
	// A full counter wakes the loop just as well; there is no other error.
	_, _ = unix.Write(m.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	m.mu.Unlock()
	select {
	case <-r.done:
	case <-m.done:
	}
}

// answer does what the loop was asked.
func (m *Monitor) answer(now time.Time) {
	m.mu.Lock()
	requests := m.requests
	m.requests = nil
	m.mu.Unlock()
	for _, r := range requests {
		r.do(now)
		close(r.done)
	}
}

// set brings the sessions to those that are wanted.
func (m *Monitor) set(wanted []Session, now time.Time) {
	for _, s := range slices.Clone(m.sessions) {
		i := slices.IndexFunc(wanted, func(w Session) bool { return w.Peer == s.Peer })
		switch {
		case s.machine.state == AdminDown:
			if i >= 0 {
				m.remove(s) // what it still had to say would only confuse its successor's peer
			}
		case i < 0:
			s.machine.leave(farewells, now)
			m.forget(s)
		case !s.samePath(wanted[i]):
			s.machine.leave(1, now)
			s.transmit(s.machine.advance(now).send, now)
			m.remove(s)
			m.forget(s)
		}
	}
	for _, w := range wanted {
		if s := m.session(w.Peer); s != nil {
			s.Session = w
			s.machine.reconfigure(wants(w.Profile), now)
			m.publish(s)
			continue
		}
		s := newSession(w, m.discriminator(), m.metrics.of(w.Peer), now)
		m.sessions = append(m.sessions, s)
		m.publish(s)
	}
	m.listen(now)
}

// session returns the session with a peer that does not leave, nil when there is none.
func (m *Monitor) session(peer netip.Addr) *session {
	i := slices.IndexFunc(m.sessions, func(s *session) bool { return s.Peer == peer && s.machine.state != AdminDown })
	if i < 0 {
		return nil
	}
	return m.sessions[i]
}

// discriminator returns one that no other session has. It is random, so that a restarted speaker's sessions are not
// taken for those before.
func (m *Monitor) discriminator() uint32 {
	for {
		d := rand.Uint32()
		if d != 0 && !slices.ContainsFunc(m.sessions, func(s *session) bool { return s.machine.mine == d }) {
			return d
		}
	}
}

// remove takes a session off the loop.
func (m *Monitor) remove(s *session) {
	_ = s.close() // of a socket that is written to without buffering, nothing can be lost
	m.sessions = slices.DeleteFunc(m.sessions, func(other *session) bool { return other == s })
}

// forget takes a session from what others see.
func (m *Monitor) forget(s *session) {
	m.mu.Lock()
	delete(m.statuses, s.Peer)
	m.mu.Unlock()
	m.notifier.forget(s.Peer)
	m.metrics.forget(s.Peer)
}

// publish shows others how a session stands.
func (m *Monitor) publish(s *session) {
	if s.machine.state == AdminDown {
		return
	}
	now, before := s.stands(m.listenerOf(s.Session).err), s.status
	if now.same(before) {
		return
	}
	s.status = now
	m.mu.Lock()
	m.statuses[s.Peer] = now
	m.mu.Unlock()
	if text(now.Err) != text(before.Err) {
		m.notifier.fault(s.Peer, now.Err)
	}
	up := 0.0
	if now.State == Up {
		up = 1
	}
	s.metrics.up.Set(up)
	s.metrics.detection.Set(now.DetectionTime.Seconds())
}

// shut closes all sockets.
func (m *Monitor) shut() error {
	var errs []error
	for _, s := range m.sessions {
		errs = append(errs, s.close())
	}
	for _, l := range m.listeners {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}
