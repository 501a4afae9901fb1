package gossip

import (
	"context"
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

	// settleTimeout is how long the first round may take before this member is believed: with hundreds of nodes gone,
	// waiting for each of them would keep the rest of the cluster from its addresses.
	settleTimeout = 3 * time.Second
)

// keepJoined looks for wanted members that are absent, until ctx is done.
func (r *Ring) keepJoined(ctx context.Context, ml *memberlist.Memberlist) {
	settled := false
	for {
		if peers, known := r.missing(); known {
			round := make(chan struct{})
			go func() {
				defer close(round)
				r.join(ml, peers)
			}()
			limit := time.NewTimer(settleTimeout)
			select {
			case <-ctx.Done():
				limit.Stop()
				return // the calls end by themselves, soon
			case <-round:
			case <-limit.C:
			}
			limit.Stop()
			if !settled {
				settled = true
				r.setReady(nil)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wantChanged:
		case <-time.After(jittered(joinInterval)):
		}
	}
}

// missing returns the wanted members that are absent, and false while nobody has said who is wanted.
func (r *Ring) missing() (peers []Peer, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.wanted {
		if _, alive := r.members[p.Node]; !alive {
			peers = append(peers, p)
		}
	}
	return peers, r.wantSet
}

func (r *Ring) join(ml *memberlist.Memberlist, peers []Peer) {
	var g errgroup.Group
	g.SetLimit(joinConcurrency)
	for _, p := range peers {
		g.Go(func() error {
			_, err := ml.Join([]string{p.Node + "/" + p.Addr.String()})
			r.tried(p, err)
			return nil
		})
	}
	_ = g.Wait() // a failure is counted and logged where it happens
}

// tried records the outcome of a call. A peer that does not answer is logged once, until it has been a member.
func (r *Ring) tried(p Peer, err error) {
	if err == nil {
		return
	}
	r.metrics.joinFailures.Inc()
	r.mu.Lock()
	known := r.absent[p.Node]
	r.absent[p.Node] = true
	r.mu.Unlock()
	if !known {
		level.Warn(r.logger).Log("msg", "peer cannot be joined; trying again until it can", "peer", p.Node, "addr", p.Addr, "err", err)
	}
}
