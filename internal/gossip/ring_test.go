package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

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

// What one holds for dead by mistake comes back before anybody stands in for it.
func TestAMemberThatIsHeldForDeadAndIsThereIsNotAway(t *testing.T) {
	n := newNetwork(t)
	var a *member
	started := make(chan struct{})
	a = n.start("n1", func(c *Config) {
		c.present = func(netip.AddrPort, time.Duration) bool {
			<-started
			for a.joined("n2") { // it is suspected, and becomes dead
				time.Sleep(time.Millisecond)
			}
			n.heal()
			return true
		}
	})
	close(started)
	b := n.start("n2", nil)
	for _, m := range []*member{a, b} {
		m.Want([]Peer{a.peer, b.peer})
	}
	offering(t, []*member{a, b})
	n.partition([]*member{a}, []*member{b})
	deadline := time.After(10 * time.Second)
	for testutil.ToFloat64(a.metrics.falseAlarms) == 0 {
		if all := a.Members(); len(all) != 2 || all[1].Away {
			t.Fatalf("meanwhile it sees %+v", all)
		}
		select {
		case <-a.Changed():
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatal("nobody was held for dead by mistake")
		}
	}
	if all := a.Members(); len(all) != 2 || !offers(all[1]) || testutil.ToFloat64(a.metrics.leaves) != 0 {
		t.Errorf("after it it sees %+v and has lost %v", all, testutil.ToFloat64(a.metrics.leaves))
	}
}

func TestAMemberThatHangsIsAway(t *testing.T) {
	n := newNetwork(t)
	a := n.start("n1", func(c *Config) { c.present = always })
	b := n.start("n2", nil)
	for _, m := range []*member{a, b} {
		m.Want([]Peer{a.peer, b.peer})
	}
	offering(t, []*member{a, b})
	n.partition([]*member{a}, []*member{b})
	until(t, a, "it is silent", func(all []Member) bool { return len(all) == 2 && all[1].Away })
	if lost, alarms := testutil.ToFloat64(a.metrics.leaves), testutil.ToFloat64(a.metrics.falseAlarms); lost != 1 || alarms != 0 {
		t.Errorf("it has lost %v members, and %v by mistake", lost, alarms)
	}
}

// Neither side saw what happened on the other one.
func TestWhoComesOutOfAPartitionLearnsWhoIsAway(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	offering(t, ms)
	n.partition(ms[:1], ms[1:])
	sees(t, ms[0], "n1", 5*time.Second)
	sees(t, ms[1], "n2 n3", 5*time.Second)
	ms[2].kill()
	until(t, ms[1], "it was killed", seesAway)
	n.heal()
	until(t, ms[0], "the network is whole", func(all []Member) bool { return len(all) == 3 && offers(all[1]) && seesAway(all) })
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

// As it leaves for the socket: with label, encryption and checksum. The names are as long as a Node's can be.
func TestNoPacketIsTooLargeForTheSmallestLinkOfIPv6(t *testing.T) {
	const room = 1280 - 40 - 8 // RFC 8200 section 5, less the headers of IPv6 and UDP
	n := newNetwork(t)
	ms := n.ring(3, func(c *Config) { c.Label = strings.Repeat("l", MaxLabel) })
	offering(t, ms)
	addrs := addresses(3000)
	for i, m := range ms {
		var claims []Claim
		for j, addr := range addrs[i*1000 : (i+1)*1000] {
			claims = append(claims, Claim{addr, strings.Repeat("n", 1+j%maxName), 1})
		}
		m.Claim(claims)
	}
	for _, m := range ms {
		m.awaitEpoch(t, addrs, 1)
	}
	if got := n.largest.Load(); got > room || got < room/2 {
		t.Errorf("the largest packet has %d bytes; there is room for %d, and many claims were to be told", got, room)
	}
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

// The first calls fail although the network is back, or nearly so.
func TestAMemberWhoseNetworkWasAwayDoesNotBelieveItsFirstCalls(t *testing.T) {
	n := newNetwork(t)
	ms := n.three()
	n.partition(ms[:1], ms[1:])
	sees(t, ms[0], "n1", 5*time.Second)
	ms[0].Recheck()
	failed := func() bool {
		ms[0].mu.Lock()
		defer ms[0].mu.Unlock()
		return ms[0].rounds > ms[0].trusted // the first round is over
	}
	for start := time.Now(); !failed(); time.Sleep(time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatal("it calls nobody")
		}
	}
	if ms[0].Ready() == nil {
		t.Error("it is ready and believes to be alone")
	}
	n.heal()
	ready(t, ms[0])
	if got := names(ms[0]); got != "n1 n2 n3" {
		t.Errorf("ready again, it sees %q", got)
	}
	// That nobody is there is believed in the end.
	n.partition(ms[:1], ms[1:])
	sees(t, ms[0], "n1", 5*time.Second)
	ms[0].Recheck()
	ready(t, ms[0])
	if got := names(ms[0]); got != "n1" {
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
