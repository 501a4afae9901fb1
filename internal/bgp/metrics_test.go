package bgp

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"heraldlb.io/herald/internal/config"
)

func TestAPeersSeriesGoWithIt(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := New(netip.MustParseAddr("198.18.0.11"), log.NewNopLogger(), reg)
	began := time.Unix(1_700_000_000, 0)
	s.sessions.now = func() time.Time { return began }
	names := []string{"herald_bgp_session_up", "herald_bgp_session_state", "herald_bgp_session_established_timestamp_seconds", "herald_bgp_sessions_established_total"}
	is := func(when, want string) {
		t.Helper()
		if err := testutil.GatherAndCompare(reg, strings.NewReader(strings.ReplaceAll(want, "\t", "")), names...); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	router := Peer{BGPPeer: config.BGPPeer{Name: "router"}}
	s.sessions.mu.Lock()
	one := s.sessions.get(router)
	s.sessions.enter(one, Established, "")
	s.sessions.mu.Unlock()
	is("established", `
		# HELP herald_bgp_session_established_timestamp_seconds Unix time at which the BGP session with a peer was established; no series while it is not.
		# TYPE herald_bgp_session_established_timestamp_seconds gauge
		herald_bgp_session_established_timestamp_seconds{peer="router"} 1.7e+09
		# HELP herald_bgp_session_state 1 for the state that the BGP session with a peer is in.
		# TYPE herald_bgp_session_state gauge
		herald_bgp_session_state{peer="router",state="Established"} 1
		# HELP herald_bgp_session_up 1 when the BGP session with a peer is established, else 0.
		# TYPE herald_bgp_session_up gauge
		herald_bgp_session_up{peer="router"} 1
		# HELP herald_bgp_sessions_established_total Times that the BGP session with a peer was established.
		# TYPE herald_bgp_sessions_established_total counter
		herald_bgp_sessions_established_total{peer="router"} 1
	`)
	s.sessions.mu.Lock()
	s.sessions.enter(one, Idle, "the hold timer expired")
	s.sessions.mu.Unlock()
	is("down", `
		# HELP herald_bgp_session_state 1 for the state that the BGP session with a peer is in.
		# TYPE herald_bgp_session_state gauge
		herald_bgp_session_state{peer="router",state="Idle"} 1
		# HELP herald_bgp_session_up 1 when the BGP session with a peer is established, else 0.
		# TYPE herald_bgp_session_up gauge
		herald_bgp_session_up{peer="router"} 0
		# HELP herald_bgp_sessions_established_total Times that the BGP session with a peer was established.
		# TYPE herald_bgp_sessions_established_total counter
		herald_bgp_sessions_established_total{peer="router"} 1
	`)
	s.sessions.forget(nil)
	is("removed", "")
}
