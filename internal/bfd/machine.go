package bfd

import "time"

const (
	// slowInterval is the pace of a session that is not up (RFC 5880, section 6.8.3: not less than a second), so that peers
	// that are not there cost nothing.
	slowInterval = time.Second
	// calm is how long a session must have been up for its earlier failures to be forgotten.
	calm = time.Minute
	// firstHold and longestHold bound how long a session that failed repeatedly is kept down. The first failure is not
	// held: a router that was restarted is used again at once. From the second on the hold doubles, so that a path that
	// comes and goes does not take BGP with it every time.
	firstHold   = time.Second
	longestHold = time.Minute
	// farewells is how many packets say AdminDown, farewellInterval apart: when all of them are lost the path is down
	// anyway, and the peer finds out by itself.
	farewells        = 3
	farewellInterval = 50 * time.Millisecond
)

// settings are this side's wishes.
type settings struct {
	desiredTx  time.Duration
	requiredRx time.Duration
	multiplier uint8
	passive    bool
}

// result is what has to be done after an event.
type result struct {
	send   []packet
	change *Change // without its peer
}

// machine is one session as RFC 5880, section 6.8, describes it. It reads no clock and sends nothing: events come with
// their times, and the answer is what to do.
type machine struct {
	wants  settings
	mine   uint32
	random func() float64 // in [0, 1)

	state      State
	diagnostic Diagnostic
	remote     remote
	// adminDown is set while the peer says that its operator has switched the session off.
	adminDown bool
	since     time.Time

	// polling is set from a change of the intervals until the peer has confirmed it, and pollAgain when there was
	// another change since: a confirmation may belong to either.
	polling   bool
	pollAgain bool
	// tx and rx are the intervals in use. They lag behind the settings while a poll sequence is on that makes this
	// side send less often or listen more closely (section 6.8.3).
	tx time.Duration
	rx time.Duration

	lastSent time.Time
	sendAt   time.Time
	detectAt time.Time // zero when nothing was heard that could stop

	failures  int
	heldUntil time.Time
	leaving   int // farewells yet to be sent
}

// remote is what the peer's last packet said.
type remote struct {
	discriminator uint32
	state         State
	demand        bool
	multiplier    uint8
	desiredTx     time.Duration
	requiredRx    time.Duration
}

// unheard is what is assumed of a peer that has said nothing (section 6.8.1).
var unheard = remote{state: Down, requiredRx: time.Microsecond}

func newMachine(s settings, discriminator uint32, random func() float64, now time.Time) *machine {
	m := &machine{wants: s, mine: discriminator, random: random, state: Down, remote: unheard, since: now, rx: s.requiredRx, sendAt: now}
	m.tx = m.desiredTx()
	return m
}

// desiredTx is what this side says it wants to send at.
func (m *machine) desiredTx() time.Duration {
	if m.state == Up {
		return m.wants.desiredTx
	}
	return max(m.wants.desiredTx, slowInterval)
}

// interval is the agreed time between two packets, before jitter.
func (m *machine) interval() time.Duration { return max(m.tx, m.remote.requiredRx) }

// detectionTime is how long the peer may be silent (section 6.8.4).
func (m *machine) detectionTime() time.Duration {
	return time.Duration(m.remote.multiplier) * max(m.rx, m.remote.desiredTx)
}

// jittered shortens an interval by up to a quarter, so that many sessions do not fall into step; with a multiplier of 1
// by at least a tenth, so that the peer is not left waiting for the last moment (section 6.8.7).
func (m *machine) jittered(d time.Duration) time.Duration {
	most, least := 0.25, 0.0
	if m.wants.multiplier == 1 {
		least = 0.1
	}
	return d - time.Duration(float64(d)*(least+(most-least)*m.random()))
}

// silent tells whether no periodic packets may be sent now (section 6.8.7).
func (m *machine) silent() bool {
	switch {
	case m.wants.passive && m.remote.discriminator == 0, m.remote.requiredRx == 0:
		return true
	default:
		return m.remote.demand && m.state == Up && m.remote.state == Up && !m.polling
	}
}

// next is when advance has something to do; zero means never, without another event.
func (m *machine) next() time.Time {
	switch {
	case m.gone() || m.leaving == 0 && m.silent():
		return m.detectAt
	case m.detectAt.IsZero() || m.sendAt.Before(m.detectAt):
		return m.sendAt
	default:
		return m.detectAt
	}
}

// receive takes a valid packet of the peer (section 6.8.6, from where the session is known).
func (m *machine) receive(p packet, now time.Time) result {
	if m.state == AdminDown {
		return result{}
	}
	m.remote = remote{
		discriminator: p.mine, state: p.state, demand: p.demand, multiplier: p.multiplier,
		desiredTx: p.desiredTx, requiredRx: p.requiredRx,
	}
	before := m.state
	if m.polling && p.final {
		m.confirmed()
	}
	change := m.follow(p, now)
	m.detectAt = now.Add(m.detectionTime())
	m.reschedule(now)

	r := result{change: change}
	switch {
	case p.poll:
		r.send = append(r.send, m.packet(true, now))
	case m.state != before && m.remote.requiredRx != 0:
		r.send = append(r.send, m.packet(false, now))
	}
	return r
}

