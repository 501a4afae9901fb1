package election

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func fit(node string) Candidate {
	return Candidate{Node: node, Alive: true, Selected: true, Reachable: true, Endpoint: true}
}

func with(node string, change func(*Candidate)) Candidate {
	c := fit(node)
	change(&c)
	return c
}

func fits(n int) []Candidate {
	cs := make([]Candidate, n)
	for i := range cs {
		cs[i] = fit(fmt.Sprintf("node-%d", i+1))
	}
	return cs
}

// Speakers of different versions take part in one election: these values never change.
func TestRankIsTheSameInEveryVersion(t *testing.T) {
	for _, tc := range []struct {
		addr, node string
		want       uint64
	}{
		{"192.0.2.1", "n1", 0x938ec48dd34ea2e8},
		{"192.0.2.1", "n2", 0xdf0599afb012c541},
		{"192.0.2.2", "n1", 0x4892a8d6087a45a4},
		{"2001:db8::1", "n1", 0x5b26b249078a36a1},
		{"2001:db8::1", "worker-1.example.net", 0x80767af533fc1186},
		{"0.0.0.0", "", 0x56daa694452b04bf},
	} {
		if got := rank(netip.MustParseAddr(tc.addr), tc.node); got != tc.want {
			t.Errorf("rank(%s, %q) = %#x, want %#x", tc.addr, tc.node, got, tc.want)
		}
	}
}

func TestWhoMayOwnAnAddress(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.7")
	for _, tc := range []struct {
		name string
		out  Candidate
		why  Reason
	}{
		{"a dead node may not", with("a", func(c *Candidate) { c.Alive = false }), NotAlive},
		{"a node that no advertisement selects may not", with("a", func(c *Candidate) { c.Selected = false }), NotSelected},
		{"a node that is excluded by label may not", with("a", func(c *Candidate) { c.Excluded = true }), ExcludedByLabel},
		{"a node without network may not", with("a", func(c *Candidate) { c.NetworkUnavailable = true }), NetworkUnavailable},
		{"a node without an interface there may not", with("a", func(c *Candidate) { c.Reachable = false }), NoInterface},
		{"a node without an endpoint may not", with("a", func(c *Candidate) { c.Endpoint = false }), NoEndpoint},
		{"a node that is not Ready yields to one that is", with("a", func(c *Candidate) { c.NotReady = true }), NotReady},
		{"a draining node yields to one that is not", with("a", func(c *Candidate) { c.Draining = true }), Draining},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// Whatever their ranks are, the other one owns the address.
			for _, other := range []string{"b", "c", "d", "e", "f"} {
				owner, ok := Owner(addr, []Candidate{tc.out, fit(other)})
				if !ok || owner != other {
					t.Errorf("owner is %q, %t; want %q", owner, ok, other)
				}
				if got := Explain(addr, []Candidate{tc.out, fit(other)}); got[0] != (Verdict{"a", tc.why}) || got[1] != (Verdict{other, Fit}) {
					t.Errorf("verdicts are %v; want a %s and %s fit", got, tc.why, other)
				}
			}
		})
	}
}

func TestTheLastResort(t *testing.T) {
	addr := netip.MustParseAddr("2001:db8::7")
	notReady := with("notready", func(c *Candidate) { c.NotReady = true })
	draining := with("draining", func(c *Candidate) { c.Draining = true })
	both := with("both", func(c *Candidate) { c.Draining, c.NotReady = true, true })
	for _, tc := range []struct {
		name       string
		candidates []Candidate
		owner      string
	}{
		{"nobody is there", nil, ""},
		{"only unfit nodes are there", []Candidate{{Node: "dead"}}, ""},
		{"only a draining node is there", []Candidate{draining}, "draining"},
		{"not Ready is better than draining", []Candidate{draining, both, notReady}, "notready"},
		{"draining is better than both", []Candidate{both, draining}, "draining"},
		{"both is better than none", []Candidate{both}, "both"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if owner, ok := Owner(addr, tc.candidates); owner != tc.owner || ok != (tc.owner != "") {
				t.Errorf("owner is %q, %t; want %q", owner, ok, tc.owner)
			}
		})
	}
}

