package layer2

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/probe"
)

// spread is to how many addresses connections are opened at most. The kernel's table of neighbors, which all namespaces
// of the machine share, has room for about a thousand; ARP questions, which do not pass through it, go to all addresses.
const spread = 32

// held is how many established connections are watched where they are expected to live.
const held = 20

// watch is all that looks at some addresses during a round.
type watch struct {
	connector *probe.Connector
	holder    *probe.Holder // nil: established connections are not looked at
	asker     *asker
}

// findings are what a watch has seen.
type findings struct {
	connections, failed int
	reasons             map[string]int // of the failures
	gap                 time.Duration  // the longest time in which no new connection could be opened
	pause               time.Duration  // the longest that the prober itself was held up
	held, broken        int            // established connections; broken are those that fell silent for good too
	questions           int
	silences            int // addresses that nobody answered for during more than a second, and how often
	silence             time.Duration
	doubled             int
	doubledFor          time.Duration
}

// watch begins to look: a new connection every 5 ms, questions, and n established connections, spread over the addresses.
func (s *scene) watch(b *testing.B, addrs []netip.Addr, n int) *watch {
	b.Helper()
	w := &watch{connector: probe.Connect(b.Context(), probe.ConnectConfig{Dial: s.around(addrs, 80), Address: "any"})}
	b.Cleanup(func() { w.connector.Stop() })
	var err error
	if n > 0 {
		if w.holder, err = probe.Hold(b.Context(), probe.HoldConfig{Dial: s.around(addrs, app.StreamPort), Address: "any", Count: n}); err != nil {
			b.Fatal(err)
		}
	}
	if w.asker, err = s.ask(addrs); err != nil {
		b.Fatal(err)
	}
	w.connects(b, 50)
	return w
}

// around dials the addresses in turn.
func (s *scene) around(addrs []netip.Addr, port uint16) probe.DialFunc {
	dial := s.Dialer(lab.Client)
	var turn atomic.Uint64
	step := max(len(addrs)/spread, 1)
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		i := int(turn.Add(1)) * step % len(addrs)
		return dial(ctx, network, netip.AddrPortFrom(addrs[i], port).String())
	}
}

// connects waits until n more connections have been opened.
func (w *watch) connects(b *testing.B, n int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.connector.Wait(ctx, n); err != nil {
		b.Fatal(err)
	}
}

// stop ends the watch.
func (w *watch) stop(b *testing.B) findings {
	b.Helper()
	var f findings
	asked, err := w.asker.stop()
	if err != nil {
		b.Error(err)
	}
	if w.holder != nil {
		r := w.holder.Stop()
		f.held, f.broken = len(r.Connections), len(r.Breaks)
		for _, stall := range r.Stalls {
			if stall.To.IsZero() && !brokenLater(r, stall) {
				f.broken++
			}
		}
	}
	r := w.connector.Stop()
	f.reasons = reasons(r.Failures)
	f.connections, f.failed, f.gap, f.pause = r.Attempts, len(r.Failures), r.StartGap.Length(), r.Pause
	for _, d := range asked.asked {
		count, longest := silences(d.asked, d.answers, asked.ended)
		double := doubled(d.answers)
		f.questions += len(d.asked)
		f.silences += count
		f.silence = max(f.silence, longest)
		f.doubled += double
		f.doubledFor += time.Duration(double) * asked.every
	}
	return f
}

// reasons counts failures by what they end with, which is what went wrong whichever port and address it was.
func reasons(failures []probe.Sample) map[string]int {
	n := map[string]int{}
	for _, f := range failures {
		text := f.Err.Error()
		n[text[strings.LastIndex(text, ": ")+1:]]++
	}
	return n
}

// brokenLater tells whether a connection that fell silent is among those that broke.
func brokenLater(r probe.HoldReport, stall probe.Stall) bool {
	for _, broken := range r.Breaks {
		if broken.Local == stall.Local {
			return true
		}
	}
	return false
}

// totals are the findings of several rounds.
type totals struct{ findings }

func (t *totals) add(f findings) {
	t.connections += f.connections
	t.failed += f.failed
	for reason, n := range f.reasons {
		if t.reasons == nil {
			t.reasons = map[string]int{}
		}
		t.reasons[reason] += n
	}
	t.held += f.held
	t.broken += f.broken
	t.questions += f.questions
	t.silences += f.silences
	t.silence = max(t.silence, f.silence)
	t.doubled += f.doubled
}

// report makes a row of rounds that are expected to go unnoticed.
func (t totals) report(b *testing.B, rounds int) {
	b.Helper()
	if t.failed > 0 {
		b.Logf("failed: %v", t.reasons)
	}
	b.ReportMetric(float64(t.failed), "failed")
	b.ReportMetric(float64(t.broken), "broken")
	b.ReportMetric(float64(t.silences), "unanswered")
	bench.Report(b, nil, fmt.Sprintf("%d rounds: %d of %d new failed, %d of %d established broken, %d times unanswered > 1 s, longest %.0f ms",
		rounds, t.failed, t.connections, t.broken, t.held, t.silences, stage.Milliseconds(t.silence)))
}

// reachable waits until the application answers at an address.
func (s *scene) reachable(b *testing.B, addr netip.Addr) {
	b.Helper()
	dial := s.Dialer(lab.Client)
	until(b, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		conn, err := dial(ctx, "tcp", netip.AddrPortFrom(addr, 80).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		deadline, _ := ctx.Deadline()
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
		_, err = probe.HTTP(conn)
		return err
	})
}
