package bgp

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
)

// watch looks at a prefix all the time until stop, which tells how often it was looked at and how often it was missing.
func watch(route func(string) string, prefix string) (stop func() (looks, missing int)) {
	var wg sync.WaitGroup
	done := make(chan struct{})
	looks, missing := 0, 0
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
			looks++
			if route(prefix) == "" {
				missing++
			}
		}
	})
	return func() (int, int) {
		close(done)
		wg.Wait()
		return looks, missing
	}
}

func another() *Speaker {
	return New(netip.MustParseAddr("192.0.2.11"), log.NewNopLogger(), prometheus.NewRegistry())
}

func TestRestartAndDrain(t *testing.T) {
	h := newHost(t, "up0", nodeAddresses, append(routerAddresses, "192.0.2.2/24"))
	b := newBIRD(h, `
protocol bgp keeps { local 192.0.2.1 as 64513; neighbor 192.0.2.11 as 64512; passive; graceful restart on; ipv4 { import all; export none; }; }
`)
	f := newFRR(newHost(t, "up1", []string{"198.51.100.11/24"}, []string{"198.51.100.1/24"}), `
router bgp 64513
 bgp router-id 198.51.100.1
 no bgp ebgp-requires-policy
 bgp graceful-restart
 neighbor 198.51.100.11 remote-as 64512
`)
	forgets := newFRR(newHost(t, "up2", []string{"198.18.0.11/24"}, []string{"198.18.0.1/24"}), `
router bgp 64513
 bgp router-id 198.18.0.1
 no bgp ebgp-requires-policy
 neighbor 198.18.0.11 remote-as 64512
`)
	peers := peersOf(t,
		"bird {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64513, gracefulRestart: {}}",
		"forgets {peerAddress: 198.18.0.1, myASN: 64512, peerASN: 64513}",
		"frr {peerAddress: 198.51.100.1, myASN: 64512, peerASN: 64513, gracefulRestart: {restartTime: 30s}}",
	)
	routes := toAll("203.0.113.1/32", "203.0.113.2/32")
	s := another()
	s.Apply(peers, routes)
	for _, r := range []func(string) string{b.route, f.route, forgets.route} {
		has(t, r, "203.0.113.1/32")
	}
	for _, one := range s.Sessions() {
		if one.GracefulRestart != (one.Peer != "forgets") {
			t.Errorf("graceful restart is not what was agreed on: %+v", one)
		}
	}

	inBIRD, inFRR := watch(b.route, "203.0.113.1/32"), watch(f.route, "203.0.113.1/32")
	s.Leave(t.Context(), Restart, 0)
	hasNot(t, forgets.route, "203.0.113.1/32")
	if said := forgets.ask("show bgp neighbors 198.18.0.11"); !strings.Contains(said, "Administrative Shutdown") {
		t.Errorf("the router was not told why: %s", said)
	}
	s = another()
	delete(routes, netip.MustParsePrefix("203.0.113.2/32"))
	s.Apply(peers, routes)
	has(t, forgets.route, "203.0.113.1/32")
	hasNot(t, b.route, "203.0.113.2/32") // went away meanwhile: the End-of-RIB says so
	hasNot(t, f.route, "203.0.113.2/32")
	for router, stop := range map[string]func() (int, int){"BIRD": inBIRD, "FRR": inFRR} {
		if looks, missing := stop(); missing > 0 || looks < 20 {
			t.Errorf("%s: the route was missing %d of %d times over the restart", router, missing, looks)
		}
	}

	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Leave(t.Context(), Drain, 500*time.Millisecond)
	}()
	has(t, b.route, "203.0.113.1/32", "(65535,0)")
	has(t, f.route, "203.0.113.1/32", "graceful-shutdown")
	<-done
	if said := b.ask("show protocols all keeps"); !strings.Contains(said, "Administrative shutdown") {
		t.Errorf("the router was not told why: %s", said)
	}
	for _, r := range []func(string) string{b.route, f.route, forgets.route} {
		if r("203.0.113.1/32") != "" {
			t.Error("a route is left after the drain")
		}
	}
}