func TestTheLoserOfAnElectionIsOutranked(t *testing.T) {
	cs := []Candidate{fit("a"), fit("b")}
	addr := netip.MustParseAddr("192.0.2.7")
	owner, _ := Owner(addr, cs)
	for _, v := range Explain(addr, cs) {
		if want := map[bool]Reason{true: Fit, false: Outranked}[v.Node == owner]; v.Reason != want {
			t.Errorf("%s is %q, want %q", v.Node, v.Reason, want)
		}
	}
}

// A preference rules among equals and nowhere else.
func TestThePreferredNodeComesFirst(t *testing.T) {
	heavy := func(node string) Candidate { return with(node, func(c *Candidate) { c.Weight = 2 }) }
	light := func(node string) Candidate { return with(node, func(c *Candidate) { c.Weight = 1 }) }
	for _, tc := range []struct {
		name       string
		candidates []Candidate
		owner      string
		a          Reason // the verdict on a
	}{
		{"before one that nothing prefers", []Candidate{fit("a"), light("b")}, "b", LessPreferred},
		{"before one of less weight", []Candidate{light("a"), heavy("b")}, "b", LessPreferred},
		{"not when it may not own the address", []Candidate{fit("a"), {Node: "b", Weight: 100}}, "a", Fit},
		{"not when it is draining", []Candidate{fit("a"), with("b", func(c *Candidate) { c.Weight, c.Draining = 100, true })}, "a", Fit},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := netip.MustParseAddr("192.0.2.1")
			for range 20 { // whatever the ranks are
				owner, _ := Owner(addr, tc.candidates)
				if got := Explain(addr, tc.candidates)[0].Reason; owner != tc.owner || got != tc.a {
					t.Fatalf("%s: owner is %q and a %q, want %q and %q", addr, owner, got, tc.owner, tc.a)
				}
				addr = addr.Next()
			}
		})
	}
}

func TestWhoStandsIn(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.7")
	away := func(c *Candidate) { c.Away = true }
	// b is draining, so that it owns nothing while another is there, whatever the ranks are.
	draining := with("b", func(c *Candidate) { c.Draining = true })
	for _, tc := range []struct {
		name           string
		candidates     []Candidate
		owner, standIn string
	}{
		{"nobody, without an owner", nil, "", ""},
		{"nobody, for one that is there", []Candidate{fit("a"), draining}, "a", ""},
		{"nobody, when none is left", []Candidate{with("a", away)}, "a", ""},
		{"nobody, when the others are away too", []Candidate{with("a", away), with("b", func(c *Candidate) { c.Away, c.Draining = true, true })}, "a", ""},
		{"one that is there", []Candidate{with("a", away), draining}, "a", "b"},
		{"one without an endpoint", []Candidate{with("a", away), with("b", func(c *Candidate) { c.Endpoint = false })}, "a", "b"},
		{"none that has no interface there", []Candidate{with("a", away), with("b", func(c *Candidate) { c.Reachable = false })}, "a", ""},
		{"none that is dead", []Candidate{with("a", away), with("b", func(c *Candidate) { c.Alive = false })}, "a", ""},
		{"the best of them", []Candidate{draining, with("a", away), with("c", func(c *Candidate) { c.NotReady = true })}, "a", "c"},
		{"nobody, for one that is away and does not own the address", []Candidate{fit("a"), with("b", func(c *Candidate) { c.Away, c.Draining = true, true })}, "a", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			owner, _ := Owner(addr, tc.candidates)
			standIn, ok := StandIn(addr, tc.candidates)
			if owner != tc.owner || standIn != tc.standIn || ok != (tc.standIn != "") {
				t.Errorf("%q stands in for %q, want %q for %q", standIn, owner, tc.standIn, tc.owner)
			}
		})
	}
}

