package gossip

import (
	"context"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/go-kit/log/level"
)

// DefaultRestartGrace is how long a member that is being restarted may stay away: several times what a container takes
// to start on a busy node, and short enough for the users of a node that does not come back.
const DefaultRestartGrace = 30 * time.Second

const (
	// lookInterval is how often the node of a member that is away is looked after, and how long one look may take. A
	// node that is rebooted stops its containers in order first: its speaker says the same as one that is restarted.
	lookInterval = 250 * time.Millisecond

	// recallProbes is for how many probe intervals a member is called that was held for dead while its node is there. One
	// that hangs is stood in for so much later.
	recallProbes = 2

	// lookMisses is how many looks in a row a node may miss: a short break of the network is no death.
	lookMisses = 3
)

// absence is that of a member whose node is there: from its word that it is being restarted, or from the moment that it
// was found to have gone without a word or to have begun anew, until it offers interfaces again. That it is alive again
// does not end it: a speaker that starts offers nothing before it has looked around.
type absence struct {
	node   string
	member Member          // not Away yet while it is not known whether the node is there
	ctx    context.Context // done when the absence has ended or taken too long
	cancel context.CancelFunc
}

// hash is that of the fact that the member is away.
func (a *absence) hash() uint64 {
	if !a.member.Away {
		return 0
	}
	return hashMember(a.node, binary.BigEndian.AppendUint32(nil, a.member.instance))
}

// heard follows what a member says of itself into an absence and out of it. before is what it said last, the zero Member
// when it was not alive. It is called with the lock held.
func (r *Ring) heard(before, m Member) {
	if m.Node == r.cfg.Node {
		return // what this one is up to is not for it to stand in for
	}
	a := r.away[m.Node]
	switch h := m.Health; {
	case h.Draining, !h.Restarting && len(h.Interfaces) > 0:
		if a != nil {
			if m.instance != a.member.instance {
				r.ended[m.Node] = a.member.instance
			}
			r.end(a)
		}
	case h.Restarting && len(h.Interfaces) > 0:
		if a == nil {
			a = r.begin(m, r.cfg.RestartGrace)
			go r.lookAfter(a)
		}
		// The grace runs from the first word on: who is restarted again and again without an offer does not keep its
		// addresses for ever.
		r.goesAway(a, m)
	case m.starting && a == nil && offers(before):
		// It began anew before anybody noticed that it had gone.
		a = r.begin(before, r.cfg.RestartGrace)
		r.goesAway(a, before)
		go r.lookAfter(a)
	}
}

// lost follows a member that is not alive any more, into an absence when it went without a word. It returns whether it is
// still to be found out what became of it. It is called with the lock held.
func (r *Ring) lost(m Member) (open bool) {
	if r.away[m.Node] != nil || m.Node == r.cfg.Node || !offers(m) {
		return false
	}
	// Until it is known whether its node is there, all stays as it was.
	a := r.begin(m, r.cfg.RestartGrace)
	l := r.lookFor(m.Node, m.Addr)
	go func() {
		<-l.done
		if !l.present {
			r.metrics.leaves.Inc()
			r.over(a, "its node does not answer")
			return
		}
		if r.recalled(a, m.Addr) {
			r.metrics.falseAlarms.Inc()
			return
		}
		r.metrics.leaves.Inc()
		r.mu.Lock()
		if r.away[m.Node] == a {
			r.goesAway(a, m)
		}
		r.mu.Unlock()
		notify(r.changed)
		level.Info(r.logger).Log("msg", "member is away: its speaker went without a word, its node is there", "peer", m.Node)
		r.lookAfter(a)
	}()
	return true
}

// recalled calls a member whose node is there, and tells whether it is back at once. Then nobody has to stand in for it: it was
// held for dead because somebody told old news, as after a partition, or because its objection was lost or came late.
func (r *Ring) recalled(a *absence, addr netip.AddrPort) bool {
	ml := r.ml.Load()
	if ml == nil {
		return false
	}
	limit := time.NewTimer(recallProbes * r.tuning.probeInterval)
	defer limit.Stop()
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	failed := make(chan struct{})
	go func() {
		defer close(failed)
		for ctx.Err() == nil && !r.joined(a.node) {
			if _, err := ml.Join([]string{a.node + "/" + addr.String()}); err != nil {
				return
			}
			time.Sleep(appearPause) // it objects to being dead once it has heard of it
		}
	}()
	select {
	case <-a.ctx.Done():
		return true
	case <-failed:
		return a.ctx.Err() != nil
	case <-limit.C:
		return false
	}
}

