package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/app"
)

const (
	// patience is how long a test waits for what must come; nothing takes near it when all is well.
	patience = 10 * time.Second
	outage   = 300 * time.Millisecond
	// slack is by how much a measured outage may exceed the real one on a busy machine.
	slack = 500 * time.Millisecond
)

// loopback is an address that no outgoing connection uses, so that a port given up for a while is still free afterwards.
const loopback = "127.0.77.1"

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// web is an HTTP server that answers as the test application does.
type web struct {
	t       *testing.T
	node    string
	address string
	server  *http.Server
	hang    atomic.Pointer[chan struct{}] // while set, requests wait for it to close
	open    atomic.Int32                  // requests under way
	limit   int32                         // how many there may be; 0: any number
	over    atomic.Bool                   // there were more
}

func startWeb(t *testing.T, node string) *web {
	t.Helper()
	w := &web{t: t, node: node, address: loopback + ":0"}
	w.start()
	t.Cleanup(w.stop)
	return w
}

func (w *web) start() {
	w.t.Helper()
	l, err := net.Listen("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = l.Addr().String()
	w.server = &http.Server{Handler: w}
	go w.server.Serve(l)
}

func (w *web) stop() { w.server.Close() }

func (w *web) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	if n := w.open.Add(1); w.limit > 0 && n > w.limit {
		w.over.Store(true)
	}
	defer w.open.Add(-1)
	if hang := w.hang.Load(); hang != nil {
		select {
		case <-*hang:
		case <-r.Context().Done():
			return
		}
	}
	out.Write(app.Answer{Node: w.node, Pod: "p-" + w.node, ClientAddress: r.RemoteAddr, Protocol: r.Proto}.Line())
}

func wait(t *testing.T, c *Connector, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Wait(ctx, n); err != nil {
		t.Fatal(err)
	}
}

func TestConnectCountsWhoAnswers(t *testing.T) {
	w := startWeb(t, "n1")
	c := Connect(t.Context(), ConnectConfig{Address: w.address})
	wait(t, c, 20)
	r := c.Stop()
	if r.Successes < 20 || len(r.Failures) > 0 || r.Attempts != r.Successes || len(r.Samples) != r.Attempts {
		t.Errorf("%s: %d attempts, %d successes, failures %v", r, r.Attempts, r.Successes, r.Failures)
	}
	if len(r.Nodes) != 1 || r.Nodes[0].Node != "n1" || r.Nodes[0].Count != r.Successes || r.Samples[0].Pod != "p-n1" {
		t.Errorf("answered by %+v", r.Nodes)
	}
	if again := c.Stop(); again.Attempts != r.Attempts {
		t.Errorf("stopped, it went on from %d to %d attempts", r.Attempts, again.Attempts)
	}
}

func TestServerThatRefusesForAWhileShowsAGapOfThatLength(t *testing.T) {
	w := startWeb(t, "n1")
	c := Connect(t.Context(), ConnectConfig{Address: w.address})
	wait(t, c, 5)
	began := time.Now()
	w.stop()
	time.Sleep(outage)
	w.node = "n2"
	w.start()
	lasted := time.Since(began)
	wait(t, c, 5)
	r := c.Stop()
	for name, gap := range map[string]Gap{"completion": r.CompletionGap, "start": r.StartGap} {
		if gap.Length() < outage || gap.Length() > lasted+slack {
			t.Errorf("%s gap %s, the outage was %s to %s", name, gap, outage, lasted)
		}
		if gap.To.Before(began.Add(outage)) || gap.From.After(began.Add(slack)) {
			t.Errorf("%s gap %s, the outage began at %s", name, gap, began.Format("15:04:05.000"))
		}
	}
	if len(r.Failures) == 0 || !errors.Is(r.Failures[0].Err, syscall.ECONNREFUSED) && !errors.Is(r.Failures[0].Err, syscall.ECONNRESET) {
		t.Errorf("failures %v", r.Failures)
	}
	if len(r.Nodes) != 2 || r.Nodes[0].Node != "n1" || r.Nodes[1].Node != "n2" || r.Nodes[0].Last.After(r.Nodes[1].First) {
		t.Errorf("answered by %+v, want n1 and then n2", r.Nodes)
	}
	if window := r.FailureWindow().Length(); window <= 0 || window > lasted+slack {
		t.Errorf("failure window %s", r.FailureWindow())
	}
}

