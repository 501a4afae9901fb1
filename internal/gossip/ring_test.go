package gossip

import (
	"context"
	"errors"
	"fmt"
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

func TestADeathIsNoticedInTime(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	offering(t, ms)
	ms[2].crash()
	for _, m := range ms[:2] {
		if took := sees(t, m, "n1 n2", 5*time.Second); took > 1500*time.Millisecond {
			t.Errorf("%s noticed after %v; about 0.3 s is what it is tuned for", m.peer.Node, took)
		}
	}
}

// seesAway tells whether n3 is away in these members' eyes, with what it offered.
func seesAway(all []Member) bool {
	return slices.ContainsFunc(all, func(x Member) bool { return x.Node == "n3" && x.Away && len(x.Health.Interfaces) > 0 })
}

func TestASpeakerThatIsKilledIsAwayAndWhoJoinsLearnsOfIt(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	offering(t, ms)
	ms[2].kill()
	for _, m := range ms[:2] {
		until(t, m, "it was killed", seesAway)
	}
	late := n.start("n4", nil)
	late.Want([]Peer{ms[0].peer, ms[1].peer, ms[2].peer})
	ready(t, late)
	if !seesAway(late.Members()) {
		t.Errorf("ready, who joins sees %+v", late.Members())
	}
	n.partition([]*member{ms[2]}, nil) // now its node dies too
	for _, m := range []*member{ms[0], ms[1], late} {
		until(t, m, "its node died", func(all []Member) bool { return len(all) == 3 })
	}
}

// It is back before it is missed, and with its old name and address.
func TestASpeakerThatIsBackAtOnceKeepsWhatItHad(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	offering(t, ms)
	ms[2].kill()
	back := n.startAt("n3", ms[2].peer.Addr, nil)
	back.Want([]Peer{ms[0].peer, ms[1].peer})
	ready(t, back)
	for _, m := range ms[:2] {
		until(t, m, "it is back and has not looked around", seesAway)
	}
	back.SetHealth(Health{Interfaces: eth0})
	for _, m := range ms[:2] {
		until(t, m, "it offers", func(all []Member) bool { return len(all) == 3 && offers(all[2]) && !all[2].Away })
	}
}

// Nobody remembers who had what. The first that is back waits for the others, whose nodes are there.
func TestWhenAllSpeakersWereKilledTheFirstWaitsForTheOthers(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("n1", nil), n.start("n2", nil)
	b.kill()
	a.Want([]Peer{b.peer})
	waits := func() bool { err := a.Ready(); return err != nil && strings.Contains(err.Error(), "speakers of n2") }
	until(t, a, "alone", func([]Member) bool { return waits() })
	back := n.startAt("n2", b.peer.Addr, nil)
	back.Want([]Peer{a.peer})
	ready(t, a)
	if got := names(a); got != "n1 n2" {
		t.Errorf("ready, the first sees %q", got)
	}
}

func TestAMemberThatLeavesIsGoneAtOnceAndCanComeBack(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	ms[2].leave()
	for _, m := range ms[:2] {
		sees(t, m, "n1 n2", 5*time.Second)
	}
	// Its name comes back with another address, as after a node was made anew.
	back := n.start("n3", nil)
	back.Want([]Peer{ms[0].peer, back.peer})
	for _, m := range append(ms[:2], back) {
		sees(t, m, "n1 n2 n3", 10*time.Second)
	}
}

// Its node is made anew after it died, under the same name.
func TestADeadMembersNameComesBackWithAnotherAddress(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	offering(t, ms)
	ms[2].crash()
	for _, m := range ms[:2] {
		sees(t, m, "n1 n2", 5*time.Second)
	}
	back := n.start("n3", nil)
	all := []Peer{ms[0].peer, ms[1].peer, back.peer}
	for _, m := range append(ms[:2], back) {
		m.Want(all)
	}
	for _, m := range append(ms[:2], back) {
		sees(t, m, "n1 n2 n3", 5*time.Second)
	}
	until(t, ms[0], "it has its new address", func(all []Member) bool { return len(all) == 3 && all[2].Addr == back.peer.Addr })
}

func TestARingOfIPv6(t *testing.T) {
	n := newNetwork(t)
	loopback := netip.AddrPortFrom(netip.IPv6Loopback(), 0)
	a, b := n.startAt("n1", loopback, nil), n.startAt("n2", loopback, nil)
	a.Want([]Peer{b.peer})
	b.Want([]Peer{a.peer})
	for _, m := range []*member{a, b} {
		sees(t, m, "n1 n2", 5*time.Second)
		ready(t, m)
	}
	offering(t, []*member{a, b})
	b.kill()
	until(t, a, "it was killed", func(all []Member) bool { return len(all) == 2 && all[1].Away })
}

func TestAPartitionHeals(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	n.partition(ms[:1], ms[1:])
	sees(t, ms[0], "n1", 5*time.Second)
	sees(t, ms[1], "n2 n3", 5*time.Second)
	n.heal()
	for _, m := range ms {
		sees(t, m, "n1 n2 n3", 5*time.Second)
	}
}

// The other side knows nothing of this member, as after a partition that outlasted everyone's memory: only looking
// for wanted members again and again finds it.
func TestAnAbsentMemberIsLookedForUntilItIsThere(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start("n1", nil), n.start("n2", nil)
	n.partition([]*member{a}, []*member{b})
	a.Want([]Peer{b.peer})
	ready(t, a) // unreachable peers keep nobody from being ready
	b.Want(nil)
	ready(t, b)
	n.heal()
	sees(t, b, "n1 n2", 5*time.Second)
	sees(t, a, "n1 n2", 5*time.Second)
}

func TestAMemberWhoseNetworkWasAwayLooksAgainBeforeItIsReady(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	ms[0].Recheck()
	if err := ms[0].Ready(); err != nil {
		t.Fatalf("nobody is absent, and it is not ready: %v", err)
	}
	n.partition(ms[:1], ms[1:])
	sees(t, ms[0], "n1", 5*time.Second)
	if err := ms[0].Ready(); err != nil {
		t.Fatalf("alone, it is not ready: %v", err)
	}
	n.heal()
	ms[0].Recheck()
	// Whoever looks between the two sees a member that is not ready, or one that has its peers back.
	ready(t, ms[0])
	if got := names(ms[0]); got != "n1 n2 n3" {
		t.Errorf("ready again, it sees %q", got)
	}
}

func TestAStrangerIsNoMember(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(c *Config)
	}{
		{"with another key", func(c *Config) {
			c.Secret = func() ([]byte, error) { return []byte(strings.Repeat("another secret ", 3)), nil }
		}},
		{"with another label", func(c *Config) { c.Label = "other" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			a := n.start("n1", nil)
			b := n.start("n2", tc.change)
			peers := []Peer{a.peer, b.peer}
			a.Want(peers)
			b.Want(peers)
			// Both have called each other once they are ready.
			ready(t, a)
			ready(t, b)
			if names(a) != "n1" || names(b) != "n2" {
				t.Errorf("they see %q and %q", names(a), names(b))
			}
		})
	}
}

