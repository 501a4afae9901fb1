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
	"heraldlb.io/herald/e2etest/lab"
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
kind: BFDProfile
metadata: {name: routed}
spec: {transmitInterval: 100, receiveInterval: 100, detectMultiplier: 3}
---
apiVersion: heraldlb.io/v1beta1
kind: BFDProfile
metadata: {name: default}
spec: {transmitInterval: 300, receiveInterval: 300, detectMultiplier: 3}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed}
spec: {ipAddressPools: [routed]}
---
`

// bgpPeer is the manifest of the lab's router as a peer, at one of its ports. Without a BFD profile it notices within seconds
// that a node is gone, with one only BFD notices.
func bgpPeer(port int, bfdProfile string) []byte {
	detect := "holdTime: 3s"
	if bfdProfile != "" {
		detect = "holdTime: 90s, bfdProfile: " + bfdProfile
	}
	return fmt.Appendf(nil, `apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: router}
spec: {peerAddress: 192.0.2.1, peerPort: %d, peerASN: 64513, myASN: 64512, connectTime: 2s, families: [IPv4, IPv6], gracefulRestart: {restartTime: 60s}, %s}
`, port, detect)
}

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
	apply(t, append([]byte(bgpObjects), bgpPeer(lab.RouterPort, "")...))
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
	t.Run("a speaker that is restarted loses nothing", func(t *testing.T) { restartUnnoticed(t, all[0], address) })
	t.Run("nor does one with BFD, where the router knows what it means to a graceful restart", func(t *testing.T) {
		peerAt(t, lab.RouterBFDGracefulPort)
		restartUnnoticed(t, all[1], address)
	})
	t.Run("a node that dies is routed around as soon as BFD tells", func(t *testing.T) {
		peerAt(t, lab.RouterBFDPort)
		routed(t, address, all...)
		w := nextHopsOf(t, address)
		p := newConnections(t, "remote", address)
		start := time.Now()
		if err := cluster.Kill(t.Context(), all[2]); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { mend(t, cluster.Start, all[2]); ready(t, all[2]) })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // the hold time is longer
		defer cancel()
		dead := cluster.Host(all[2]).IPv4
		gone, err := w.Wait(ctx, func(hops []netip.Addr) bool { return !slices.Contains(hops, dead) })
		if err != nil {
			t.Fatal(err)
		}
		report := p.Stop()
		t.Logf("the dead node was no next hop any more after %v, the failures lasted for %v; %v", gone.At.Sub(start), report.FailureWindow().Length(), report)
		routed(t, address, all[:2]...)
		reachable(t, "remote", address)
	})
}

// peerAt makes the speakers talk to another port of the router, with BFD, and waits until it is up.
func peerAt(t *testing.T, port int) {
	t.Helper()
	if err := cluster.Apply(t.Context(), bgpPeer(port, "routed")); err != nil {
		t.Fatal(err)
	}
	for _, n := range cluster.Nodes() {
		shows(t, n, `herald_bfd_session_up\{peer="192\.0\.2\.1"\} 1`, `herald_bfd_detection_time_seconds\{peer="192\.0\.2\.1"\} 0\.3`,
			`herald_bgp_session_up\{peer="router"\} 1`)
	}
}

// nextHopsOf follows the next hops of an address at the router, until the test is over.
func nextHopsOf(t *testing.T, a netip.Addr) (w *probe.RouteWatcher) {
	t.Helper()
	err := cluster.InNet("router", func() (err error) {
		w, err = probe.WatchRoute(netip.PrefixFrom(a, a.BitLen()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Stop() })
	return w
}

// restartUnnoticed gives a node's speaker a new pod, and fails the test when a new connection fails meanwhile or the router's
// next hops change.
func restartUnnoticed(t *testing.T, node string, address netip.Addr) {
	t.Helper()
	routed(t, address, cluster.Nodes()...)
	for range 20 { // the router knows of the nodes sooner than kube-proxy may know of the Service on each
		reachable(t, "remote", address)
	}
	w := nextHopsOf(t, address)
	p := newConnections(t, "remote", address)
	old, err := speakerPod(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	if err := kube.CoreV1().Pods(install.Namespace).Delete(t.Context(), old.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, func(ctx context.Context) error {
		pod, err := speakerPod(ctx, node)
		if err == nil && pod.UID == old.UID {
			err = fmt.Errorf("pod %s is still there", old.Name)
		}
		return err
	})
	shows(t, node, `herald_bgp_session_up\{peer="router"\} 1`, `herald_bgp_announced_prefixes\{peer="router"\} [1-9][0-9]*`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Wait(ctx, 200); err != nil {
		t.Fatal(err)
	}
	report := p.Stop()
	changes, err := w.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report)
	if len(changes) > 1 {
		t.Errorf("the router's next hops were %v", changes)
	}
	(&seen{addr: address, news: report}).failures(t)
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
