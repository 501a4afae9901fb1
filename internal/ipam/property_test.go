package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

// model is what the allocator should do, written for plainness: it walks over every address.
type model struct {
	pools map[string][]netip.Addr // in order
	held  map[types.NamespacedName]map[corev1.IPFamily]Lease
}

func (m *model) holder(addr netip.Addr) (types.NamespacedName, bool) {
	for key, ls := range m.held {
		for _, l := range ls {
			if l.Addr == addr {
				return key, true
			}
		}
	}
	return types.NamespacedName{}, false
}

func (m *model) poolOf(addr netip.Addr) string {
	for name, addrs := range m.pools {
		if slices.Contains(addrs, addr) {
			return name
		}
	}
	return ""
}

// pick returns the lowest free address of a family in a pool.
func (m *model) pick(pool string, f corev1.IPFamily) (Lease, bool) {
	for _, addr := range m.pools[pool] {
		if _, used := m.holder(addr); !used && service.FamilyOf(addr) == f {
			return Lease{addr, pool}, true
		}
	}
	return Lease{}, false
}

func (m *model) pickAny(f corev1.IPFamily) (Lease, bool) {
	for _, name := range slices.Sorted(maps.Keys(m.pools)) {
		if l, ok := m.pick(name, f); ok {
			return l, true
		}
	}
	return Lease{}, false
}

func (m *model) allocate(req service.Request) (held []Lease, refused bool) {
	mine := m.held[req.Key]
	if mine == nil {
		mine = map[corev1.IPFamily]Lease{}
	}
	var missing []corev1.IPFamily
	for _, f := range req.Families {
		if _, ok := mine[f]; !ok {
			missing = append(missing, f)
			if _, ok := m.pickAny(f); !ok {
				refused = true
			}
		}
	}
	if !refused || !req.AllFamilies {
		m.give(mine, missing)
	}
	for _, f := range req.Families {
		if l, ok := mine[f]; ok {
			held = append(held, l)
		}
	}
	m.held[req.Key] = mine
	return held, refused
}

func (m *model) give(mine map[corev1.IPFamily]Lease, missing []corev1.IPFamily) {
	if len(missing) == 2 {
		for _, name := range slices.Sorted(maps.Keys(m.pools)) {
			l4, ok4 := m.pick(name, corev1.IPv4Protocol)
			l6, ok6 := m.pick(name, corev1.IPv6Protocol)
			if ok4 && ok6 {
				mine[corev1.IPv4Protocol], mine[corev1.IPv6Protocol] = l4, l6
				return
			}
		}
	}
	slices.Sort(missing)
	for _, f := range missing {
		l, ok := m.pickAny(f)
		for _, other := range mine {
			if beside, found := m.pick(other.Pool, f); found {
				l, ok = beside, true
			}
		}
		if ok {
			mine[f] = l
		}
	}
}

func (m *model) setPools(pools map[string][]netip.Addr) {
	m.pools = pools
	for _, ls := range m.held {
		for f, l := range ls {
			if home := m.poolOf(l.Addr); home != "" {
				l.Pool = home
			}
			if _, exists := pools[l.Pool]; exists {
				ls[f] = l
			} else {
				delete(ls, f)
			}
		}
	}
}

func (m *model) seat(req service.Request) {
	for _, h := range req.Held {
		f := service.FamilyOf(h.Addr)
		_, taken := m.holder(h.Addr)
		_, hasOne := m.held[req.Key][f]
		home := m.poolOf(h.Addr)
		if home == "" {
			if _, exists := m.pools[h.Pool]; exists {
				home = h.Pool
			}
		}
		if taken || hasOne || home == "" {
			continue
		}
		if m.held[req.Key] == nil {
			m.held[req.Key] = map[corev1.IPFamily]Lease{}
		}
		m.held[req.Key][f] = Lease{h.Addr, home}
	}
}

// universe is the addresses that the histories use: few, so that pools fill up and clash.
var universe = func() []netip.Addr {
	var all []netip.Addr
	for i := range 12 {
		all = append(all, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		all = append(all, netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)))
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}()

func TestRandomHistoriesMatchTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := New()
		m := &model{pools: map[string][]netip.Addr{}, held: map[types.NamespacedName]map[corev1.IPFamily]Lease{}}
		name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"})
		families := rapid.SampledFrom([][]corev1.IPFamily{only4, only6, fourFirst, sixFirst})

		t.Repeat(map[string]func(*rapid.T){
			"allocate": func(t *rapid.T) {
				req := service.Request{Key: key(name.Draw(t, "service")), Families: families.Draw(t, "families"), AllFamilies: rapid.Bool().Draw(t, "all")}
				r := a.Allocate(req)
				want, refused := m.allocate(req)
				if !slices.Equal(r.Leases, want) || (r.Refusal != nil) != refused {
					t.Fatalf("%s: got %s, want %s, refused %v", req.Key, result(r), leases(want), refused)
				}
			},
			"release": func(t *rapid.T) {
				k := key(name.Draw(t, "service"))
				if got, want := len(a.Release(k)), len(m.held[k]); got != want {
					t.Fatalf("released %d addresses, want %d", got, want)
				}
				delete(m.held, k)
			},
			"return": func(t *rapid.T) {
				k, addr := key(name.Draw(t, "service")), rapid.SampledFrom(universe).Draw(t, "address")
				f := service.FamilyOf(addr)
				had := m.held[k][f].Addr == addr
				if got := a.Return(k, addr); got != had {
					t.Fatalf("%v gives back %v: %v, want %v", k, addr, got, had)
				}
				if had {
					delete(m.held[k], f)
				}
			},
			"seat": func(t *rapid.T) {
				addr := rapid.SampledFrom(universe)
				pool := rapid.SampledFrom([]string{"", "p0", "p1", "p2"})
				req := service.Request{Key: key(name.Draw(t, "service"))}
				for range rapid.IntRange(1, 3).Draw(t, "claims") {
					req.Held = append(req.Held, service.Held{Addr: addr.Draw(t, "address"), Pool: pool.Draw(t, "pool")})
				}
				a.Seat(req)
				m.seat(req)
			},
			"set pools": func(t *rapid.T) {
				owners := rapid.SliceOfN(rapid.IntRange(-1, 2), len(universe), len(universe)).Draw(t, "owners")
				sets := map[string][]netip.Addr{}
				for i := range rapid.IntRange(0, 3).Draw(t, "pools") {
					sets[fmt.Sprintf("p%d", i)] = nil
				}
				for i, owner := range owners {
					if pool := fmt.Sprintf("p%d", owner); owner >= 0 && owner < len(sets) {
						sets[pool] = append(sets[pool], universe[i])
					}
				}
				var in []config.Pool
				for name, addrs := range sets {
					var b netipx.IPSetBuilder
					for _, addr := range addrs {
						b.Add(addr)
					}
					set, err := b.IPSet()
					if err != nil {
						t.Fatal(err)
					}
					in = append(in, config.Pool{Name: name, Addresses: set})
				}
				a.SetPools(in)
				m.setPools(sets)
			},
			"": func(t *rapid.T) { check(t, a, m) },
		})
	})
}

// check compares all that can be seen of the allocator with the model.
func check(t *rapid.T, a *Allocator, m *model) {
	inUse := map[string]int{}
	for key, ls := range m.held {
		if got := a.Held(key); len(got) != len(ls) {
			t.Fatalf("%v holds %s, want %v", key, leases(got), ls)
		}
	}
	for _, addr := range universe {
		want, held := m.holder(addr)
		if got, ok := a.Holder(addr); ok != held || got != want {
			t.Fatalf("%v is held by %v, want %v", addr, got, want)
		}
	}
	for _, ls := range m.held {
		for f, l := range ls {
			inUse[l.Pool+string(f)]++
		}
	}
	for _, c := range a.Counts() {
		_, free := m.pick(c.Pool, c.Family)
		if c.InUse != inUse[c.Pool+string(c.Family)] || c.Free != free {
			t.Fatalf("pool %s counts %d %s in use, free %v; want %d, %v", c.Pool, c.InUse, c.Family, c.Free, inUse[c.Pool+string(c.Family)], free)
		}
	}
	for _, f := range fourFirst {
		if _, want := m.pickAny(f); a.Available(f) != want {
			t.Fatalf("%s available: %v, want %v", f, !want, want)
		}
	}
}
