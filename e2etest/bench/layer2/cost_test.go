package layer2

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"heraldlb.io/herald/e2etest/lab"
)

const (
	foreignRate = 20_000 // ARP requests a second
	foreignFor  = 10 * time.Second
	// foreignTurns is how often an idle link and a busy one are compared, in turn.
	foreignTurns = 3
)

// BenchmarkForeignARP compares the processor time of the speakers while 20,000 requests a second go by that are none of
// their business with that on an idle link.
func BenchmarkForeignARP(b *testing.B) {
	s := bench.on(b, 3)
	s.settle(b)
	s.services(b, "foreign", 20, lanPool)
	var idle, flooded, rate float64
	for range foreignTurns {
		idle += s.speakersCPU(b, func() { pass(foreignFor) }) / foreignTurns
		flooded += s.speakersCPU(b, func() { rate += float64(s.flood(b)) / foreignFor.Seconds() / foreignTurns }) / foreignTurns
	}
	b.ReportMetric(idle, "idle-%")
	b.ReportMetric(flooded, "flooded-%")
	b.ReportMetric(rate, "requests/s")
	bench.Report(b, nil, fmt.Sprintf("a speaker takes %.2f %% of a core with %.0f foreign requests/s, %.2f %% without", flooded, rate, idle))
}

// speakersCPU is what a speaker takes while f runs, in percent of a core, on average over the nodes.
func (s *scene) speakersCPU(b *testing.B, f func()) float64 {
	b.Helper()
	before, began := s.sum(b, "process_cpu_seconds_total"), time.Now()
	f()
	used, took := s.sum(b, "process_cpu_seconds_total")-before, time.Since(began)
	return 100 * used / took.Seconds() / float64(len(s.Nodes()))
}

// flood broadcasts requests for an address outside all pools, in bursts of a millisecond's worth, and returns how many.
func (s *scene) flood(b *testing.B) (sent int) {
	b.Helper()
	frame, err := arpQuestion(s.Host(lab.Client).MAC, s.Host(lab.Client).IPv4, netip.MustParseAddr("192.0.2.253"))
	if err != nil {
		b.Fatal(err)
	}
	var conn *packet.Conn
	err = s.InNet(lab.Client, func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err == nil {
			conn, err = packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), foreignFor)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for ctx.Err() == nil {
		for due := int(time.Since(began).Seconds() * foreignRate); sent < due; sent++ {
			if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: ethernet.Broadcast}); err != nil {
				b.Fatal(err)
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return sent
}

// BenchmarkMemory tells how much memory a speaker takes with many Services, of which it announces its part.
func BenchmarkMemory(b *testing.B) {
	s := bench.on(b, 3)
	s.settle(b)
	s.restart(b) // what earlier benchmarks used is none of these Services' business
	before := s.memory(b)
	s.services(b, "memory", *many, widePool)
	pass(10 * time.Second) // for the garbage of their arrival
	after := s.memory(b)
	b.ReportMetric(after, "MiB")
	bench.Report(b, nil, fmt.Sprintf("the largest speaker has %.0f MiB resident with %d Services, %.0f MiB before", after, *many, before))
}

// memory is what the largest speaker has resident, in MiB.
func (s *scene) memory(b *testing.B) (largest float64) {
	b.Helper()
	until(b, func(ctx context.Context) error {
		largest = 0
		for _, n := range s.Nodes() {
			m, err := s.Metrics(ctx, n)
			if err != nil {
				return err
			}
			largest = max(largest, m["process_resident_memory_bytes"]/(1<<20))
		}
		return nil
	})
	return largest
}
