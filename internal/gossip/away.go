package gossip

import (
	"time"

	"github.com/go-kit/log/level"
)

// DefaultRestartGrace is how long a member that said that it is being restarted may stay away: several times what a
// container takes to start on a busy node, and short enough for the users of a node that, against its word, does not
// come back.
const DefaultRestartGrace = 30 * time.Second

// absence is that of a member from its word that it is being restarted until it offers interfaces again. That it is
// alive again does not end it: a speaker that starts offers nothing before it has looked around.
type absence struct {
	member Member
	grace  *time.Timer
}

// heard follows what a member says of itself into an absence and out of it. It is called with the lock held.
func (r *Ring) heard(m Member) {
	if m.Node == r.cfg.Node {
		return // what this one is up to is not for it to stand in for
	}
	a := r.away[m.Node]
	switch h := m.Health; {
	case h.Draining, !h.Restarting && len(h.Interfaces) > 0:
		if a != nil {
			a.grace.Stop()
			delete(r.away, m.Node)
		}
	case h.Restarting && len(h.Interfaces) > 0:
		if a == nil {
			a = &absence{}
			a.grace = time.AfterFunc(r.cfg.RestartGrace, func() { r.graceOver(m.Node, a) })
			r.away[m.Node] = a
		}
		// The grace runs from the first word on: who is restarted again and again without an offer does not keep its
		// addresses for ever.
		a.member = Member{Node: m.Node, Addr: m.Addr, Health: Health{Interfaces: h.Interfaces}, Away: true}
	}
}

// graceOver ends an absence that took too long.
func (r *Ring) graceOver(node string, a *absence) {
	r.mu.Lock()
	if r.away[node] != a {
		r.mu.Unlock()
		return
	}
	delete(r.away, node)
	if m, alive := r.members[node]; alive && m.Health.Restarting {
		// It still goes. That it answers cannot be relied on.
		m.Health = Health{}
		r.members[node] = m
	}
	r.mu.Unlock()
	notify(r.changed)
	level.Warn(r.logger).Log("msg", "member did not come back from its restart in time; it keeps no address", "peer", node, "grace", r.cfg.RestartGrace)
}

// endAbsences forgets who is away.
func (r *Ring) endAbsences() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.away {
		a.grace.Stop()
	}
	clear(r.away)
}
