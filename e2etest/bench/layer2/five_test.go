package layer2

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"heraldlb.io/herald/e2etest/bench/stage"
)

// BenchmarkTwoDie takes two of five nodes away at once, one of which has the address.
func BenchmarkTwoDie(b *testing.B) {
	for _, f := range stage.Faults {
		b.Run("nodes=5/"+f.Name, func(b *testing.B) {
			s := bench.on(b, 5)
			s.settle(b)
			addr := s.services(b, "two", 1, lanPool)[0]
			var gaps []time.Duration
			for range seldom() {
				both := s.ownerAndAnother(b, addr)
				w := s.watch(b, []netip.Addr{addr}, 0)
				var g errgroup.Group
				for _, n := range both {
					g.Go(func() error { return f.Take(s.Lab, b.Context(), n) })
				}
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
				w.connects(b, 200)
				found := w.stop(b)
				bench.count(found, false)
				gaps = append(gaps, found.gap)
				s.giveBack(b, f, both...)
			}
			bench.Report(b, gaps, "")
		})
	}
}

func (s *scene) ownerAndAnother(b *testing.B, addr netip.Addr) []string {
	b.Helper()
	old := s.owners(b, []netip.Addr{addr})[addr]
	for _, n := range s.Nodes() {
		if n != old {
			return []string{old, n}
		}
	}
	b.Fatal("there is one node only")
	return nil
}

// BenchmarkPartition splits five nodes 2 and 3, in full view of the client, and measures from the end of the split until
// one node answers for each address.
func BenchmarkPartition(b *testing.B) {
	s := bench.on(b, 5)
	s.settle(b)
	addrs := s.services(b, "partition", 20, lanPool)
	names := s.Nodes()
	var times []time.Duration
	double := 0
	for range *rounds {
		if err := s.Partition(b.Context(), names[:2], names[2:]); err != nil {
			b.Fatal(err)
		}
		s.split(b, addrs)
		a, err := s.ask(addrs)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.HealPartition(b.Context()); err != nil {
			b.Fatal(err)
		}
		healed := time.Now()
		s.settle(b)
		s.quiet(b, a, addrs)
		asked, err := a.stop()
		if err != nil {
			b.Fatal(err)
		}
		var last time.Duration
		for _, d := range asked.asked {
			after, n := lastDoubled(d.answers, healed)
			last, double = max(last, after), double+n
		}
		times = append(times, last)
	}
	b.ReportMetric(float64(double)/float64(*rounds), "double/round")
	bench.Report(b, times, fmt.Sprintf("until one owner for each of %d addresses; %.1f questions a round answered by two after healing", len(addrs), float64(double)/float64(*rounds)))
}

// split waits until both sides answer for each address.
func (s *scene) split(b *testing.B, addrs []netip.Addr) {
	b.Helper()
	until(b, func(ctx context.Context) error {
		a, err := s.ask(addrs)
		if err != nil {
			return err
		}
		w := time.NewTimer(10 * a.every)
		defer w.Stop()
		select {
		case <-w.C:
		case <-ctx.Done():
		}
		asked, err := a.stop()
		if err != nil {
			return err
		}
		for addr, d := range asked.asked {
			if doubled(d.answers) == 0 {
				return fmt.Errorf("%s is answered for on one side only", addr)
			}
		}
		return nil
	})
}

// quiet waits until no question has been answered twice for a second.
func (s *scene) quiet(b *testing.B, a *asker, addrs []netip.Addr) {
	b.Helper()
	until(b, func(context.Context) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		since := time.Now().Add(-time.Second)
		for _, addr := range addrs {
			if _, n := lastDoubled(a.asked[addr].answers, since); n > 0 {
				return fmt.Errorf("%s is answered for by two nodes", addr)
			}
		}
		return nil
	})
}

// BenchmarkBusy counts changes of owner that nothing calls for, while every core is kept busy twice over.
func BenchmarkBusy(b *testing.B) {
	s := bench.on(b, 5)
	s.settle(b)
	addrs := s.services(b, "busy", 50, lanPool)
	before, takeovers, lost := s.owners(b, addrs), s.sum(b, "herald_layer2_takeovers_total"), s.sum(b, "herald_gossip_members_lost_total")
	w := s.watch(b, addrs, held)
	idle := stage.Busy(b, 2*runtime.NumCPU())
	pass(*busy)
	idle()
	found := w.stop(b)
	bench.count(found, false)
	changed := moved(before, s.owners(b, addrs))
	takeovers, lost = s.sum(b, "herald_layer2_takeovers_total")-takeovers, s.sum(b, "herald_gossip_members_lost_total")-lost
	b.ReportMetric(takeovers, "takeovers")
	b.ReportMetric(lost, "members-lost")
	bench.Report(b, nil, fmt.Sprintf("%s, %d busy loops: %.0f takeovers, %d of %d addresses moved, %.0f members lost, %d of %d new failed, %d of %d established broken",
		*busy, 2*runtime.NumCPU(), takeovers, changed, len(addrs), lost, found.failed, found.connections, found.broken, found.held))
}

// pass lets time go by, which is what is measured over.
func pass(d time.Duration) { <-time.After(d) }
