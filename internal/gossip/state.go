package gossip

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"

	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
)

const (
	// directPeers is to how many others a member sends its own claims itself, at once. In a ring of up to this size all
	// know within a millisecond or two; in a larger one those that were told tell the rest. Random gossip alone leaves
	// one in sixteen members out of a ring of three.
	directPeers = 64

	// directSize is the size of a message that is sent by itself: less than packetSize by more than what memberlist adds but
	// for the label, which still fits into what packetSize leaves of the smallest link.
	directSize = packetSize - 100

	// maxSuspects is how many names of nodes fit into such a message for certain.
	maxSuspects = 4
)

// Claim takes claims into the table and spreads those that win there to every member. A claim that loses against one
// that is held, or whose epoch had to be raised, is told by TakeClaims; one that is malformed or that the table has no
// room for is dropped, counted, and logged.
func (r *Ring) Claim(claims []Claim) {
	sends := r.sends()
	for _, c := range claims {
		if v := r.claims.claim(c, sends); v == claimInvalid || v == claimExcess {
			r.metrics.rejected.WithLabelValues(rejection(v)).Inc()
			level.Error(r.logger).Log("msg", "claim is not spread", "ip", c.Addr, "node", c.Node, "epoch", c.Epoch, "reason", rejection(v))
		}
	}
	r.claimsChanged()
	notify(r.toTell)
}

// tell sends this member's own claims to its peers as they are made, and asks them to look for members that it suspects.
func (r *Ring) tell(ctx context.Context, ml *memberlist.Memberlist) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.toTell:
		}
		peers := ml.Members()
		rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		peers = peers[:min(len(peers), directPeers+1)]
		if b := r.takeSuspected(); b != nil {
			r.send(ml, peers, b)
		}
		for b := r.claims.nextOwn(directSize); b != nil; b = r.claims.nextOwn(directSize) {
			r.send(ml, peers, b)
		}
	}
}

// send sends a message to peers, this member left out. What is lost is found missing soon.
func (r *Ring) send(ml *memberlist.Memberlist, peers []*memberlist.Node, b []byte) {
	for _, n := range peers {
		if n.Name != r.cfg.Node {
			_ = ml.SendBestEffort(n, b)
		}
	}
}

// takeSuspected returns a message with those that peers are to look for, nil when there are none.
func (r *Ring) takeSuspected() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.suspected) == 0 {
		return nil
	}
	var all []section
	for _, node := range r.suspected[:min(len(r.suspected), maxSuspects)] {
		all = append(all, section{sectionSuspect, []byte(node)})
	}
	r.suspected = nil
	return message(all...)
}

// Forget drops the claims for addresses that no Service holds any more. They are not spread again unless somebody makes
// a new claim.
func (r *Ring) Forget(addrs []netip.Addr) {
	r.claims.forget(addrs)
	r.claimsChanged()
}

// TakeClaims returns, by address, the claims that came in from other members and won since it was last called, and what
// is held in place of own claims that lost. Changed has a value when there are some.
func (r *Ring) TakeClaims() []Claim { return r.claims.take() }

func (r *Ring) claimsChanged() {
	r.metrics.claims.Set(float64(r.claims.len()))
	notify(r.changed)
}

// sends is how many times this member passes a claim on, each time to one other: as often as memberlist does with its
// own news where not everybody is told at once.
func (r *Ring) sends() int {
	n := r.alive.Load()
	if n <= directPeers {
		return 1
	}
	return retransmitMult * int(math.Ceil(math.Log10(float64(n+1))))
}

// hear takes in a message from another member, a packet's or a whole state.
func (r *Ring) hear(b []byte) {
	all, err := sections(b)
	sends := r.sends()
	news := false
	for _, s := range all {
		switch s.kind {
		case sectionClaims:
			err = errors.Join(err, readClaims(s.b, func(c Claim) {
				switch v := r.claims.merge(c, sends); v {
				case claimTaken:
					news = true
				case claimInvalid, claimExcess:
					r.metrics.rejected.WithLabelValues(rejection(v)).Inc()
				}
			}))
		case sectionSuspect:
			r.suspect(string(s.b))
		case sectionAbsence:
			err = errors.Join(err, r.hearAbsence(s.b))
		}
	}
	switch {
	case errors.Is(err, errVersion):
		r.metrics.rejected.WithLabelValues("version").Inc()
	case err != nil:
		r.metrics.rejected.WithLabelValues("malformed").Inc()
	}
	if news {
		r.claimsChanged()
	}
}

// state is what this member tells when whole states are exchanged.
func (r *Ring) state() []byte {
	var w claimWriter
	for _, c := range r.claims.all() {
		w.append(c, math.MaxInt)
	}
	return message(append(r.absences(), section{sectionClaims, w.b})...)
}

func rejection(v verdict) string {
	if v == claimExcess {
		return "claims_full"
	}
	return "claim_invalid"
}
