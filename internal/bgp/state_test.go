package bgp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/bfd"
	"heraldlb.io/herald/internal/config"
)

// changes takes what Changed tells until a peer's session is as wanted.
func changes(t *testing.T, s *Speaker, peer string, so func(Session) bool) Session {
	t.Helper()
	timeout := time.After(testPatience)
	for {
		if got := sessionOf(s, peer); so(got) {
			return got
		}
		select {
		case <-s.Changed():
		case <-timeout:
			t.Fatalf("no change came that makes the session as it should be: %+v", sessionOf(s, peer))
		}
	}
}

func TestWhatIsKnownOfASession(t *testing.T) {
	b := newBIRD(newHost(t, "up0", nodeAddresses, routerAddresses), `
protocol static { ipv4; route 10.0.0.0/24 unreachable; route 10.0.1.0/24 unreachable; }
protocol bgp tor { local 192.0.2.1 as 64513; neighbor 192.0.2.11 as 64512; passive; disabled; ipv4 { import all; export where source = RTS_STATIC; }; }
`)
	peers := peersOf(t, "tor {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64513, connectTime: 2s, families: [IPv4, IPv6]}")
	peers[0].BFD = &config.BFDProfile{ReceiveInterval: time.Second, TransmitInterval: time.Second, DetectMultiplier: 3}
	s := newSpeaker(t)
	s.Watch(&fakeWatcher{})
	routes := toAll("203.0.113.1/32", "203.0.113.2/32", "2001:db8:2::1/128")
	routes[netip.MustParsePrefix("203.0.113.3/32")] = []Route{{Peers: []string{"another"}}}
	s.Apply(peers, routes)
	if got := sessionOf(s, "tor"); got.State == Established || got.Sent != 0 || !slices.Equal(got.Families, []v1beta1.IPFamily{v1beta1.IPv4, v1beta1.IPv6}) {
		t.Errorf("before there is a session: %+v", got)
	}
	changes(t, s, "tor", func(got Session) bool {
		return strings.Contains(got.LastError, "refused") || strings.Contains(got.LastError, "Cease")
	})

	b.ask("enable tor")
	up := changes(t, s, "tor", func(got Session) bool { return got.State == Established })
	if up.ASN != 64513 || up.RouterID != netip.MustParseAddr("192.0.2.1") || up.LastError == "" || !up.LastErrorTime.Before(up.Since) {
		t.Errorf("established: %+v", up)
	}
	if !slices.Equal(up.Families, []v1beta1.IPFamily{v1beta1.IPv4}) || up.Sent != 2 {
		t.Errorf("the router takes IPv4 alone: families %v, sent %d", up.Families, up.Sent)
	}
	if up.BFD == nil || up.BFD.State != bfd.Up {
		t.Errorf("BFD is watched and up: %+v", up.BFD)
	}
	eventually(t, "two prefixes are received", func() bool { return sessionOf(s, "tor").Received == 2 })

	b.ask("disable tor \"maintenance of rack 7\"")
	down := changes(t, s, "tor", func(got Session) bool { return got.State != Established })
	if !strings.Contains(down.LastError, "maintenance of rack 7") || !down.LastErrorTime.After(up.Since) || down.Sent != 0 || len(down.Families) != 2 {
		t.Errorf("the router ended it with a text (RFC 9003): %+v", down)
	}
	b.ask("enable tor")
	again := changes(t, s, "tor", func(got Session) bool { return got.State == Established })
	if again.LastError != down.LastError || !again.Since.After(down.Since) {
		t.Errorf("why it ended stays: %+v", again)
	}
	s.Apply(nil, nil)
	changes(t, s, "tor", func(got Session) bool { return got.Peer == "" })
}
