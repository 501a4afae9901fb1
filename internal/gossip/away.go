package gossip

import (
	"context"
	"slices"
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
			r.end(a)
		}
	case h.Restarting && len(h.Interfaces) > 0:
		if a == nil {
			a = r.begin(m, r.cfg.RestartGrace)
			go r.lookAfter(a)
		}
		// The grace runs from the first word on: who is restarted again and again without an offer does not keep its
		// addresses for ever.
		a.member = absent(m)
	case m.starting && a == nil && offers(before):
		// It began anew before anybody noticed that it had gone.
		a = r.begin(before, r.cfg.RestartGrace)
		a.member = absent(before)
		go r.lookAfter(a)
	}
}

// lost follows a member that is not alive any more, into an absence when it went without a word. It is called with the
// lock held.
func (r *Ring) lost(m Member) {
	if r.away[m.Node] != nil || m.Node == r.cfg.Node || !offers(m) {
		return
	}
	// Until it is known whether its node is there, all stays as it was.
	a := r.begin(m, r.cfg.RestartGrace)
	l := r.lookFor(m.Node, m.Addr)
	go func() {
		<-l.done
		if !l.present {
			r.over(a, "its node does not answer")
			return
		}
		r.mu.Lock()
		a.member = absent(m)
		r.mu.Unlock()
		notify(r.changed)
		level.Info(r.logger).Log("msg", "member is away: its speaker went without a word, its node is there", "peer", m.Node)
		r.lookAfter(a)
	}()
}

// offers tells whether a member has said that it can announce and wants to.
func offers(m Member) bool {
	return len(m.Health.Interfaces) > 0 && !m.Health.Draining && !m.Health.Restarting
}

// absent is a member as it is seen while it is away.
func absent(m Member) Member {
	return Member{Node: m.Node, Addr: m.Addr, Version: m.Version, Away: true,
		Health: Health{Interfaces: m.Health.Interfaces, ServicePathDown: m.Health.ServicePathDown}}
}

// begin and end are called with the lock held.
func (r *Ring) begin(m Member, grace time.Duration) *absence {
	a := &absence{node: m.Node, member: m}
	a.ctx, a.cancel = context.WithTimeout(context.Background(), grace)
	r.away[m.Node] = a
	r.metrics.absences.Set(float64(len(r.away)))
	return a
}

func (r *Ring) end(a *absence) {
	a.cancel()
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

// absences are told to members that join: they have seen nobody go.
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

// hearAbsence takes in that a member is away, one of those that there should be, while this one joins. Later it sees for
// itself who goes, and what another has not noticed yet to be over must not begin again.
func (r *Ring) hearAbsence(b []byte) error {
	m, left, err := readAbsence(b)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := slices.ContainsFunc(r.wanted, func(p Peer) bool { return p.Node == m.Node })
	if r.notReady == nil || !wanted || m.Node == r.cfg.Node || r.away[m.Node] != nil || offers(r.members[m.Node]) || !offers(m) || left <= 0 {
		return nil
	}
	a := r.begin(m, min(left, r.cfg.RestartGrace))
	a.member = absent(m)
	go r.lookAfter(a)
	notify(r.changed)
	return nil
}
