package bfd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"heraldlb.io/herald/e2etest/parts"
)

const inNamespace = "HERALD_TEST_NETNS"

// TestMain runs the tests in a network namespace of their own: the ports of the machine are not for tests.
func TestMain(m *testing.M) {
	if os.Getenv(busyProcess) != "" {
		spin(context.Background())
	}
	if os.Getenv(inNamespace) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	parts.FetchRouters(os.Stderr)
	runtime.LockOSThread() // Pdeathsig is sent when the thread that started the child ends
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run the tests in a network namespace:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// The addresses of a link: the node's, and the router's.
var (
	node4, router4   = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	node6, router6   = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	nodeLL, routerLL = netip.MustParseAddr("fe80::1%rt"), netip.MustParseAddr("fe80::2%rt")
)

// router is a host at the other end of the link rt, in a network namespace of its own.
type router struct {
	t    testing.TB
	ns   netns.NsHandle
	nl   *netlink.Handle
	link netlink.Link // our end
}

func newRouter(t testing.TB) *router {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("needs root: makes network namespaces")
	}
	r := &router{t: t}
	r.onThread(func() (err error) {
		r.ns, err = netns.New()
		return err
	})
	t.Cleanup(func() { r.ns.Close() })
	nl, err := netlink.NewHandleAt(r.ns)
	check(t, err)
	t.Cleanup(nl.Close)
	r.nl = nl

	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "rt"}, PeerName: "rt", PeerNamespace: netlink.NsFd(r.ns)}
	check(t, netlink.LinkAdd(veth))
	t.Cleanup(func() { _ = netlink.LinkDel(veth) }) // a test may have removed it
	r.link, err = netlink.LinkByName("rt")
	check(t, err)
	there, err := nl.LinkByName("rt")
	check(t, err)
	for _, a := range []netip.Addr{node4, node6, nodeLL} {
		check(t, netlink.AddrAdd(r.link, address(t, a)))
	}
	for _, a := range []netip.Addr{router4, router6, routerLL} {
		check(t, nl.AddrAdd(there, address(t, a)))
	}
	check(t, nl.LinkSetUp(there))
	check(t, netlink.LinkSetUp(r.link))
	lo, err := nl.LinkByName("lo")
	check(t, err)
	check(t, nl.LinkSetUp(lo))
	eventually(t, "the link is up", func() bool {
		here, errHere := netlink.LinkByName("rt")
		there, errThere := nl.LinkByName("rt")
		check(t, errors.Join(errHere, errThere))
		return here.Attrs().OperState == netlink.OperUp && there.Attrs().OperState == netlink.OperUp
	})
	return r
}

// address makes an address that is used at once, without duplicate address detection.
func address(t testing.TB, a netip.Addr) *netlink.Addr {
	t.Helper()
	bits := 24
	if a.Is6() {
		bits = 64
	}
	out, err := netlink.ParseAddr(netip.PrefixFrom(a.WithZone(""), bits).String())
	check(t, err)
	if a.Is6() {
		out.Flags = unix.IFA_F_NODAD
	}
	return out
}

// onThread runs f on a thread that ends with it, so that its namespace can be changed.
func (r *router) onThread(f func() error) {
	r.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	check(r.t, <-done)
}

// in runs f in the router's namespace; sockets that it opens and processes that it starts stay there.
func (r *router) in(f func() error) {
	r.t.Helper()
	r.onThread(func() error {
		if err := netns.Set(r.ns); err != nil {
			return err
		}
		return f()
	})
}

// cut takes the router off the link, or gives it back.
func (r *router) cut(off bool) {
	r.t.Helper()
	there, err := r.nl.LinkByName("rt")
	check(r.t, err)
	if off {
		check(r.t, r.nl.LinkSetDown(there))
	} else {
		check(r.t, r.nl.LinkSetUp(there))
	}
}

// watcher is a Monitor and what it has told.
type watcher struct {
	*Monitor
	t   testing.TB
	reg *prometheus.Registry

	mu      sync.Mutex
	changes []Change
}

// watch runs a Monitor on this side of the link.
func watch(t testing.TB) *watcher { return watchIn(t, preferLatency) }

// watch runs a Monitor on the router's side.
func (r *router) watch() *watcher {
	return watchIn(r.t, func() {
		if err := netns.Set(r.ns); err != nil {
			panic(err) // the tests that follow would be about another namespace
		}
		preferLatency()
	})
}

func watchIn(t testing.TB, prepare func()) *watcher {
	t.Helper()
	w := &watcher{t: t, reg: prometheus.NewRegistry()}
	m, err := start(log.NewNopLogger(), w.reg, func(c Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.changes = append(w.changes, c)
	}, prepare)
	check(t, err)
	w.Monitor = m
	t.Cleanup(func() { check(t, m.Close()) })
	return w
}

// agrees waits until a session's two sides keep this interval, with the tests' multiplier.
func (w *watcher) agrees(t *testing.T, d daemon, peer netip.Addr, interval time.Duration) {
	t.Helper()
	var now Status
	for deadline := time.Now().Add(10 * time.Second); now.State != Up || now.Interval != interval || now.DetectionTime != multiplier*interval; time.Sleep(time.Millisecond) {
		if now, _ = w.State(peer); time.Now().After(deadline) {
			state, details := d.sees()
			t.Fatalf("waited 10 s for %v to agree on %v: %+v; the router sees %s, %s", peer, interval, now, state, details)
		}
	}
}

// is waits until the session with a peer is in a state, and returns its status.
func (w *watcher) is(peer netip.Addr, want State) Status {
	w.t.Helper()
	var s Status
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if s, _ = w.State(peer); s.State == want {
			return s
		}
	}
	w.t.Fatalf("waited 10 s for the session with %v to be %v; it stands at %+v", peer, want, s)
	return s
}

// told waits until exactly these changes were told since told was called last.
func (w *watcher) told(want ...State) []Change {
	w.t.Helper()
	var got []Change
	for deadline := time.Now().Add(10 * time.Second); len(got) < len(want) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		w.mu.Lock()
		got = slices.Clone(w.changes)
		w.mu.Unlock()
	}
	if !slices.EqualFunc(got, want, func(c Change, s State) bool { return c.State == s }) {
		w.t.Fatalf("told %+v in 10 s, want %v", got, want)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = w.changes[len(got):]
	return got
}

// metric adds up the values of a counter or gauge whose label has one of these values.
func (w *watcher) metric(name string, label ...string) float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	check(w.t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				if !slices.Contains(label, m.GetLabel()[0].GetValue()) {
					continue
				}
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// The pace of the tests: fast, and slow enough for a machine that is busy with other things too.
const (
	quick      = 100 * time.Millisecond
	multiplier = 5
)

// every is a profile of the same interval in both directions.
func every(d time.Duration) Profile {
	return Profile{ReceiveInterval: d, TransmitInterval: d, DetectMultiplier: multiplier, MinimumTTL: 254}
}

// failed checks when and why a session went down whose peer fell silent at a time.
func (c Change) failed(t testing.TB, silent time.Time) {
	t.Helper()
	const slack = 500 * time.Millisecond // of a busy machine
	// What was heard last may have come an interval before, and on a busy machine two.
	if took := c.Time.Sub(silent); took < (multiplier-2)*quick || took > multiplier*quick+slack || c.Diagnostic != DetectionTimeExpired {
		t.Errorf("%v is down after %v with %v, want %v with %v", c.Peer, took, c.Diagnostic, multiplier*quick, DetectionTimeExpired)
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("waited 10 s for: %s", what)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
