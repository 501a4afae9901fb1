package ipam

import (
	"net/netip"

	"github.com/google/btree"
)

// intervals is a set of addresses of one family, kept as disjoint intervals that do not touch each other. Every
// method costs the logarithm of the number of intervals.
//
// With avoid, buggy addresses are not in the set, although they may lie in an interval: each is taken out when it
// becomes the lowest one. So a prefix stays one interval, however many buggy addresses it holds.
type intervals struct {
	tree  *btree.BTreeG[*interval]
	avoid bool

	pivot interval // what a look-up compares with
	found *interval
	visit func(*interval) bool // keeps the first interval that a walk meets in found
}

// interval holds first and last too.
type interval struct{ first, last netip.Addr }

// degree of the trees. Nodes of 16 to 32 children keep trees of the sizes at hand three levels deep.
const degree = 16

func newIntervals(avoid bool) *intervals {
	s := &intervals{avoid: avoid, tree: btree.NewG(degree, func(x, y *interval) bool { return x.first.Less(y.first) })}
	s.visit = func(i *interval) bool {
		s.found = i
		return false
	}
	return s
}

func (s *intervals) empty() bool { return s.tree.Len() == 0 }

// takeFirst removes the lowest address and returns it. The set must not be empty.
func (s *intervals) takeFirst() netip.Addr {
	i, _ := s.tree.Min()
	addr := i.first
	if addr == i.last {
		s.tree.DeleteMin()
	} else {
		i.first = addr.Next() // stays below the next interval: the tree's order holds
	}
	s.settle()
	return addr
}

// settle takes out the lowest addresses for as long as they are to be avoided. No address is taken out twice, so what
// this costs was paid for when the addresses below were taken.
func (s *intervals) settle() {
	for s.avoid {
		i, ok := s.tree.Min()
		switch {
		case !ok || !buggy(i.first):
			return
		case i.first == i.last:
			s.tree.DeleteMin()
		default:
			i.first = i.first.Next()
		}
	}
}

// buggy tells whether some old network gear takes an address for that of a network or for a broadcast.
func buggy(addr netip.Addr) bool {
	if !addr.Is4() {
		return false
	}
	last := addr.As4()[3]
	return last == 0 || last == 255
}

// addRange adds addresses none of which is in the set or next to an address of it.
func (s *intervals) addRange(first, last netip.Addr) {
	s.tree.ReplaceOrInsert(&interval{first, last})
	s.settle()
}

// add adds an address that is not in the set.
func (s *intervals) add(addr netip.Addr) {
	before := s.upTo(addr)
	if before != nil && before.last.Next() != addr {
		before = nil
	}
	var after *interval
	if next := addr.Next(); next.IsValid() {
		s.pivot.first = next
		after, _ = s.tree.Get(&s.pivot)
	}
	switch {
	case before != nil && after != nil:
		s.tree.Delete(after)
		before.last = after.last
	case before != nil:
		before.last = addr
	case after != nil:
		after.first = addr // above the interval before it: the tree's order holds
	default:
		s.tree.ReplaceOrInsert(&interval{addr, addr})
	}
}

// remove removes an address; one that is not in the set is let be.
func (s *intervals) remove(addr netip.Addr) {
	s.cut(addr)
	s.settle()
}

func (s *intervals) cut(addr netip.Addr) {
	i := s.upTo(addr)
	if i == nil || i.last.Less(addr) {
		return
	}
	last := i.last
	if i.first == addr {
		if addr == last {
			s.tree.Delete(i)
		} else {
			i.first = addr.Next()
		}
		return
	}
	i.last = addr.Prev()
	if addr != last {
		s.tree.ReplaceOrInsert(&interval{addr.Next(), last})
	}
}

// upTo returns the last interval that begins at addr or below it, nil for none.
func (s *intervals) upTo(addr netip.Addr) *interval {
	s.pivot.first, s.found = addr, nil
	s.tree.DescendLessOrEqual(&s.pivot, s.visit)
	return s.found
}
