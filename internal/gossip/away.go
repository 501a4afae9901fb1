package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/go-kit/log/level"
)

// DefaultRestartGrace is how long a member that said that it is being restarted may stay away: several times what a
// container takes to start on a busy node, and short enough for the users of a node that, against its word, does not
// come back.
const DefaultRestartGrace = 30 * time.Second

const (
	// lookInterval is how often the node of a member that is away is looked after, and how long one look may take. A
	// node that is rebooted stops its containers in order first: its speaker says the same as one that is restarted.
	lookInterval = 250 * time.Millisecond

	// lookMisses is how many looks in a row a node may miss: one packet that is lost is no death.
	lookMisses = 3
)

// absence is that of a member from its word that it is being restarted until it offers interfaces again. That it is
// alive again does not end it: a speaker that starts offers nothing before it has looked around.
type absence struct {
	member Member
	end    context.CancelFunc
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
			a.end()
			delete(r.away, m.Node)
		}
	case h.Restarting && len(h.Interfaces) > 0:
		if a == nil {
			ctx, cancel := context.WithCancel(context.Background())
			a = &absence{end: cancel}
			r.away[m.Node] = a
			go r.lookAfter(ctx, m.Node, a)
		}
		// The grace runs from the first word on: who is restarted again and again without an offer does not keep its
		// addresses for ever.
		a.member = Member{Node: m.Node, Addr: m.Addr, Health: Health{Interfaces: h.Interfaces}, Away: true}
	}
}

// lookAfter ends an absence that takes too long, or in which the node itself is not there any more.
func (r *Ring) lookAfter(ctx context.Context, node string, a *absence) {
	grace := time.NewTimer(r.cfg.RestartGrace)
	defer grace.Stop()
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for misses := 0; misses < lookMisses; {
		select {
		case <-ctx.Done():
			return
		case <-grace.C:
			r.over(node, a, "it did not come back in time")
			return
		case <-look.C:
		}
		r.mu.Lock()
		addr := a.member.Addr
		r.mu.Unlock()
		if r.cfg.present(ctx, addr) {
			misses = 0
		} else {
			misses++
		}
	}
	r.over(node, a, "its node does not answer any more")
}

// present tells whether a node is there, its speaker or not: a TCP connection to the gossip port is accepted by the one
// and refused by the other's kernel, and a node that is dead does neither.
func present(ctx context.Context, addr netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, lookInterval)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	if err == nil {
		conn.Close()
	}
	return err == nil || errors.Is(err, syscall.ECONNREFUSED)
}

// over ends an absence: the member keeps no address.
func (r *Ring) over(node string, a *absence, why string) {
	r.mu.Lock()
	if r.away[node] != a {
		r.mu.Unlock()
		return
	}
	a.end()
	delete(r.away, node)
	if m, alive := r.members[node]; alive && m.Health.Restarting {
		// It still goes. That it answers cannot be relied on.
		m.Health = Health{}
		r.members[node] = m
	}
	r.mu.Unlock()
	notify(r.changed)
	level.Warn(r.logger).Log("msg", "member that is being restarted keeps no address", "peer", node, "reason", why)
}

// endAbsences forgets who is away.
func (r *Ring) endAbsences() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.away {
		a.end()
	}
	clear(r.away)
}
