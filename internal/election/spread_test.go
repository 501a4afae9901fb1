package election

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// owners is who claims which address.
type owners map[netip.Addr]string

func nodes(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("node-%d", i+1))
	}
	return names
}

// spreadOf enters addresses that the alive nodes may own.
func spreadOf(claims owners, alive []string) *Spread {
	s := NewSpread()
	var cs []Candidate
	for _, n := range alive {
		cs = append(cs, fit(n))
	}
	for addr, owner := range claims {
		s.Set(addr, Judge(cs, owner, false))
	}
	s.Share()
	return s
}

// settle lets every heir claim.
func settle(claims owners, alive []string) owners {
	s, out := spreadOf(claims, alive), maps.Clone(claims)
	for addr := range claims {
		if heir := s.Heir(addr); heir != "" {
			out[addr] = heir
		}
	}
	return out
}

func unclaimed(first string, n int) owners {
	out := owners{}
	for a := netip.MustParseAddr(first); n > 0; n-- {
		out[a] = ""
		a = a.Next()
	}
	return out
}

// unevenness is the most that one node has, over the mean.
func unevenness(o owners, n int) float64 {
	counts := map[string]int{}
	most := 0
	for _, node := range o {
		counts[node]++
		most = max(most, counts[node])
	}
	return float64(most) * float64(n) / float64(len(o))
}

const bar = 1.25

func TestAddressesAreSpreadEvenly(t *testing.T) {
	for _, first := range []string{"192.0.2.0", "2001:db8:ffff:ffff:ffff:ffff:ff00:0"} {
		for _, addresses := range []int{100, 1000} {
			for _, n := range []int{3, 10, 50} {
				all := nodes(n)
				o := settle(unclaimed(first, addresses), all)
				atOnce := unevenness(o, n)
				// One leaves: what it had is spread over the others, and nothing else moves.
				gone := settle(o, all[1:])
				for addr, owner := range gone {
					if owner == all[0] || o[addr] != all[0] && owner != o[addr] {
						t.Fatalf("%s moved from %s to %s when %s left", addr, o[addr], owner, all[0])
					}
				}
				// And comes back: nothing moves.
				if back := settle(gone, all); !maps.Equal(back, gone) {
					t.Errorf("%s came back and addresses moved", all[0])
				}
				left := unevenness(gone, n-1)
				t.Logf("%d addresses on %d nodes: most over mean %.2f, when one has left %.2f", addresses, n, atOnce, left)
				if mean := float64(addresses) / float64(n-1); atOnce > bar || left > max(bar, 1+1/mean) {
					t.Errorf("%d addresses from %s on %d nodes: most over mean %.2f, when one has left %.2f; want at most %.2f", addresses, first, n, atOnce, left, bar)
				}
			}
		}
	}
}

func TestAddressesThatComeOneByOneAreSpreadEvenly(t *testing.T) {
	for _, n := range []int{3, 10, 50} {
		s, o := NewSpread(), owners{}
		var cs []Candidate
		for _, node := range nodes(n) {
			cs = append(cs, fit(node))
		}
		for addr := range unclaimed("192.0.2.0", 1000) {
			s.Set(addr, Judge(cs, "", false))
			s.Share()
			o[addr] = s.Heir(addr)
			s.Set(addr, Judge(cs, o[addr], false))
			if u := unevenness(o, n); u > bar && len(o) >= 10*n {
				t.Fatalf("%d nodes, %d addresses: most over mean %.2f", n, len(o), u)
			}
		}
		if len(s.groups) != 1 || len(s.groups[s.seats[netip.MustParseAddr("192.0.2.0")].group.key].open) != 0 {
			t.Errorf("something is left open: %v", s.groups)
		}
		for addr := range o {
			s.Delete(addr)
		}
		s.Share()
		if len(s.groups)+len(s.seats)+len(s.stale) != 0 {
			t.Errorf("something is left of no address: %v %v", s.groups, s.seats)
		}
	}
}

// Speakers hear of each other's claims one by one. Whatever part of them one has heard of, the rest is shared out as
// before: no two take one address.
func TestClaimsOnTheirWayChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := nodes(rapid.IntRange(2, 6).Draw(t, "nodes"))
		claims := unclaimed("192.0.2.0", rapid.IntRange(1, 40).Draw(t, "addresses"))
		for addr := range claims {
			if rapid.Bool().Draw(t, "claimed "+addr.String()) {
				claims[addr] = rapid.SampledFrom(append([]string{"dead"}, all...)).Draw(t, "by")
			}
		}
		settled := settle(claims, all)
		heard := maps.Clone(claims)
		for addr, owner := range settled {
			if rapid.Bool().Draw(t, "heard of "+addr.String()) {
				heard[addr] = owner
			}
		}
		if got := settle(heard, all); !maps.Equal(got, settled) {
			t.Fatalf("from %v all come to\n%v, and who has heard of a part comes to\n%v", claims, settled, got)
		}
	})
}

// What is kept up to date step by step is what it would be from scratch.
func TestTheSpreadFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, last := NewSpread(), map[netip.Addr]Result{}
		addrs := slices.SortedFunc(maps.Keys(unclaimed("192.0.2.0", 8)), netip.Addr.Compare)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			addr := rapid.SampledFrom(addrs).Draw(t, "addr")
			if rapid.IntRange(0, 4).Draw(t, "delete") == 0 {
				s.Delete(addr)
				delete(last, addr)
			} else {
				var cs []Candidate
				for _, n := range nodes(3) {
					if rapid.Bool().Draw(t, n) {
						cs = append(cs, fit(n))
					}
				}
				last[addr] = Judge(cs, rapid.SampledFrom(append(nodes(3), "")).Draw(t, "claimant"), false)
				s.Set(addr, last[addr])
			}
			if rapid.Bool().Draw(t, "share") {
				s.Share()
			}
		}
		s.Share()
		fresh := NewSpread()
		for addr, r := range last {
			fresh.Set(addr, r)
		}
		fresh.Share()
		for _, addr := range addrs {
			if s.Heir(addr) != fresh.Heir(addr) || (s.Heir(addr) != "") != last[addr].Open() {
				t.Fatalf("the heir of %s is %q, from scratch %q, and what is known %+v", addr, s.Heir(addr), fresh.Heir(addr), last[addr])
			}
		}
		if len(s.groups) != len(fresh.groups) {
			t.Fatalf("%d groups, from scratch %d", len(s.groups), len(fresh.groups))
		}
	})
}

// The cost of an address that needs an owner does not grow with those that have one.
func BenchmarkOneOpenAddress(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all := nodes(10)
			o := settle(unclaimed("10.0.0.0", n), all)
			s := spreadOf(o, all)
			addr := netip.MustParseAddr("10.0.0.7")
			var cs []Candidate
			for _, node := range all {
				cs = append(cs, fit(node))
			}
			for b.Loop() {
				s.Set(addr, Judge(cs, "", false))
				s.Share()
				s.Set(addr, Judge(cs, s.Heir(addr), false))
				s.Share()
			}
		})
	}
}
