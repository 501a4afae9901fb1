package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/probe"
)

// routed is the configuration of a pool that the router is told of, with BFD.
const routed = `apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: routed}
spec: {addresses: [203.0.113.0/24], autoAssign: false}
---
apiVersion: heraldlb.io/v1beta1
kind: BFDProfile
metadata: {name: fast}
spec: {transmitInterval: 100, receiveInterval: 100, detectMultiplier: 3}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: router}
spec: {peerAddress: %s, peerPort: %d, peerASN: 64513, myASN: 64512, connectTime: 2s, bfdProfile: fast}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed}
spec: {ipAddressPools: [routed]}
`

// routers announces a Service by BGP, kills one of the nodes that the router spreads its connections over, and measures what
// a client behind the router notices.
func (s *show) routers(ctx context.Context) error {
	title("Service myapp-bgp, type LoadBalancer, of a pool that the router is told of by BGP")
	say("node %s is switched on again, so that there are three", s.dead)
	if err := s.lab.Start(ctx, s.dead); err != nil {
		return err
	}
	if err := s.lab.Apply(ctx, fmt.Appendf(nil, routed, s.lab.Host(lab.Router).IPv4, lab.RouterBFDPort)); err != nil {
		return err
	}
	address, err := s.routedService(ctx)
	if err != nil {
		return err
	}
	w, err := s.nextHops(address)
	if err != nil {
		return err
	}
	defer w.Stop()
	if err := s.awaitRoutes(ctx, w, func(hops []netip.Addr) bool { return len(hops) == nodes }); err != nil {
		return err
	}
	if err := wait(ctx, "BFD with every node", s.bfdUp); err != nil {
		return err
	}
	out, err := s.lab.Command(ctx, lab.Router, "ip", "route", "show", address.String()).Output()
	s.print(out)
	if err != nil {
		return err
	}
	return s.reroute(ctx, w, address)
}

// reroute kills a node that the router sends connections to.
func (s *show) reroute(ctx context.Context, w *probe.RouteWatcher, address netip.Addr) error {
	victim := s.lab.Nodes()[nodes-1]
	title("Node %s, one of three next hops, is killed", victim)
	say("the remote client opens a new connection every 5 ms")
	p := probe.Connect(ctx, probe.ConnectConfig{Dial: s.lab.Dialer(lab.Remote), Address: netip.AddrPortFrom(address, 80).String()})
	defer p.Stop()
	enough, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := p.Wait(enough, 200); err != nil {
		return err
	}
	killed := time.Now()
	if err := s.lab.Kill(ctx, victim); err != nil {
		return err
	}
	dead := s.lab.Host(victim).IPv4
	if err := s.awaitRoutes(ctx, w, func(hops []netip.Addr) bool { return len(hops) > 0 && !slices.Contains(hops, dead) }); err != nil {
		return err
	}
	if err := p.Wait(enough, 200); err != nil {
		return err
	}
	report := p.Stop()
	changes, err := w.Stop()
	if err != nil {
		return err
	}
	say("%d ms after the order the router had the dead node no more: BFD, 100 ms x 3, had told it", changes[len(changes)-1].At.Sub(killed).Milliseconds())
	say("for %d ms those new connections failed that the router sent to the dead node: %d of %d; the others went on", report.FailureWindow().Length().Milliseconds(), len(report.Failures), report.Attempts)
	for _, n := range report.Nodes {
		say("  node %s answered %d", n.Node, n.Count)
	}
	return nil
}

// routedService makes the Service and returns its address. Its pods are reached on their own nodes only, and see the client's
// own address.
func (s *show) routedService(ctx context.Context) (a netip.Addr, err error) {
	svc, err := s.service(ctx, app.Service{Name: "myapp-bgp", Selects: "myapp", Type: "LoadBalancer", IPFamilyPolicy: "SingleStack",
		ExternalTrafficPolicy: "Local", Annotations: map[string]string{"heraldlb.io/address-pool": "routed"}})
	if err != nil {
		return a, err
	}
	err = wait(ctx, "an external address", func(ctx context.Context) error {
		if svc, err = s.kube.CoreV1().Services("default").Get(ctx, svc.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		if len(svc.Status.LoadBalancer.Ingress) == 0 {
			return errors.New("none yet")
		}
		a, err = netip.ParseAddr(svc.Status.LoadBalancer.Ingress[0].IP)
		return err
	})
	if err == nil {
		say("got %s", a)
	}
	return a, err
}

// nextHops follows the router's next hops for an address.
func (s *show) nextHops(a netip.Addr) (w *probe.RouteWatcher, err error) {
	err = s.lab.InNet(lab.Router, func() error {
		w, err = probe.WatchRoute(netip.PrefixFrom(a, a.BitLen()))
		return err
	})
	return w, err
}

func (s *show) awaitRoutes(ctx context.Context, w *probe.RouteWatcher, wanted func([]netip.Addr) bool) error {
	return wait(ctx, "the router's next hops", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := w.Wait(ctx, wanted)
		return err
	})
}

// bfdUp asks every speaker whether its session with the router is up.
func (s *show) bfdUp(ctx context.Context) error {
	for _, n := range s.lab.Nodes() {
		metrics, err := s.metrics(ctx, n)
		if err != nil {
			return err
		}
		if !strings.Contains(metrics, fmt.Sprintf("herald_bfd_session_up{peer=%q} 1\n", s.lab.Host(lab.Router).IPv4)) {
			return fmt.Errorf("not with %s", n)
		}
	}
	return nil
}
