package election

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
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

func away(c *Candidate)     { c.Away = true }
func cordoned(c *Candidate) { c.Cordoned = true }
func notReady(c *Candidate) { c.NotReady = true }
func draining(c *Candidate) { c.Draining = true }
func pathDown(c *Candidate) { c.ServicePathDown = true }
func weight(w int) func(*Candidate) {
	return func(c *Candidate) { c.Weight = w }
}

var vip = netip.MustParseAddr("192.0.2.7")

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
	} {
		t.Run(tc.name, func(t *testing.T) {
			cs := []Candidate{tc.out, fit("b")}
			if r := Judge(cs, "a", false); r.Owner != "" || r.Why != tc.why || !slices.Equal(r.Heirs, []string{"b"}) {
				t.Errorf("a claims the address: %+v", r)
			}
			if r := Judge(cs, "", false); r.Owner != "" || r.Why != Unclaimed || !slices.Equal(r.Heirs, []string{"b"}) {
				t.Errorf("nobody does: %+v", r)
			}
			if got := Explain(cs, "b"); got[0] != (Verdict{"a", tc.why}) || got[1] != (Verdict{"b", Fit}) {
				t.Errorf("verdicts are %v", got)
			}
		})
	}
}

// a has the address. Who stays, and who is next.
func TestTheOwnerStaysUnlessAnotherServesBetter(t *testing.T) {
	for _, tc := range []struct {
		name      string
		a         Candidate
		others    []Candidate
		rebalance bool
		why       Reason
		heirs     string
	}{
		{"among equals", fit("a"), []Candidate{fit("b"), fit("c")}, false, Fit, "[a b c]"},
		{"with a preferred one", fit("a"), []Candidate{with("b", weight(10)), fit("c")}, false, Fit, "[b]"},
		{"but not when a rebalance is asked for", fit("a"), []Candidate{with("b", weight(10)), fit("c")}, true, LessPreferred, "[b]"},
		{"nor when another one is preferred more", with("a", weight(5)), []Candidate{with("b", weight(10)), with("c", weight(10))}, true, LessPreferred, "[b c]"},
		{"a preference does not make up for a fault", fit("a"), []Candidate{with("b", func(c *Candidate) { c.Weight, c.NotReady = 10, true })}, true, Fit, "[a]"},
		{"nor does it give to the cordoned", fit("a"), []Candidate{with("b", func(c *Candidate) { c.Weight, c.Cordoned = 10, true })}, true, Fit, "[a]"},
		{"a cordoned node keeps what it has", with("a", cordoned), []Candidate{fit("b")}, false, Fit, "[b]"},
		{"one that is not Ready does not", with("a", notReady), []Candidate{fit("b"), with("c", notReady)}, false, NotReady, "[b]"},
		{"unless nobody is", with("a", notReady), []Candidate{with("b", notReady)}, false, Fit, "[a b]"},
		{"a draining one does not", with("a", draining), []Candidate{fit("b")}, false, Draining, "[b]"},
		{"also when the other one is cordoned", with("a", draining), []Candidate{with("b", cordoned)}, false, Draining, "[b]"},
		{"or not Ready", with("a", draining), []Candidate{with("b", notReady)}, false, Draining, "[b]"},
		{"a fault of the service path moves the address", with("a", pathDown), []Candidate{with("b", draining)}, false, ServicePathDown, "[b]"},
		{"a fault of all service paths does not", with("a", pathDown), []Candidate{with("b", pathDown)}, false, Fit, "[a b]"},
		{"the last one keeps it with all faults", with("a", func(c *Candidate) { c.Draining, c.NotReady, c.ServicePathDown = true, true, true }), nil, false, Fit, "[a]"},
		{"who is away keeps it", with("a", away), []Candidate{fit("b")}, false, Fit, "[b]"},
		{"also from one that is preferred", with("a", away), []Candidate{with("b", weight(1))}, true, Fit, "[b]"},
		{"who is away is given nothing", with("a", draining), []Candidate{with("b", away)}, false, Fit, "[a]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cs := append([]Candidate{tc.a}, tc.others...)
			r := Judge(cs, "a", tc.rebalance)
			if r.Owner != "a" || r.Why != tc.why || fmt.Sprint(r.Heirs) != tc.heirs {
				t.Errorf("got %+v, want a to stay or to go for %q, and heirs %s", r, tc.why, tc.heirs)
			}
		})
	}
}

func TestWhoIsNext(t *testing.T) {
	cs := []Candidate{
		with("g", away), with("f", pathDown), with("e", draining), with("d", notReady), with("c", cordoned), fit("b"), with("a", weight(1)), {Node: "h", Weight: 9},
	}
	if got := fmt.Sprint(Order(vip, cs)); got != "[a b c d e f]" {
		t.Errorf("the order is %s", got)
	}
	equals := []Candidate{fit("a"), fit("b"), fit("c")}
	order := Order(vip, equals)
	if !slices.IsSortedFunc(order, func(x, y string) int { return map[bool]int{true: -1, false: 1}[Prefer(vip, x, y)] }) {
		t.Errorf("equals are ordered as %v, against their ranks", order)
	}
}

