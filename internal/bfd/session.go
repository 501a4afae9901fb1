package bfd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// reopenAfter is how long a socket that fails is used before it is opened anew: the interface it is bound to may have
// been replaced. A route that is missing for a moment needs no new socket.
const reopenAfter = time.Second

// session is a machine with its socket. It belongs to the loop.
type session struct {
	Session
	machine *machine
	metrics peerMetrics

	out      *sender // nil when it could not be opened
	reopenAt time.Time
	sendErr  error

	status Status // as published last
}

func newSession(s Session, discriminator uint32, m peerMetrics, now time.Time) *session {
	return &session{
		Session: s,
		machine: newMachine(wants(s.Profile), discriminator, rand.Float64, now),
		metrics: m,
	}
}

// wants reads what a profile asks for.
func wants(p Profile) settings {
	return settings{
		desiredTx: p.TransmitInterval, requiredRx: p.ReceiveInterval,
		multiplier: p.DetectMultiplier, passive: p.PassiveMode,
	}
}

// samePath tells whether a session can become another without its peer noticing more than new intervals.
func (s *session) samePath(other Session) bool {
	return s.Peer == other.Peer && s.Local == other.Local && s.Interface == other.Interface && s.Multihop == other.Multihop
}

// lowestTTL is what a packet of the peer must have left.
func (s *session) lowestTTL() int {
	if s.Multihop {
		return s.Profile.MinimumTTL
	}
	return maxTTL
}

// takes tells whether a packet that came in on a port of the session's kind may be the peer's.
func (s *session) takes(p packet, d datagram, now time.Time) bool {
	if s.Peer.WithZone("") != d.from || s.machine.state == AdminDown || p.yours != 0 && p.yours != s.machine.mine {
		return false
	}
	return s.device() == "" || s.on(d.ifindex, now)
}

// on tells whether a packet came in on the interface that the session is bound to. While it is not up the interface is
// looked up again now and then: another may have taken the name.
func (s *session) on(ifindex int, now time.Time) bool {
	if s.out != nil && s.out.ifindex == ifindex {
		return true
	}
	if s.machine.state == Up || now.Before(s.reopenAt) {
		return false
	}
	s.reopenAt = now.Add(reopenAfter)
	s.sendErr = errors.Join(s.close(), s.open())
	return s.out != nil && s.out.ifindex == ifindex
}

func (s *session) transmit(packets []packet, now time.Time) {
	for _, p := range packets {
		b := p.bytes()
		err := s.try(b)
		if err != nil && s.out != nil && !passing(err) && !now.Before(s.reopenAt) {
			s.reopenAt = now.Add(reopenAfter)
			err = errors.Join(s.close(), s.try(b))
		}
		s.sendErr = err
		if err != nil {
			s.metrics.sendErrors.Inc()
		} else {
			s.metrics.sent.Inc()
		}
	}
}

func (s *session) open() (err error) {
	s.out, err = openSender(s.Session)
	return err
}

func (s *session) try(b []byte) error {
	if s.out == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	if err := s.out.send(b); err != nil {
		return fmt.Errorf("send to %v: %w", s.Peer, err)
	}
	return nil
}

func (s *session) close() error {
	if s.out == nil {
		return nil
	}
	err := unix.Close(s.out.fd)
	s.out = nil
	return err
}

// stands is the session's status now; receiving says why packets cannot be received.
func (s *session) stands(receiving error) Status {
	m := s.machine
	out := Status{State: m.state, Diagnostic: m.diagnostic, Since: m.since, HeldUntil: m.heldUntil, Err: s.sendErr}
	if receiving != nil {
		out.Err = receiving
	}
	if m.adminDown {
		out.State = AdminDown
	}
	if m.remote.discriminator != 0 {
		out.Interval, out.DetectionTime = m.interval(), m.detectionTime()
	}
	if m.state == Up {
		out.HeldUntil = time.Time{}
	}
	return out
}

// same compares two statuses; errors are the same when they say the same.
func (s Status) same(other Status) bool {
	a, b := s.Err, other.Err
	s.Err, other.Err = nil, nil
	return s == other && text(a) == text(b)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
