package e2etest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/probe"
)

// bgpObjects let every node tell the lab's router of the addresses of a pool that no LAN has.
const bgpObjects = `
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: routed, annotations: {heraldlb.io/allow-release: "true"}}
spec: {addresses: [203.0.113.0/24, 2001:db8:9::/112], autoAssign: false}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: router}
spec:
  peerAddress: 192.0.2.1
  peerASN: 64513
  myASN: 64512
  holdTime: 3s
  families: [IPv4, IPv6]
  gracefulRestart: {restartTime: 60s}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed}
spec: {ipAddressPools: [routed]}
`

// nextHops are the nodes that the router's kernel sends traffic for an address to.
func nextHops(ctx context.Context, a netip.Addr) ([]string, error) {
	args := []string{"route", "show", a.String()}
	if a.Is6() {
		args = append([]string{"-6"}, args...)
	}
	out, err := cluster.Command(ctx, "router", "ip", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	var found []string
	words := strings.Fields(string(out))
	for _, n := range cluster.Nodes() {
		h := cluster.Host(n)
		if slices.Contains(words, h.IPv4.String()) || slices.Contains(words, h.IPv6.String()) {
			found = append(found, n)
		}
	}
	return found, nil
}

// routed waits until the router has these nodes as the next hops of an address.
func routed(t *testing.T, a netip.Addr, want ...string) {
	t.Helper()
	within(t, 30*time.Second, func(ctx context.Context) error {
		got, err := nextHops(ctx, a)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("the router's next hops of %s are %v, want %v", a, got, want)
		}
		return err
	})
}

func TestRouters(t *testing.T) {
	apply(t, []byte(bgpObjects))
	all := cluster.Nodes()
	pool := map[string]string{"heraldlb.io/address-pool": "routed"}

	svc := service(t, app.Service{Name: "routed", Selects: "testapp", Annotations: pool})
	for _, a := range addresses(svc) {
		routed(t, a, all...)
		reachable(t, "remote", a)
	}
	address := addresses(svc)[0]

	t.Run("only nodes with an endpoint announce a Service of policy Local", func(t *testing.T) {
		pods, err := kube.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=testapp"})
		if err != nil {
			t.Fatal(err)
		}
		var with []string
		for _, p := range pods.Items {
			with = append(with, p.Spec.NodeName)
		}
		slices.Sort(with)
		local := service(t, app.Service{Name: "routed-local", Selects: "testapp", Annotations: pool, ExternalTrafficPolicy: "Local"})
		routed(t, addresses(local)[0], slices.Compact(with)...)
		reachable(t, "remote", addresses(local)[0])
	})
	t.Run("a Service without endpoints is announced by nobody", func(t *testing.T) {
		empty := service(t, app.Service{Name: "routed-empty", Selects: "nothing", Annotations: pool})
		routed(t, addresses(empty)[0])
	})
	t.Run("a speaker that is restarted loses nothing", func(t *testing.T) {
		p := newConnections(t, "remote", address)
		pod, err := speakerPod(t.Context(), all[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := kube.CoreV1().Pods(install.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		missing, looks := 0, 0
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); looks++ {
			got, err := nextHops(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, all) {
				missing++
			}
		}
		report := p.Stop()
		t.Logf("%v; the router was asked %d times", report, looks)
		if missing > 0 || len(report.Failures) > 0 {
			t.Errorf("the next hops were not all there %d of %d times, and %d new connections failed", missing, looks, len(report.Failures))
		}
		within(t, time.Minute, func(ctx context.Context) error { return install.Ready(ctx, kube, nodes) })
	})
	t.Run("a node that dies is routed around", func(t *testing.T) {
		if err := cluster.Kill(t.Context(), all[2]); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { mend(t, cluster.Start, all[2]); ready(t, all[2]) })
		start := time.Now()
		routed(t, address, all[:2]...)
		t.Logf("the dead node was no next hop any more after %v", time.Since(start))
		reachable(t, "remote", address)
	})
}

// newConnections opens a new connection from a host every 5 ms until it is stopped; the first few have succeeded when it
// returns.
func newConnections(t *testing.T, host string, a netip.Addr) *probe.Connector {
	t.Helper()
	p := probe.Connect(t.Context(), probe.ConnectConfig{Dial: cluster.Dialer(host), Address: target(a, 80)})
	t.Cleanup(func() { p.Stop() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Wait(ctx, 50); err != nil {
		t.Fatal(err)
	}
	return p
}
