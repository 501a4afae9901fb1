package bgp

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/probe"
)

// BenchmarkBusy keeps every core busy twice over and counts how often BFD took nodes from the router that were there, Herald's
// and then FRR's. The router's own BFD is as hard pressed.
func BenchmarkBusy(b *testing.B) {
	for _, ms := range []int{50, 300} {
		b.Run(fmt.Sprintf("bfd-%dms-x3", ms), func(b *testing.B) {
			s := set(b)
			s.Ready(b)
			theirTime := *frrBusy
			if theirTime == 0 {
				theirTime = *busy
			}
			ours := s.alarms(b, &herald{scene: s}, fast(ms), *busy)
			theirs := s.alarms(b, newFRR(b, s), fast(ms), theirTime)
			b.ReportMetric(float64(ours), "false-alarms")
			b.ReportMetric(float64(theirs), "FRR-false-alarms")
			bench.Report(b, nil, fmt.Sprintf("%s, %d busy loops: the router lost one of 3 nodes %d times; with FRR on the nodes, %s, %d times", *busy, 2*runtime.NumCPU(), ours, theirTime, theirs))
		})
	}
}

// alarms counts the nodes that the router lost while all cores were busy.
func (s *scene) alarms(b *testing.B, a announcer, w way, busy time.Duration) (lost int) {
	b.Helper()
	address := a.begin(b, w)
	defer a.end(b)
	watch := s.follow(b, address)
	idle := stage.Busy(b, 2*runtime.NumCPU())
	<-time.After(busy) // which is what is measured over
	idle()
	changes, err := watch.Stop()
	if err != nil {
		b.Fatal(err)
	}
	return vanished(changes)
}

// vanished counts the next hops that went, one by one.
func vanished(changes []probe.RouteChange) (n int) {
	for i := 1; i < len(changes); i++ {
		for _, hop := range changes[i-1].NextHops {
			if !slices.Contains(changes[i].NextHops, hop) {
				n++
			}
		}
	}
	return n
}

func TestNextHopsThatWentAreCountedOneByOne(t *testing.T) {
	a, c := netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12")
	changes := []probe.RouteChange{{NextHops: []netip.Addr{a, c}}, {NextHops: []netip.Addr{c}}, {NextHops: []netip.Addr{a, c}}, {}}
	if got := vanished(changes); got != 3 {
		t.Errorf("%d went, want 3", got)
	}
}
