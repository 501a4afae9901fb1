package ipam

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/service"
)

// fill puts addresses in use, and gives some back and takes them in random order, so that what is free lies in many
// intervals. It returns who holds them.
func fill(tb testing.TB, a *Allocator, req service.Request, inUse int) []types.NamespacedName {
	tb.Helper()
	keys := make([]types.NamespacedName, inUse+min(inUse/10, 5_000))
	for i := range keys {
		keys[i] = key(fmt.Sprintf("s%06d", i))
		req.Key = keys[i]
		if r := a.Allocate(req); r.Refusal != nil {
			tb.Fatal(r.Refusal.Message)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, k := range keys[inUse:] {
		a.Release(k)
	}
	return keys[:inUse]
}

// crowd are this many pools of which those before the last have no address of the family that is asked for, or none
// left.
func crowd(n int, last string) string {
	var all []string
	for i := range n - 1 {
		if i%2 == 0 {
			all = append(all, fmt.Sprintf("p%04d: 10.%d.%d.0/32 fd00::%x/128", i, i/256, i%256, i))
		} else {
			all = append(all, fmt.Sprintf("p%04d: 10.%d.%d.0/32 fd00::%x/128 namespaces=web priority=%d", i, i/256, i%256, i, i))
		}
	}
	return strings.Join(append(all, last), ";")
}

// exhaust has Services take what the pools but the last have.
func exhaust(tb testing.TB, a *Allocator, n int) {
	tb.Helper()
	for i := range n - 1 {
		if r := a.Allocate(request(tb, fmt.Sprintf("full%04d 46 pool=p%04d", i, i))); r.Refusal != nil {
			tb.Fatal(r.Refusal.Message)
		}
	}
}

func BenchmarkAllocateAndRelease(b *testing.B) {
	for _, pool := range []struct{ name, last, family string }{
		{"slash16", "zz: 198.18.0.0/16", "4"},
		{"slash64", "zz: 2001:db8::/64", "6"},
	} {
		for _, n := range []int{1, 100, 1000} {
			for _, inUse := range []int{100, 10_000, 60_000} {
				b.Run(fmt.Sprintf("%s/pools=%d/inuse=%d", pool.name, n, inUse), func(b *testing.B) {
					a := New()
					do(b, a, "pools "+crowd(n, pool.last))
					exhaust(b, a, n)
					req := request(b, "new "+pool.family+" labels=app=shop")
					fill(b, a, req, inUse)
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
}

// BenchmarkChurn gives an address anywhere back and takes one for somebody else.
func BenchmarkChurn(b *testing.B) {
	for _, inUse := range []int{100, 10_000, 60_000} {
		b.Run(fmt.Sprintf("inuse=%d", inUse), func(b *testing.B) {
			a := New()
			do(b, a, "pools lan: 198.18.0.0/16")
			req := request(b, "new 4")
			keys := fill(b, a, req, inUse)
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

// BenchmarkRefusal refuses a Service that did not wait before and gives up after, while others wait.
func BenchmarkRefusal(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		for _, waiting := range []int{0, 10_000} {
			b.Run(fmt.Sprintf("pools=%d/waiting=%d", n, waiting), func(b *testing.B) {
				a := New()
				do(b, a, "pools "+crowd(n, "zz: 192.0.2.1/32"))
				exhaust(b, a, n)
				do(b, a, "ask holder 4")
				for i := range waiting {
					a.Allocate(request(b, fmt.Sprintf("w%06d 4 labels=app=shop", i)))
				}
				req := request(b, "new 4 labels=app=shop")
				b.ReportAllocs()
				for b.Loop() {
					if r := a.Allocate(req); r.Refusal == nil {
						b.Fatal("not refused")
					}
					a.Cancel(req.Key)
				}
			})
		}
	}
}

// BenchmarkHandOver takes the only address from its holder and gives it to the first of those who wait.
func BenchmarkHandOver(b *testing.B) {
	for _, waiting := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			a := New()
			do(b, a, "pools lan: 192.0.2.1/32")
			req := request(b, "w 4")
			a.Allocate(req)
			holder := req
			for i := range waiting {
				req.Key = key(fmt.Sprintf("w%06d", i))
				a.Allocate(req)
			}
			b.ReportAllocs()
			for b.Loop() {
				a.Release(holder.Key)
				k, r, ok := a.Serve()
				if !ok || r.Refusal != nil {
					b.Fatal("nobody was served")
				}
				a.Allocate(holder) // and waits at the end
				holder.Key = k
			}
		})
	}
}

// BenchmarkShare has a Service join the one that holds an address under its key, and leave again.
func BenchmarkShare(b *testing.B) {
	for _, inUse := range []int{100, 10_000, 60_000} {
		b.Run(fmt.Sprintf("inuse=%d", inUse), func(b *testing.B) {
			a := New()
			do(b, a, "pools lan: 198.18.0.0/16")
			fill(b, a, request(b, "new 4"), inUse)
			do(b, a, "ask first 4 key=k ports=80 selector=app=x local")
			req := request(b, "second 4 key=k ports=443 selector=app=x local")
			b.ReportAllocs()
			for b.Loop() {
				if r := a.Allocate(req); r.Refusal != nil {
					b.Fatal("refused")
				}
				a.Release(req.Key)
			}
			if n := len(a.Holders(a.Held(key("first"))[0].Addr)); n != 1 {
				b.Fatalf("%d hold the address", n)
			}
		})
	}
}
