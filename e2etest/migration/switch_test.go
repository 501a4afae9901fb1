package migration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/probe"
)

// The label of a node on which Herald talks to routers, while others still have MetalLB do so.
const switched = "heraldlb.io/switched"

func TestTheWayFromMetalLB(t *testing.T) {
	for _, ns := range namespaces[1:] {
		kubectl(t, "create", "namespace", ns)
	}
	for _, svc := range everyKind() {
		if _, err := kube.CoreV1().Services(svc.Namespace).Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	before := held(t, 50)
	l2 := netip.MustParseAddr(strings.Split(before["default/"+byL2], ",")[0])
	routed := netip.MustParseAddr(before["default/"+byBGP])
	watcher, router := watchers(t, l2, routed)
	within(t, time.Minute, func(context.Context) error { return hops(router, nodes) })
	clients := []*probe.Connector{connect(t, lab.Client, l2), connect(t, lab.Remote, routed)}
	for _, c := range clients {
		goesOn(t, c)
	}
	dir := filepath.Join(t.TempDir(), "herald")
	ok := t.Run("the configuration of the cluster and of files is converted alike", func(t *testing.T) { convert(t, dir) }) &&
		t.Run("Herald observes", func(t *testing.T) { observes(t, dir, before, watcher, router) }) &&
		t.Run("Herald's controller takes over", func(t *testing.T) {
			kubectl(t, "-n", metalLBNamespace, "scale", "deployment", "controller", "--replicas", "0")
			kubectl(t, "delete", "l2advertisements.heraldlb.io", "--all")
			kubectl(t, "patch", "bgppeers.heraldlb.io", "router", "--type", "merge", "-p", `{"spec":{"nodeSelectors":[{"matchLabels":{"`+switched+`":"true"}}]}}`)
			kubectl(t, "apply", "--server-side", "-f", filepath.Join(root, "manifests", "herald.yaml"))
			ready(t)
			within(t, time.Minute, allocated)
			kept(t, "with Herald's controller", before)
		}) &&
		t.Run("layer 2 moves at once", func(t *testing.T) {
			kubectl(t, "-n", metalLBNamespace, "delete", "l2advertisements.metallb.io", "--all")
			kubectl(t, "apply", "--server-side", "-f", filepath.Join(dir, "layer2.yaml"))
			within(t, time.Minute, func(context.Context) error { return announced(t, "L2", before) })
		}) &&
		t.Run("routers move node by node", func(t *testing.T) {
			kubectl(t, "-n", metalLBNamespace, "patch", "daemonset", "speaker", "--type", "merge", "-p", `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},`+
				`"template":{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"`+switched+`","operator":"DoesNotExist"}]}]}}}}}}}`)
			for _, node := range cluster.Nodes() {
				kubectl(t, "label", "node", node, switched+"=true")
				within(t, time.Minute, func(context.Context) error {
					for line := range strings.Lines(ctl(t, 0, "peers")) {
						if f := strings.Fields(line); len(f) > 3 && f[1] == node && f[3] == "Established" {
							return hops(router, nodes)
						}
					}
					return fmt.Errorf("node %s has no session yet", node)
				})
			}
			kubectl(t, "replace", "-f", filepath.Join(dir, "bgp.yaml"))
		}) &&
		t.Run("MetalLB is removed", func(t *testing.T) {
			kubectl(t, "delete", "namespace", metalLBNamespace, "--wait=false")
			for _, node := range cluster.Nodes() {
				kubectl(t, "label", "node", node, switched+"-")
			}
			within(t, time.Minute, func(ctx context.Context) error {
				pods, err := kube.CoreV1().Pods(metalLBNamespace).List(ctx, metav1.ListOptions{})
				if err == nil && len(pods.Items) > 0 {
					err = fmt.Errorf("%d pods are left of MetalLB", len(pods.Items))
				}
				return err
			})
			within(t, time.Minute, func(context.Context) error { return announced(t, "", before) })
			kept(t, "without MetalLB", before)
		})
	for _, c := range clients {
		if ok {
			goesOn(t, c)
		}
	}
	saw(t, clients, watcher, router)
}

// convert makes Herald's files in dir.
func convert(t *testing.T, dir string) {
	ctl(t, 0, "migrate", "metallb", "--dir", dir)
	live := ctl(t, 0, "migrate", "metallb")
	files := t.TempDir()
	kinds := "ipaddresspools.metallb.io,l2advertisements.metallb.io,bgpadvertisements.metallb.io,bgppeers.metallb.io,communities.metallb.io,services"
	if err := os.WriteFile(filepath.Join(files, "cluster.yaml"), []byte(kubectl(t, "get", kinds, "-A", "-o", "yaml")), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := ctl(t, 0, "migrate", "metallb", "-f", files); got != live {
		t.Errorf("from files:\n%s\nfrom the cluster:\n%s", got, live)
	}
	old := filepath.Join(files, "old.yaml")
	if err := os.WriteFile(old, []byte(oldConfigMap), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := ctl(t, 0, "migrate", "metallb", "-f", old); strings.Count(got, "kind: IPAddressPool") != 2 || strings.Count(got, "kind: BGPPeer") != 1 {
		t.Errorf("from the old ConfigMap:\n%s", got)
	}
	script, err := os.ReadFile(filepath.Join(dir, "annotate.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(script)) {
		args, found := strings.CutPrefix(strings.TrimSpace(line), "kubectl ")
		if found {
			kubectl(t, strings.Fields(strings.ReplaceAll(args, "'", ""))...)
		}
	}
}

// oldConfigMap says the same as metalLBObjects in the format of releases before 0.13.
const oldConfigMap = `
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: metallb-system}
data:
  config: |
    peers:
    - {peer-address: 192.0.2.1, peer-asn: 64513, my-asn: 64512, hold-time: 30s}
    bgp-communities: {edge: "64512:100"}
    address-pools:
    - {name: lan, protocol: layer2, addresses: [192.0.2.100-192.0.2.199, 2001:db8:1::1:0/120]}
    - {name: edge, protocol: bgp, addresses: [203.0.113.0/24], auto-assign: false, bgp-advertisements: [{communities: [edge]}]}
`

// observes installs Herald so that it only observes, with all its configuration, and looks at what it says and does.
func observes(t *testing.T, dir string, before map[string]string, watcher *probe.Watcher, router *probe.RouteWatcher) {
	kubectl(t, "apply", "--server-side", "-f", filepath.Join(root, "manifests", "herald-observe.yaml"))
	kubectl(t, "wait", "--for", "condition=Established", "crd", "--all")
	for _, name := range []string{"pools.yaml", "layer2.yaml", "bgp.yaml"} {
		kubectl(t, "apply", "--server-side", "-f", filepath.Join(dir, name))
	}
	ready(t)
	within(t, time.Minute, func(context.Context) error { return announced(t, "", before) })
	out := ctl(t, 0, "observe")
	t.Logf("heraldctl observe:\n%s", out)
	if !strings.Contains(out, "50 of 50 Services would keep") || !strings.Contains(out, "Only observed") {
		t.Error("it does not say that Herald observes and that all Services would keep their addresses")
	}
	if out := ctl(t, 0, "announcements"); !strings.Contains(out, "Only observed") || strings.Contains(out, "Owner") {
		t.Errorf("heraldctl announcements:\n%s", out)
	}
	if out := ctl(t, 3, "status"); !strings.Contains(out, "only observing") || strings.Contains(out, "NotAnnounced") {
		t.Errorf("heraldctl status:\n%s", out)
	}
	list, err := kube.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range list.Items {
		for _, m := range svc.ManagedFields {
			if strings.HasPrefix(m.Manager, "herald") {
				t.Errorf("%s wrote Service %s/%s", m.Manager, svc.Namespace, svc.Name)
			}
		}
	}
	kept(t, "with Herald observing", before)
	if r, err := watcher.Report(); err != nil || len(r.Tenures) != 1 {
		t.Errorf("the address by layer 2 is answered for by %v, %v", r.Tenures, err)
	}
	if err := hops(router, nodes); err != nil {
		t.Error(err)
	}
}

// ready waits until all that is installed of Herald runs, in its newest version.
func ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := install.Ready(ctx, kube, nodes); err != nil {
		t.Fatal(err)
	}
}

// allocated wants every Service to say that Herald gave it what it has.
func allocated(ctx context.Context) error {
	list, err := kube.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, svc := range list.Items {
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && !slices.ContainsFunc(svc.Status.Conditions, func(c metav1.Condition) bool {
			return c.Type == "heraldlb.io/Allocated" && c.Status == metav1.ConditionTrue
		}) {
			return fmt.Errorf("service %s/%s has the conditions %v", svc.Namespace, svc.Name, svc.Status.Conditions)
		}
	}
	return nil
}

// announced wants heraldctl to tell of an announcement, by this protocol or any, of both Services that clients use.
func announced(t *testing.T, protocol string, before map[string]string) error {
	out := ctl(t, 0, "announcements", "--service", "default/"+byL2)
	if protocol != "L2" {
		out += ctl(t, 0, "announcements", "--service", "default/"+byBGP)
	}
	for _, word := range strings.Split(before["default/"+byL2], ",") {
		if !strings.Contains(out, word+" ") || strings.Contains(out, "None") {
			return fmt.Errorf("%s is announced by nobody:\n%s", word, out)
		}
	}
	if protocol != "L2" && strings.Count(out, " BGP ") != nodes {
		return fmt.Errorf("not every node tells routers:\n%s", out)
	}
	return nil
}

// watchers follow who answers for an address on the LAN, and which next hops the router has for another, until the test ends.
func watchers(t *testing.T, l2, routed netip.Addr) (w *probe.Watcher, r *probe.RouteWatcher) {
	t.Helper()
	err := errors.Join(
		cluster.InNet(lab.Client, func() (err error) { w, err = probe.Watch(t.Context(), "eth0", l2, 0); return err }),
		cluster.InNet(lab.Router, func() (err error) { r, err = probe.WatchRoute(netip.PrefixFrom(routed, 32)); return err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Stop(); r.Stop() })
	return w, r
}

// hops wants the router to have so many next hops now.
func hops(r *probe.RouteWatcher, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := r.Wait(ctx, func(now []netip.Addr) bool { return len(now) == n })
	return err
}

// connect opens new connections from a host to an address until the test ends, as soon as the first have succeeded.
func connect(t *testing.T, from string, a netip.Addr) *probe.Connector {
	t.Helper()
	warm := probe.Connect(t.Context(), probe.ConnectConfig{Dial: cluster.Dialer(from), Address: netip.AddrPortFrom(a, 80).String(), Interval: 50 * time.Millisecond})
	goesOn(t, warm)
	warm.Stop()
	c := probe.Connect(t.Context(), probe.ConnectConfig{Dial: cluster.Dialer(from), Address: netip.AddrPortFrom(a, 80).String(), Interval: 20 * time.Millisecond})
	t.Cleanup(func() { c.Stop() })
	return c
}

func goesOn(t *testing.T, c *probe.Connector) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.Wait(ctx, 20); err != nil {
		t.Fatal(err)
	}
}

// saw tells what clients noticed of all of it. The address of layer 2 moves once, and comes to be answered for by one node; of
// the other no connection fails. One that is opened just when its packets begin to go to another node counts as
// established: that node does not know it.
func saw(t *testing.T, clients []*probe.Connector, watcher *probe.Watcher, router *probe.RouteWatcher) {
	w, err := watcher.Stop()
	if err != nil {
		t.Fatal(err)
	}
	changes, err := router.Stop()
	if err != nil {
		t.Fatal(err)
	}
	least := nodes
	var moves []time.Time
	seen := false
	for _, c := range changes {
		if seen = seen || len(c.NextHops) == nodes; seen {
			least = min(least, len(c.NextHops))
			moves = append(moves, c.At)
		}
	}
	if least < nodes-1 {
		t.Errorf("the router had no more than %d next hops for a while", least)
	}
	t.Logf("router: %d changes of next hops, never fewer than %d", len(moves), least)
	t.Logf("layer 2: %v", w)
	if double := w.Double.Length(); double > time.Second {
		t.Errorf("two nodes answered at once for %v", double)
	}
	for _, tenure := range w.Tenures {
		moves = append(moves, tenure.From, tenure.To)
	}
	for i, what := range []string{"layer 2", "BGP"} {
		r := clients[i].Stop()
		crossed := slices.DeleteFunc(slices.Clone(r.Failures), func(f probe.Sample) bool {
			return !errors.Is(f.Err, syscall.ECONNRESET) || !slices.ContainsFunc(moves, func(at time.Time) bool {
				return f.Start.Before(at.Add(50*time.Millisecond)) && f.End.After(at.Add(-50*time.Millisecond))
			})
		})
		t.Logf("%s: %v; longest time without a successful start %v; %d failed, %d of them reset in the moment of a move", what, r, r.StartGap, len(r.Failures), len(crossed))
		limit := time.Second // one planned move
		if what == "BGP" {
			if n := len(r.Failures) - len(crossed); n > 0 {
				t.Errorf("%s: %d new connections failed, the first with %v", what, n, r.Failures[0].Err)
			}
		} else if gap := r.StartGap.Length(); gap > limit+r.Pause {
			t.Errorf("%s: no new connection succeeded for %v", what, gap)
		}
	}
}
