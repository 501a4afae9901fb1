package election

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"strings"
)

// Prefer tells whether x comes before y for an address, when nothing else tells them apart.
func Prefer(addr netip.Addr, x, y string) bool { return byRank(addr, x, y) < 0 }

// byRank orders nodes by their rank for an address, the highest first. Names settle the tie of two equal ranks, so that
// the order is total.
func byRank(addr netip.Addr, x, y string) int {
	return cmp.Or(cmp.Compare(rank(addr, y), rank(addr, x)), strings.Compare(x, y))
}

// rank is the rendezvous weight of a node for an address (highest random weight: Thaler and Ravishankar, 1998).
//
// It is part of the protocol between speakers: two versions that disagree here would both announce an address. It
// is FNV-1a over the node's name, then the 16 bytes of the address (IPv4 in its mapped form) folded in as two
// big-endian words, each followed by the 64-bit finalizer of SplitMix64, which turns neighbouring addresses and
// names that differ in one digit into unrelated ranks. It is no secret and resists no attacker: who can choose a
// node's name rules the node.
func rank(addr netip.Addr, node string) uint64 {
	b := addr.As16()
	h := mix(fnv1a(node) ^ binary.BigEndian.Uint64(b[:8]))
	return mix(h ^ binary.BigEndian.Uint64(b[8:]))
}

func fnv1a(s string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	return h
}

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
