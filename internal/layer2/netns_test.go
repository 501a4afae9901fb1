package layer2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/mdlayher/packet"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const inNamespace = "HERALD_TEST_NETNS"

// TestMain runs the tests in a network namespace of their own: an Announcer uses the interfaces of its process, and
// those of the machine are not for tests.
func TestMain(m *testing.M) {
	if args := os.Getenv(floodEnv); args != "" {
		if err := floodMain(args); err != nil {
			fmt.Fprintln(os.Stderr, "flood:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(inNamespace) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
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

func needNamespace(t testing.TB) {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("needs root: makes network namespaces")
	}
}

// neighbor is another host on the links of a test, in a network namespace of its own.
type neighbor struct {
	t  testing.TB
	ns netns.NsHandle
	nl *netlink.Handle
}

func newNeighbor(t testing.TB) *neighbor {
	t.Helper()
	needNamespace(t)
	n := &neighbor{t: t}
	onThread(t, func() (err error) {
		n.ns, err = netns.New()
		return err
	})
	t.Cleanup(func() { n.ns.Close() })
	nl, err := netlink.NewHandleAt(n.ns)
	check(t, err)
	t.Cleanup(nl.Close)
	n.nl = nl
	return n
}

// onThread runs f on a thread that ends with it, so that its namespace can be changed.
func onThread(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	check(t, <-done)
}

// in runs f in the neighbor's namespace; sockets that it opens stay there.
func (n *neighbor) in(f func() error) {
	n.t.Helper()
	onThread(n.t, func() error {
		if err := netns.Set(n.ns); err != nil {
			return err
		}
		return f()
	})
}

// connect makes a link between us and the neighbor: name here, the same name there.
func (n *neighbor) connect(name string, mac net.HardwareAddr, ours, theirs []string) {
	t := n.t
	t.Helper()
	veth := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: name, HardwareAddr: mac},
		PeerName:         name,
		PeerHardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0xff, mac[5]},
		PeerNamespace:    netlink.NsFd(n.ns),
	}
	check(t, netlink.LinkAdd(veth))
	t.Cleanup(func() { _ = netlink.LinkDel(veth) }) // a test may have removed it
	here, err := netlink.LinkByName(name)
	check(t, err)
	there, err := n.nl.LinkByName(name)
	check(t, err)
	for _, a := range ours {
		check(t, netlink.AddrAdd(here, address(t, a)))
	}
	for _, a := range theirs {
		check(t, n.nl.AddrAdd(there, address(t, a)))
	}
	check(t, n.nl.LinkSetUp(there))
	check(t, netlink.LinkSetUp(here))
}

// address parses an address that is used at once, without duplicate address detection.
func address(t testing.TB, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	check(t, err)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// carrier takes the carrier of the link away or gives it back.
func (n *neighbor) carrier(name string, on bool) {
	n.t.Helper()
	l, err := n.nl.LinkByName(name)
	check(n.t, err)
	if on {
		check(n.t, n.nl.LinkSetUp(l))
	} else {
		check(n.t, n.nl.LinkSetDown(l))
	}
}

// resolve makes the neighbor's kernel find the MAC of addr, and returns it.
func (n *neighbor) resolve(addr string) net.HardwareAddr {
	n.t.Helper()
	var mac net.HardwareAddr
	eventually(n.t, "the neighbor's kernel resolves "+addr, func() bool {
		n.in(func() error {
			c, err := net.Dial("udp", net.JoinHostPort(addr, "9"))
			if err != nil {
				return nil // no route yet; asked again
			}
			defer c.Close()
			_, _ = c.Write([]byte("x")) // only its resolution matters
			return nil
		})
		mac = n.knows(addr)
		return mac != nil
	})
	return mac
}

// knows returns the MAC that the neighbor's kernel has for addr, nil when it has none.
func (n *neighbor) knows(addr string) net.HardwareAddr {
	n.t.Helper()
	all, err := n.nl.NeighList(0, netlink.FAMILY_ALL)
	check(n.t, err)
	for _, e := range all {
		if e.IP.Equal(net.ParseIP(addr)) && e.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE|netlink.NUD_NONE) == 0 && len(e.HardwareAddr) == 6 {
			return e.HardwareAddr
		}
	}
	return nil
}

// believe makes the neighbor's kernel think that addr is reached at mac, as after some traffic with another owner.
func (n *neighbor) believe(name, addr string, mac net.HardwareAddr) {
	n.t.Helper()
	l, err := n.nl.LinkByName(name)
	check(n.t, err)
	check(n.t, n.nl.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: net.ParseIP(addr), HardwareAddr: mac, State: netlink.NUD_STALE}))
}

// wire is a socket that sends and sees every frame at the neighbor's end of a link.
type wire struct {
	t      testing.TB
	conn   *packet.Conn
	mac    net.HardwareAddr
	frames chan []byte
}

func (n *neighbor) tap(name string) *wire {
	n.t.Helper()
	w := &wire{t: n.t, frames: make(chan []byte, 4096)}
	n.in(func() error {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		w.mac = ifi.HardwareAddr
		w.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	n.t.Cleanup(func() { w.conn.Close() })
	go func() {
		for {
			buf := make([]byte, 2048)
			read, _, err := w.conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if string(buf[6:12]) == string(w.mac) {
				continue // sent by this end
			}
			select {
			case w.frames <- buf[:read]:
			default: // a test that does not look misses frames
			}
		}
	}()
	return w
}

func (w *wire) send(frame []byte) {
	w.t.Helper()
	_, err := w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
	check(w.t, err)
}

// until returns the frames that come up to the first that matches, which is the last of them.
func (w *wire) until(what string, match func(frame []byte) bool) [][]byte {
	w.t.Helper()
	var seen [][]byte
	deadline := time.After(10 * time.Second)
	for {
		select {
		case f := <-w.frames:
			seen = append(seen, f)
			if match(f) {
				return seen
			}
		case <-deadline:
			w.t.Fatalf("waited 10 s for %s; saw %d other frames", what, len(seen))
		}
	}
}

// start runs an Announcer until the test ends.
func start(t testing.TB) *Announcer {
	t.Helper()
	return startWith(t, Config{})
}

func startWith(t testing.TB, c Config) *Announcer {
	t.Helper()
	a := New(c, log.NewNopLogger(), prometheus.NewRegistry())
	done := make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(done)
		a.Run(ctx)
	}()
	t.Cleanup(func() {
		select { // t.Context is done when cleanups run
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("the announcer did not stop")
		}
	})
	return a
}

// usesInterface waits until the announcer can announce on the interface, or no longer can.
func usesInterface(t testing.TB, a *Announcer, name string, want bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("interface %s usable: %t", name, want), func() bool {
		for _, i := range a.Interfaces() {
			if i.Name == name {
				return want
			}
		}
		return !want
	})
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
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

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// onSubnet announces addresses on the interfaces whose subnets hold them.
func onSubnet(s ...string) map[netip.Addr]Scope {
	out := map[netip.Addr]Scope{}
	for _, a := range addrs(s...) {
		out[a] = Scope{BySubnet: true}
	}
	return out
}