// follow moves the state as the peer's packet asks.
func (m *machine) follow(p packet, now time.Time) *Change {
	if p.state == AdminDown {
		told := m.adminDown
		m.adminDown = true
		if m.state != Down {
			m.enter(Down, NeighborSignaledDown, now)
		}
		if told {
			return nil
		}
		m.since = now
		return &Change{State: AdminDown, Diagnostic: p.diagnostic, Time: now}
	}
	if m.adminDown {
		m.adminDown, m.since = false, now
	}
	switch {
	case m.state == Down && now.Before(m.heldUntil):
	case m.state == Down && p.state == Down:
		m.enter(Init, m.diagnostic, now)
	case m.state == Down && p.state == Init, m.state == Init && (p.state == Init || p.state == Up):
		m.enter(Up, NoDiagnostic, now)
		return &Change{State: Up, Time: now}
	case m.state == Up && p.state == Down:
		return m.fail(NeighborSignaledDown, now)
	}
	return nil
}

// fail takes a session down that was up, and holds it there when that happens again and again.
func (m *machine) fail(why Diagnostic, now time.Time) *Change {
	if now.Sub(m.since) >= calm {
		m.failures = 0
	}
	m.failures++
	if n := m.failures; n > 1 {
		m.heldUntil = now.Add(min(firstHold<<min(n-2, 10), longestHold))
	}
	m.enter(Down, why, now)
	return &Change{State: Down, Diagnostic: why, Time: now}
}

// enter changes the state and what follows from it: the pace, and with Up the poll sequence that tells the peer of it.
func (m *machine) enter(s State, why Diagnostic, now time.Time) {
	m.state, m.diagnostic, m.since = s, why, now
	m.polling, m.pollAgain = s == Up, false
	m.tx, m.rx = m.desiredTx(), m.wants.requiredRx
}

// confirmed ends a poll sequence: the peer knows the intervals.
func (m *machine) confirmed() {
	if m.pollAgain {
		m.pollAgain = false
		return
	}
	m.polling = false
	m.tx, m.rx = m.desiredTx(), m.wants.requiredRx
}

// reconfigure changes this side's wishes. A session that is up tells the peer in a poll sequence; until that has ended it
// sends no less often and expects no more than it said before (section 6.8.3).
func (m *machine) reconfigure(s settings, now time.Time) {
	old := m.wants
	m.wants = s
	if m.state != Up {
		m.tx, m.rx = m.desiredTx(), s.requiredRx
		m.reschedule(now)
		return
	}
	if old.desiredTx == s.desiredTx && old.requiredRx == s.requiredRx {
		return
	}
	m.tx, m.rx = min(m.tx, s.desiredTx), max(m.rx, s.requiredRx)
	m.pollAgain, m.polling = m.polling, true
	m.sendAt = now
	if !m.detectAt.IsZero() {
		m.detectAt = maxTime(m.detectAt, now.Add(m.detectionTime()))
	}
}

// leave ends the session from this side: a peer that knows it is told AdminDown, so many times, so that it takes nothing
// for broken.
func (m *machine) leave(times int, now time.Time) {
	m.enter(AdminDown, AdministrativelyDown, now)
	m.detectAt, m.sendAt = time.Time{}, now
	if m.remote.discriminator != 0 {
		m.leaving = times
	}
}

// gone tells whether a session that leaves has said so.
func (m *machine) gone() bool { return m.state == AdminDown && m.leaving == 0 }

// advance does what is due at a time. All packets that had come by then must have been received before.
func (m *machine) advance(now time.Time) result {
	var r result
	if !m.detectAt.IsZero() && !now.Before(m.detectAt) {
		r.change = m.expire(now)
		m.reschedule(now)
		if r.change != nil {
			m.sendAt = now
		}
	}
	if m.leaving > 0 && !now.Before(m.sendAt) {
		r.send = append(r.send, m.packet(false, now))
		m.leaving--
		m.sendAt = now.Add(farewellInterval)
	} else if m.state != AdminDown && !m.silent() && !now.Before(m.sendAt) {
		r.send = append(r.send, m.packet(false, now))
	}
	return r
}

// expire is what silence for the detection time means: the peer may come back as another (section 6.8.4).
func (m *machine) expire(now time.Time) *Change {
	m.detectAt = time.Time{}
	m.remote = unheard
	switch m.state {
	case Up:
		return m.fail(DetectionTimeExpired, now)
	case Init:
		m.enter(Down, DetectionTimeExpired, now)
	}
	return nil
}

// reschedule fits the time of the next packet to a change of the agreed interval. What is due sooner stays due.
func (m *machine) reschedule(now time.Time) {
	if due := m.lastSent.Add(m.interval()); due.Before(m.sendAt) {
		m.sendAt = maxTime(now, m.lastSent.Add(m.jittered(m.interval())))
	}
}

// packet makes the next packet and sets the time of the one after it. The answer to a poll does not count as one of the
// periodic packets.
func (m *machine) packet(final bool, now time.Time) packet {
	if !final {
		m.lastSent = now
		m.sendAt = now.Add(m.jittered(m.interval()))
	}
	return packet{
		state: m.state, diagnostic: m.diagnostic, poll: m.polling && !final, final: final, multiplier: m.wants.multiplier,
		mine: m.mine, yours: m.remote.discriminator, desiredTx: m.desiredTx(), requiredRx: m.wants.requiredRx,
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
