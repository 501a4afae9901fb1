// Package election decides which node should own an address. Every speaker asks it the same question about the same
// facts and so comes to the same answer, without a leader: the answer is a pure function of what is known of each node
// and of who claims the address already.
//
// It owns the rule of who may own an address (see [Candidate.Unfit]), which of two claims counts (see [Claim.Beats]), who
// keeps an address (see [Judge]) and who is next (see [Spread] and [Order]). It must never read a clock, a cache or the
// network: whoever calls it gathers the facts.
package election

import (
	"cmp"
	"net/netip"
	"slices"
)

// Result is what becomes of one address.
type Result struct {
	// Owner is the claimant while it is fit, also when another node is to take over: it goes on until that one claims.
	Owner string
	// Why is why the claimant is to be replaced, Fit when it stays.
	Why Reason
	// Heirs are those of whom one is to claim the address when it needs a new owner: of the fit nodes that are there the
	// ones of the best standing and, among these, of the greatest weight; by name. Nil when there are none.
	Heirs []string
}

// Open tells whether somebody should claim the address.
func (r Result) Open() bool { return r.Why != Fit && len(r.Heirs) > 0 }

// Judge tells who owns an address that claimant claims, or nobody when that is empty, and who could be next. The
// claimant stays while it is fit and nobody is of a better standing: neither a node that returns nor, without
// rebalance, one that is preferred takes the address from it. The order of the candidates does not matter.
func Judge(candidates []Candidate, claimant string, rebalance bool) Result {
	var best *Candidate
	var holder *Candidate
	var heirs []string
	for i := range candidates {
		c := &candidates[i]
		if c.Node == claimant && claimant != "" {
			holder = c
		}
		if !c.mayInherit() {
			continue
		}
		if best != nil {
			order := c.compare(best)
			if order > 0 {
				continue
			}
			if order < 0 {
				heirs = heirs[:0]
			}
		}
		best = c
		heirs = append(heirs, c.Node)
	}
	slices.Sort(heirs)
	r := Result{Heirs: heirs}
	switch {
	case claimant == "":
		r.Why = Unclaimed
		return r
	case holder == nil:
		r.Why = NotAlive
		return r
	case holder.Unfit() != Fit:
		r.Why = holder.Unfit()
		return r
	}
	r.Owner = claimant
	switch {
	case best == nil || holder.Away:
	case holder.keeping() > best.inheriting():
		r.Why = holder.fault()
	case rebalance && holder.keeping() == best.inheriting() && holder.Weight < best.Weight:
		r.Why = LessPreferred
	}
	return r
}

// Appoint tells who owns an address of which no later claim can be made: the first in order, who may be away, whoever claims it.
// All come to the same answer by themselves, but it is not sticky, and those who see different things come to different ones.
func Appoint(addr netip.Addr, candidates []Candidate) Result {
	there := slices.Clone(candidates)
	for i := range there {
		there[i].Away = false
	}
	order := Order(addr, there)
	if len(order) == 0 {
		return Result{Why: Unclaimed}
	}
	return Result{Owner: order[0]}
}

// Order returns those who could take the address over, the best first: by standing, weight and rendezvous rank.
func Order(addr netip.Addr, candidates []Candidate) []string {
	var fit []*Candidate
	for i := range candidates {
		if candidates[i].mayInherit() {
			fit = append(fit, &candidates[i])
		}
	}
	slices.SortFunc(fit, func(x, y *Candidate) int {
		return cmp.Or(x.compare(y), byRank(addr, x.Node, y.Node))
	})
	out := make([]string, len(fit))
	for i, c := range fit {
		out[i] = c.Node
	}
	return out
}

// StandIn returns the node that answers for addr with the MAC of its owner while that is away, and false when the owner
// is not away or nobody else could. It needs no endpoint: the traffic goes to the owner. It is current, while nobody is of
// a better standing, and else the first in order: somebody who comes while the owner is away need not know that it is, and
// that two say the same does no harm.
func StandIn(addr netip.Addr, candidates []Candidate, owner, current string) (node string, ok bool) {
	if !slices.ContainsFunc(candidates, func(c Candidate) bool { return c.Node == owner && c.Away }) {
		return "", false
	}
	present := slices.Clone(candidates)
	for i := range present {
		present[i].Endpoint = true
	}
	if slices.Contains(Judge(present, "", false).Heirs, current) {
		return current, true
	}
	order := Order(addr, present)
	if len(order) == 0 {
		return "", false
	}
	return order[0], true
}

// Verdict is what the election made of one candidate.
type Verdict struct {
	Node   string
	Reason Reason // Fit for the owner
}

// Explain returns, in the order of the candidates, why each of them owns an address or does not, when owner does.
func Explain(candidates []Candidate, owner string) []Verdict {
	var best Candidate
	if i := slices.IndexFunc(candidates, func(c Candidate) bool { return c.Node == owner }); i >= 0 {
		best = candidates[i]
	}
	verdicts := make([]Verdict, len(candidates))
	for i, c := range candidates {
		verdicts[i] = Verdict{c.Node, c.Unfit()}
		switch {
		case verdicts[i].Reason != Fit || c.Node == owner:
		case owner == "":
			verdicts[i].Reason = Unclaimed
		case c.keeping() > best.keeping():
			verdicts[i].Reason = c.fault()
		case c.Weight < best.Weight:
			verdicts[i].Reason = LessPreferred
		default:
			verdicts[i].Reason = Claimed
		}
	}
	return verdicts
}
