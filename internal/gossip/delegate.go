package gossip

import (
	stdlog "log"
	"net/netip"
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
)

// delegate gives memberlist what this member has to say, and hears what others say. Its methods are called by several
// goroutines, and must not block.
type delegate struct{ r *Ring }

func (d delegate) NodeMeta(limit int) []byte {
	d.r.mu.Lock()
	m := meta{Health: d.r.ownHealth(), starting: !d.r.healthSet, version: d.r.cfg.Version, instance: d.r.instance}
	d.r.mu.Unlock()
	b, complete := m.encode(limit)
	if !complete {
		level.Error(d.r.logger).Log("msg", "this node has more interfaces and subnets than gossip can carry; those at the end are not offered", "interfaces", len(m.Interfaces))
	}
	return b
}

func (d delegate) NotifyMsg(b []byte) { d.r.hear(b) }

// GetBroadcasts fills what space memberlist's own news leave in a packet.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	if b := d.r.claims.next(limit - overhead); b != nil {
		return [][]byte{b}
	}
	return nil
}

func (d delegate) LocalState(bool) []byte            { return d.r.state() }
func (d delegate) MergeRemoteState(b []byte, _ bool) { d.r.hear(b) }

// events hears from memberlist who comes, changes and goes. It is called with memberlist's lock held.
type events struct{ r *Ring }

func (e events) NotifyJoin(n *memberlist.Node) {
	e.NotifyUpdate(n)
	if n.Name != e.r.cfg.Node {
		level.Info(e.r.logger).Log("msg", "member joined", "peer", n.Name, "addr", n.Address())
	}
}

func (e events) NotifyUpdate(n *memberlist.Node) {
	said, err := decode(n.Meta)
	if err != nil && len(n.Meta) > 0 {
		// Alive, and of a version that cannot be understood: it is a member that can announce nothing.
		level.Warn(e.r.logger).Log("msg", "cannot read a member's health; it gets no address", "peer", n.Name, "err", err)
	}
	ip, _ := netip.AddrFromSlice(n.Addr)
	r := e.r
	r.mu.Lock()
	defer r.mu.Unlock()
	m := Member{Node: n.Name, Addr: netip.AddrPortFrom(ip.Unmap(), n.Port), Health: said.Health, Version: said.version,
		starting: said.starting, instance: said.instance, hash: hashMember(n.Name, n.Meta)}
	before := r.members[n.Name]
	r.memberDigest.Store(r.memberDigest.Load() ^ before.hash ^ m.hash)
	r.members[n.Name] = m
	r.heard(before, m)
	delete(r.absent, n.Name)
	r.countMembers()
	notify(r.changed)
}

func (e events) NotifyLeave(n *memberlist.Node) {
	r := e.r
	r.mu.Lock()
	m := r.members[n.Name]
	r.memberDigest.Store(r.memberDigest.Load() ^ m.hash)
	open := r.lost(m)
	delete(r.members, n.Name)
	a := r.away[n.Name]
	away := a != nil && a.member.Away
	r.countMembers()
	r.mu.Unlock()
	notify(r.changed)
	if n.Name == r.cfg.Node || open {
		return
	}
	r.metrics.leaves.Inc()
	msg := "member is gone"
	if away {
		msg = "member is away: its speaker is being restarted"
	}
	level.Info(r.logger).Log("msg", msg, "peer", n.Name, "addr", n.Address())
}

// countMembers is called with the lock held.
func (r *Ring) countMembers() {
	r.alive.Store(int32(len(r.members)))
	r.metrics.members.Set(float64(len(r.members)))
}

// debugLog passes memberlist's own lines on as debug lines: what matters of them is told by events above.
func debugLog(logger log.Logger) *stdlog.Logger {
	return stdlog.New(debugWriter{logger}, "", 0)
}

type debugWriter struct{ logger log.Logger }

func (w debugWriter) Write(b []byte) (int, error) {
	level.Debug(w.logger).Log("msg", strings.TrimSpace(string(b)))
	return len(b), nil
}
