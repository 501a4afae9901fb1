package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/probe"
)

// BenchmarkRestart gives one node after the other a new speaker, with graceful restart.
func BenchmarkRestart(b *testing.B) {
	for _, w := range []way{gracefulWithout, gracefulWith} {
		b.Run(w.name, func(b *testing.B) {
			s := set(b)
			s.Ready(b)
			h := &herald{scene: s}
			address := h.begin(b, w)
			defer h.end(b)
			var all losses
			for i := range *rounds {
				node := s.Nodes()[i%len(s.Nodes())]
				all.add(s.use(b, address, func() { s.renew(b, node) }))
				s.told(b, address)
				if w.bfd > 0 {
					h.watched(b)
				}
			}
			all.report(b)
		})
	}
}

// BenchmarkDrain stops the speakers of cordoned nodes, which are drains. The kubelet starts them again.
func BenchmarkDrain(b *testing.B) {
	s := set(b)
	s.Ready(b)
	h := &herald{scene: s}
	address := h.begin(b, gracefulWithout)
	defer h.end(b)
	var all losses
	for i := range *rounds {
		node := s.Nodes()[i%len(s.Nodes())]
		s.cordon(b, node, true)
		all.add(s.use(b, address, func() {
			s.renew(b, node)
			s.told(b, address)
		}))
		s.cordon(b, node, false)
	}
	all.report(b)
}

func (s *scene) cordon(b *testing.B, node string, yes bool) {
	b.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%v}}`, yes)
	if _, err := s.Kube.CoreV1().Nodes().Patch(context.Background(), node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		b.Fatal(err)
	}
}

// renew gives a node a new speaker pod, and returns when it is ready.
func (s *scene) renew(b *testing.B, node string) {
	b.Helper()
	s.Renew(b, node)
	s.Ready(b)
}

// told waits until the router has been told an address by all speakers that run now.
func (s *scene) told(b *testing.B, address netip.Addr) {
	b.Helper()
	stage.Until(b, func(ctx context.Context) error {
		for _, n := range s.Nodes() {
			m, err := s.Metrics(ctx, n)
			if err != nil {
				return err
			}
			if m[`herald_bgp_announced_prefixes{peer="router"}`] == 0 {
				return fmt.Errorf("the speaker of %s has told the router nothing", n)
			}
		}
		return nil
	})
	s.routed(b, address, s.Nodes()...)
}

// losses are what users lost, and what the router did, while something happened.
type losses struct {
	rounds              int
	connections, failed int
	moving              int // of the failed, those that were being opened when the next hops changed
	datagrams, lost     int
	held, broken        int
	changes             int // of the next hops
	heldUpBy            time.Duration
}

// use uses an address while f runs and a second longer.
func (s *scene) use(b *testing.B, address netip.Addr, f func()) losses {
	b.Helper()
	watch, connector, datagrams := s.follow(b, address), s.connect(b, address), s.datagrams(b, address)
	holder, err := probe.Hold(b.Context(), probe.HoldConfig{Dial: s.Dialer(lab.Remote), Address: target(address, app.StreamPort), Count: held})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { holder.Stop() })
	f()
	wait(b, connector, 200)
	news, packets, lives := connector.Stop(), datagrams.Stop(), holder.Stop()
	changes, err := watch.Stop()
	if err != nil {
		b.Fatal(err)
	}
	l := losses{rounds: 1, connections: news.Attempts, failed: len(news.Failures), datagrams: packets.Attempts, lost: len(packets.Failures),
		held: len(lives.Connections), broken: len(lives.Breaks), changes: len(changes) - 1, heldUpBy: max(news.Pause, packets.Pause)}
	for _, f := range news.Failures {
		if slices.ContainsFunc(changes[1:], func(c probe.RouteChange) bool { return !c.At.Before(f.Start) && c.At.Before(f.End) }) {
			l.moving++
		}
		b.Logf("a new connection failed: %v", f.Err)
	}
	return l
}

func (l *losses) add(o losses) {
	l.rounds += o.rounds
	l.connections += o.connections
	l.failed += o.failed
	l.moving += o.moving
	l.datagrams += o.datagrams
	l.lost += o.lost
	l.held += o.held
	l.broken += o.broken
	l.changes += o.changes
	l.heldUpBy = max(l.heldUpBy, o.heldUpBy)
}

func (l *losses) report(b *testing.B) {
	b.Helper()
	b.ReportMetric(float64(l.failed), "failed")
	b.ReportMetric(float64(l.lost), "lost")
	b.ReportMetric(float64(l.broken), "broken")
	b.ReportMetric(float64(l.changes), "next-hop-changes")
	bench.Report(b, nil, fmt.Sprintf("%d rounds: %d of %d new connections failed (%d while next hops changed), %d of %d datagrams lost, %d of %d established broken, %d changes of next hops; probers held up for %.0f ms at most",
		l.rounds, l.failed, l.connections, l.moving, l.lost, l.datagrams, l.broken, l.held, l.changes, stage.Milliseconds(l.heldUpBy)))
}
