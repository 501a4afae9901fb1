package ipam

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// filled returns an allocator with this many addresses in use, given back and taken in random order, so that what
// is free lies in many intervals.
func filled(tb testing.TB, in string, inUse int) *Allocator {
	a := New()
	a.SetPools(pools(in))
	families := only4
	if !a.Available(families[0]) {
		families = only6
	}
	keys := make([]string, inUse+min(inUse/10, 5_000))
	for i := range keys {
		keys[i] = fmt.Sprintf("s%06d", i)
		if r := a.Allocate(require(keys[i], families)); r.Refusal != nil {
			tb.Fatal(r.Refusal.Message)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, k := range keys[inUse:] {
		a.Release(key(k))
	}
	return a
}

func BenchmarkAllocateAndRelease(b *testing.B) {
	for _, pool := range []struct{ name, ranges string }{
		{"slash16", "lan: 198.18.0.0/16"},
		{"slash64", "lan: 2001|db8||/64"},
	} {
		for _, inUse := range []int{100, 10_000, 60_000} {
			b.Run(fmt.Sprintf("%s/%d", pool.name, inUse), func(b *testing.B) {
				a := filled(b, pool.ranges, inUse)
				req := require("new", only4)
				if pool.name == "slash64" {
					req = require("new", only6)
				}
				b.ReportAllocs()
				for b.Loop() {
					if r := a.Allocate(req); len(r.Leases) != 1 {
						b.Fatal("refused")
					}
					a.Release(req.Key)
				}
			})
		}
	}
}

// BenchmarkChurn gives an address anywhere back and takes one for somebody else.
func BenchmarkChurn(b *testing.B) {
	for _, inUse := range []int{100, 10_000, 60_000} {
		b.Run(fmt.Sprint(inUse), func(b *testing.B) {
			a := filled(b, "lan: 198.18.0.0/16", inUse)
			keys := make([]types.NamespacedName, 0, inUse)
			for k := range a.holders {
				keys = append(keys, k)
			}
			req := require("", only4)
			random := rand.New(rand.NewPCG(3, 4))
			b.ReportAllocs()
			for b.Loop() {
				req.Key = keys[random.IntN(len(keys))]
				a.Release(req.Key)
				if r := a.Allocate(req); len(r.Leases) != 1 {
					b.Fatal("refused")
				}
			}
		})
	}
}

func BenchmarkRefusal(b *testing.B) {
	a := New()
	a.SetPools(pools("lan: 192.0.2.1-192.0.2.1"))
	a.Allocate(require("holder", only4))
	req := require("new", only4)
	b.ReportAllocs()
	for b.Loop() {
		if r := a.Allocate(req); r.Refusal == nil {
			b.Fatal("not refused")
		}
	}
}
