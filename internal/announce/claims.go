package announce

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
)

const (
	// patience is how long the heir of an address may take to claim it before the next one in order does. The heir hears
	// of the same things within a few tenths of a second; one that does not may have lost the API server, and must not
	// keep the address from everybody.
	patience = 500 * time.Millisecond

	// commonFault is for how long the service path of an owner alone must be down before another node takes its address. A fault
	// of all nodes at once, and its end, are found out by each of them within 1.9 s (see package servicepath: a question
	// each second, and 0.9 s for its answer), and must move nothing.
	commonFault = 2500 * time.Millisecond

	// The first and the longest time for which a node that was overruled on an address is believed (see dispute).
	disputeFirst = time.Second
	disputeMost  = 64 * time.Second

	// disputeMemory is how long after it a dispute that begins again is the same one, and waits longer.
	disputeMemory = 2 * time.Minute

	// strangerTime is how long a claim for an address that no Service holds is kept: its Service may be on its way, or be
	// deleted and made again.
	strangerTime = time.Minute
)

// vacancy is an address that needs a new owner.
type vacancy struct {
	since time.Time
	why   election.Reason
}

// opens is when the first heir is to claim the address.
func (v vacancy) opens() time.Time {
	if v.why == election.ServicePathDown {
		return v.since.Add(commonFault)
	}
	return v.since
}

// passed tells how many heirs have let their time pass; -1 when it is not yet the first one's.
func (v vacancy) passed(now time.Time) int {
	if now.Before(v.opens()) {
		return -1
	}
	return int(now.Sub(v.opens()) / patience)
}

// dispute is a claim that this node made against a node that it held for unfit or worse. When that one claims the address
// again, the two see different things, and one of them may see old ones: without the API server, what a node believes of
// Services and Nodes is of yesterday. Neither gives way by itself, so this
// one does, for as long as it sees the same, for a while, and longer each time.
type dispute struct {
	node  string
	why   election.Reason
	until time.Time
	wait  time.Duration
}

// setClaims takes in claims of others, of which those that do not beat what is known count for nothing.
func (p *planner) setClaims(claims []gossip.Claim, now time.Time) {
	for _, c := range claims {
		claim, known := election.Claim{Node: c.Node, Epoch: c.Epoch}, p.claims[c.Addr]
		if !claim.Beats(c.Addr, known) {
			continue
		}
		p.claims[c.Addr] = claim
		if len(p.holders[c.Addr]) == 0 {
			p.strangers[c.Addr] = now
			continue
		}
		p.dirty[c.Addr] = struct{}{}
		// A claim made in view of a minority does not count against an owner that the majority saw all the time.
		if claim.Weak() && claim.Node != p.self && known.Node == p.self && p.decisions[c.Addr].Owner == p.self {
			p.contested[c.Addr] = struct{}{}
		}
	}
}

// reclaims tells whether this node claims an address back at once.
func (p *planner) reclaims(addr netip.Addr, candidates []election.Candidate) bool {
	_, contested := p.contested[addr]
	return contested && !p.claims[addr].Last() && p.majority() && p.stays(addr, candidates) == election.Fit
}

// heir returns which node is to claim an address that is open, nobody while that may be a fault that all have. Each that lets
// its time pass is followed by the next.
func (p *planner) heir(addr netip.Addr, r election.Result, candidates []election.Candidate, now time.Time) string {
	passed := p.vacancies[addr].passed(now)
	switch passed {
	case -1:
		return ""
	case 0:
		return p.spread.Heir(addr)
	}
	order := election.Order(addr, candidates)
	if r.Owner != "" { // a planned move is to one of the heirs or to nobody
		order = slices.DeleteFunc(order, func(n string) bool { return !slices.Contains(r.Heirs, n) })
	}
	return order[(passed-1)%len(order)]
}

// claim makes this node's claim for an address.
func (p *planner) claim(addr netip.Addr, why election.Reason, now time.Time) gossip.Claim {
	known := p.claims[addr]
	next := known.Next(p.self, p.majority())
	p.claims[addr] = next
	delete(p.moves, addr)
	switch {
	case why == election.Requested: // nothing is held against the owner before
		delete(p.disputes, addr)
	case known.Node != "" && known.Node != p.self:
		d := dispute{node: known.Node, why: why, wait: disputeFirst}
		// Of who lives the ring tells both sooner or later: to believe a dead node for longer would leave its addresses to nobody.
		if before := p.disputes[addr]; why != election.NotAlive && before.node == d.node && before.why == why && now.Before(before.until.Add(disputeMemory)) {
			d.wait = min(2*before.wait, disputeMost)
		}
		d.until = now.Add(d.wait)
		p.disputes[addr] = d
	}
	return gossip.Claim{Addr: addr, Node: p.self, Epoch: next.Epoch}
}

// returns gives an address back to the node that this one overruled, once this one sees itself that it cannot serve: the
// other was right, and believes this one for a while that is over now. It is the only claim that is made for another.
func (p *planner) returns(addr netip.Addr, r election.Result) (gossip.Claim, bool) {
	known, d := p.claims[addr], p.disputes[addr]
	if _, there := p.members[d.node]; !p.joined || !there || known.Node != p.self || known.Last() || r.Owner != "" {
		return gossip.Claim{}, false
	}
	next := known.Next(d.node, p.majority())
	p.claims[addr] = next
	delete(p.disputes, addr)
	return gossip.Claim{Addr: addr, Node: next.Node, Epoch: next.Epoch}, true
}

// majority tells whether this node sees more than half of the cluster's nodes in the ring, or half of them and the first
// by name, so that of two halves one is the greater.
func (p *planner) majority() bool {
	seen, first, seesFirst := 0, "", false
	for name := range p.nodes {
		_, sees := p.members[name]
		if sees {
			seen++
		}
		if first == "" || name < first {
			first, seesFirst = name, sees
		}
	}
	order := cmp.Compare(2*seen, len(p.nodes))
	return order > 0 || order == 0 && seesFirst
}

// expire marks the addresses for which time has made a difference.
func (p *planner) expire(now time.Time) {
	for addr, v := range p.vacancies {
		if v.passed(now) != v.passed(p.planned) {
			p.dirty[addr] = struct{}{}
		}
	}
	for addr, d := range p.disputes {
		switch {
		case d.until.After(p.planned) && !d.until.After(now):
			p.dirty[addr] = struct{}{}
		case now.After(d.until.Add(disputeMemory)):
			delete(p.disputes, addr)
		}
	}
	p.planned = now
}

// wake returns when time makes a difference next, zero for never.
func (p *planner) wake() (at time.Time) {
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for _, v := range p.vacancies {
		sooner(v.opens().Add(time.Duration(v.passed(p.planned)+1) * patience))
	}
	for _, d := range p.disputes {
		if d.until.After(p.planned) {
			sooner(d.until)
		}
	}
	if len(p.strangers) > 0 {
		sooner(p.sweep)
	}
	return at
}

// forgotten returns the addresses whose claims are of no use any more.
func (p *planner) forgotten(now time.Time) (out []netip.Addr) {
	if len(p.strangers) == 0 || now.Before(p.sweep) {
		return nil
	}
	p.sweep = now.Add(strangerTime)
	for addr, since := range p.strangers {
		if now.Sub(since) >= strangerTime {
			delete(p.strangers, addr)
			delete(p.claims, addr)
			out = append(out, addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
