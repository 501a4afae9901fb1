package probe

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestARouteWatcherFollowsNextHops(t *testing.T) {
	lan(t, nil)
	link, err := netlink.LinkByName("br0")
	if err != nil {
		t.Fatal(err)
	}
	prefix := netip.MustParsePrefix("203.0.113.1/32")
	route := func(via ...string) *netlink.Route {
		r := &netlink.Route{Dst: ipNet(prefix)}
		for _, gw := range via {
			r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gw), Flags: int(netlink.FLAG_ONLINK)})
		}
		return r
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.RouteAdd(route("192.0.2.12", "192.0.2.11")))
	w, err := WatchRoute(prefix)
	must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, step := range []struct {
		does func() error
		left []netip.Addr
	}{
		{func() error { return nil }, []netip.Addr{addr(11), addr(12)}},
		{func() error { return netlink.RouteReplace(route("192.0.2.11")) }, []netip.Addr{addr(11)}},
		{func() error { return netlink.RouteReplace(route("192.0.2.11")) }, []netip.Addr{addr(11)}},
		{func() error { return netlink.RouteDel(route("192.0.2.11")) }, nil},
		{func() error { return netlink.RouteAdd(route("192.0.2.13", "192.0.2.12")) }, []netip.Addr{addr(12), addr(13)}},
	} {
		must(step.does())
		_, err := w.Wait(ctx, func(hops []netip.Addr) bool { return slices.Equal(hops, step.left) })
		must(err)
	}
	changes, err := w.Stop()
	must(err)
	var seen [][]netip.Addr
	for _, c := range changes {
		seen = append(seen, c.NextHops)
	}
	want := [][]netip.Addr{{addr(11), addr(12)}, {addr(11)}, nil, {addr(12), addr(13)}}
	if !slices.EqualFunc(seen, want, slices.Equal) {
		t.Errorf("saw %v, want %v", seen, want)
	}
}

// addr is a host's address on the test's LAN.
func addr(host byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, host}) }
