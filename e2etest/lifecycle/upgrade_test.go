package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/parts"
	"heraldlb.io/herald/e2etest/probe"
)

// pools are one of addresses on the nodes' network, and one that every node tells the router of.
const pools = `
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, annotations: {heraldlb.io/allow-release: "true"}}
spec: {addresses: [192.0.2.100-192.0.2.109, "2001:db8:1::1:0/120"], autoAssign: false}
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan}
spec: {ipAddressPools: [lan]}
---
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: routed, annotations: {heraldlb.io/allow-release: "true"}}
spec: {addresses: [203.0.113.0/24, 2001:db8:9::/112], autoAssign: false}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed}
spec: {ipAddressPools: [routed]}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: router}
spec: {peerAddress: 192.0.2.1, peerASN: 64513, myASN: 64512, connectTime: 2s, families: [IPv4, IPv6], gracefulRestart: {restartTime: 60s}}
`

// From the previous build to this one and back, by applying the one manifest and the other, clients notice nothing.
func TestUpgradeAndDowngradeAreNotNoticed(t *testing.T) {
	cache, err := parts.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	earlier, err := parts.Cache{Dir: cache, Progress: func(line string) { fmt.Println(line) }}.Earlier(t.Context(), root, parts.PreviousBuild)
	if errors.Is(err, parts.ErrNoCommit) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.LoadImages(t.Context(), earlier.Images...); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(root, "manifests", "herald.yaml")
	without(t)
	t.Cleanup(func() {
		begin(t).kubectl("delete", "--ignore-not-found", "-f", manifest)
		without(t)
	})
	s := begin(t)
	s.kubectl("apply", "--server-side", "-f", earlier.Manifest)
	s.configure()
	lan, routed := s.serve("lan"), s.serve("routed")
	s.settled(parts.ImageTag)
	s.give("n1", lan)

	t.Run("up", func(t *testing.T) { begin(t).unnoticed(manifest, "dev", lan, routed) })
	t.Run("down", func(t *testing.T) { begin(t).unnoticed(earlier.Manifest, parts.ImageTag, lan, routed) })
	t.Run("and versions form one ring", func(t *testing.T) {
		s := begin(t)
		// From now on only new pods are of this build, one node after the other.
		_, err := kube.AppsV1().DaemonSets(install.Namespace).Patch(t.Context(), install.Speaker, types.StrategicMergePatchType, []byte(
			`{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},"template":{"spec":{"containers":[{"name":"speaker","image":"localhost/herald-speaker:dev"}]}}}}`), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.renew("n1")
		s.ringed()
		s.say("n1 runs this build, n2 and n3 the previous one")
		s.lose("n1", lan)
		s.renew("n2")
		s.ringed()
		s.say("n1 and n2 run this build, n3 the previous one")
		s.give("n3", lan)
		s.lose("n3", lan)
	})
}

// configure applies the pools.
func (s *transcript) configure() {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "pools.yaml")
	if err := os.WriteFile(path, []byte(pools), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.kubectl("apply", "--server-side", "-f", path)
}

// give has a node take addresses, by excluding all others until it has them. Then it keeps them.
func (s *transcript) give(node string, addrs []netip.Addr) {
	s.t.Helper()
	include := func(t *testing.T) { begin(t).kubectl("label", "node", "--all", corev1.LabelNodeExcludeBalancers+"-") }
	s.t.Cleanup(func() { include(s.t) })
	for _, n := range cluster.Nodes() {
		if n != node {
			s.kubectl("label", "node", n, corev1.LabelNodeExcludeBalancers+"=")
		}
	}
	for _, a := range addrs {
		s.wait(func(context.Context) error {
			if who := s.owner(a); who != node {
				return fmt.Errorf("%s is answered for by %s, want %s", a, who, node)
			}
			return nil
		})
	}
	include(s.t)
	s.ringed() // the router has all of them again
}

// serve makes a Service with addresses of the pool of its name, and deletes it when the outermost test is over.
func (s *transcript) serve(pool string) []netip.Addr {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), pool+".yaml")
	svc := app.Service{Name: pool, Selects: "testapp", Type: "LoadBalancer", Annotations: map[string]string{"heraldlb.io/address-pool": pool}}
	if err := os.WriteFile(path, svc.Manifest(), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { begin(s.t).kubectl("delete", "--ignore-not-found", "service", pool) })
	s.kubectl("apply", "-f", path)
	return s.addresses(pool)
}

