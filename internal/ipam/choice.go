package ipam

import (
	"encoding/binary"

	"heraldlb.io/herald/internal/service"
)

// choice are the pools from which a Service may be served without naming an address. Services of one choice share
// one.
type choice struct {
	only  *pool     // the pool asked for by name; else
	tiers [2]bitset // the ranks of the pools that select the Service, then of the open ones

	full [families]*service.Refusal // what is said when every pool has given all away, made on first use
}

func (c *choice) has(p *pool) bool {
	if c.only != nil {
		return c.only == p
	}
	return c.tiers[0].has(p.rank) || c.tiers[1].has(p.rank)
}

// before tells whether the choice prefers pool x to pool y.
func (c *choice) before(x, y *pool) bool {
	if first := c.tiers[0].has(x.rank); first != c.tiers[0].has(y.rank) {
		return first
	}
	return x.rank < y.rank
}

// first returns the pool the choice prefers of those that are in both sets and not in not, without except; nil for
// none.
func (a *Allocator) first(c *choice, x, y, not bitset, except *pool) *pool {
	if p := c.only; p != nil {
		if p != except && x.has(p.rank) && y.has(p.rank) && !not.has(p.rank) {
			return p
		}
		return nil
	}
	skip := -1
	if except != nil {
		skip = except.rank
	}
	for _, tier := range c.tiers {
		if tier == nil {
			continue
		}
		if rank := firstOf(tier, x, y, not, skip); rank >= 0 {
			return a.pools[rank]
		}
	}
	return nil
}

// choicesKnown is how many Services' labels are remembered with their choice. To find it anew costs a look at every
// restricted pool.
const choicesKnown = 4096

// choiceOf returns the pools from which a Service may be served without naming an address: the one it names, or those
// that select it and the open ones. A pool it names and that does not exist makes it nil.
func (a *Allocator) choiceOf(req *service.Request) *choice {
	if req.Pool != "" {
		if p := a.byName[req.Pool]; p != nil {
			return p.alone
		}
		return nil
	}
	if len(a.restricted) == 0 {
		return a.everyone
	}
	key := req.Key.Namespace + "/" + req.Labels.String()
	if c := a.known[key]; c != nil {
		return c
	}
	if len(a.known) >= choicesKnown {
		clear(a.known)
		clear(a.chosen)
	}
	c := a.everyone
	selecting, ranks := newBitset(len(a.pools)), []byte(nil)
	for _, p := range a.restricted {
		if a.serves(p, req) {
			selecting.set(p.rank)
			ranks = binary.AppendUvarint(ranks, uint64(p.rank))
		}
	}
	if ranks != nil {
		if c = a.chosen[string(ranks)]; c == nil {
			c = &choice{tiers: [2]bitset{selecting, a.everyone.tiers[1]}}
			a.chosen[string(ranks)] = c
		}
	}
	a.known[key] = c
	return c
}

// serves tells whether a pool is for a Service.
func (a *Allocator) serves(p *pool, req *service.Request) bool {
	selected, restricted := p.Selects(req.Key.Namespace, a.labelsOf(req.Key.Namespace), req.Labels)
	return selected || !restricted
}