func TestAttemptsThatHangDoNotDelayTheNext(t *testing.T) {
	w := startWeb(t, "n1")
	c := Connect(t.Context(), ConnectConfig{Address: w.address, Timeout: 150 * time.Millisecond})
	wait(t, c, 5)
	hang := make(chan struct{})
	w.hang.Store(&hang)
	began := time.Now()
	eventually(t, "twenty attempts time out, each on its own", func() bool { return len(c.Report().Failures) >= 20 })
	lasted := time.Since(began)
	w.hang.Store(nil)
	wait(t, c, 5)
	close(hang)
	r := c.Stop()
	if !errors.Is(r.Failures[0].Err, os.ErrDeadlineExceeded) {
		t.Errorf("failed with %v, want a timeout", r.Failures[0].Err)
	}
	if lasted > 20*150*time.Millisecond {
		t.Errorf("twenty attempts of 150 ms took %s: they waited for each other", lasted)
	}
	if r.CompletionGap.Length() < 150*time.Millisecond {
		t.Errorf("gap %s, no answer came for %s", r.CompletionGap, lasted)
	}
}

func TestAttemptsUnderWayAreBounded(t *testing.T) {
	w := startWeb(t, "n1")
	hang := make(chan struct{})
	w.hang.Store(&hang)
	w.limit = 3
	c := Connect(t.Context(), ConnectConfig{Address: w.address, InFlight: 3, Timeout: patience})
	eventually(t, "attempts are skipped", func() bool { return c.Report().Skipped >= 10 })
	if w.over.Load() {
		t.Error("more than 3 attempts at once")
	}
	close(hang)
	if r := c.Stop(); r.Successes < 3 || len(r.Failures) > 0 {
		t.Errorf("%s: attempts under way were lost by Stop", r)
	}
}

func TestWaitSaysWhyItGaveUp(t *testing.T) {
	w := startWeb(t, "n1")
	w.stop()
	c := Connect(t.Context(), ConnectConfig{Address: w.address})
	defer c.Stop()
	eventually(t, "an attempt fails", func() bool { return len(c.Report().Failures) > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := c.Wait(ctx, 2)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "0 of 2") {
		t.Errorf("error %v", err)
	}
	c.Stop()
	if err := c.Wait(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("after Stop: %v", err)
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	w := startWeb(t, "n1")
	ctx, cancel := context.WithCancel(t.Context())
	c := Connect(ctx, ConnectConfig{Address: w.address})
	wait(t, c, 1)
	cancel()
	select {
	case <-c.stopped:
	case <-time.After(patience):
		t.Fatal("it goes on after its context ended")
	}
}

func TestHelloReadsTheGreeting(t *testing.T) {
	s := startStream(t, time.Millisecond)
	c := Connect(t.Context(), ConnectConfig{Address: s.address(), Exchange: Hello})
	wait(t, c, 5)
	if r := c.Stop(); len(r.Failures) > 0 || r.Nodes[0].Node != "n1" {
		t.Errorf("%s: %v", r, r.Failures)
	}
}

func TestForeignAnswersAreFailures(t *testing.T) {
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: http.NotFoundHandler()}
	go other.Serve(l)
	defer other.Close()
	c := Connect(t.Context(), ConnectConfig{Address: l.Addr().String()})
	eventually(t, "an attempt fails", func() bool { return len(c.Report().Failures) > 0 })
	if r := c.Stop(); r.Successes > 0 || !strings.Contains(r.Failures[0].Err.Error(), "404") {
		t.Errorf("%s: %v", r, r.Failures[0].Err)
	}
}

func TestDatagramsThatGoUnansweredShowAGap(t *testing.T) {
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(loopback+":0")))
	if err != nil {
		t.Fatal(err)
	}
	var silent atomic.Bool
	var serving sync.WaitGroup
	serving.Go(func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := socket.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			if silent.Load() {
				continue
			}
			line := app.Answer{Node: "n1", ClientAddress: from.String(), Protocol: "UDP"}.Line()
			socket.WriteToUDPAddrPort(append([]byte(nil), append(line, "stale"...)...), from)
			socket.WriteToUDPAddrPort(append(line, buffer[:n]...), from)
		}
	})
	t.Cleanup(func() { socket.Close(); serving.Wait() })
	c := Connect(t.Context(), ConnectConfig{Network: "udp", Address: socket.LocalAddr().String(), Timeout: 100 * time.Millisecond})
	wait(t, c, 5)
	silent.Store(true)
	began := time.Now()
	time.Sleep(outage)
	silent.Store(false)
	lasted := time.Since(began)
	wait(t, c, 5)
	r := c.Stop()
	if gap := r.StartGap.Length(); gap < outage || gap > lasted+slack {
		t.Errorf("gap %s, the silence was %s to %s", r.StartGap, outage, lasted)
	}
	if len(r.Failures) == 0 || !errors.Is(r.Failures[0].Err, os.ErrDeadlineExceeded) {
		t.Errorf("failures %v", r.Failures)
	}
}
