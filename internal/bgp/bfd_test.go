package bgp

import (
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"heraldlb.io/herald/internal/bfd"
)

// monitor gives a Speaker BFD as the speaker's process has it, until Close.
func monitor(t *testing.T, s *Speaker) *bfd.Monitor {
	t.Helper()
	m, err := bfd.New(log.NewNopLogger(), prometheus.NewRegistry(), s.PathChanged)
	check(t, err)
	s.Watch(m)
	return m
}

// watchPaths does so until the test ends.
func watchPaths(t *testing.T, s *Speaker) {
	t.Helper()
	m := monitor(t, s)
	t.Cleanup(func() { check(t, m.Close()) })
}

func TestStrictModeWaitsForBFD(t *testing.T) {
	b := newBIRD(newHost(t, "up0", nodeAddresses, routerAddresses), `
protocol bfd bfd1 { disabled; interface "up0" { interval 300 ms; multiplier 3; }; }
protocol bgp tor { local 192.0.2.1 as 64513; neighbor 192.0.2.11 as 64512; bfd on; connect retry time 1; connect delay time 1; error wait time 1, 2; ipv4 { import all; export none; }; }
`)
	f := newFRR(newHost(t, "up1", []string{"198.51.100.11/24"}, []string{"198.51.100.1/24"}), `
router bgp 64513
 bgp router-id 198.51.100.1
 no bgp ebgp-requires-policy
 neighbor 198.51.100.11 remote-as 64512
 neighbor 198.51.100.11 bfd
 neighbor 198.51.100.11 timers connect 1

bfd
 peer 198.51.100.11 local-address 198.51.100.1 interface up1
  transmit-interval 300
  receive-interval 300
  shutdown
`)
	peers := peersOf(t,
		"bird {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64513, passive: true, bfdStrictMode: true, bfdProfile: steady}",
		"frr {peerAddress: 198.51.100.1, myASN: 64512, peerASN: 64513, connectTime: 2s, bfdStrictMode: true, bfdProfile: steady}",
	)
	s := newSpeaker(t)
	watchPaths(t, s)
	s.Apply(peers, toAll("203.0.113.1/32"))

	bfdOf := map[string]struct{ on, off func() }{
		"bird": {func() { b.ask("enable bfd1") }, func() { b.ask("disable bfd1") }},
		"frr": {
			func() {
				f.askOf("bfdd", "configure terminal", "bfd", "peer 198.51.100.11 local-address 198.51.100.1 interface up1", "no shutdown")
			},
			func() { f.stop() },
		},
	}
	held := func(peer string) bool {
		got := sessionOf(s, peer)
		return got.State == Waiting && strings.Contains(got.LastError, "bfdStrictMode waits for BFD")
	}
	eventually(t, "BIRD is turned away", func() bool {
		return strings.Contains(b.ask("show protocols all tor"), "Connection refused") || strings.Contains(b.ask("show protocols all tor"), "Connection closed")
	})
	for peer, router := range bfdOf {
		if !held(peer) {
			t.Errorf("%s without BFD: %+v", peer, sessionOf(s, peer))
		}
		router.on()
		eventually(t, peer+" is established, with BFD", func() bool {
			got := sessionOf(s, peer)
			return got.State == Established && got.BFD != nil && got.BFD.State == bfd.Up
		})
		router.off()
		eventually(t, peer+" is held back again", func() bool { return held(peer) })
	}
	b.ask("enable bfd1")
	eventually(t, "BIRD is back", func() bool { return sessionOf(s, "bird").State == Established })
	has(t, b.route, "203.0.113.1/32")
	if got := sessionOf(s, "bird").LastError; !strings.Contains(got, "BFD") {
		t.Errorf("why the session ended: %q", got)
	}
}
