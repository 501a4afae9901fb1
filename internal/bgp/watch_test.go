package bgp

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"heraldlb.io/herald/internal/bfd"
	"heraldlb.io/herald/internal/config"
)

// fakeWatcher remembers the sessions that it shall have.
type fakeWatcher struct {
	mu       sync.Mutex
	sessions []bfd.Session
}

func (f *fakeWatcher) Set(s []bfd.Session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = s
}

func (f *fakeWatcher) State(peer netip.Addr) (bfd.Status, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := slices.ContainsFunc(f.sessions, func(s bfd.Session) bool { return s.Peer == peer })
	return bfd.Status{State: bfd.Up}, known
}

func TestABrokenPathEndsTheSession(t *testing.T) {
	b := newBIRD(newHost(t, "up0", nodeAddresses, routerAddresses), `
protocol bgp tor { local 192.0.2.1 as 64513; neighbor 192.0.2.11 as 64512; passive; ipv4 { import all; export none; }; }
`)
	peers := peersOf(t,
		"bare {peerAddress: 192.0.2.7, myASN: 64512, peerASN: 64513}",
		"tor {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64513}",
	)
	peers[1].BFD = &config.BFDProfile{ReceiveInterval: 50 * time.Millisecond, TransmitInterval: 60 * time.Millisecond, DetectMultiplier: 3}
	s, w := newSpeaker(t), &fakeWatcher{}
	s.Watch(w)
	s.Apply(peers, toAll("203.0.113.1/32"))
	want := bfd.Session{Peer: netip.MustParseAddr("192.0.2.1"),
		Profile: bfd.Profile{ReceiveInterval: 50 * time.Millisecond, TransmitInterval: 60 * time.Millisecond, DetectMultiplier: 3}}
	if len(w.sessions) != 1 || w.sessions[0] != want {
		t.Fatalf("BFD sessions: %+v, want one: %+v", w.sessions, want)
	}
	s.PathChanged(bfd.Change{Peer: want.Peer, State: bfd.Down}) // before there is a session that it could end
	has(t, b.route, "203.0.113.1/32")
	s.PathChanged(bfd.Change{Peer: want.Peer, State: bfd.AdminDown})
	if got := sessionOf(s, "tor"); got.State != Established {
		t.Errorf("AdminDown ended the session: %+v", got)
	}
	s.PathChanged(bfd.Change{Peer: want.Peer, State: bfd.Down, Diagnostic: bfd.DetectionTimeExpired})
	hasNot(t, b.route, "203.0.113.1/32")
	eventually(t, "the reason is told", func() bool { return strings.Contains(sessionOf(s, "tor").LastError, "BFD") })
	has(t, b.route, "203.0.113.1/32")
	s.Apply(peers[:1], nil)
	if len(w.sessions) != 0 {
		t.Errorf("BFD sessions are left: %+v", w.sessions)
	}
}

func TestOnePrefixIsOneMessage(t *testing.T) {
	b := newBIRD(newHost(t, "up0", nodeAddresses, routerAddresses), `
protocol bgp tor { local 192.0.2.1 as 64513; neighbor 192.0.2.11 as 64512; passive; ipv4 { import all; export none; }; }
`)
	peers := peersOf(t, "tor {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64513}")
	s := newSpeaker(t)
	routes := map[netip.Prefix][]Route{}
	for i := range 1000 {
		routes[netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 32)] = []Route{{}}
	}
	s.Apply(peers, routes)
	count := func() (updates, withdraws string) {
		for line := range strings.SplitSeq(b.ask("show protocols all tor"), "\n") {
			f := strings.Fields(line)
			if len(f) > 3 && f[0] == "Import" && f[1] == "updates:" {
				updates = f[2]
			}
			if len(f) > 3 && f[0] == "Import" && f[1] == "withdraws:" {
				withdraws = f[2]
			}
		}
		return updates, withdraws
	}
	eventually(t, "all routes are there", func() bool { u, _ := count(); return u == "1000" })

	s.Apply(peers, prefixes(map[string][]Route{"10.1.0.7/32": {{Attributes: config.Attributes{MED: number(5)}}}}))
	has(t, b.route, "10.1.0.7/32", "BGP.med: 5")
	s.Apply(peers, prefixes(map[string][]Route{"10.1.0.7/32": {{Attributes: config.Attributes{MED: number(5)}}}})) // no change
	s.Apply(peers, prefixes(map[string][]Route{"10.1.0.8/32": nil}))
	hasNot(t, b.route, "10.1.0.8/32")
	if u, w := count(); u != "1001" || w != "1" {
		t.Errorf("the router has seen %s updates and %s withdrawals, want 1001 and 1: a changed attribute replaces", u, w)
	}
}
