package gossip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// ring makes a ring of so many members that are ready.
func (n *network) ring(size int, change func(*Config)) []*member {
	n.t.Helper()
	var ms []*member
	var all []Peer
	want := ""
	for i := range size {
		m := n.start(fmt.Sprintf("n%02d", i), change)
		ms, all = append(ms, m), append(all, m.peer)
		if want += m.peer.Node; i < size-1 {
			want += " "
		}
	}
	for _, m := range ms {
		m.Want(all)
	}
	for _, m := range ms {
		sees(n.t, m, want, 10*time.Second)
		ready(n.t, m)
	}
	return ms
}

// addresses returns so many, of IPv6, which take the most room.
func addresses(n int) []netip.Addr {
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
	}
	return out
}

// A node dies with 1,000 addresses: the others claim them, and everybody has to know.
func BenchmarkClaimsReachEverybody(b *testing.B) {
	for _, size := range []int{3, 7, 30} {
		b.Run(fmt.Sprintf("members=%d", size), func(b *testing.B) {
			ms := newNetwork(b).ring(size, nil)
			addrs := addresses(1000)
			var took []time.Duration
			epoch := uint64(0)
			for b.Loop() {
				epoch++
				start := time.Now()
				for i, m := range ms[1:] {
					var claims []Claim
					for j, addr := range addrs {
						if j%(size-1) == i {
							claims = append(claims, Claim{addr, m.peer.Node, epoch})
						}
					}
					m.Claim(claims)
				}
				for _, m := range ms {
					m.awaitEpoch(b, addrs, epoch)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-max")
		})
	}
}

// A node dies: when does the last of the others know?
func BenchmarkADeathIsKnown(b *testing.B) {
	for _, size := range []int{3, 7} {
		b.Run(fmt.Sprintf("members=%d", size), func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				ms := newNetwork(b).ring(size, nil)
				offering(b, ms)
				time.Sleep(time.Duration(rand.N(100)) * time.Millisecond)
				start := time.Now()
				ms[0].crash()
				for _, m := range ms[1:] {
					until(b, m, "dead", func(all []Member) bool { return len(all) == size-1 })
				}
				took = append(took, time.Since(start))
				for _, m := range ms {
					m.leave()
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-max")
		})
	}
}

// Every core has twice as much to do as it can: is anybody held for dead? Longer with -benchtime.
func BenchmarkFalseAlarms(b *testing.B) {
	const size = 5
	ms := newNetwork(b).ring(size, nil)
	offering(b, ms)
	for range 2 * runtime.NumCPU() {
		busy := exec.CommandContext(b.Context(), "sh", "-c", `while kill -0 "$1"; do :; done`, "sh", strconv.Itoa(os.Getpid())) // no longer than this process
		if err := busy.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { busy.Wait() }) // killed with the context
	}
	start := time.Now()
	away, seen := 0, 0
	for b.Loop() {
		time.Sleep(10 * time.Millisecond)
		for _, m := range ms {
			all := m.Members()
			seen += len(all)
			for _, x := range all {
				if x.Away {
					away++
				}
			}
			if len(all) < size {
				b.Logf("after %v %s sees %d members", time.Since(start), m.peer.Node, len(all))
			}
		}
	}
	lost := 0.0
	for _, m := range ms {
		lost += testutil.ToFloat64(m.metrics.leaves)
	}
	b.ReportMetric(lost, "lost")
	b.ReportMetric(100*float64(away)/float64(seen), "%away")
	b.ReportMetric(time.Since(start).Seconds(), "s")
}

func (m *member) awaitEpoch(tb testing.TB, addrs []netip.Addr, epoch uint64) {
	tb.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		n := 0
		for _, c := range m.claims.all() {
			if c.Epoch == epoch {
				n++
			}
		}
		if n == len(addrs) {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s has %d of %d claims", m.peer.Node, n, len(addrs))
		}
		time.Sleep(time.Millisecond)
	}
}

// What a member costs that has nothing to say.
func BenchmarkIdle(b *testing.B) {
	for _, claims := range []int{0, 10000} {
		b.Run(fmt.Sprintf("claims=%d", claims), func(b *testing.B) {
			const size = 5
			ms := newNetwork(b).ring(size, nil)
			var mine []Claim
			for _, addr := range addresses(claims) {
				mine = append(mine, Claim{addr, "n00", 1})
			}
			ms[0].Claim(mine)
			for _, m := range ms {
				m.awaitEpoch(b, addresses(claims), 1)
			}
			time.Sleep(time.Second)
			for b.Loop() {
				start, cpu := time.Now(), cpuTime()
				time.Sleep(10 * time.Second)
				b.ReportMetric(100*float64(cpuTime()-cpu)/float64(time.Since(start))/size, "%core/member")
			}
		})
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
