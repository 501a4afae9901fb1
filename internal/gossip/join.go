package gossip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

const (
	// joinInterval is how often absent members are looked for. Memberlist forgets who died and never calls again:
	// without this a partition that outlasts its memory stays. With it the two halves meet within 5 s.
	joinInterval = 2 * time.Second

	// joinConcurrency is how many absent members are called at a time, each for a second at most. One call that
	// succeeds brings the whole other side back.
	joinConcurrency = 16

	// appearTimeout is how long a member that was called has to appear. One that was held for dead objects first, which
	// takes a few gossip intervals.
	appearTimeout = time.Second
	appearPause   = 10 * time.Millisecond

	// settleTimeout is how long the first round may take before this member is believed: with hundreds of nodes gone,
	// waiting for each of them would keep the rest of the cluster from its addresses.
	settleTimeout = 3 * time.Second

	// coldStart is how long a member waits that finds no ring, while nodes of its peers are there whose speakers are not:
	// as after all of them were killed. Nobody remembers then who had what, and the first that is back would take all. A
	// container is back within a second or two; longer, and no address would be served for the sake of an even spread.
	coldStart = 3 * time.Second

	// linkSettles is for how long after this node's own network came back it does not believe to be alone. The kernel lets the
	// first calls fail for what it found out while the network was away, and a switch may not forward yet: three rounds. Nobody would
	// call again for joinInterval, and all that time it would answer for addresses that are another's by now.
	linkSettles = 3 * time.Second

	// coldPause parts the rounds of calls meanwhile.
	coldPause = 200 * time.Millisecond
)

// keepJoined looks for wanted members that are absent, until ctx is done.
func (r *Ring) keepJoined(ctx context.Context, ml *memberlist.Memberlist) {
	for {
		if !r.lookAround(ctx, ml) {
			return
		}
		pause := joinInterval
		if r.coldly() {
			pause = coldPause
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wantChanged:
		case <-time.After(jittered(pause)):
		}
	}
}

// lookAround is one round of calling absent members. It returns false when ctx ended before it did.
func (r *Ring) lookAround(ctx context.Context, ml *memberlist.Memberlist) bool {
	r.mu.Lock()
	peers, known := r.missing(), r.wantSet
	r.rounds++
	round := r.rounds
	r.mu.Unlock()
	if !known {
		return true
	}
	if r.began.IsZero() {
		r.began = time.Now()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.join(ml, peers)
	}()
	limit := time.NewTimer(settleTimeout)
	defer limit.Stop()
	select {
	case <-ctx.Done():
		return false // the calls end by themselves, soon
	case <-done:
	case <-limit.C:
	}
	r.mu.Lock()
	settled := r.notReady != nil && round >= r.trusted && !r.settling()
	returning := r.returning()
	r.mu.Unlock()
	switch {
	case settled && len(returning) > 0:
		r.setReady(fmt.Errorf("gossip: there is no ring; waiting a short while for the speakers of %s, whose nodes are there", strings.Join(returning, ", ")))
	case settled:
		r.setReady(nil)
	}
	return true
}

// returning are the peers that a member waits for which is among the first to start. It is called with the lock held.
func (r *Ring) returning() (nodes []string) {
	if r.wasReady || time.Since(r.began) >= coldStart {
		return nil
	}
	for _, m := range r.members {
		if m.Node != r.cfg.Node && !m.starting {
			return nil // there is a ring, and it remembers
		}
	}
	for _, p := range r.missing() {
		if r.refused[p.Node] {
			nodes = append(nodes, p.Node)
		}
	}
	return nodes
}

// settling tells whether this member sees nobody and its network has just come back. It is called with the lock held.
func (r *Ring) settling() bool {
	for node := range r.members {
		if node != r.cfg.Node {
			return false
		}
	}
	return time.Since(r.rechecked) < linkSettles
}

// coldly tells whether this member waits for peers that it expects at any moment.
func (r *Ring) coldly() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wantSet && (len(r.returning()) > 0 || r.notReady != nil && r.settling())
}

// missing returns the wanted members that are absent. It is called with the lock held.
func (r *Ring) missing() (peers []Peer) {
	for _, p := range r.wanted {
		if _, alive := r.members[p.Node]; !alive {
			peers = append(peers, p)
		}
	}
	return peers
}

func (r *Ring) join(ml *memberlist.Memberlist, peers []Peer) {
	var g errgroup.Group
	g.SetLimit(joinConcurrency)
	for _, p := range peers {
		g.Go(func() error {
			if r.joined(p.Node) {
				return nil // by way of another
			}
			_, err := ml.Join([]string{p.Node + "/" + p.Addr.String()})
			if one := errors.Unwrap(err); one != nil {
				err = one // of a list of one
			}
			if err == nil {
				r.awaitMember(p.Node)
			}
			r.tried(p, err)
			return nil
		})
	}
	_ = g.Wait() // a failure is counted and logged where it happens
}

// awaitMember waits until a member appears, for a limited time.
func (r *Ring) awaitMember(node string) {
	for deadline := time.Now().Add(appearTimeout); !r.joined(node) && time.Now().Before(deadline); {
		time.Sleep(appearPause)
	}
}

func (r *Ring) joined(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, alive := r.members[node]
	return alive
}

// tried records the outcome of a call. A peer that does not answer is logged once, until it has been a member; one that is
// away is expected not to.
func (r *Ring) tried(p Peer, err error) {
	if err == nil {
		return
	}
	r.metrics.joinFailures.Inc()
	r.mu.Lock()
	_, away := r.away[p.Node]
	known := away || r.absent[p.Node]
	r.absent[p.Node] = !away
	r.mu.Unlock()
	if !known {
		level.Warn(r.logger).Log("msg", "peer cannot be joined; trying again until it can", "peer", p.Node, "addr", p.Addr, "err", err)
	}
}
