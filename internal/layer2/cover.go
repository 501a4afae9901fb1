package layer2

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

// coverSpans is how many spans of addresses a kernel filter compares with. Each costs three instructions for each of
// two fields, for every ARP packet of the link. 32 make 200 instructions, which is well below what the smallest
// net.core.optmem_max in use lets a socket have.
const coverSpans = 32

// cover holds the addresses of a socket, and some more, in spans that its kernel filter can compare with: what lies
// outside of it is no affair of ours. It only ever errs by letting too much pass. The zero cover is empty.
type cover struct {
	spans []span // sorted, disjoint
	in    int    // addresses that were added
	out   int    // of these, such as are gone again
}

// span is a closed interval of keys.
type span struct{ lo, hi uint32 }

// key is what the filter compares: an IPv4 address, or the last 32 bits of an IPv6 address. Those of Services come
// from pools and lie close together there, those of other hosts are scattered.
func key(addr netip.Addr) uint32 {
	if addr.Is4() {
		b := addr.As4()
		return binary.BigEndian.Uint32(b[:])
	}
	b := addr.As16()
	return binary.BigEndian.Uint32(b[12:])
}

// add takes an address in, and tells whether the spans changed.
func (c *cover) add(addr netip.Addr) bool {
	c.in++
	k := key(addr)
	i, found := slices.BinarySearchFunc(c.spans, k, func(s span, k uint32) int {
		switch {
		case s.hi < k:
			return -1
		case s.lo > k:
			return 1
		}
		return 0
	})
	if found {
		return false
	}
	c.spans = slices.Insert(c.spans, i, span{k, k})
	c.merge()
	return true
}

// merge makes one of neighbors that touch, and of the nearest ones while there are too many.
func (c *cover) merge() {
	for {
		at, least := 0, uint32(math.MaxUint32)
		for i := 1; i < len(c.spans); i++ {
			if gap := c.spans[i].lo - c.spans[i-1].hi; gap < least {
				at, least = i, gap
			}
		}
		if at == 0 || least > 1 && len(c.spans) <= coverSpans {
			return
		}
		c.spans[at-1].hi = c.spans[at].hi
		c.spans = slices.Delete(c.spans, at, at+1)
	}
}

// remove notes that an address is gone, and tells whether so many are that the cover should be made anew: after half of
// them, so that the cost for each stays the same however many there are.
func (c *cover) remove() (worn bool) {
	c.out++
	return 2*c.out > c.in
}

// program returns a filter that passes frames, of at most size bytes, of which one of two 32-bit fields lies in the
// cover. The instructions of prologue come first and drop what is to be dropped whatever its addresses are.
func (c *cover) program(prologue []bpf.Instruction, fields [2]uint32, size uint32) []bpf.Instruction {
	if len(c.spans) == 0 {
		return []bpf.Instruction{bpf.RetConstant{Val: 0}}
	}
	out := slices.Clone(prologue)
	for _, at := range fields {
		out = append(out, bpf.LoadAbsolute{Off: at, Size: 4})
		for _, s := range c.spans {
			out = append(out,
				bpf.JumpIf{Cond: bpf.JumpLessThan, Val: s.lo, SkipTrue: 2},
				bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: s.hi, SkipTrue: 1},
				bpf.RetConstant{Val: size},
			)
		}
	}
	return append(out, bpf.RetConstant{Val: 0})
}

// need drops frames for which the last loaded value is none of these.
func need(values ...uint32) []bpf.Instruction {
	var out []bpf.Instruction
	for i, v := range values {
		out = append(out, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
	}
	return append(out, bpf.RetConstant{Val: 0})
}
