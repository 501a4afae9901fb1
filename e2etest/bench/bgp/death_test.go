package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/probe"
)

// BenchmarkDeath takes one of three nodes away to which the router spreads connections, Herald's and then FRR's, and measures
// how long some of the new ones failed and how long the router had the dead path.
func BenchmarkDeath(b *testing.B) {
	for _, w := range []way{byBFD, byHoldTimer} {
		for _, f := range stage.Faults {
			b.Run(w.name+"/"+f.Name, func(b *testing.B) {
				s := set(b)
				s.Ready(b)
				ours := s.deaths(b, &herald{scene: s}, w, f)
				theirs := s.deaths(b, newFRR(b, s), w, f)
				ratio := float64(stage.Quantile(ours.windows, .5)) / float64(stage.Quantile(theirs.windows, .5))
				b.ReportMetric(ratio, "herald/frr")
				bench.Report(b, ours.windows, fmt.Sprintf("%s; %.2f of FRR's p50", ours.failures(), ratio))
				bench.Add("  dead path gone from the router", ours.gone, "")
				bench.Add("  FRR, the same: failures", theirs.windows, theirs.failures())
				bench.Add("  FRR: dead path gone from the router", theirs.gone, "")
			})
		}
	}
}

// deaths are what was seen when nodes died.
type deaths struct {
	windows []time.Duration // from the first failed new connection to the last
	gone    []time.Duration // from the order for the fault until the router had the dead path no more
	failed  []int
}

func (d deaths) failures() string {
	slices.Sort(d.failed)
	return fmt.Sprintf("%d to %d of the new connections failed, %d in the middle", d.failed[0], d.failed[len(d.failed)-1], d.failed[len(d.failed)/2])
}

// deaths takes one node after the other away from an announcer.
func (s *scene) deaths(b *testing.B, a announcer, w way, f stage.Fault) (all deaths) {
	b.Helper()
	address := a.begin(b, w)
	defer a.end(b)
	nodes := s.Nodes()
	for i := range *rounds {
		node := nodes[i%len(nodes)]
		s.routed(b, address, nodes...)
		watch, connector := s.follow(b, address), s.connect(b, address)
		wait(b, connector, 100)
		ordered := time.Now()
		if err := f.Take(s.Lab, b.Context(), node); err != nil {
			b.Fatal(err)
		}
		dead := s.Host(node).IPv4
		stage.Until(b, func(ctx context.Context) error {
			_, err := watch.Wait(ctx, func(hops []netip.Addr) bool { return len(hops) > 0 && !slices.Contains(hops, dead) })
			return err
		})
		wait(b, connector, 100)
		report := connector.Stop()
		changes, err := watch.Stop()
		if err != nil {
			b.Fatal(err)
		}
		gone := changes[slices.IndexFunc(changes, func(c probe.RouteChange) bool { return !slices.Contains(c.NextHops, dead) })].At.Sub(ordered)
		window := report.FailureWindow().Length()
		fmt.Fprintf(os.Stderr, "%s %T %s %s: %s gone, failures for %.0f ms (%d), dead path gone after %.0f ms, next hops changed %d times; the prober was held up for %.0f ms at most\n",
			time.Now().Format(time.TimeOnly), a, w.name, f.Name, node, stage.Milliseconds(window), len(report.Failures), stage.Milliseconds(gone), len(changes)-1, stage.Milliseconds(report.Pause))
		all.windows, all.gone, all.failed = append(all.windows, window), append(all.gone, gone), append(all.failed, len(report.Failures))
		if err := f.Give(s.Lab, context.Background(), node); err != nil {
			b.Fatal(err)
		}
		if f.Kills {
			a.again(b, node)
		}
		s.Ready(b)
		s.routed(b, address, nodes...)
		if w.bfd > 0 {
			a.watched(b)
		}
	}
	return all
}
