package ipam

import "math/bits"

// bitset is a set of small numbers. Sets that are looked at together are of one size, or nil, which is the empty set.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(i int)   { b[i/64] |= 1 << (i % 64) }
func (b bitset) clear(i int) { b[i/64] &^= 1 << (i % 64) }

func (b bitset) has(i int) bool { return b != nil && b[i/64]&(1<<(i%64)) != 0 }

// firstOf returns the lowest number that is in all three of x, y and z and neither in not nor except itself, -1 for
// none. except is -1 for no exception.
func firstOf(x, y, z, not bitset, except int) int {
	for w := range x {
		word := x[w] & y[w] & z[w]
		if word == 0 {
			continue
		}
		if not != nil {
			word &^= not[w]
		}
		if except >= 0 && except/64 == w {
			word &^= 1 << (except % 64)
		}
		if word != 0 {
			return w*64 + bits.TrailingZeros64(word)
		}
	}
	return -1
}
