package bgp

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is another machine on a link of its own to us, in a network namespace of its own.
type host struct {
	t  *testing.T
	ns netns.NsHandle
	nl *netlink.Handle
}

// unlinkedHost makes one that has no link yet.
func unlinkedHost(t *testing.T) *host {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("needs root: makes network namespaces")
	}
	h := &host{t: t}
	h.thread(func() (err error) {
		h.ns, err = netns.New()
		return err
	})
	t.Cleanup(func() { h.ns.Close() })
	nl, err := netlink.NewHandleAt(h.ns)
	check(t, err)
	t.Cleanup(nl.Close)
	h.nl = nl
	lo, err := nl.LinkByName("lo")
	check(t, err)
	check(t, nl.LinkSetUp(lo))
	return h
}

// newHost makes one. We and it have the addresses given, with prefix lengths, on interfaces of the same name.
func newHost(t *testing.T, link string, ours, theirs []string) *host {
	t.Helper()
	h := unlinkedHost(t)
	nl := h.nl
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: link}, PeerName: link, PeerNamespace: netlink.NsFd(h.ns)}
	check(t, netlink.LinkAdd(veth))
	t.Cleanup(func() { _ = netlink.LinkDel(veth) }) // a test may have removed it
	here, err := netlink.LinkByName(link)
	check(t, err)
	there, err := nl.LinkByName(link)
	check(t, err)
	for _, a := range ours {
		check(t, netlink.AddrAdd(here, address(t, a)))
	}
	for _, a := range theirs {
		check(t, nl.AddrAdd(there, address(t, a)))
	}
	check(t, nl.LinkSetUp(there))
	check(t, netlink.LinkSetUp(here))
	return h
}

// behind makes another one on a link to this one, which forwards. They have the addresses given on it, with prefix lengths,
// and it reaches everything through the first of this one's.
func (h *host) behind(here, theirs []string) *host {
	h.t.Helper()
	far := unlinkedHost(h.t)
	h.in(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	check(h.t, h.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "far"}, PeerName: "far", PeerNamespace: netlink.NsFd(far.ns)}))
	for _, end := range []struct {
		nl        *netlink.Handle
		addresses []string
	}{{h.nl, here}, {far.nl, theirs}} {
		l, err := end.nl.LinkByName("far")
		check(h.t, err)
		for _, a := range end.addresses {
			check(h.t, end.nl.AddrAdd(l, address(h.t, a)))
		}
		check(h.t, end.nl.LinkSetUp(l))
	}
	check(h.t, far.nl.RouteAdd(&netlink.Route{Gw: address(h.t, here[0]).IP}))
	return far
}

// address parses an address that is used at once, without duplicate address detection.
func address(t *testing.T, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	check(t, err)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// thread runs f on a thread that ends with it, so that its namespace can be changed.
func (h *host) thread(f func() error) {
	h.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	check(h.t, <-done)
}

// in runs f in the host's namespace; sockets and processes that it starts stay there.
func (h *host) in(f func() error) {
	h.t.Helper()
	h.thread(func() error {
		if err := netns.Set(h.ns); err != nil {
			return err
		}
		return f()
	})
}

// run starts a program on the host, which ends with the test at the latest. stop kills it.
func (h *host) run(environment []string, program string, args ...string) (stop func()) {
	h.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), environment...)
	out, err := os.CreateTemp(h.t.TempDir(), "output")
	check(h.t, err)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	h.in(cmd.Start)
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group, which may have ended
		_ = cmd.Wait()                                      // with the signal
		out.Close()
	}
	h.t.Cleanup(func() {
		stop()
		if text, err := os.ReadFile(out.Name()); h.t.Failed() && err == nil {
			h.t.Logf("%s said:\n%s", program, text)
		}
	})
	return stop
}

// noRace skips a test that needs more than one GoBGP, or sessions that end while others are told something. GoBGP v4.8.0
// then races with itself: StartBgp sets variables of its package, always to the same values, and a session that ends
// writes over a configuration that others still read.
func noRace(t *testing.T) {
	t.Helper()
	if underRace {
		t.Skip("GoBGP has races of its own here")
	}
}

// testPatience bounds every wait: a machine with much else to do takes long, and a router that gave no reason is asked again after
// a minute.
const testPatience = 2 * time.Minute

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testPatience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("waited %s for: %s", testPatience, what)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
