package layer2

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// The kernel drops what a client beyond the link sends only when the filter is strict and replies leave by another
// interface.
func TestAReversePathFilterIsToldOfWhereItMatters(t *testing.T) {
	dual(t)
	other := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "other0"}}
	check(t, netlink.LinkAdd(other))
	t.Cleanup(func() { check(t, netlink.LinkDel(other)) })
	check(t, netlink.AddrAdd(other, address(t, "198.51.100.10/24")))
	check(t, netlink.LinkSetUp(other))
	a := start(t)
	usesInterface(t, a, "lan0", true)
	filter := func(ifname string, mode int) {
		t.Helper()
		check(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+ifname+"/rp_filter", fmt.Append(nil, mode), 0o644))
	}
	was := setting(sysctls, "all", "rp_filter")
	t.Cleanup(func() { filter("all", was) })
	_, everywhere, err := net.ParseCIDR("0.0.0.0/0")
	check(t, err)
	by := func(l netlink.Link, gateway string) *netlink.Route {
		return &netlink.Route{LinkIndex: l.Attrs().Index, Dst: everywhere, Gw: net.ParseIP(gateway)}
	}
	expect := func(what, want string) {
		t.Helper()
		got, err := a.FilteredInterfaces()
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v, want %s", what, got, err, want)
		}
	}
	filter("all", 0)
	filter("lan0", 1)
	expect("no default route", "[]")
	away := by(other, "198.51.100.1")
	check(t, netlink.RouteAdd(away))
	t.Cleanup(func() { _ = netlink.RouteDel(away) }) // it may have gone
	expect("strict, and the default route leads elsewhere", "[{lan0 other0}]")
	filter("lan0", 2)
	expect("loose", "[]")
	filter("lan0", 0)
	expect("none", "[]")
	filter("all", 1)
	expect("strict for all", "[{lan0 other0}]")
	check(t, netlink.RouteDel(away))
	check(t, netlink.RouteAdd(by(linkOf(t, "lan0"), "192.0.2.1")))
	t.Cleanup(func() { _ = netlink.RouteDel(by(linkOf(t, "lan0"), "192.0.2.1")) }) // the interface may have gone
	filter("all", 0)
	filter("lan0", 1)
	expect("strict, and the default route leads by it", "[]")
}
