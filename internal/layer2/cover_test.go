package layer2

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
)

// passes runs a cover's filter, without prologue, on two keys.
func passes(t *testing.T, c *cover, first, second uint32) bool {
	t.Helper()
	vm, err := bpf.NewVM(c.program(nil, [2]uint32{0, 4}, 8))
	check(t, err)
	n, err := vm.Run(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, first), second))
	check(t, err)
	return n > 0
}

func TestTheKernelFilterPassesOurAddressesOnly(t *testing.T) {
	in := func(s string) uint32 { return key(netip.MustParseAddr(s)) }
	var c cover
	if passes(t, &c, in("192.0.2.1"), in("192.0.2.1")) {
		t.Error("without addresses something passes")
	}
	for _, a := range addrs("192.0.2.10", "192.0.2.12", "192.0.2.11", "198.51.100.1", "192.0.2.10") {
		c.add(a)
	}
	if len(c.spans) != 2 {
		t.Errorf("the spans are %v, want one of three neighbors and one of one", c.spans)
	}
	const other = "203.0.113.9"
	for _, tc := range []struct {
		addr string
		want bool
	}{
		{"192.0.2.9", false}, {"192.0.2.10", true}, {"192.0.2.11", true}, {"192.0.2.12", true}, {"192.0.2.13", false},
		{"198.51.100.0", false}, {"198.51.100.1", true}, {"198.51.100.2", false}, {"0.0.0.0", false}, {"255.255.255.255", false},
	} {
		if passes(t, &c, in(tc.addr), in(other)) != tc.want {
			t.Errorf("%s as the target passes: %t", tc.addr, !tc.want)
		}
		if passes(t, &c, in(other), in(tc.addr)) != tc.want {
			t.Errorf("%s as the sender passes: %t", tc.addr, !tc.want)
		}
	}
}

func TestACoverOfScatteredAddressesStaysSmallAndMissesNone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, spread := range []uint32{40, 5000, 1 << 31} {
		var c cover
		var keys []uint32
		for range 2000 {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], r.Uint32N(spread)+r.Uint32N(2)*spread)
			c.add(netip.AddrFrom4(b))
			keys = append(keys, key(netip.AddrFrom4(b)))
		}
		if len(c.spans) > coverSpans {
			t.Fatalf("%d spans, want at most %d", len(c.spans), coverSpans)
		}
		for i := 1; i < len(c.spans); i++ {
			if c.spans[i].lo <= c.spans[i-1].hi || c.spans[i].hi < c.spans[i].lo {
				t.Fatalf("spans are not sorted: %v", c.spans)
			}
		}
		for _, k := range keys {
			if !passes(t, &c, k, ^uint32(0)) {
				t.Fatalf("%d was added and does not pass", k)
			}
		}
	}
}

func TestACoverIsMadeAnewWhenHalfOfItIsGone(t *testing.T) {
	var c cover
	a := netip.MustParseAddr("2001:db8::1")
	for range 100 {
		c.add(a)
		a = a.Next()
	}
	for i := range 51 {
		if worn := c.remove(); worn != (i == 50) {
			t.Fatalf("after %d of 100 are gone, worn: %t", i+1, worn)
		}
	}
}

func TestTheWholeFilterFitsAKernel(t *testing.T) {
	for proto := range protocols {
		var c cover
		for i := range 2 * coverSpans {
			c.add(netip.AddrFrom4([4]byte{10, byte(i), 0, 1}))
		}
		program, err := bpf.Assemble(proto.program(&c))
		check(t, err)
		if len(program) > 256 {
			t.Errorf("the filter for %s has %d instructions, want at most 256", proto, len(program))
		}
	}
}

func BenchmarkCoverOfAnotherAddress(b *testing.B) {
	var c cover
	r := rand.New(rand.NewPCG(1, 2))
	var four [4]byte
	for range 10000 {
		binary.BigEndian.PutUint32(four[:], r.Uint32())
		c.add(netip.AddrFrom4(four))
	}
	for b.Loop() {
		binary.BigEndian.PutUint32(four[:], r.Uint32())
		c.add(netip.AddrFrom4(four))
	}
}
