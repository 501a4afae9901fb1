package bfd

import (
	"testing"
	"time"
)

// story is a session and the peer's side of the conversation, on a clock of its own.
type story struct {
	*testing.T
	m   *machine
	now time.Time
	// sent is what the session has sent since it was looked at last, and when.
	sent    []packet
	sentAt  []time.Time
	changes []State
	peer    packet // what the peer says when asked to say hello again
}

const (
	ours   = 7
	theirs = 9
)

var fast = settings{desiredTx: 50 * time.Millisecond, requiredRx: 50 * time.Millisecond, multiplier: 3}

// tell starts a story; without jitter, packets come at exactly the agreed interval.
func tell(t *testing.T, s settings) *story {
	now := time.Unix(1_000_000, 0)
	return &story{
		T: t, m: newMachine(s, ours, func() float64 { return 0 }, now), now: now,
		peer: packet{state: Down, multiplier: 3, mine: theirs, desiredTx: time.Second, requiredRx: 50 * time.Millisecond},
	}
}

func (s *story) take(r result) {
	for _, p := range r.send {
		s.sent, s.sentAt = append(s.sent, p), append(s.sentAt, s.now)
	}
	if r.change != nil {
		s.changes = append(s.changes, r.change.State)
	}
}

// hear has the peer say something else than it said last.
func (s *story) hear(change func(p *packet)) {
	s.Helper()
	change(&s.peer)
	s.take(s.m.receive(s.peer, s.now))
	s.peer.poll, s.peer.final = false, false
}

// wait lets time pass, timer by timer.
func (s *story) wait(d time.Duration) {
	s.Helper()
	end := s.now.Add(d)
	for range 10_000 {
		at := s.m.next()
		if at.IsZero() || at.After(end) {
			s.now = end
			return
		}
		s.now = maxTime(s.now, at)
		s.take(s.m.advance(s.now))
	}
	s.Fatal("the timers never stop")
}

// chat lets time pass with a peer that goes on to send, every interval.
func (s *story) chat(d, interval time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.wait(interval)
		s.hear(func(*packet) {})
	}
}

// last returns what was sent last and forgets what was before.
func (s *story) last() packet {
	s.Helper()
	if len(s.sent) == 0 {
		s.Fatal("nothing was sent")
	}
	p := s.sent[len(s.sent)-1]
	s.sent, s.sentAt = nil, nil
	return p
}

func (s *story) is(want State) {
	s.Helper()
	if s.m.state != want {
		s.Fatalf("the session is %v, want %v", s.m.state, want)
	}
}

func (s *story) told(want ...State) {
	s.Helper()
	if len(s.changes) != len(want) {
		s.Fatalf("told %v, want %v", s.changes, want)
	}
	for i := range want {
		if s.changes[i] != want[i] {
			s.Fatalf("told %v, want %v", s.changes, want)
		}
	}
	s.changes = nil
}

func (s *story) equal(what string, got, want any) {
	s.Helper()
	if got != want {
		s.Fatalf("%s is %v, want %v", what, got, want)
	}
}

// up brings the session up and through its poll sequence.
func (s *story) up() {
	s.Helper()
	s.wait(0)
	s.hear(func(p *packet) { p.state = Down })
	s.is(Init)
	s.hear(func(p *packet) { p.state, p.yours = Up, ours })
	s.is(Up)
	s.told(Up)
	s.hear(func(p *packet) { p.final, p.desiredTx = true, 50*time.Millisecond })
	s.sent, s.sentAt = nil, nil
}

