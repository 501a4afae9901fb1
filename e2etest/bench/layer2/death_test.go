package layer2

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"heraldlb.io/herald/e2etest/bench/stage"
)

// BenchmarkNodeReturns counts the addresses that move when a node that was gone comes back.
func BenchmarkNodeReturns(b *testing.B) {
	for _, f := range stage.Faults {
		b.Run("nodes=3/addresses=99/"+f.Name, func(b *testing.B) {
			s := bench.on(b, 3)
			s.settle(b)
			addrs := s.services(b, "returns", 99, lanPool)
			total := 0
			for range seldom() {
				gone := s.owners(b, addrs)[addrs[0]]
				if err := f.Take(s.Lab, b.Context(), gone); err != nil {
					b.Fatal(err)
				}
				without := s.ownersBut(b, addrs, gone)
				w := s.watch(b, addrs, held)
				s.giveBack(b, f, gone)
				w.connects(b, 600) // three seconds of them, in which it would take its addresses back
				found := w.stop(b)
				bench.count(found, false)
				total += moved(without, s.owners(b, addrs))
			}
			b.ReportMetric(float64(total), "moved")
			bench.Report(b, nil, fmt.Sprintf("%d rounds: %d addresses moved", seldom(), total))
		})
	}
}

// ownersBut waits until a node that is gone owns nothing any more.
func (s *scene) ownersBut(b *testing.B, addrs []netip.Addr, gone string) map[netip.Addr]string {
	b.Helper()
	var owners map[netip.Addr]string
	until(b, func(context.Context) error {
		owners = s.owners(b, addrs)
		for addr, n := range owners {
			if n == gone {
				return fmt.Errorf("%s is still answered for by %s", addr, n)
			}
		}
		return nil
	})
	return owners
}

// BenchmarkDeath takes the node away that has an address, Herald's and keepalived's in turn, and measures how long no new
// connection could be opened.
func BenchmarkDeath(b *testing.B) {
	for _, n := range numbers(b, "nodes", *nodes) {
		for _, f := range stage.Faults {
			b.Run(fmt.Sprintf("nodes=%d/%s", n, f.Name), func(b *testing.B) {
				s := bench.on(b, n)
				s.settle(b)
				v4, v6 := s.dual(b, "death")
				s.keepalived(b)
				var ours, ours6, theirs []time.Duration
				for range *rounds {
					for addr, d := range s.die(b, f, v4, v6) {
						bench.count(d, false)
						if addr == v4 {
							ours = append(ours, d.gap)
						} else {
							ours6 = append(ours6, d.gap)
						}
					}
					theirs = append(theirs, s.die(b, f, vrrpAddress)[vrrpAddress].gap)
				}
				ratio := float64(stage.Quantile(ours, .5)) / float64(stage.Quantile(theirs, .5))
				b.ReportMetric(ratio, "herald/keepalived")
				b.ReportMetric(stage.Milliseconds(stage.Quantile(theirs, .5)), "keepalived-p50-ms")
				b.ReportMetric(stage.Milliseconds(stage.Quantile(ours6, .5)), "ipv6-p50-ms")
				bench.Report(b, ours, fmt.Sprintf("%.2f of keepalived's p50", ratio))
				bench.Add("  IPv6, in the same rounds", ours6, "")
				bench.Add("  keepalived, the same", theirs, "")
			})
		}
	}
}

// die takes the owner of the first of some addresses away, waits for another one, and gives the node back. It returns what
// was seen of each address that the node had.
func (s *scene) die(b *testing.B, f stage.Fault, addrs ...netip.Addr) map[netip.Addr]findings {
	b.Helper()
	pass(*pause)
	owners := s.owners(b, addrs)
	old := owners[addrs[0]]
	watches := map[netip.Addr]*watch{}
	for _, addr := range addrs {
		if owners[addr] == old {
			watches[addr] = s.watch(b, []netip.Addr{addr}, 0)
		}
	}
	if err := f.Take(s.Lab, b.Context(), old); err != nil {
		b.Fatal(err)
	}
	gone := time.Now()
	for _, w := range watches {
		w.connects(b, 200) // a second of them, in which another owner would show itself
	}
	found := map[netip.Addr]findings{}
	for addr, w := range watches {
		seen := w.stop(b)
		last, next := handover(w.asker.asked[addr].answers, old)
		fmt.Fprintf(os.Stderr, "%s %s: %s gone, gap %.0f ms; after it the last answer with its MAC %.0f ms and the first with %s's %.0f ms; the prober was held up for %.0f ms at most\n", time.Now().Format(time.TimeOnly),
			addr, old, stage.Milliseconds(seen.gap), stage.Milliseconds(last.at.Sub(gone)), next.node, stage.Milliseconds(next.at.Sub(gone)), stage.Milliseconds(seen.pause))
		found[addr] = seen
	}
	s.giveBack(b, f, old)
	return found
}

func (s *scene) giveBack(b *testing.B, f stage.Fault, nodes ...string) {
	b.Helper()
	var g errgroup.Group
	for _, n := range nodes {
		g.Go(func() error { return f.Give(s.Lab, context.Background(), n) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	for _, n := range nodes {
		if f.Kills && s.vrrp != nil {
			if err := s.vrrp.restart(n); err != nil {
				b.Fatal(err)
			}
		}
	}
	s.settle(b)
}
