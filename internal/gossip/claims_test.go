package gossip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var vip = netip.MustParseAddr("192.0.2.80")

func held(t *registers) string {
	var out []byte
	for _, c := range t.all() {
		out = fmt.Appendf(out, "%s:%s@%d ", c.Addr, c.Node, c.Epoch)
	}
	return string(out)
}

// The steps of a story happen in order to one table.
func TestWhichClaimCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newRegisters(nil)
		mine := func(node string, epoch uint64) func() { return func() { table.claim(Claim{vip, node, epoch}, 1) } }
		theirs := func(node string, epoch uint64) func() { return func() { table.merge(Claim{vip, node, epoch}, 1) } }
		for _, step := range []struct {
			name        string
			do          func()
			held, taken string
		}{
			{"the first counts", theirs("n2", 3), "n2@3", "n2@3"},
			{"the same again is no news", theirs("n2", 3), "n2@3", ""},
			{"an older one does not count", theirs("n1", 2), "n2@3", ""},
			{"of two alike the preferred counts", theirs("n1", 3), "n1@3", "n1@3"},
			{"and the other does not come back", theirs("n2", 3), "n1@3", ""},
			{"an own one is not told", mine("n9", 4), "n9@4", ""},
			{"an own one that loses is told of the winner", mine("n9", 3), "n9@4", "n9@4"},
			{"a newer one", theirs("n3", 5), "n3@5", "n3@5"},
			{"forgotten", func() { table.forget([]netip.Addr{vip}) }, "", ""},
			{"what was forgotten does not come back", theirs("n3", 5), "", ""},
			{"what is newer does", theirs("n2", 6), "n2@6", "n2@6"},
			{"forgotten again", func() { table.forget([]netip.Addr{vip}) }, "", ""},
			{"an own one is raised above what others may have forgotten", mine("n1", 1), "n1@7", "n1@7"},
			{"forgotten before it was told", func() { theirs("n2", 8)(); table.forget([]netip.Addr{vip}) }, "", ""},
			{"long ago", func() { time.Sleep(forgetTime + time.Second); table.next(1000) }, "", ""},
			{"then it is as if it had never been", theirs("n2", 1), "n2@1", "n2@1"},
		} {
			step.do()
			var taken string
			for _, c := range table.take() {
				taken += fmt.Sprintf("%s@%d", c.Node, c.Epoch)
			}
			want := ""
			if step.held != "" {
				want = vip.String() + ":" + step.held + " "
			}
			if got := held(table); got != want || taken != step.taken {
				t.Fatalf("%s: held %q and taken %q, want %q and %q", step.name, got, taken, want, step.taken)
			}
		}
	})
}

func TestTablesThatHeardTheSameAreTheSame(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var claims []Claim
		for range 60 {
			claims = append(claims, Claim{
				Addr:  netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(5))}),
				Node:  fmt.Sprintf("n%d", rng.IntN(4)),
				Epoch: 1 + rng.Uint64N(4),
			})
		}
		var first string
		for range 3 {
			rng.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
			table := newRegisters(func(a netip.Addr, x, y string) bool { return (x < y) != (a.As4()[3]%2 == 0) })
			for _, c := range slices.Concat(claims, claims[:10]) {
				table.merge(c, 1)
			}
			if got := held(table); first == "" {
				first = got
			} else if got != first {
				t.Fatalf("seed %d: %q and %q", seed, first, got)
			}
		}
	}
}

func TestClaimsThatAreRefused(t *testing.T) {
	for name, c := range map[string]Claim{
		"no address":              {Node: "n1", Epoch: 1},
		"an address with a zone":  {netip.MustParseAddr("fe80::1%eth0"), "n1", 1},
		"IPv4 written as IPv6":    {netip.MustParseAddr("::ffff:192.0.2.1"), "n1", 1},
		"the unspecified address": {netip.IPv6Unspecified(), "n1", 1},
		"a multicast address":     {netip.MustParseAddr("224.0.0.1"), "n1", 1},
		"no node":                 {vip, "", 1},
		"a name too long":         {vip, string(make([]byte, maxName+1)), 1},
		"no epoch":                {vip, "n1", 0},
		"an absurd epoch":         {vip, "n1", MaxEpoch + 1},
	} {
		table := newRegisters(nil)
		if table.merge(c, 1) != claimInvalid || table.claim(c, 1) != claimInvalid || table.len() != 0 {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTheTableIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newRegisters(nil)
		addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
		for i := range MaxClaims {
			if v := table.merge(Claim{addr(i), "n1", 1}, 1); v != claimTaken {
				t.Fatalf("claim %d: %v", i, v)
			}
		}
		if v := table.merge(Claim{addr(MaxClaims), "n1", 1}, 1); v != claimExcess {
			t.Errorf("one more: %v", v)
		}
		if v := table.merge(Claim{addr(0), "n2", 2}, 1); v != claimTaken {
			t.Errorf("a newer one for an address that is in it: %v", v)
		}
		table.forget([]netip.Addr{addr(1)})
		for table.next(1000) != nil {
		}
		time.Sleep(forgetTime + time.Second)
		if v := table.merge(Claim{addr(MaxClaims), "n1", 1}, 1); v != claimTaken {
			t.Errorf("one more, after another was forgotten: %v", v)
		}
	})
}

