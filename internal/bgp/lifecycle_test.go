package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/bfd"
	"heraldlb.io/herald/internal/config"
)

// pair is a BIRD and an FRR on links of their own: the node is .11 on both, the routers .1.
type pair struct {
	bird *bird
	frr  *frr
	hb   *host
}

// newPair starts both. The links are <name>b and <name>f, of the subnets 198.18.<n>.0/24 and 198.18.<n+1>.0/24.
func newPair(t *testing.T, name string, n int, inBIRD, inFRR, neighborOfFRR string) pair {
	t.Helper()
	link := func(suffix string, n int) *host {
		return newHost(t, name+suffix, []string{fmt.Sprintf("198.18.%d.11/24", n)}, []string{fmt.Sprintf("198.18.%d.1/24", n)})
	}
	p := pair{hb: link("b", n)}
	p.bird = newBIRD(p.hb, birdOf(n, inBIRD))
	var settings strings.Builder
	for s := range strings.SplitSeq(neighborOfFRR, "; ") {
		fmt.Fprintf(&settings, " neighbor 198.18.%d.11 %s\n", n+1, s)
	}
	p.frr = newFRR(link("f", n+1), fmt.Sprintf("router bgp 64513\n bgp router-id 198.18.%d.1\n no bgp ebgp-requires-policy\n%s%s", n+1, inFRR, settings.String()))
	return p
}

// birdOf is such a BIRD. It listens again a second after BFD has ended a session, and not a minute.
func birdOf(n int, more string) string {
	return fmt.Sprintf("protocol bfd { interface \"*\" { interval 300 ms; multiplier 3; }; }\n"+
		"protocol bgp tor { local 198.18.%[1]d.1 as 64513; neighbor 198.18.%[1]d.11 as 64512; passive; error wait time 1, 1; %[2]s }\n", n, more)
}

// updates are how many of them each router has received since its session began.
func (p pair) updates(t *testing.T) (bird, frr int) {
	t.Helper()
	for line := range strings.SplitSeq(p.bird.ask("show protocols all tor"), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "Import" && strings.HasSuffix(f[1], "s:") {
			var n int
			_, err := fmt.Sscan(f[2], &n)
			check(t, err)
			bird += n // announced and withdrawn
		}
	}
	for line := range strings.SplitSeq(p.frr.ask("show bgp neighbors"), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Updates:" {
			_, err := fmt.Sscan(f[2], &frr)
			check(t, err)
		}
	}
	return bird, frr
}

func TestOnlyWhatChangesIsTold(t *testing.T) {
	parallel(t)
	p := newPair(t, "only", 10, "ipv4 { import all; export none; }; ipv6 { import all; export none; };", "", "remote-as 64513")
	peers := peersOf(t,
		"bird {peerAddress: 198.18.10.1, myASN: 64512, peerASN: 64513, connectTime: 2s}",
		"frr {peerAddress: 198.18.11.1, myASN: 64513, dynamicASN: internal, connectTime: 2s}",
	)
	s := newSpeaker(t)
	route := func(med uint32) []Route {
		return []Route{{Attributes: config.Attributes{LocalPref: number(200), MED: number(med), Prepend: 2}, Communities: config.Communities{Standard: []uint32{1}}}}
	}
	s.Apply(peers, prefixes(map[string][]Route{"203.0.113.1/32": route(5), "203.0.113.64/26": {{}}}))
	has(t, p.bird.route, "203.0.113.1/32", "BGP.as_path: 64512 64512 64512", "BGP.med: 5")
	has(t, p.frr.route, "203.0.113.1/32", "localpref 200", "metric 5", "Local")
	has(t, p.frr.route, "203.0.113.64/26")

	// What follows is told after what came before: a router that has the sentinel has all that there was to tell.
	sentinels := 0
	told := func(what string, change func(), wanted int) {
		t.Helper()
		has(t, p.bird.route, "203.0.113.64/26")
		birdBefore, frrBefore := p.updates(t)
		change()
		sentinels++
		sentinel := fmt.Sprintf("203.0.114.%d/32", sentinels)
		s.Apply(s.peers, toAll(sentinel))
		has(t, p.bird.route, sentinel)
		has(t, p.frr.route, sentinel)
		birdNow, frrNow := p.updates(t)
		if got := [2]int{birdNow - birdBefore - 1, frrNow - frrBefore - 1}; got != [2]int{wanted, wanted} {
			t.Errorf("%s: BIRD and FRR have heard %v, want %d each", what, got, wanted)
		}
	}
	inBIRD, inFRR := watch(p.bird.route, "203.0.113.1/32"), watch(p.frr.route, "203.0.113.1/32")
	told("the same again, a hundred times", func() {
		for range 100 {
			s.Apply(peers, prefixes(map[string][]Route{"203.0.113.1/32": route(5), "203.0.113.64/26": {{}}}))
		}
	}, 0)
	told("edits that do not matter", func() {
		edited := slices.Clone(peers)
		slices.Reverse(edited)
		edited[0].Rank, edited[1].Rank = 7, 3
		s.Apply(append(edited, peersOf(t, "another {peerAddress: 198.18.99.1, myASN: 64512, peerASN: 64513}")...),
			prefixes(map[string][]Route{"203.0.115.1/32": {{Peers: []string{"another"}}}}))
		s.Apply(peers, nil)
	}, 0)
	told("the end of a prefix that is another's, which GoBGP tells all", func() {
		s.Apply(peers, prefixes(map[string][]Route{"203.0.115.1/32": nil}))
	}, 1)
	told("another MED", func() { s.Apply(peers, prefixes(map[string][]Route{"203.0.113.1/32": route(6)})) }, 1)
	has(t, p.bird.route, "203.0.113.1/32", "BGP.med: 6")
	has(t, p.frr.route, "203.0.113.1/32", "metric 6")
	for router, stop := range map[string]func() (int, int){"BIRD": inBIRD, "FRR": inFRR} {
		if looks, missing := stop(); missing > 0 || looks == 0 {
			t.Errorf("%s: a route whose attribute changed was missing %d of %d times", router, missing, looks)
		}
	}

	since := sessionOf(s, "frr").Since
	peers[0].Families = []v1beta1.IPFamily{v1beta1.IPv4, v1beta1.IPv6}
	s.Apply(peers, toAll("2001:db8:2::1/128"))
	has(t, p.bird.route, "2001:db8:2::1/128")
	if got := sessionOf(s, "frr"); got.State != Established || got.Since != since {
		t.Errorf("one peer's second family touched the other's session: %+v", got)
	}
}

