package bgp

import (
	"io"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/go-kit/log"

	"heraldlb.io/herald/internal/config"
)

func TestSeats(t *testing.T) {
	at := func(address string) place { return place{address: netip.MustParseAddr(address)} }
	passive := func(address, own string) place {
		return place{address: netip.MustParseAddr(address), listen: netip.MustParseAddr(own)}
	}
	own := netip.MustParseAddr("192.0.2.11")
	seated := map[string]group{}
	for _, c := range []struct {
		name   string
		places map[string]place
		want   map[string]group
	}{
		{"one is enough for peers with addresses of their own",
			map[string]place{"a": at("192.0.2.1"), "c": at("fe80::1%eth1")},
			map[string]group{"a": {}, "c": {}}},
		{"a second router with the same link-local address sits apart, by its interface",
			map[string]place{"a": at("192.0.2.1"), "b": at("fe80::1%eth0"), "c": at("fe80::1%eth1")},
			map[string]group{"a": {}, "b": {zone: "eth0"}, "c": {}}},
		{"and stays there when the first is gone",
			map[string]place{"b": at("fe80::1%eth0")},
			map[string]group{"b": {zone: "eth0"}}},
		{"but not once it is on another interface",
			map[string]place{"b": at("fe80::1%eth2")},
			map[string]group{"b": {}}},
		{"passive peers sit where they connect to",
			map[string]place{"a": passive("192.0.2.1", "192.0.2.11"), "b": at("fe80::1%eth2"), "c": passive("192.0.2.2", "192.0.2.11")},
			map[string]group{"a": {listen: own}, "b": {}, "c": {listen: own}}},
		{"and leave when they are passive no more",
			map[string]place{"a": at("192.0.2.1"), "c": passive("192.0.2.2", "192.0.2.11")},
			map[string]group{"a": {}, "c": {listen: own}}},
	} {
		var peers []Peer
		for _, name := range []string{"a", "b", "c"} {
			peers = append(peers, Peer{BGPPeer: config.BGPPeer{Name: name}})
		}
		if seated = seats(peers, c.places, seated); !maps.Equal(seated, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, seated, c.want)
		}
	}
}

func TestAnEngineNeedsLittleMemory(t *testing.T) {
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	e, err := start(netip.MustParseAddr("192.0.2.11"), netip.Addr{}, log.NewNopLogger(), newSessions(log.NewNopLogger()))
	check(t, err)
	defer e.stop(false, "")
	after := inUse()
	t.Logf("%d KiB", (int64(after)-int64(before))>>10)
	if after > before+4<<20 {
		t.Error("GoBGP without a peer has more than 4 MiB in use")
	}
}

// TestNothingIsBeingOpenedOnceGoBGPIsStopped: not in parallel, for it looks for what other tests would have too.
func TestNothingIsBeingOpenedOnceGoBGPIsStopped(t *testing.T) {
	h := newHost(t, "stop0", []string{"198.51.100.11/24"}, []string{"198.51.100.101/24"})
	asked := make(chan struct{}, 1)
	router(h, "198.51.100.101", func(c net.Conn) {
		select {
		case asked <- struct{}{}:
		default:
		}
		_, _ = io.Copy(io.Discard, c)
	})
	s := newSpeaker(t)
	s.Apply(peersOf(t, "silent {peerAddress: 198.51.100.101, myASN: 64512, peerASN: 64513}"), nil)
	const opens = "newOutGoingConnManager"
	goroutines := func() string {
		buf := make([]byte, 1<<20)
		return string(buf[:runtime.Stack(buf, true)])
	}
	<-asked
	if !strings.Contains(goroutines(), opens) {
		t.Fatalf("GoBGP does not open connections by a goroutine of %s any more", opens)
	}
	s.Leave(t.Context(), Restart, 0)
	if all := goroutines(); strings.Contains(all, opens) {
		t.Errorf("GoBGP is stopped and still opens a connection:\n%s", all)
	}
}