func TestClaimsAreSentInMessagesThatFit(t *testing.T) {
	long := string(slices.Repeat([]byte{'n'}, maxName))
	table := newRegisters(nil)
	for i := range 500 {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		if i%2 == 0 {
			addr = netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)})
		}
		table.claim(Claim{addr, []string{"n1", long}[i/3%2], uint64(1 + i)}, 2)
	}
	want := held(table)
	if b := table.next(40); len(b) > 40 {
		t.Errorf("asked for at most 40 bytes, got %d", len(b))
	}
	sent := 0
	other := newRegisters(nil)
	for b := table.next(1100); b != nil; b = table.next(1100) {
		if len(b) > 1100 {
			t.Fatalf("a message of %d bytes", len(b))
		}
		all, err := sections(b)
		if err != nil || len(all) != 1 {
			t.Fatalf("%d sections, %v", len(all), err)
		}
		if err := readClaims(all[0].b, func(c Claim) { sent++; other.merge(c, 1) }); err != nil {
			t.Fatal(err)
		}
	}
	if got := held(other); got != want {
		t.Errorf("received %q, want %q", got, want)
	}
	if n := table.len(); sent < 2*n-5 || sent > 2*n {
		t.Errorf("%d claims were sent %d times; each should be twice", n, sent)
	}
}

// heard makes a ring that has heard a message while it joins.
func heard(b []byte) *Ring {
	silent := func(netip.AddrPort, time.Duration) bool { return false }
	r := New(Config{Node: "n1", present: silent}, log.NewNopLogger(), prometheus.NewRegistry())
	r.Want([]Peer{{Node: "n2"}})
	r.hear(b)
	return r
}

func TestWhatIsRejectedIsCounted(t *testing.T) {
	one := claims(Claim{vip, "n2", 1})
	away := section{sectionAbsence, writeAbsence(Member{Node: "n2", Addr: netip.MustParseAddrPort("192.0.2.12:7947"), Health: Health{Interfaces: eth0}}, time.Minute)}
	for _, tc := range []struct {
		name    string
		b       []byte
		reason  string // of one rejection, empty when there is none
		claims  int
		members int
	}{
		{"a claim", message(one), "", 1, 0},
		{"an absence", message(away), "", 0, 1},
		{"with a section of a later version", message(section{99, []byte("news")}, one, away), "", 1, 1},
		{"of a later version that is not understood", append([]byte{messageVersion + 1}, message(one)[1:]...), "version", 0, 0},
		{"nothing", nil, "malformed", 0, 0},
		{"cut off in a header", message(one)[:4], "malformed", 0, 0},
		{"cut off in a section", message(one, away)[:40], "malformed", 0, 0},
		{"a claim cut off behind another", message(section{sectionClaims, append(one.b, one.b[:4]...)}), "malformed", 1, 0},
		{"an epoch that takes too many bytes", message(section{sectionClaims, append(one.b[:len(one.b)-1], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)}), "malformed", 0, 0},
		{"an absurd epoch beside a good one", message(claims(Claim{vip, "n2", MaxEpoch + 1}, Claim{vip, "n2", 2})), "claim_invalid", 1, 0},
		{"an absence of nobody", message(section{sectionAbsence, make([]byte, 30)}), "malformed", 0, 0},
		{"an absence of who should not be there", message(section{sectionAbsence, writeAbsence(Member{Node: "n3", Addr: netip.MustParseAddrPort("192.0.2.13:7947"), Health: Health{Interfaces: eth0}}, time.Minute)}), "", 0, 0},
		{"an absence that is over", message(section{sectionAbsence, writeAbsence(Member{Node: "n2", Addr: netip.MustParseAddrPort("192.0.2.12:7947"), Health: Health{Interfaces: eth0}}, 0)}), "", 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := heard(tc.b)
			defer r.endAbsences()
			for _, reason := range []string{"version", "malformed", "claim_invalid", "claims_full"} {
				want := map[bool]float64{true: 1}[reason == tc.reason]
				if got := testutil.ToFloat64(r.metrics.rejected.WithLabelValues(reason)); got != want {
					t.Errorf("%s: %v rejected as %s, want %v", tc.name, got, reason, want)
				}
			}
			if got := r.claims.len(); got != tc.claims {
				t.Errorf("%s: %d claims, want %d", tc.name, got, tc.claims)
			}
			if got := r.Members(); len(got) != tc.members {
				t.Errorf("%s: members %+v, want %d", tc.name, got, tc.members)
			}
		})
	}
}

// claims makes a section.
func claims(all ...Claim) section {
	var w claimWriter
	for _, c := range all {
		w.append(c, 1<<20)
	}
	return section{sectionClaims, w.b}
}

func FuzzMessage(f *testing.F) {
	away := section{sectionAbsence, writeAbsence(Member{Node: "n2", Addr: netip.MustParseAddrPort("[2001:db8::12]:7947"), Health: Health{Interfaces: eth0}}, time.Minute)}
	f.Add(message(away, claims(Claim{vip, "n1", 1}, Claim{netip.MustParseAddr("2001:db8::1"), "n2", 300})))
	f.Add(message(section{99, []byte("of a later version")}, section{sectionSuspect, []byte("n2")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := heard(b)
		defer r.endAbsences()
		other := heard(r.state())
		defer other.endAbsences()
		if got, want := held(other.claims), held(r.claims); got != want {
			t.Errorf("%q became %q", want, got)
		}
		if got, want := other.claims.digest.Load(), r.claims.digest.Load(); got != want {
			t.Errorf("the same claims have digests %x and %x", want, got)
		}
		if got, want := len(other.Members()), len(r.Members()); got != want {
			t.Errorf("of %d absences %d were understood", want, got)
		}
	})
}