// Going away and coming back moves nothing.
func TestAnAbsenceMovesNoAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := genAddr().Draw(t, "addr")
		cs := rapid.SliceOfNDistinct(genCandidate(), 1, 12, func(c Candidate) string { return c.Node }).Draw(t, "candidates")
		before, _ := Owner(addr, cs)
		i := rapid.IntRange(0, len(cs)-1).Draw(t, "away")
		cs[i].Away = true
		after, _ := Owner(addr, cs)
		standIn, ok := StandIn(addr, cs)
		if before != after {
			t.Fatalf("the address moved from %q to %q", before, after)
		}
		if ok && (cs[i].Node != after || standIn == after) {
			t.Fatalf("%q is away, %q owns the address and %q stands in", cs[i].Node, after, standIn)
		}
	})
}

func TestTheOrderOfCandidatesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := genAddr().Draw(t, "addr")
		cs := rapid.SliceOfNDistinct(genCandidate(), 0, 12, func(c Candidate) string { return c.Node }).Draw(t, "candidates")
		owner, ok := Owner(addr, cs)
		shuffled := rapid.Permutation(cs).Draw(t, "shuffled")
		if o, k := Owner(addr, shuffled); o != owner || k != ok {
			t.Fatalf("owner is %q of %v and %q of %v", owner, cs, o, shuffled)
		}
	})
}

// When a candidate goes, only what it owned moves; when it comes, only what it gains.
func TestOnlyWhatMustMoveMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := genAddr().Draw(t, "addr")
		cs := rapid.SliceOfNDistinct(genCandidate(), 1, 12, func(c Candidate) string { return c.Node }).Draw(t, "candidates")
		gone := rapid.IntRange(0, len(cs)-1).Draw(t, "gone")
		before, _ := Owner(addr, cs)
		rest := append(append([]Candidate{}, cs[:gone]...), cs[gone+1:]...)
		after, _ := Owner(addr, rest)
		if before != cs[gone].Node && before != after {
			t.Fatalf("%s went and the address moved from %q to %q", cs[gone].Node, before, after)
		}
	})
}

func TestAddressesAreSpreadEvenly(t *testing.T) {
	for _, tc := range []struct {
		nodes, addresses int
		bar              float64 // most that one node has, over the mean
	}{
		{3, 256, 1.25},
		{3, 4096, 1.05},
		{10, 4096, 1.15},
		{50, 16384, 1.25},
	} {
		for _, first := range []string{"192.0.2.0", "203.0.113.128", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ff00:0"} {
			counts := map[string]int{}
			a := netip.MustParseAddr(first)
			for range tc.addresses {
				owner, _ := Owner(a, fits(tc.nodes))
				counts[owner]++
				a = a.Next()
			}
			most := 0
			for _, n := range counts {
				most = max(most, n)
			}
			if got := float64(most) * float64(tc.nodes) / float64(tc.addresses); got > tc.bar {
				t.Errorf("%d addresses from %s on %d nodes: most over mean is %.2f, want at most %.2f", tc.addresses, first, tc.nodes, got, tc.bar)
			}
		}
	}
}

func genAddr() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var b [16]byte
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if rapid.Bool().Draw(t, "v4") {
			return netip.AddrFrom4([4]byte(b[:4]))
		}
		return netip.AddrFrom16(b)
	})
}

func genCandidate() *rapid.Generator[Candidate] {
	return rapid.Custom(func(t *rapid.T) Candidate {
		often := func(name string) bool { return rapid.IntRange(0, 9).Draw(t, name) > 0 }
		return Candidate{
			Node:               rapid.StringMatching(`[a-z][a-z0-9-]{0,8}`).Draw(t, "node"),
			Alive:              often("alive"),
			Selected:           often("selected"),
			Reachable:          often("reachable"),
			Endpoint:           often("endpoint"),
			Excluded:           !often("excluded"),
			NetworkUnavailable: !often("networkUnavailable"),
			NotReady:           !often("notReady"),
			Draining:           !often("draining"),
			Weight:             rapid.IntRange(0, 2).Draw(t, "weight"),
		}
	})
}

func BenchmarkOwner(b *testing.B) {
	cs := fits(50)
	addr := netip.MustParseAddr("192.0.2.7")
	for b.Loop() {
		Owner(addr, cs)
	}
}