// settled waits until the images of a tag run everywhere, the speakers see each other, and the router has all of them as next hops.
func (s *transcript) settled(tag string) {
	s.t.Helper()
	s.wait(func(ctx context.Context) error {
		pods, err := kube.CoreV1().Pods(install.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, p := range pods.Items {
			if image := p.Spec.Containers[0].Image; !strings.HasSuffix(image, ":"+tag) {
				return fmt.Errorf("pod %s runs %s, want :%s", p.Name, image, tag)
			}
		}
		return install.Ready(ctx, kube, nodes)
	})
	s.ringed()
}

// ringed waits until every speaker sees all others, none of them away, and has told the router of its Service.
func (s *transcript) ringed() {
	s.t.Helper()
	s.wait(func(ctx context.Context) error {
		for _, n := range cluster.Nodes() {
			metrics, err := fetch(ctx, n)
			if err != nil {
				return err
			}
			for _, line := range []string{fmt.Sprintf("herald_gossip_members %d", nodes), "herald_gossip_absences 0", "herald_gossip_ready 1",
				`herald_bgp_session_up{peer="router"} 1`, `herald_bgp_announced_prefixes{peer="router"} 2`} {
				if !strings.Contains(metrics, "\n"+line+"\n") {
					return fmt.Errorf("the metrics of the speaker of %s lack %s", n, line)
				}
			}
		}
		return nil
	})
}

// renew gives a node a new speaker pod, and waits until it is ready.
func (s *transcript) renew(node string) {
	s.t.Helper()
	pod := func(ctx context.Context) (*corev1.Pod, error) {
		list, err := kube.CoreV1().Pods(install.Namespace).List(ctx, metav1.ListOptions{
			LabelSelector: "app.kubernetes.io/component=speaker", FieldSelector: "spec.nodeName=" + node})
		if err == nil && len(list.Items) != 1 {
			err = fmt.Errorf("%d speakers on %s", len(list.Items), node)
		}
		if err != nil {
			return nil, err
		}
		return &list.Items[0], nil
	}
	var old *corev1.Pod
	s.wait(func(ctx context.Context) (err error) {
		old, err = pod(ctx)
		return err
	})
	s.kubectl("delete", "pod", "--namespace", install.Namespace, old.Name)
	s.wait(func(ctx context.Context) error {
		now, err := pod(ctx)
		if err == nil && (now.UID == old.UID || !slices.ContainsFunc(now.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})) {
			err = fmt.Errorf("the new speaker of %s is not ready", node)
		}
		return err
	})
}

// takeover bounds how long no new connection may succeed after the owner of an address has gone, on a machine that is busy.
const takeover = 3 * time.Second

// lose cuts the link of the node that has addresses, and sees a node of the other build take them over.
func (s *transcript) lose(node string, addrs []netip.Addr) {
	s.t.Helper()
	for _, a := range addrs {
		if who := s.owner(a); who != node {
			s.t.Fatalf("%s is answered for by %s, want %s", a, who, node)
		}
	}
	u := s.use("client", addrs, 0)
	if err := cluster.Cut(s.t.Context(), node); err != nil {
		s.t.Fatal(err)
	}
	u.goOn(s.t, 50)
	for _, r := range u.stop(s.t) {
		s.say("%s without %s: no success for %v", r.name, node, r.report.StartGap.Length().Round(time.Millisecond))
		if gap := r.report.StartGap.Length(); gap > takeover {
			s.t.Errorf("no new connection to %s for %v, want %v at most", r.name, gap, takeover)
		}
	}
	if err := cluster.Heal(context.WithoutCancel(s.t.Context()), node); err != nil {
		s.t.Fatal(err)
	}
	s.ringed()
	for _, a := range addrs {
		if who := s.owner(a); who == node {
			s.t.Errorf("%s is at %s again", a, node)
		}
	}
}

// unnoticed applies a manifest under the eyes of clients of both Services, until its images run everywhere.
func (s *transcript) unnoticed(manifest, tag string, lan, routed []netip.Addr) {
	s.t.Helper()
	var owners []string
	for _, a := range lan {
		owners = append(owners, s.owner(a))
	}
	onLAN, behind := s.use("client", lan, held), s.use("remote", routed, held)
	control := s.past("client", "lan")
	hops := s.nextHops(routed[0])
	s.kubectl("apply", "--server-side", "-f", manifest)
	s.settled(tag)
	onLAN.goOn(s.t, 200)
	behind.goOn(s.t, 200)
	past := control.Stop()
	s.say("%d new connections past Herald, %d not answered within %v", past.Attempts, len(past.Failures), probe.DefaultTimeout/2)
	for _, u := range []*users{onLAN, behind} {
		u.unharmed(s, past)
	}
	changes, err := hops.Stop()
	if err != nil {
		s.t.Fatal(err)
	}
	s.say("%d changes of the router's next hops", len(changes)-1)
	if len(changes) > 1 {
		s.t.Errorf("the router's next hops were %v", changes)
	}
	for i, a := range lan {
		if who := s.owner(a); who != owners[i] {
			s.t.Errorf("%s moved from %s to %s", a, owners[i], who)
		}
	}
}
