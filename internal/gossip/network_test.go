package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

const secret = "0123456789abcdef0123456789abcdef"

// network is the loopback, with links that a test can cut.
type network struct {
	t    testing.TB
	next byte

	mu  sync.Mutex
	cut map[[2]netip.Addr]bool

	largest atomic.Int64 // packet that a member sent, in bytes
}

func newNetwork(t testing.TB) *network {
	return &network{t: t, cut: map[[2]netip.Addr]bool{}}
}

// member is one ring member under test.
type member struct {
	*Ring
	peer  Peer
	crash func() // its node's packets are lost from now on, both ways
	kill  func() // its process ends without a word, its node stays
	leave func() // it is told to stop, and has stopped
}

// start runs a member with an address of its own until the test ends.
func (n *network) start(node string, change func(*Config)) *member {
	n.t.Helper()
	n.next++
	return n.startAt(node, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 7, n.next}), 0), change)
}

// startAt runs a member with an address that another may have had.
func (n *network) startAt(node string, bind netip.AddrPort, change func(*Config)) *member {
	n.t.Helper()
	addr := bind.Addr()
	key := filepath.Join(n.t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(secret), 0o600); err != nil {
		n.t.Fatal(err)
	}
	listening := make(chan int, 1)
	link := &link{network: n, addr: addr}
	cfg := Config{Node: node, Bind: bind, Secret: SecretFile(key), Label: "test"}
	cfg.transport = func(t memberlist.NodeAwareTransport, port int) memberlist.NodeAwareTransport {
		link.NodeAwareTransport = t
		listening <- port
		return link
	}
	cfg.present = func(to netip.AddrPort, within time.Duration) bool {
		if !n.connected(addr, to.String()) {
			time.Sleep(within)
			return false
		}
		return present(to, within)
	}
	if change != nil {
		change(&cfg)
	}
	r := New(cfg, log.NewNopLogger(), prometheus.NewRegistry())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	m := &member{Ring: r}
	m.leave = func() { stop(); <-done }
	n.t.Cleanup(m.leave)
	m.crash = func() { n.partition([]*member{m}, nil) }
	m.kill = func() {
		link.killed.Store(true)
		link.Shutdown()
	}
	select {
	case port := <-listening:
		m.peer = Peer{Node: node, Addr: netip.AddrPortFrom(addr, uint16(port))}
	case <-time.After(5 * time.Second):
		n.t.Fatalf("%s does not listen: %v", node, r.Ready())
	}
	return m
}

// partition cuts a from b; b nil cuts a from everything.
func (n *network) partition(a, b []*member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range a {
		if b == nil {
			n.cut[[2]netip.Addr{x.peer.Addr.Addr()}] = true
		}
		for _, y := range b {
			n.cut[[2]netip.Addr{x.peer.Addr.Addr(), y.peer.Addr.Addr()}] = true
			n.cut[[2]netip.Addr{y.peer.Addr.Addr(), x.peer.Addr.Addr()}] = true
		}
	}
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

func (n *network) connected(from netip.Addr, to string) bool {
	ap, err := netip.ParseAddrPort(to)
	if err != nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[[2]netip.Addr{from}] && !n.cut[[2]netip.Addr{ap.Addr()}] && !n.cut[[2]netip.Addr{from, ap.Addr()}]
}

// link loses what is sent while it is cut, or by a process that is no more.
type link struct {
	memberlist.NodeAwareTransport
	network *network
	addr    netip.Addr
	killed  atomic.Bool
}

func (l *link) carries(to string) bool { return !l.killed.Load() && l.network.connected(l.addr, to) }

func (l *link) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	for was := l.network.largest.Load(); int64(len(b)) > was && !l.network.largest.CompareAndSwap(was, int64(len(b))); was = l.network.largest.Load() {
	}
	if !l.carries(a.Addr) {
		return time.Now(), nil
	}
	return l.NodeAwareTransport.WriteToAddress(b, a)
}

func (l *link) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	if !l.carries(a.Addr) {
		time.Sleep(d)
		return nil, errors.New("cut")
	}
	return l.NodeAwareTransport.DialAddressTimeout(a, d)
}

func names(m *member) string {
	var out []string
	for _, x := range m.Members() {
		out = append(out, x.Node)
	}
	return strings.Join(out, " ")
}

// sees waits until the member sees exactly these, for at most limit, and returns how long it took.
func sees(t testing.TB, m *member, want string, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	deadline := time.After(limit)
	for names(m) != want {
		select {
		case <-m.Changed():
		case <-deadline:
			t.Fatalf("%s sees %q after %v, want %q; %v", m.peer.Node, names(m), limit, want, m.Ready())
		}
	}
	return time.Since(start)
}

// ready waits until the member takes part.
func ready(t testing.TB, m *member) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for m.Ready() != nil {
		select {
		case <-m.Changed():
		case <-deadline:
			t.Fatalf("%s is not ready: %v", m.peer.Node, m.Ready())
		}
	}
}

// three makes a ring of n1, n2 and n3.
func (n *network) three() []*member {
	n.t.Helper()
	ms := []*member{n.start("n1", nil), n.start("n2", nil), n.start("n3", nil)}
	var all []Peer
	for _, m := range ms {
		all = append(all, m.peer)
	}
	for _, m := range ms {
		m.Want(all)
	}
	for _, m := range ms {
		sees(n.t, m, "n1 n2 n3", 10*time.Second)
		ready(n.t, m)
	}
	return ms
}

// offering has every member offer an interface, and waits until all know.
func offering(t testing.TB, ms []*member) {
	t.Helper()
	for _, m := range ms {
		m.SetHealth(Health{Interfaces: eth0})
	}
	for _, m := range ms {
		until(t, m, "all offer", func(all []Member) bool {
			return len(all) == len(ms) && !slices.ContainsFunc(all, func(x Member) bool { return !offers(x) })
		})
	}
}

// until waits until what a member sees is as it should be.
func until(t testing.TB, m *member, what string, cond func([]Member) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !cond(m.Members()) {
		select {
		case <-m.Changed():
		case <-deadline:
			t.Fatalf("%s: %s sees %+v", what, m.peer.Node, m.Members())
		}
	}
}
