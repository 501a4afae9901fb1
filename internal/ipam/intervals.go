package ipam

import (
	"math/bits"
	"net/netip"

	"github.com/google/btree"
)

// intervals is a set of addresses of one family, kept as disjoint intervals that do not touch each other. Every
// method costs the logarithm of the number of intervals.
type intervals struct {
	tree *btree.BTreeG[*interval]

	pivot interval // what a look-up compares with
	found *interval
	visit func(*interval) bool // keeps the first interval that a walk meets in found
}

// interval holds first and last too.
type interval struct{ first, last netip.Addr }

// degree of the trees. Nodes of 16 to 32 children keep trees of the sizes at hand three levels deep.
const degree = 16

func newIntervals() *intervals {
	s := &intervals{tree: btree.NewG(degree, func(x, y *interval) bool { return x.first.Less(y.first) })}
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
	return addr
}

// addRange adds addresses none of which is in the set or next to an address of it.
func (s *intervals) addRange(first, last netip.Addr) {
	s.tree.ReplaceOrInsert(&interval{first, last})
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

// bitset is a set of small numbers.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) clear(i int)    { b[i/64] &^= 1 << (i % 64) }
func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// first returns the lowest number of the set, -1 when it is empty.
func (b bitset) first() int {
	for w, word := range b {
		if word != 0 {
			return w*64 + bits.TrailingZeros64(word)
		}
	}
	return -1
}

// firstOfBoth returns the lowest number that is in both sets, -1 for none. The sets are of one size.
func firstOfBoth(x, y bitset) int {
	for w := range x {
		if word := x[w] & y[w]; word != 0 {
			return w*64 + bits.TrailingZeros64(word)
		}
	}
	return -1
}
