package bgp

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/probe"
)

// held is how many established connections are watched where they are expected to live.
const held = 20

// frrAddress is what FRR announces in Herald's place, in no pool of Herald's.
var frrAddress = netip.MustParseAddr("203.0.113.200")

const pool = `apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: routed}
spec: {addresses: [203.0.113.0/26]}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed}
spec: {ipAddressPools: [routed]}
`

// scene is a lab in which two Services are alike, of which Herald can announce the one and FRR the other.
type scene struct {
	*stage.Stage
	address netip.Addr // Herald's
}

func (s *scene) prepare(ctx context.Context) error {
	if err := s.Apply(ctx, []byte(pool)); err != nil {
		return err
	}
	for _, svc := range []*corev1.Service{stage.Object("herald", "routed", netip.Addr{}), stage.Object("frr", "", frrAddress)} {
		if err := s.Expose(ctx, svc); err != nil {
			return err
		}
	}
	return install.Until(ctx, func() (err error) {
		s.address, err = s.Address(ctx, "herald")
		return err
	})
}

// via are the addresses of nodes, as next hops, sorted.
func (s *scene) via(nodes ...string) []netip.Addr {
	var out []netip.Addr
	for _, n := range nodes {
		out = append(out, s.Host(n).IPv4)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// routed waits until the router sends traffic for an address to these nodes.
func (s *scene) routed(b *testing.B, address netip.Addr, nodes ...string) {
	b.Helper()
	w := s.follow(b, address)
	want := s.via(nodes...)
	stage.Until(b, func(ctx context.Context) error {
		_, err := w.Wait(ctx, func(hops []netip.Addr) bool { return slices.Equal(hops, want) })
		return err
	})
	if _, err := w.Stop(); err != nil {
		b.Fatal(err)
	}
}

// follow follows the router's next hops for an address, until the benchmark is over.
func (s *scene) follow(b *testing.B, address netip.Addr) (w *probe.RouteWatcher) {
	b.Helper()
	err := s.InNet(lab.Router, func() (err error) {
		w, err = probe.WatchRoute(netip.PrefixFrom(address, address.BitLen()))
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.Stop() })
	return w
}

// connect opens a new connection from behind the router every 5 ms, and returns once the first have succeeded.
func (s *scene) connect(b *testing.B, address netip.Addr) *probe.Connector {
	b.Helper()
	return s.probe(b, probe.ConnectConfig{Address: target(address, 80)})
}

// datagrams sends one from behind the router every 5 ms, each of which is to be answered.
func (s *scene) datagrams(b *testing.B, address netip.Addr) *probe.Connector {
	b.Helper()
	return s.probe(b, probe.ConnectConfig{Network: "udp", Address: target(address, app.EchoPort)})
}

func (s *scene) probe(b *testing.B, config probe.ConnectConfig) *probe.Connector {
	b.Helper()
	config.Dial = s.Dialer(lab.Remote)
	c := probe.Connect(b.Context(), config)
	b.Cleanup(func() { c.Stop() })
	wait(b, c, 50)
	return c
}

// wait waits until so many more attempts have succeeded.
func wait(b *testing.B, c *probe.Connector, n int) {
	b.Helper()
	stage.Until(b, func(ctx context.Context) error { return c.Wait(ctx, n) })
}

func target(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }
