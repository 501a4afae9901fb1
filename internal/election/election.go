// Package election decides which node should own an address. Every speaker asks it the same question about the same
// facts and so comes to the same answer, without a leader and without a message: the answer is a pure function of
// the address and of what is known of each node.
//
// It owns the rule of who may own an address (see [Candidate.Unfit]) and the order among those who may (see
// [Owner]). It must never read a clock, a cache or the network: whoever calls it gathers the facts.
package election

import (
	"net/netip"
	"slices"
)

// Candidate is what is known of one node in its relation to one address. The zero value is a node that may own
// nothing, so that a fact nobody has gathered counts against the node.
type Candidate struct {
	Node string

	// Alive: the node's speaker is a member of the gossip ring.
	Alive bool
	// Selected: an advertisement selects both this node and the pool of the address.
	Selected bool
	// Reachable: the node has an interface, up and able to answer, on which that advertisement announces the address.
	Reachable bool
	// Endpoint: traffic that arrives at this node can be served under the Service's external traffic policy.
	Endpoint bool

	// Excluded: the node carries the label that keeps external load balancers away.
	Excluded bool
	// NetworkUnavailable: the node's network is reported as not set up.
	NetworkUnavailable bool

	// Weight is how much the advertisements prefer the node.
	Weight int

	// NotReady: the node's kubelet is not reporting it Ready.
	NotReady bool
	// Draining: the node's speaker asked to be relieved of its addresses.
	Draining bool
	// Away: the node's speaker is being restarted and may not answer. It costs the node nothing in the election, since
	// its service path goes on and knows the connections; who answers in its place is told by [StandIn].
	Away bool
}

// Reason names why a candidate does not own an address. It is part of what users see and stays the same between
// versions.
type Reason string

const (
	// Fit is the reason of nobody: the candidate may own the address.
	Fit Reason = ""

	// Reasons that keep a node from owning the address at all.

	NotAlive           Reason = "NotAlive"           // its speaker is not a member of the gossip ring
	NotSelected        Reason = "NotSelected"        // no advertisement selects the node for the address's pool
	ExcludedByLabel    Reason = "ExcludedByLabel"    // node.kubernetes.io/exclude-from-external-load-balancers
	NetworkUnavailable Reason = "NetworkUnavailable" // the node's condition of that name is true
	NoInterface        Reason = "NoInterface"        // no usable interface in the address's subnet, or none of those named
	NoEndpoint         Reason = "NoEndpoint"         // nothing that could serve the traffic is reachable from the node

	// Reasons why a node that could own the address does not.

	NotReady      Reason = "NotReady"      // the node is not Ready and a better one is there
	Draining      Reason = "Draining"      // the node is giving its addresses away and a better one is there
	LessPreferred Reason = "LessPreferred" // advertisements prefer another node of the same standing
	Outranked     Reason = "Outranked"     // another node of the same standing and preference has the higher rendezvous rank
)

// Unfit returns the first reason that keeps the candidate from owning the address, or Fit. NotReady and draining
// nodes are fit: they still forward traffic, and are chosen when no better node is left.
func (c Candidate) Unfit() Reason {
	switch {
	case !c.Alive:
		return NotAlive
	case !c.Selected:
		return NotSelected
	case c.Excluded:
		return ExcludedByLabel
	case c.NetworkUnavailable:
		return NetworkUnavailable
	case !c.Reachable:
		return NoInterface
	case !c.Endpoint:
		return NoEndpoint
	}
	return Fit
}

// standing orders fit candidates into classes, of which the lowest that is not empty owns everything. A draining
// node stands behind one that is not Ready: the first is about to go, the second may only have lost its kubelet.
func (c Candidate) standing() int {
	switch {
	case c.Draining && c.NotReady:
		return 3
	case c.Draining:
		return 2
	case c.NotReady:
		return 1
	}
	return 0
}

// Owner returns the node that should own addr, and false when none of the candidates may. Among the fit candidates
// of the best standing and, among those, of the greatest weight it is the one with the highest rendezvous rank, so that
// a node that comes or goes moves only the addresses that it gains or had. The order of the candidates does not matter.
func Owner(addr netip.Addr, candidates []Candidate) (node string, ok bool) {
	best := -1
	var bestRank uint64
	for i, c := range candidates {
		if c.Unfit() != Fit {
			continue
		}
		r := rank(addr, c.Node)
		if best >= 0 && !before(c, r, candidates[best], bestRank) {
			continue
		}
		best, bestRank = i, r
	}
	if best < 0 {
		return "", false
	}
	return candidates[best].Node, true
}

// StandIn returns the node that answers for addr with the MAC of its owner while that is away, and false when the owner
// is not away or nobody else could. It is the one that would own the address without those that are away. It needs no
// endpoint: the traffic goes to the owner.
func StandIn(addr netip.Addr, candidates []Candidate) (node string, ok bool) {
	owner, ok := Owner(addr, candidates)
	if !ok || !slices.ContainsFunc(candidates, func(c Candidate) bool { return c.Node == owner && c.Away }) {
		return "", false
	}
	var present []Candidate
	for _, c := range candidates {
		if !c.Away {
			c.Endpoint = true
			present = append(present, c)
		}
	}
	return Owner(addr, present)
}

// before reports whether a comes before b. Names settle the tie of two equal ranks, so that the order is total.
func before(a Candidate, rankA uint64, b Candidate, rankB uint64) bool {
	if sa, sb := a.standing(), b.standing(); sa != sb {
		return sa < sb
	}
	if a.Weight != b.Weight {
		return a.Weight > b.Weight
	}
	if rankA != rankB {
		return rankA > rankB
	}
	return a.Node < b.Node
}

// Verdict is what the election made of one candidate.
type Verdict struct {
	Node   string
	Reason Reason // Fit for the owner
}

// Explain returns, in the order of the candidates, why each of them owns addr or does not.
func Explain(addr netip.Addr, candidates []Candidate) []Verdict {
	owner, _ := Owner(addr, candidates)
	var best Candidate
	for _, c := range candidates {
		if c.Node == owner {
			best = c
		}
	}
	verdicts := make([]Verdict, len(candidates))
	for i, c := range candidates {
		verdicts[i] = Verdict{Node: c.Node, Reason: c.Unfit()}
		if verdicts[i].Reason != Fit || c.Node == owner {
			continue
		}
		switch {
		case c.standing() == best.standing() && c.Weight == best.Weight:
			verdicts[i].Reason = Outranked
		case c.standing() == best.standing():
			verdicts[i].Reason = LessPreferred
		case c.Draining:
			verdicts[i].Reason = Draining
		default:
			verdicts[i].Reason = NotReady
		}
	}
	return verdicts
}