func TestAPeerThatWasRestartedIsToldAll(t *testing.T) {
	parallel(t)
	const plain = "ipv4 { import all; export none; };"
	p := newPair(t, "back", 20, plain, "", "remote-as 64512")
	s := newSpeaker(t)
	s.Apply(peersOf(t,
		"bird {peerAddress: 198.18.20.1, myASN: 64512, peerASN: 64513, connectTime: 2s}",
		"frr {peerAddress: 198.18.21.1, myASN: 64512, peerASN: 64513, connectTime: 2s}",
	), toAll("203.0.113.1/32"))
	has(t, p.bird.route, "203.0.113.1/32")
	has(t, p.frr.route, "203.0.113.1/32")
	since := sessionOf(s, "frr").Since
	p.bird.stop()
	eventually(t, "the session ends", func() bool { return sessionOf(s, "bird").State != Established })
	s.Apply(s.peers, toAll("203.0.113.2/32"))
	again := newBIRD(p.hb, birdOf(20, plain))
	has(t, again.route, "203.0.113.1/32")
	has(t, again.route, "203.0.113.2/32")
	if got := sessionOf(s, "frr"); got.State != Established || got.Since != since {
		t.Errorf("the other session suffered: %+v", got)
	}
	p.frr.ask("clear bgp *")
	eventually(t, "FRR is back", func() bool { got := sessionOf(s, "frr"); return got.State == Established && got.Since.After(since) })
	has(t, p.frr.route, "203.0.113.1/32")
}

func TestARouterIDThatChangesTakesNoRouteAway(t *testing.T) {
	noRace(t)
	parallel(t)
	p := newPair(t, "id", 30, "graceful restart on; ipv4 { import all; export none; };", " bgp graceful-restart\n", "remote-as 64512")
	peers := peersOf(t,
		"bird {peerAddress: 198.18.30.1, myASN: 64512, peerASN: 64513, gracefulRestart: {}}",
		"frr {peerAddress: 198.18.31.1, myASN: 64512, peerASN: 64513, gracefulRestart: {}}",
	)
	s := newSpeaker(t)
	s.Apply(peers, toAll("203.0.113.1/32"))
	has(t, p.bird.route, "203.0.113.1/32")
	has(t, p.frr.route, "203.0.113.1/32")
	inBIRD, inFRR := watch(p.bird.route, "203.0.113.1/32"), watch(p.frr.route, "203.0.113.1/32")
	peers[1].RouterID = netip.MustParseAddr("192.0.2.99")
	s.Apply(peers, toAll("203.0.113.2/32"))
	has(t, p.bird.route, "203.0.113.2/32")
	has(t, p.frr.route, "203.0.113.2/32", "(192.0.2.99)")
	if said := p.bird.ask("show protocols all tor"); !strings.Contains(said, "192.0.2.99") {
		t.Errorf("BIRD has another router ID: %s", said)
	}
	for router, stop := range map[string]func() (int, int){"BIRD": inBIRD, "FRR": inFRR} {
		if looks, missing := stop(); missing > 0 || looks < 20 {
			t.Errorf("%s: the route was missing %d of %d times over the change", router, missing, looks)
		}
	}
}