// The state machine of RFC 5880, section 6.2, as section 6.8.6 tells it.
func TestStates(t *testing.T) {
	none := State(255)
	for _, c := range []struct {
		name            string
		ours, hear, get State
		told            State
		diagnostic      Diagnostic
	}{
		{"down hears down: both are there", Down, Down, Init, none, NoDiagnostic},
		{"down hears init: the peer hears us", Down, Init, Up, Up, NoDiagnostic},
		{"down hears up: the peer does not know yet that we were down", Down, Up, Down, none, NoDiagnostic},
		{"down hears admin down", Down, AdminDown, Down, AdminDown, NoDiagnostic},
		{"init hears down: the peer does not hear us yet", Init, Down, Init, none, NoDiagnostic},
		{"init hears init", Init, Init, Up, Up, NoDiagnostic},
		{"init hears up", Init, Up, Up, Up, NoDiagnostic},
		{"init hears admin down", Init, AdminDown, Down, AdminDown, NeighborSignaledDown},
		{"up hears down: the peer does not hear us any more", Up, Down, Down, Down, NeighborSignaledDown},
		{"up hears init", Up, Init, Up, none, NoDiagnostic},
		{"up hears up", Up, Up, Up, none, NoDiagnostic},
		{"up hears admin down, which is no failure", Up, AdminDown, Down, AdminDown, NeighborSignaledDown},
		{"admin down hears nothing", AdminDown, Up, AdminDown, none, NoDiagnostic},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := tell(t, fast)
			s.m.state = c.ours
			s.hear(func(p *packet) { p.state, p.yours = c.hear, ours })
			s.is(c.get)
			if c.told == none {
				s.told()
			} else {
				s.told(c.told)
			}
			s.equal("the diagnostic", s.m.diagnostic, c.diagnostic)
		})
	}
}

func TestBringUp(t *testing.T) {
	s := tell(t, fast)
	s.wait(3500 * time.Millisecond)
	s.equal("the number of packets in 3.5 s", len(s.sent), 4)
	p := s.last()
	s.equal("the state sent", p.state, Down)
	s.equal("the interval offered while not up", p.desiredTx, slowInterval)
	s.equal("the interval expected", p.requiredRx, 50*time.Millisecond)
	s.equal("the peer's discriminator", p.yours, uint32(0))

	s.hear(func(p *packet) { p.state = Down })
	p = s.last() // at once, not when the second is over
	s.equal("the state sent", p.state, Init)
	s.equal("the peer's discriminator", p.yours, uint32(theirs))

	s.hear(func(p *packet) { p.state, p.yours = Init, ours })
	p = s.last()
	s.equal("the state sent", p.state, Up)
	s.equal("the interval offered when up", p.desiredTx, 50*time.Millisecond)
	s.equal("a poll for the new interval", p.poll, true)

	s.wait(120 * time.Millisecond)
	s.equal("packets that poll until there is an answer", len(s.sent), 2)
	s.equal("a poll for the new interval", s.last().poll, true)
	s.hear(func(p *packet) { p.state, p.final = Up, true })
	s.wait(100 * time.Millisecond)
	s.equal("a poll after the answer", s.last().poll, false)
	s.told(Up)
}

func TestSilence(t *testing.T) {
	t.Run("is noticed after the peer's multiplier times the slower of its interval and ours", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		s.hear(func(p *packet) { p.desiredTx, p.multiplier = 80*time.Millisecond, 5 })
		s.wait(399 * time.Millisecond)
		s.is(Up)
		s.wait(time.Millisecond)
		s.is(Down)
		s.told(Down)
		p := s.last()
		s.equal("the diagnostic sent", p.diagnostic, DetectionTimeExpired)
		s.equal("the peer's discriminator, which is forgotten", p.yours, uint32(0))
		s.equal("the interval offered", p.desiredTx, slowInterval)
	})
	t.Run("before the session was up is no failure", func(t *testing.T) {
		s := tell(t, fast)
		s.wait(0)
		s.hear(func(*packet) {})
		s.is(Init)
		s.wait(4 * time.Second)
		s.is(Down)
		s.told()
	})
	t.Run("is over when a packet came before the timer was looked at", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		s.now = s.now.Add(10 * time.Second) // the node was too busy to run us
		s.hear(func(*packet) {})
		s.take(s.m.advance(s.now))
		s.is(Up)
	})
}

