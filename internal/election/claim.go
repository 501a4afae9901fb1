package election

import "net/netip"

// MaxEpoch bounds epochs. An address changes hands once in seconds at most, so that it is out of reach; what claims more
// is damaged and counts for nothing.
const MaxEpoch = 1 << 32

// Claim is a node's word that it owns an address: a register that the last writer wins. The zero Claim is nobody's.
//
// An epoch counts, in steps of two, how often the address was claimed. It is odd when the claimant saw more than half of
// the cluster, so that of two claims made at the same time on the two sides of a partition that of the greater side wins
// (see [Claim.Weak]).
type Claim struct {
	Node  string
	Epoch uint64
}

// Beats tells whether c counts against o: with the higher epoch, or with the higher rendezvous rank at the same one. All
// speakers agree, in whatever order they hear of the two.
func (c Claim) Beats(addr netip.Addr, o Claim) bool {
	if c.Epoch != o.Epoch {
		return c.Epoch > o.Epoch && c.Epoch <= MaxEpoch
	}
	return c.Node != o.Node && Prefer(addr, c.Node, o.Node)
}

// Weak tells whether the claimant saw no more than half of the cluster. It may have been cut off from an owner that
// went on all the time; that one may claim the address back (see [Claim.Next]), where the loser of a claim that is not
// weak yields.
func (c Claim) Weak() bool { return c.Epoch&1 == 0 }

// Last tells whether the epoch has come to its bound, so that no later claim can be made (see [Appoint]).
func (c Claim) Last() bool { return c.Epoch >= MaxEpoch }

// Next returns the claim with which a node takes the address over from c.
func (c Claim) Next(node string, majority bool) Claim {
	epoch := c.Epoch&^1 + 2
	if majority {
		epoch++
	}
	return Claim{Node: node, Epoch: min(epoch, MaxEpoch)}
}