func TestWhyACandidateIsNotTheOwner(t *testing.T) {
	cs := []Candidate{with("a", weight(5)), fit("b"), with("c", weight(5)), with("d", draining), {Node: "e"}}
	want := []Verdict{{"a", Fit}, {"b", LessPreferred}, {"c", Claimed}, {"d", Draining}, {"e", NotAlive}}
	if got := Explain(cs, "a"); !slices.Equal(got, want) {
		t.Errorf("verdicts are %v, want %v", got, want)
	}
	if got := Explain(cs[:1], ""); got[0].Reason != Unclaimed {
		t.Errorf("without an owner the verdict is %v", got)
	}
}

func TestWhoStandsIn(t *testing.T) {
	for _, tc := range []struct {
		name       string
		candidates []Candidate
		standIn    string
	}{
		{"nobody, for one that is there", []Candidate{fit("a"), fit("b")}, ""},
		{"nobody, when none is left", []Candidate{with("a", away)}, ""},
		{"nobody, when the others are away too", []Candidate{with("a", away), with("b", away)}, ""},
		{"one that is there", []Candidate{with("a", away), with("b", draining)}, "b"},
		{"one without an endpoint", []Candidate{with("a", away), with("b", func(c *Candidate) { c.Endpoint = false })}, "b"},
		{"none that has no interface there", []Candidate{with("a", away), with("b", func(c *Candidate) { c.Reachable = false })}, ""},
		{"none that is dead", []Candidate{with("a", away), with("b", func(c *Candidate) { c.Alive = false })}, ""},
		{"the best of them", []Candidate{with("b", draining), with("a", away), with("c", notReady)}, "c"},
		{"nobody, for one that is away and does not own the address", []Candidate{fit("a"), with("b", away)}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, ok := StandIn(vip, tc.candidates, "a", ""); got != tc.standIn || ok != (tc.standIn != "") {
				t.Errorf("%q stands in for a, want %q", got, tc.standIn)
			}
		})
	}
}

func TestWhoStandsInGoesOn(t *testing.T) {
	owner := with("a", away)
	for _, current := range []string{"b", "c"} { // whatever the ranks are
		if got, _ := StandIn(vip, []Candidate{owner, fit("b"), fit("c")}, "a", current); got != current {
			t.Errorf("%s stood in, and now %s does", current, got)
		}
	}
	for name, b := range map[string]Candidate{"it drains": with("b", draining), "it is gone": {Node: "b"}, "it is away too": with("b", away)} {
		if got, _ := StandIn(vip, []Candidate{owner, b, fit("c")}, "a", "b"); got != "c" {
			t.Errorf("%s, and %s stands in", name, got)
		}
	}
	if got, ok := StandIn(vip, []Candidate{fit("a"), fit("b")}, "a", "b"); ok {
		t.Errorf("the owner is back, and %s stands in", got)
	}
}

// Whatever becomes of the others, an owner that is fit and without fault stays.
func TestNothingMovesAnAddressFromAGoodOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cs := rapid.SliceOfNDistinct(genCandidate(), 1, 12, func(c Candidate) string { return c.Node }).Draw(t, "candidates")
		owner := fit("0wner")
		owner.Away = rapid.Bool().Draw(t, "away")
		owner.Cordoned = rapid.Bool().Draw(t, "cordoned")
		if r := Judge(append(cs, owner), owner.Node, false); r.Owner != owner.Node || r.Why != Fit {
			t.Fatalf("%+v", r)
		}
	})
}

// An address is open exactly when somebody fit is there who serves better than its owner, and its heirs are the best.
func TestAnAddressIsNeverLeftToNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cs := rapid.SliceOfNDistinct(genCandidate(), 1, 12, func(c Candidate) string { return c.Node }).Draw(t, "candidates")
		claimant := rapid.SampledFrom(append([]Candidate{{}, {Node: "stranger"}}, cs...)).Draw(t, "claimant").Node
		r := Judge(cs, claimant, rapid.Bool().Draw(t, "rebalance"))
		order := Order(vip, cs)
		if r.Owner != "" && r.Owner != claimant {
			t.Fatalf("%q owns what %q claims", r.Owner, claimant)
		}
		if len(order) > 0 && r.Owner == "" && !r.Open() {
			t.Fatalf("nobody is to take it of %v: %+v", order, r)
		}
		if len(order) > 0 && !slices.Contains(r.Heirs, order[0]) || len(r.Heirs) > len(order) {
			t.Fatalf("heirs are %v, the order is %v", r.Heirs, order)
		}
		if r.Open() && slices.Contains(r.Heirs, r.Owner) {
			t.Fatalf("%q is to take it from itself", r.Owner)
		}
		shuffled := rapid.Permutation(cs).Draw(t, "shuffled")
		if !slices.Equal(Order(vip, shuffled), order) || !slices.Equal(Judge(shuffled, claimant, false).Heirs, Judge(cs, claimant, false).Heirs) {
			t.Fatalf("the order of the candidates matters")
		}
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
			ServicePathDown:    !often("servicePathDown"),
			Draining:           !often("draining"),
			NotReady:           !often("notReady"),
			Cordoned:           !often("cordoned"),
			Away:               !often("away"),
			Weight:             rapid.IntRange(0, 2).Draw(t, "weight"),
		}
	})
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

func BenchmarkJudge(b *testing.B) {
	var cs []Candidate
	for i := range 50 {
		cs = append(cs, fit(fmt.Sprintf("node-%d", i)))
	}
	for b.Loop() {
		Judge(cs, "node-7", false)
	}
}