// offers tells whether a member has said that it can announce and wants to.
func offers(m Member) bool {
	return len(m.Health.Interfaces) > 0 && !m.Health.Draining && !m.Health.Restarting
}

// absent is a member as it is seen while it is away.
func absent(m Member) Member {
	return Member{Node: m.Node, Addr: m.Addr, Version: m.Version, Away: true, instance: m.instance,
		Health: Health{Interfaces: m.Health.Interfaces, ServicePathDown: m.Health.ServicePathDown}}
}

// begin, goesAway and end are called with the lock held.
func (r *Ring) begin(m Member, grace time.Duration) *absence {
	a := &absence{node: m.Node, member: m}
	a.ctx, a.cancel = context.WithTimeout(context.Background(), grace)
	r.away[m.Node] = a
	r.metrics.absences.Set(float64(len(r.away)))
	return a
}

func (r *Ring) goesAway(a *absence, m Member) {
	before := a.hash()
	a.member = absent(m)
	r.memberDigest.Store(r.memberDigest.Load() ^ before ^ a.hash())
}

func (r *Ring) end(a *absence) {
	a.cancel()
	r.memberDigest.Store(r.memberDigest.Load() ^ a.hash())
	delete(r.away, a.node)
	r.metrics.absences.Set(float64(len(r.away)))
}

// lookAfter ends an absence that takes too long, or in which the node itself is not there any more.
func (r *Ring) lookAfter(a *absence) {
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for misses := 0; misses < lookMisses; {
		select {
		case <-a.ctx.Done():
			r.over(a, "it did not come back in time")
			return
		case <-look.C:
		}
		r.mu.Lock()
		addr := a.member.Addr
		r.mu.Unlock()
		if r.cfg.present(addr, lookInterval) {
			misses = 0
		} else {
			misses++
		}
	}
	r.over(a, "its node does not answer any more")
}

// over ends an absence for good, unless it has ended: the member keeps no address.
func (r *Ring) over(a *absence, why string) {
	r.mu.Lock()
	if r.away[a.node] != a {
		r.mu.Unlock()
		return
	}
	if a.ctx.Err() != nil {
		r.ended[a.node] = a.member.instance
	}
	r.end(a)
	if m, alive := r.members[a.node]; alive && m.Health.Restarting {
		// It still goes. That it answers cannot be relied on.
		m.Health = Health{}
		r.members[a.node] = m
	}
	r.mu.Unlock()
	notify(r.changed)
	level.Warn(r.logger).Log("msg", "member that went away keeps no address", "peer", a.node, "reason", why)
}

// endAbsences forgets who is away.
func (r *Ring) endAbsences() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.away {
		r.end(a)
	}
}

// absences are part of the state that members exchange: who joins, and who was on the other side of a partition, has not
// seen those go that are away.
func (r *Ring) absences() (out []section) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.away {
		if until, _ := a.ctx.Deadline(); a.member.Away {
			out = append(out, section{sectionAbsence, writeAbsence(a.member, time.Until(until))})
		}
	}
	return out
}

// hearAbsence takes in that a member is away. One that joins believes it, and finds out afterwards whether the node is there.
// Others look first, since who tells it may not have noticed yet that the node has died.
func (r *Ring) hearAbsence(b []byte) error {
	m, left, err := readAbsence(b)
	if err != nil {
		return err
	}
	until := time.Now().Add(min(left, r.cfg.RestartGrace))
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.unknown(m, until):
	case r.notReady != nil:
		r.learn(m, until)
	case m.instance != 0:
		go func() {
			there := r.cfg.present(m.Addr, r.tuning.look)
			r.mu.Lock()
			defer r.mu.Unlock()
			if there && r.notReady == nil && r.unknown(m, until) {
				r.learn(m, until)
			}
		}()
	}
	return nil
}

// unknown tells whether it is news that a member is away: one of those that there should be, of which this one knows neither
// that it is away, nor that it is there, nor that this absence is over. It is called with the lock held.
func (r *Ring) unknown(m Member, until time.Time) bool {
	return r.wants(m.Node) && r.away[m.Node] == nil && offers(m) && !offers(r.members[m.Node]) && time.Until(until) > 0 &&
		(m.instance == 0 || r.ended[m.Node] != m.instance)
}

// learn is called with the lock held.
func (r *Ring) learn(m Member, until time.Time) {
	a := r.begin(m, time.Until(until))
	r.goesAway(a, m)
	go r.lookAfter(a)
	notify(r.changed)
	level.Info(r.logger).Log("msg", "member is away, as others say", "peer", m.Node)
}