func TestPace(t *testing.T) {
	t.Run("follows the peer when it can take less than we would send", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		s.hear(func(p *packet) { p.requiredRx = 200 * time.Millisecond })
		s.chat(2*time.Second, 50*time.Millisecond)
		s.equal("packets in 2 s", len(s.sent) >= 9 && len(s.sent) <= 11, true)
	})
	t.Run("stops when the peer wants no packets, and answers polls all the same", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		s.hear(func(p *packet) { p.requiredRx = 0 })
		s.chat(2*time.Second, 50*time.Millisecond)
		s.equal("packets in 2 s", len(s.sent), 0)
		s.hear(func(p *packet) { p.poll = true })
		s.equal("the answer", s.last().final, true)
	})
	t.Run("stops in demand mode while both are up", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		s.hear(func(p *packet) { p.demand = true })
		s.chat(time.Second, 50*time.Millisecond)
		s.equal("packets in 1 s", len(s.sent), 0)
		s.hear(func(p *packet) { p.demand = false })
		s.chat(time.Second, 50*time.Millisecond)
		s.equal("packets after demand mode", len(s.sent) > 15, true)
	})
	t.Run("does not start on a passive side before the peer was heard", func(t *testing.T) {
		passive := fast
		passive.passive = true
		s := tell(t, passive)
		s.wait(time.Minute)
		s.equal("packets in a minute", len(s.sent), 0)
		s.equal("a timer", s.m.next().IsZero(), true)
		s.hear(func(*packet) {})
		s.equal("the state sent", s.last().state, Init)
	})
	for _, c := range []struct {
		name            string
		multiplier      uint8
		random          float64
		shortest, limit time.Duration
	}{
		{"is jittered by a quarter at most", 3, 0.999, 75 * time.Millisecond, 76 * time.Millisecond},
		{"is not jittered at least", 3, 0, 100 * time.Millisecond, 100 * time.Millisecond},
		{"is jittered by a tenth at least when every packet counts", 1, 0, 90 * time.Millisecond, 90 * time.Millisecond},
		{"is jittered by a quarter at most when every packet counts", 1, 0.999, 75 * time.Millisecond, 76 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(settings{multiplier: c.multiplier}, ours, func() float64 { return c.random }, time.Time{})
			if got := m.jittered(100 * time.Millisecond); got < c.shortest || got > c.limit {
				t.Errorf("an interval of 100ms becomes %v, want between %v and %v", got, c.shortest, c.limit)
			}
		})
	}
}

func TestPolls(t *testing.T) {
	slow := settings{desiredTx: 400 * time.Millisecond, requiredRx: 400 * time.Millisecond, multiplier: 3}
	t.Run("of the peer are answered at once, whatever the state", func(t *testing.T) {
		s := tell(t, fast)
		s.hear(func(p *packet) { p.poll = true })
		p := s.last()
		s.equal("final", p.final, true)
		s.equal("poll, which never goes with final", p.poll, false)
		s.equal("the state sent", p.state, Init)
	})
	t.Run("make a slower pace wait for the peer's answer", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		s.m.reconfigure(slow, s.now)
		s.chat(time.Second, 50*time.Millisecond)
		s.equal("packets in 1 s without an answer", len(s.sent) >= 19, true)
		p := s.last()
		s.equal("poll", p.poll, true)
		s.equal("the interval offered", p.desiredTx, slow.desiredTx)
		s.hear(func(p *packet) { p.final = true })
		s.chat(2*time.Second, 50*time.Millisecond)
		s.equal("packets in 2 s after the answer", len(s.sent) <= 6, true)
	})
	t.Run("make a shorter detection time wait for the peer's answer", func(t *testing.T) {
		s := tell(t, slow)
		s.up()
		s.equal("the detection time", s.m.detectionTime(), 1200*time.Millisecond)
		s.m.reconfigure(fast, s.now)
		s.equal("the detection time before the answer", s.m.detectionTime(), 1200*time.Millisecond)
		s.wait(0)
		s.equal("the interval expected, as told", s.last().requiredRx, fast.requiredRx)
		s.hear(func(p *packet) { p.final = true })
		s.equal("the detection time after the answer", s.m.detectionTime(), 150*time.Millisecond)
	})
	t.Run("take a faster pace at once", func(t *testing.T) {
		s := tell(t, slow)
		s.up()
		s.m.reconfigure(fast, s.now)
		s.chat(500*time.Millisecond, 50*time.Millisecond)
		s.equal("packets in half a second", len(s.sent) >= 9, true)
	})
	t.Run("start over when the wish changes before the answer", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		s.m.reconfigure(slow, s.now)
		s.wait(0)
		even := slow
		even.desiredTx = 800 * time.Millisecond
		s.m.reconfigure(even, s.now)
		s.hear(func(p *packet) { p.final = true }) // may be the answer to the first
		s.chat(100*time.Millisecond, 50*time.Millisecond)
		s.equal("poll", s.last().poll, true)
		s.hear(func(p *packet) { p.final = true })
		s.equal("polling", s.m.polling, false)
		s.equal("the pace", s.m.interval(), 800*time.Millisecond)
	})
	t.Run("are not needed for what the peer need not know", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		passive := fast
		passive.passive, passive.multiplier = true, 4
		s.m.reconfigure(passive, s.now)
		s.equal("polling", s.m.polling, false)
		s.chat(100*time.Millisecond, 50*time.Millisecond)
		s.equal("the multiplier sent", s.last().multiplier, uint8(4))
	})
	t.Run("end when the session goes down", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		s.m.reconfigure(slow, s.now)
		s.hear(func(p *packet) { p.state = Down })
		s.equal("poll", s.last().poll, false)
		s.equal("the pace", s.m.interval(), slowInterval)
	})
}

