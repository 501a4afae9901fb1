package announce

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/go-kit/log/level"

	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/layer2"
)

const (
	// standInTime is how long a speaker that is being restarted goes on to answer after it said so. Its peers hear of it
	// within about 0.1 s; the rest is for a ring that is busy or loses packets.
	standInTime = 500 * time.Millisecond

	// handOver is how long a node that drains at most goes on to answer for what nobody has claimed from it yet. Two nodes
	// answer for an address for less than a second in a planned move.
	handOver = 900 * time.Millisecond
)

// apply does what the Plan says is new: it announces, claims and tells, in this order. The claim comes after the
// announcement, because the owner before stops at it.
func (l *Loop) apply(p plan) {
	announce := map[netip.Addr]layer2.Scope{}
	var withdraw []netip.Addr
	stoodIn := counts(l.standsIn)
	for _, c := range p.changes {
		addr := c.new.Addr
		_, had := l.announced[addr]
		_, stood := l.standsIn[addr]
		delete(l.standsIn, addr)
		delete(l.announced, addr)
		switch {
		case c.new.Owner == l.node:
			scope := c.new.Scope
			scope.Probe = c.taken == election.Unclaimed
			announce[addr] = scope
			l.announced[addr] = struct{}{}
		case c.new.StandIn == l.node:
			announce[addr] = c.new.Scope
			l.standsIn[addr] = c.new.Owner
		case had, stood:
			withdraw = append(withdraw, addr)
		}
	}
	if len(announce) > 0 || len(withdraw) > 0 {
		l.layer2.Apply(announce, withdraw)
	}
	if len(p.claims) > 0 {
		l.ring.Claim(p.claims)
	}
	if len(p.forget) > 0 {
		l.ring.Forget(p.forget)
	}
	for _, c := range p.changes {
		if !l.observes {
			l.seen.owned(c, l.node, time.Now())
		}
		l.tell(c)
	}
	l.logStandIns(stoodIn, counts(l.standsIn))
}

// logStandIns tells for whom this node begins and ends to stand in.
func (l *Loop) logStandIns(before, now map[string]int) {
	for _, absent := range slices.Sorted(maps.Keys(before)) {
		if now[absent] == 0 {
			level.Info(l.logger).Log("msg", "stands in no more", "for", absent, "addresses", before[absent], "node", l.node)
		}
	}
	for _, absent := range slices.Sorted(maps.Keys(now)) {
		if before[absent] == 0 {
			level.Info(l.logger).Log("msg", "stands in for a node whose speaker is away", "for", absent, "addresses", now[absent], "node", l.node)
		}
	}
}

// counts returns for how many addresses this node stands in, by node that is away.
func counts(standsIn map[netip.Addr]string) map[string]int {
	out := map[string]int{}
	for _, absent := range standsIn {
		out[absent]++
	}
	return out
}

// leave gives up what this node announces and answers for. When its speaker is only being restarted, the others are asked
// to stand in for it, and get the time to. When the node is being emptied, each address is answered for until another
// node has claimed it.
func (l *Loop) leave() {
	l.setReady(errors.New("announce: this speaker is stopping"))
	busy := len(l.announced)+len(l.standsIn) > 0 && len(l.ring.Members()) > 1
	restart := restarts(l.cluster.node(l.node))
	l.reportStatus()
	if restart {
		h := l.health
		h.Restarting = true
		l.say(h)
		if busy {
			level.Info(l.logger).Log("msg", "being restarted: keeps its addresses, others answer for it", "addresses", len(l.announced), "node", l.node)
			time.Sleep(standInTime)
		}
	} else {
		l.layer2.Quiesce()
		l.draining = true
		l.say(gossip.Health{Draining: true, Interfaces: l.offered})
		if busy {
			level.Info(l.logger).Log("msg", "handing over", "addresses", len(l.announced), "node", l.node)
			l.handOver()
		}
	}
	rest := slices.AppendSeq(slices.Collect(maps.Keys(l.announced)), maps.Keys(l.standsIn))
	slices.SortFunc(rest, netip.Addr.Compare)
	l.layer2.Apply(nil, rest)
	clear(l.announced)
	clear(l.standsIn)
	l.quitBGP(restart)
	if !restart {
		l.reportLeft()
	}
}

// handOver follows the ring until nothing is left to answer for, for a limited time.
func (l *Loop) handOver() {
	ctx, cancel := context.WithTimeout(context.Background(), handOver)
	defer cancel()
	for {
		wake := l.step()
		if len(l.announced)+len(l.standsIn) == 0 || !l.wait(ctx, wake) {
			return
		}
	}
}