func TestHealthReachesTheOthers(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	h := Health{Interfaces: []Interface{{Name: "eth0", ARP: true, Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}}
	reaches := func(want Health) {
		t.Helper()
		for _, m := range ms {
			deadline := time.After(5 * time.Second)
			for !slices.ContainsFunc(m.Members(), func(x Member) bool { return x.Node == "n1" && x.Health.Equal(want) }) {
				select {
				case <-m.Changed():
				case <-deadline:
					t.Fatalf("%s sees %+v", m.peer.Node, m.Members())
				}
			}
		}
	}
	ms[0].SetHealth(h)
	reaches(h)
	h.Draining = true
	ms[0].SetHealth(h)
	reaches(h)
}

// eth0 is what a healthy member offers.
var eth0 = []Interface{{Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 1, 0x13}, ARP: true, Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}

func TestAMemberThatIsRestartedIsAwayUntilItOffersInterfacesAgain(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	until := func(what string, cond func(*member) bool) {
		t.Helper()
		for _, m := range ms[:2] {
			deadline := time.After(5 * time.Second)
			for !cond(m) {
				select {
				case <-m.Changed():
				case <-deadline:
					t.Fatalf("%s: %s sees %+v", what, m.peer.Node, m.Members())
				}
			}
		}
	}
	sees3 := func(away bool, h Health) func(*member) bool {
		return func(m *member) bool {
			return slices.ContainsFunc(m.Members(), func(x Member) bool { return x.Node == "n3" && x.Away == away && x.Health.Equal(h) })
		}
	}
	alive := func(m *member) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		_, ok := m.members["n3"]
		return ok
	}
	dead := func(m *member) bool { return !alive(m) }

	offer := Health{Interfaces: eth0}
	ms[2].SetHealth(offer)
	until("it offers an interface", sees3(false, offer))
	ms[2].SetHealth(Health{Restarting: true, Interfaces: eth0})
	until("it says that it is being restarted", sees3(true, offer))
	ms[2].leave()
	until("it left", dead)
	until("it left, and is away", sees3(true, offer))

	back := n.start("n3", nil)
	back.Want([]Peer{ms[0].peer, ms[1].peer, back.peer})
	ready(t, back)
	until("it is back", alive)
	until("it is back, and has nothing to offer yet", sees3(true, offer))
	back.SetHealth(offer)
	until("it offers an interface again", sees3(false, offer))
}

func TestAMissingKeyIsWaitedFor(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	r := New(Config{Node: "n1", Bind: netip.MustParseAddrPort("127.0.8.1:0"), Secret: SecretFile(key), Label: "test"}, log.NewNopLogger(), prometheus.NewRegistry())
	r.Want(nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	defer func() { stop(); <-done }()
	says := func(what string) {
		t.Helper()
		deadline := time.After(5 * time.Second)
		for {
			if err := r.Ready(); fmt.Sprint(err) == what || err != nil && what != "<nil>" && strings.Contains(err.Error(), what) {
				return
			}
			select {
			case <-r.Changed():
			case <-deadline:
				t.Fatalf("readiness says %v, want %s", r.Ready(), what)
			}
		}
	}
	says("no such file")
	if err := os.WriteFile(key, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	says("has 5 bytes")
	if err := os.WriteFile(key, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	says("<nil>")
}
