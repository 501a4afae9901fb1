package layer2

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/install"
)

// BenchmarkSpeakerKilled kills the owner's speaker without a word. The kubelet starts it again.
func BenchmarkSpeakerKilled(b *testing.B) {
	s := bench.on(b, 3)
	s.settle(b)
	addrs := s.services(b, "killed", 1, lanPool)
	var all totals
	for range *rounds {
		w := s.watch(b, addrs, held)
		old := s.owners(b, addrs)[addrs[0]]
		s.killSpeaker(b, old)
		s.settle(b)
		w.connects(b, 200)
		found := w.stop(b)
		s.renew(b, old)
		bench.count(found, false)
		all.add(found)
	}
	all.report(b, *rounds)
}

// BenchmarkSpeakerKeptAway kills the owner's speaker and keeps it away until its addresses move. Established connections
// break then, so only new ones are looked at.
func BenchmarkSpeakerKeptAway(b *testing.B) {
	s := bench.on(b, 3)
	s.settle(b)
	addrs := s.services(b, "away", 1, lanPool)
	var all totals
	for range seldom() {
		old := s.owners(b, addrs)[addrs[0]]
		w := s.watch(b, addrs, 0)
		comeBack := s.withoutKubelet(b, old)
		s.killSpeaker(b, old)
		s.ownersBut(b, addrs, old)
		w.connects(b, 400)
		found := w.stop(b)
		comeBack()
		s.renew(b, old)
		bench.count(found, false)
		all.add(found)
	}
	all.report(b, seldom())
}

// renew gives a node a new speaker pod, and returns when all is what it was.
func (s *scene) renew(b *testing.B, node string) {
	b.Helper()
	s.Renew(b, node)
	s.settle(b)
}

// killSpeaker kills the speaker's process on a node, in whose PID namespace no other has that name.
func (s *scene) killSpeaker(b *testing.B, node string) {
	b.Helper()
	const script = `for p in /proc/[0-9]*; do if [ "$(cat $p/comm 2>/dev/null)" = speaker ]; then kill -9 "${p#/proc/}" && found=1; fi; done; test -n "$found"`
	if err := stage.Run(s.Command(b.Context(), node, "sh", "-c", script)); err != nil {
		b.Fatal(err)
	}
}

// withoutKubelet stops a node's kubelet, so that nothing on the node is started again, and goes on to renew the node's
// Lease in its place: the node itself is well.
func (s *scene) withoutKubelet(b *testing.B, node string) (goOn func()) {
	b.Helper()
	if err := s.Freeze(b.Context(), node+"/kubelet"); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var renewing sync.WaitGroup
	renewing.Go(func() {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			patch := fmt.Appendf(nil, `{"spec":{"renewTime":%q}}`, time.Now().UTC().Format(metav1.RFC3339Micro))
			_, err := s.Kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
			if err != nil && ctx.Err() == nil {
				b.Error(err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	goOn = sync.OnceFunc(func() {
		cancel()
		renewing.Wait()
		if err := s.Thaw(context.Background(), node+"/kubelet"); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(goOn)
	return goOn
}

// BenchmarkDrain asks the owner's speaker to give its addresses away. Established connections break with the change of owner,
// whose state nobody else has; how many is told with what must not happen.
func BenchmarkDrain(b *testing.B) {
	s := bench.on(b, 3)
	s.settle(b)
	addrs := s.services(b, "drain", 1, lanPool)
	var all totals
	for range *rounds {
		old := s.owners(b, addrs)[addrs[0]]
		w := s.watch(b, addrs, held)
		s.drain(b, old, "true")
		s.ownersBut(b, addrs, old)
		w.connects(b, 200)
		found := w.stop(b)
		s.drain(b, old, "false")
		bench.count(found, true)
		all.add(found)
	}
	all.report(b, *rounds)
}

func (s *scene) drain(b *testing.B, node, value string) {
	b.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"heraldlb.io/drain":%q}}}`, value)
	if _, err := s.Kube.CoreV1().Nodes().Patch(b.Context(), node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRollingRestart restarts all speakers, one node after the other.
func BenchmarkRollingRestart(b *testing.B) {
	for _, n := range numbers(b, "addresses", *addresses) {
		b.Run(fmt.Sprintf("nodes=3/addresses=%d", n), func(b *testing.B) {
			s := bench.on(b, 3)
			s.settle(b)
			addrs := s.services(b, "rolling", n, widePool)
			before := s.owners(b, addrs)
			var all totals
			total := 0
			for range seldom() {
				w := s.watch(b, addrs, held)
				s.restart(b)
				w.connects(b, 400)
				found := w.stop(b)
				bench.count(found, false)
				all.add(found)
				after := s.owners(b, addrs)
				total, before = total+moved(before, after), after
			}
			b.ReportMetric(float64(total), "moved")
			all.report(b, seldom())
		})
	}
}

// restart is kubectl rollout restart, and waits for its end.
func (s *scene) restart(b *testing.B) {
	b.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
	_, err := s.Kube.AppsV1().DaemonSets(install.Namespace).Patch(b.Context(), install.Speaker, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		b.Fatal(err)
	}
	s.settle(b)
}
