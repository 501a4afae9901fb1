package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/app"
)

// stream is a server like the application's stream port; echo makes it one like the echo port.
type stream struct {
	listener net.Listener
	interval time.Duration
	echo     bool
	paused   atomic.Bool
	serving  sync.WaitGroup

	mu    sync.Mutex
	conns []*net.TCPConn
}

func startStream(t *testing.T, interval time.Duration) *stream {
	return serveStream(t, &stream{interval: interval})
}

func serveStream(t *testing.T, s *stream) *stream {
	t.Helper()
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	s.listener = l
	s.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c.(*net.TCPConn))
			s.mu.Unlock()
			s.serving.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		for _, c := range s.connections() {
			c.Close()
		}
		s.serving.Wait()
	})
	return s
}

func (s *stream) serve(c net.Conn) {
	defer c.Close()
	c.Write(app.Answer{Node: "n1", Pod: "p", ClientAddress: c.RemoteAddr().String(), Protocol: "TCP"}.Line())
	if s.echo {
		io.Copy(c, c)
		return
	}
	for n := 1; ; n++ {
		time.Sleep(s.interval)
		if s.paused.Load() {
			continue
		}
		if _, err := fmt.Fprintln(c, n); err != nil {
			return
		}
	}
}

func (s *stream) address() string { return s.listener.Addr().String() }

func (s *stream) connections() []*net.TCPConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*net.TCPConn(nil), s.conns...)
}

func hold(t *testing.T, config HoldConfig) *Holder {
	t.Helper()
	h, err := Hold(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Stop() })
	return h
}

func TestHeldConnectionsThatNobodyTouchesAreWhole(t *testing.T) {
	s := startStream(t, 5*time.Millisecond)
	h := hold(t, HoldConfig{Address: s.address(), Count: 20})
	time.Sleep(100 * time.Millisecond) // twenty lines each
	r := h.Stop()
	if len(r.Connections) != 20 || len(r.Breaks) != 0 || len(r.Stalls) != 0 {
		t.Errorf("%s: %v %v", r, r.Breaks, r.Stalls)
	}
	if c := r.Connections[0]; c.Node != "n1" || c.Pod != "p" || c.Remote != s.address() {
		t.Errorf("held %+v", c)
	}
	if r.Silence == 0 || r.Silence >= DefaultStall {
		t.Errorf("longest silence %s", r.Silence)
	}
	if again := h.Stop(); len(again.Breaks) != 0 {
		t.Errorf("its own closing is told as %v", again.Breaks)
	}
}

func TestBreaksAreCountedOneByOne(t *testing.T) {
	s := startStream(t, 5*time.Millisecond)
	h := hold(t, HoldConfig{Address: s.address(), Count: 5})
	conns := s.connections()
	reset, closed := conns[1], conns[3]
	if err := errors.Join(reset.SetLinger(0), reset.Close()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reset is seen", func() bool { return len(h.Report().Breaks) == 1 })
	if b := h.Report().Breaks[0]; !errors.Is(b.Err, syscall.ECONNRESET) || b.Local != reset.RemoteAddr().String() || b.Node != "n1" {
		t.Errorf("break %+v, want a reset of %s", b, reset.RemoteAddr())
	}
	if err := closed.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end is seen", func() bool { return len(h.Report().Breaks) == 2 })
	if b := h.Stop().Breaks[1]; b.Err != io.EOF || b.Local != closed.RemoteAddr().String() {
		t.Errorf("break %+v, want an orderly end of %s", b, closed.RemoteAddr())
	}
}

func TestSilenceIsAStallAndNoBreak(t *testing.T) {
	const stall = 150 * time.Millisecond
	s := startStream(t, 5*time.Millisecond)
	h := hold(t, HoldConfig{Address: s.address(), Count: 2, Stall: stall})
	s.paused.Store(true)
	began := time.Now()
	eventually(t, "both are silent", func() bool { return len(h.Report().Stalls) == 2 })
	if open := h.Report().Stalls[0]; !open.To.IsZero() {
		t.Errorf("the stall lasts, and is told to have ended at %s", open.To)
	}
	time.Sleep(outage - time.Since(began))
	s.paused.Store(false)
	lasted := time.Since(began)
	eventually(t, "both have ended", func() bool {
		r := h.Report()
		return len(r.Stalls) == 2 && !r.Stalls[0].To.IsZero() && !r.Stalls[1].To.IsZero()
	})
	r := h.Stop()
	for _, x := range r.Stalls {
		if length := x.To.Sub(x.From); length < outage-20*time.Millisecond || length > lasted+slack {
			t.Errorf("stall of %s, the silence was %s", length, lasted)
		}
	}
	if len(r.Breaks) != 0 {
		t.Errorf("breaks %v", r.Breaks)
	}
}

func TestEchoKeepsAQuietConnectionTalking(t *testing.T) {
	s := serveStream(t, &stream{echo: true})
	h := hold(t, HoldConfig{Address: s.address(), Count: 3, Echo: 5 * time.Millisecond, Stall: 500 * time.Millisecond})
	time.Sleep(700 * time.Millisecond) // without echo, longer than a stall
	if r := h.Report(); len(r.Stalls) != 0 || len(r.Breaks) != 0 {
		t.Errorf("%s: %v %v", r, r.Stalls, r.Breaks)
	}
	s.connections()[0].Close()
	eventually(t, "the break is seen", func() bool { return len(h.Report().Breaks) == 1 })
}

func TestHoldEstablishesAllOrNone(t *testing.T) {
	s := startStream(t, 5*time.Millisecond)
	var dialed atomic.Int32
	var last atomic.Pointer[net.Conn]
	_, err := Hold(t.Context(), HoldConfig{Address: s.address(), Count: 3, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if dialed.Add(1) == 3 {
			return nil, errors.New("no route")
		}
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			last.Store(&c)
		}
		return c, err
	}})
	if err == nil || !strings.Contains(err.Error(), "hold 3 connections to "+s.address()+": no route") {
		t.Errorf("error %v", err)
	}
	if _, err := (*last.Load()).Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection was left open (%v)", err)
	}
}
