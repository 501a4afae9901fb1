package bfd

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	busyProcess = "HERALD_TEST_BUSY" // set in a process that only keeps a core busy
	busyRound   = 20 * time.Second
)

// BenchmarkBusyNode measures how well an interval is held, with a multiplier of 3, in rounds of 20 s, with nothing else to do, with every core kept
// busy twice over by other processes, and with this process kept busy itself: the gaps between the packets that arrive,
// by the kernel's clock, and how often one of the two sides gave up.
func BenchmarkBusyNode(b *testing.B) {
	for _, c := range []struct {
		name              string
		interval          time.Duration
		processes, inside int
	}{
		{"idle/50ms", 50 * time.Millisecond, 0, 0},
		{"others/50ms", 50 * time.Millisecond, 2 * runtime.NumCPU(), 0},
		{"others/300ms", 300 * time.Millisecond, 2 * runtime.NumCPU(), 0},
		{"ourselves/50ms", 50 * time.Millisecond, 0, 2 * runtime.NumCPU()},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRouter(b)
			here, there := watch(b), r.watch()
			profile := every(c.interval)
			profile.DetectMultiplier = 3
			here.Set([]Session{{Peer: router4, Profile: profile}})
			there.Set([]Session{{Peer: node4, Profile: profile}})
			here.told(Up)
			there.told(Up)
			eventually(b, "the fast pace", func() bool {
				s, _ := here.State(router4)
				return s.Interval == c.interval
			})
			stop := busy(b, c.processes, c.inside)
			var gaps []time.Duration
			for b.Loop() {
				gaps = append(gaps, r.gaps(busyRound)...)
			}
			stop()
			slices.Sort(gaps)
			at := func(p float64) float64 { return gaps[int(p*float64(len(gaps)-1))].Seconds() * 1000 }
			alarms := here.metric("herald_bfd_session_failures_total", router4.String()) + there.metric("herald_bfd_session_failures_total", node4.String())
			b.ReportMetric(alarms, "false-alarms")
			b.ReportMetric(at(.5), "p50-gap-ms")
			b.ReportMetric(at(.99), "p99-gap-ms")
			b.ReportMetric(at(1), "max-gap-ms")
			b.ReportMetric(float64(len(gaps)), "packets")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// gaps looks at the packets of the node for a time, with the times at which the kernel saw them.
func (r *router) gaps(d time.Duration) []time.Duration {
	r.t.Helper()
	var out []time.Duration
	r.in(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
			return err
		}
		buf, control := make([]byte, 128), make([]byte, 128)
		var last time.Time
		for end := time.Now().Add(d); time.Now().Before(end); {
			_, n, _, _, err := unix.Recvmsg(fd, buf, control, 0)
			if err != nil {
				continue // a second without a packet shows in the gaps
			}
			at, err := timestamp(control[:n])
			if err != nil {
				return err
			}
			if !last.IsZero() {
				out = append(out, at.Sub(last))
			}
			last = at
		}
		return nil
	})
	return out
}

func timestamp(control []byte) (time.Time, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}, err
	}
	for _, m := range messages {
		if m.Header.Type == unix.SO_TIMESTAMPNS {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))), nil
		}
	}
	return time.Time{}, fmt.Errorf("a packet without a timestamp")
}

// busy keeps cores busy until the function that it returns is called.
func busy(b *testing.B, processes, inside int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range processes {
		cmd := exec.CommandContext(ctx, "/proc/self/exe")
		cmd.Env = append(os.Environ(), busyProcess+"="+strconv.Itoa(os.Getpid()))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		check(b, cmd.Start())
		all.Go(func() { _ = cmd.Wait() }) // says that it was killed
	}
	for range inside {
		all.Go(func() { spin(ctx) })
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// spin computes and allocates, so that the garbage collector has work too.
func spin(ctx context.Context) {
	var keep [][]byte
	for ctx.Err() == nil {
		keep = append(keep, make([]byte, 4096))
		if len(keep) > 4096 {
			keep = nil
		}
	}
}