func TestRoutesMayOutliveTheRestartTime(t *testing.T) {
	parallel(t)
	p := newPair(t, "ll", 40, "graceful restart on; long lived graceful restart on; ipv4 { import all; export none; };", " bgp graceful-restart\n bgp long-lived-graceful-restart stale-time 7200\n", "remote-as 64512")
	peers := peersOf(t,
		"bird {peerAddress: 198.18.40.1, myASN: 64512, peerASN: 64513, gracefulRestart: {restartTime: 1s, longLivedStaleTime: 1h}}",
		"frr {peerAddress: 198.18.41.1, myASN: 64512, peerASN: 64513, gracefulRestart: {restartTime: 1s, longLivedStaleTime: 1h}}",
	)
	s := another()
	s.Apply(peers, toAll("203.0.113.1/32"))
	has(t, p.bird.route, "203.0.113.1/32")
	has(t, p.frr.route, "203.0.113.1/32")
	if said := p.bird.ask("show protocols all tor"); !strings.Contains(said, "LL stale time: 3600") {
		t.Errorf("BIRD has not heard of the hour: %s", said)
	}
	s.Leave(t.Context(), Restart, 0)
	has(t, p.bird.route, "203.0.113.1/32", "(65535,6)") // LLGR_STALE
	has(t, p.frr.route, "203.0.113.1/32", "llgr-stale")
	s = another()
	t.Cleanup(func() { s.Leave(t.Context(), Restart, 0) })
	s.Apply(peers, toAll("203.0.113.1/32"))
	for _, route := range []func(string) string{p.bird.route, p.frr.route} {
		eventually(t, "the route is fresh again", func() bool {
			r := route("203.0.113.1/32")
			return r != "" && !strings.Contains(r, "65535,6") && !strings.Contains(r, "llgr-stale")
		})
	}
}

func TestWhatBFDMakesOfARestart(t *testing.T) {
	parallel(t)
	const (
		birdBGP = "graceful restart on; ipv4 { import all; export none; };"
		frrBFD  = "\nbfd\n peer 198.18.51.11 local-address 198.18.51.1 interface keepf\n  transmit-interval 300\n  receive-interval 300\n"
	)
	kept := newPair(t, "keep", 50, "bfd graceful; "+birdBGP, " bgp graceful-restart\n",
		"remote-as 64512; bfd; bfd check-control-plane-failure"+frrBFD)
	lost := newBIRD(newHost(t, "loseb", []string{"198.18.60.11/24"}, []string{"198.18.60.1/24"}), birdOf(60, "bfd on; "+birdBGP))
	peers := peersOf(t,
		"bird {peerAddress: 198.18.50.1, myASN: 64512, peerASN: 64513, bfdProfile: steady, gracefulRestart: {}}",
		"frr {peerAddress: 198.18.51.1, myASN: 64512, peerASN: 64513, bfdProfile: steady, gracefulRestart: {}}",
		"lost {peerAddress: 198.18.60.1, myASN: 64512, peerASN: 64513, bfdProfile: steady, gracefulRestart: {}}",
	)
	begin := func() (*Speaker, *bfd.Monitor) {
		s := newSpeaker(t)
		m := monitor(t, s)
		t.Cleanup(func() { _ = m.Close() }) // unless the test came to its end
		s.Apply(peers, toAll("203.0.113.1/32"))
		for _, p := range peers {
			eventually(t, p.Name+" is established, and BFD up", func() bool {
				got := sessionOf(s, p.Name)
				return got.State == Established && got.GracefulRestart && got.BFD != nil && got.BFD.State == bfd.Up && time.Since(got.Since) > time.Second
			})
		}
		return s, m
	}
	s, m := begin()
	for _, r := range []func(string) string{kept.bird.route, kept.frr.route, lost.route} {
		has(t, r, "203.0.113.1/32")
	}
	inBIRD, inFRR := watch(kept.bird.route, "203.0.113.1/32"), watch(kept.frr.route, "203.0.113.1/32")
	s.Leave(t.Context(), Restart, 0)
	check(t, m.Close())
	hasNot(t, lost.route, "203.0.113.1/32")
	s, m = begin()
	for router, stop := range map[string]func() (int, int){"BIRD": inBIRD, "FRR": inFRR} {
		if looks, missing := stop(); missing > 0 || looks < 20 {
			t.Errorf("%s: the route was missing %d of %d times over the restart", router, missing, looks)
		}
	}
	s.Apply(peers[2:], nil) // who is removed is not restarted
	hasNot(t, kept.bird.route, "203.0.113.1/32")
	hasNot(t, kept.frr.route, "203.0.113.1/32")
	s.Leave(t.Context(), Restart, 0)
	check(t, m.Close())
}
