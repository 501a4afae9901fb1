package announce

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// The rules, with the bounds that are stated for them (docs/layer2.md).
const (
	// Among speakers that can talk to each other, and have been able to for as long as they may take to meet, no two tell
	// different places of an address for longer than this.
	simDoubleMost = time.Second
	simTogether   = simMeetMost + time.Second

	// An address is not without an answer for longer than this, since the last fault, where a node could serve it that
	// knows so, and whoever should answer can see the API server. Each speaker that could be the heir and cannot see the
	// API server may let its patience pass.
	simGapMost = 1200 * time.Millisecond
)

// simSpan is a time in which something that should not last has lasted.
type simSpan struct {
	since time.Duration
	what  string
}

// check looks at the rules after every event.
func (w *simWorld) check() {
	for _, s := range w.services {
		w.checkDouble(s.addr)
		w.checkGap(s)
		if want, ok := w.frozen[s.addr]; ok {
			if got := w.answer(s.addr); got != want {
				w.breaks("rule 4: without the API server %s went from %q to %q", s.addr, want, got)
			}
		}
	}
}

// checkDouble looks for two speakers that can talk to each other and tell different places.
func (w *simWorld) checkDouble(addr netip.Addr) {
	what := ""
	for i, n := range w.nodes {
		place := n.place(addr)
		if place == "" {
			continue
		}
		for j, o := range w.nodes[:i] {
			other := o.place(addr)
			if other != "" && other != place && w.together[i][j] != apart && w.now-w.together[i][j] >= simTogether {
				what = fmt.Sprintf("%s tells %s and %s tells %s", o.name, other, n.name, place)
			}
		}
	}
	span := w.doubles[addr]
	switch {
	case what == "":
		delete(w.doubles, addr)
	case span == nil:
		w.doubles[addr] = &simSpan{w.now, what}
	default:
		w.worstDouble = max(w.worstDouble, w.now-span.since)
		if w.now-span.since >= simDoubleMost {
			w.breaks("rule 3: two answer for %s since %.3fs: %s", addr, span.since.Seconds(), what)
		}
	}
}

// checkGap looks for an address that nobody answers for although somebody could.
func (w *simWorld) checkGap(s *simService) {
	var could *simNode
	for _, n := range w.nodes {
		if n.speaking() && n.joined && !n.leaving && n.carrier && n.api && !n.missed && s.servedBy(n.name) && !w.answered(n, s.addr) {
			could = n
			break
		}
	}
	span := w.gaps[s.addr]
	switch {
	case could == nil:
		delete(w.gaps, s.addr)
		return
	case span == nil || span.what != could.name:
		span = &simSpan{w.now, could.name}
		w.gaps[s.addr] = span
	}
	// An owner without the API server may have seen the Service go and not come back. Nobody else can know that.
	if d := could.planner.decisions[s.addr]; d.Owner != "" && w.node(d.Owner).missed || d.StandIn != "" && w.node(d.StandIn).missed {
		span.since = w.now
	}
	calm := max(span.since, could.freshAt, s.changed, w.fault)
	most := simGapMost
	for _, n := range w.nodes {
		if n.missed {
			most += patience
		}
	}
	w.worstGap = max(w.worstGap, w.now-calm)
	if w.now-calm >= most {
		w.breaks("rule 3: nobody answers for %s since %.3fs, and %s could", s.addr, span.since.Seconds(), could.name)
	}
}

// checkAbsences looks at a speaker that does not know who is away, although all others that it can talk to have known for a
// while: those that have known are whom it exchanges tables with.
func (w *simWorld) checkAbsences(n *simNode) {
	together := func(o *simNode) bool {
		since := w.together[slices.Index(w.nodes, n)][slices.Index(w.nodes, o)]
		return since != apart && since+simTogether <= w.now
	}
	if !n.joined || w.now < n.freshAt+simTogether {
		return
	}
	for _, p := range w.nodes {
		if _, sees := n.sees[p.name]; sees || p == n || !together(p) || p.offers {
			continue
		}
		others, know := 0, 0
		for _, o := range w.nodes {
			if o == n || o == p || !n.talks(o) {
				continue
			}
			others++
			if o.joined && together(o) && o.sees[p.name].Away && o.knew[p.name]+simTogether <= w.now && o.absent[p.name] > w.now+simTogether {
				know++
			}
		}
		if others > 0 && know == others {
			w.breaks("%s does not know that %s is away, and all others do", n.name, p.name)
		}
	}
}

// checkUnclaimed looks at a speaker that takes an address for unclaimed: none that it could have heard of has it.
func (w *simWorld) checkUnclaimed(n *simNode, addr netip.Addr) {
	for _, o := range w.nodes {
		if o == n || o.place(addr) != o.name || o.missed || !n.talks(o) {
			continue
		}
		together := w.together[slices.Index(w.nodes, n)][slices.Index(w.nodes, o)]
		if max(together+simTogether, o.since[addr]+simDoubleMost) <= w.now {
			w.breaks("rule 3: %s takes %s for unclaimed, and %s has had it since %.3fs", n.name, addr, o.name, o.since[addr].Seconds())
		}
	}
}

// simTaken is an address that a speaker took because it was asked to.
type simTaken struct {
	asked string
	addr  netip.Addr
}

// checkTaken looks at a speaker that takes an address because it was asked to: it was, in time, and does so once.
func (w *simWorld) checkTaken(n *simNode, addr netip.Addr) {
	what := simTaken{n.planner.asked, addr}
	m, err := ParseMove(what.asked)
	if err != nil || !slices.Contains(m.Addrs, addr) || !w.clock().Before(m.Until) || n.took[what] {
		w.breaks("%s takes %s because it is asked to %q (%v), once before: %t", n.name, addr, what.asked, err, n.took[what])
	}
	n.took[what] = true
}

// answered tells whether somebody whom a node can talk to tells a place that can be reached.
func (w *simWorld) answered(n *simNode, addr netip.Addr) bool {
	for _, o := range w.nodes {
		if place := o.place(addr); place != "" && n.talks(o) && n.talks(w.node(place)) {
			return true
		}
	}
	return false
}

// answer returns which places are told of an address.
func (w *simWorld) answer(addr netip.Addr) (places string) {
	for _, n := range w.nodes {
		if place := n.place(addr); place != "" {
			places += place + " "
		}
	}
	return places
}

// checkEnd looks at the world after a time of calm: one answer for each address that can be served, and everybody
// agrees whose it is.
func (w *simWorld) checkEnd() {
	for _, s := range w.services {
		if _, out := w.frozen[s.addr]; out {
			continue
		}
		var places, serve int
		owner := w.nodes[0].planner.decisions[s.addr].Owner
		for _, n := range w.nodes {
			if n.place(s.addr) != "" {
				places++
			}
			if s.servedBy(n.name) {
				serve++
			}
			if got := n.planner.decisions[s.addr].Owner; got != owner {
				w.breaks("at the end %s holds %q for the owner of %s, and %s %q", w.nodes[0].name, owner, s.addr, n.name, got)
			}
		}
		if places != min(serve, 1) {
			w.breaks("at the end %d answer for %s, and %d could", places, s.addr, serve)
		}
	}
	if wish := w.wished; wish != nil && w.frozen == nil {
		if got := w.nodes[0].planner.decisions[wish.addr].Owner; got != wish.node {
			w.breaks("at the end %s has %s, which was asked for at %s", got, wish.addr, wish.node)
		}
	}
	if w.now-w.claimed < simCalm/3 {
		w.breaks("at the end there is no end of claims: one at %.3fs", w.claimed.Seconds())
	}
}