func TestAdminDown(t *testing.T) {
	t.Run("of the peer is told once and ends with the first other packet", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		s.hear(func(p *packet) { p.state, p.diagnostic = AdminDown, AdministrativelyDown })
		s.told(AdminDown)
		s.hear(func(*packet) {})
		s.wait(time.Minute) // the peer falls silent: it said that it would
		s.told()
		s.equal("known to be admin down", s.m.adminDown, true)
		s.hear(func(p *packet) { p.state, p.yours = Down, 0 })
		s.equal("known to be admin down", s.m.adminDown, false)
		s.hear(func(p *packet) { p.state, p.yours = Up, ours })
		s.told(Up)
	})
	t.Run("of ours is said three times to a peer that knows us", func(t *testing.T) {
		s := tell(t, fast)
		s.up()
		s.m.leave(farewells, s.now)
		s.wait(time.Minute)
		s.equal("packets", len(s.sent), 3)
		s.equal("the time they took", s.sentAt[2].Sub(s.sentAt[0]), 100*time.Millisecond)
		p := s.last()
		s.equal("the state sent", p.state, AdminDown)
		s.equal("the diagnostic sent", p.diagnostic, AdministrativelyDown)
		s.equal("gone", s.m.gone(), true)
		s.told()
	})
	t.Run("of ours is not said to a peer that never spoke", func(t *testing.T) {
		s := tell(t, fast)
		s.m.leave(farewells, s.now)
		s.equal("gone", s.m.gone(), true)
	})
}

func TestHoldDown(t *testing.T) {
	// back is how long a session takes to come up again with a peer that is there all the time.
	back := func(s *story) time.Duration {
		start := s.now
		s.hear(func(p *packet) { p.state, p.desiredTx = Down, time.Second })
		for s.m.state != Up {
			s.wait(100 * time.Millisecond)
			s.hear(func(p *packet) { p.state = Init })
			if s.now.Sub(start) > time.Hour {
				s.Fatal("never up again")
			}
		}
		s.hear(func(p *packet) { p.state, p.final, p.desiredTx = Up, true, 50*time.Millisecond })
		return s.now.Sub(start)
	}
	s := tell(t, fast)
	s.up()
	for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60} {
		s.wait(time.Second)
		s.is(Down)
		took := back(s)
		if slack := took - want*time.Second; slack < -time.Second || slack > 100*time.Millisecond {
			t.Errorf("failure %d: up again after %v, want about %d s", i+1, took, want)
		}
	}
	s.chat(calm, 50*time.Millisecond)
	s.wait(time.Second)
	s.is(Down)
	if took := back(s); took > 200*time.Millisecond {
		t.Errorf("after a calm minute: up again after %v, want at once", took)
	}
}
