package servicepath

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
)

func TestWhatTheAnswersAmountTo(t *testing.T) {
	for _, tc := range []struct {
		name    string
		certain bool
		answers string // w well, b badly, . not at all
		want    string // down or up after each
	}{
		{"it works", true, "www", "uuu"},
		{"two failures are none", true, "wbbwb.w", "uuuuuuu"},
		{"three in a row are one, of either kind", true, "wb.b.bw", "uuudddu"},
		{"down from the start, where there must be one", true, "....w", "uudd" + "u"},
		{"nobody is there to ask", false, "......", "uuuuuu"},
		{"somebody was, and is no more", false, "..w...w", "uuuuudu"},
		{"somebody is there and never well", false, ".bbbb", "uuudd"},
	} {
		s := state{certain: tc.certain}
		var got strings.Builder
		for _, a := range tc.answers {
			was := s.down
			if changed := s.observe(a == 'w', a != '.'); changed != (s.down != was) {
				t.Errorf("%s: a change was told as %t", tc.name, changed)
			}
			got.WriteByte(map[bool]byte{true: 'd', false: 'u'}[s.down])
		}
		if got.String() != tc.want {
			t.Errorf("%s: %s became %s, want %s", tc.name, tc.answers, got.String(), tc.want)
		}
	}
}

func TestWhomToAsk(t *testing.T) {
	node := netip.MustParseAddr("2001:db8::11")
	for in, want := range map[string]string{
		"off":                            "",
		"auto":                           "http://127.0.0.1:10256/healthz http://[::1]:10256/healthz http://[2001:db8::11]:10256/healthz",
		"https://127.0.0.1:9879/healthz": "https://127.0.0.1:9879/healthz",
	} {
		target, err := Parse(in)
		if got := strings.Join(target.urls(node), " "); err != nil || got != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "on", "127.0.0.1:10256", "ftp://127.0.0.1/", "http://", "http://%zz"} {
		if _, err := Parse(in); err == nil || !strings.Contains(err.Error(), "want auto, off, or a URL") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// kubeProxy answers on a network of its own, in driven time.
type kubeProxy struct {
	status atomic.Int32 // 0: it hangs
	asked  atomic.Int32
}

func (k *kubeProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.asked.Add(1)
	status := int(k.status.Load())
	if status == 0 {
		<-r.Context().Done()
		return
	}
	w.WriteHeader(status)
}

func TestTheServicePathIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kubeProxy{}
		target, err := Parse("http://kube-proxy/healthz")
		if err != nil {
			t.Fatal(err)
		}
		p := New(target, netip.Addr{}, log.NewNopLogger(), prometheus.NewRegistry())
		p.client.Transport = &http.Transport{DialContext: pipes(t, k)}
		var down atomic.Bool
		var reports atomic.Int32
		k.status.Store(200)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.Run(ctx, func(d bool) { down.Store(d); reports.Add(1) })
		}()
		for _, step := range []struct {
			name   string
			status int32
			wait   time.Duration
			down   bool
		}{
			{"it works", 200, 10 * time.Second, false},
			{"its node is about to be deleted", 503, 2 * time.Second, false},
			{"for three seconds", 503, time.Second, true},
			{"it works again", 200, time.Second, false},
			{"it hangs", 0, 2500 * time.Millisecond, false},
			{"for three seconds", 0, 1500 * time.Millisecond, true},
		} {
			k.status.Store(step.status)
			time.Sleep(step.wait)
			synctest.Wait()
			if down.Load() != step.down {
				t.Errorf("%s: down is %t", step.name, down.Load())
			}
		}
		stop()
		<-done
		if n := k.asked.Load(); n < 18 || n > 20 || reports.Load() != 3 {
			t.Errorf("asked %d times in 19 s, %d reports", n, reports.Load())
		}
	})
}

// pipes dials a handler over pipes.
func pipes(t *testing.T, h http.Handler) func(context.Context, string, string) (net.Conn, error) {
	l := &listener{conns: make(chan net.Conn)}
	l.ctx, l.cancel = context.WithCancel(t.Context())
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case l.conns <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type listener struct {
	conns  chan net.Conn
	ctx    context.Context
	cancel context.CancelFunc
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { l.cancel(); return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func TestTheFirstThatAnswersIsKeptTo(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	silent := httptest.NewServer(http.NotFoundHandler())
	silent.Close()
	p := New(Target{auto: true}, netip.Addr{}, log.NewNopLogger(), prometheus.NewRegistry())
	p.urls = []string{silent.URL, srv.URL}
	if answered, err := p.ask(t.Context()); !answered || err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("%v, %t", err, answered)
	}
	srv.Close()
	if answered, err := p.ask(t.Context()); answered || err == nil || !strings.Contains(err.Error(), srv.URL) {
		t.Errorf("once it is gone: %v, %t", err, answered)
	}
}
