package gossip

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// says lets the ring hear from memberlist what a member says of itself.
func says(r *Ring, node string, h Health) { saysAll(r, node, meta{Health: h}) }

func saysAll(r *Ring, node string, m meta) {
	b, _ := m.encode(512)
	events{r}.NotifyUpdate(&memberlist.Node{Name: node, Addr: net.IPv4(192, 0, 2, 12), Port: 7947, Meta: b})
}

func leaves(r *Ring, node string) {
	events{r}.NotifyLeave(&memberlist.Node{Name: node, Addr: net.IPv4(192, 0, 2, 12), Port: 7947})
}

// The steps of a story happen in order to one ring, in driven time.
func TestAnAbsence(t *testing.T) {
	const grace = 10 * time.Second
	eth1 := []Interface{{Name: "eth1", NDP: true, Subnets: []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}}}
	type step struct {
		name string
		do   func(r *Ring)
		want string // away, alive or gone, and the interfaces
	}
	after := func(d time.Duration) func(*Ring) { return func(*Ring) { time.Sleep(d); synctest.Wait() } }
	say := func(h Health) func(*Ring) { return func(r *Ring) { says(r, "n2", h) } }
	leave := func(r *Ring) { leaves(r, "n2"); synctest.Wait() }
	starting := func(r *Ring) { saysAll(r, "n2", meta{starting: true}) }
	dark := false // n2's node
	die := func(r *Ring) { dark = true; leave(r) }
	offer, restarting := Health{Interfaces: eth0}, Health{Restarting: true, Interfaces: eth0}
	for name, story := range map[string][]step{
		"a member that says nothing and dies is gone": {
			{"it offers", say(offer), "alive eth0"},
			{"its node dies", die, "gone"},
		},
		"who says that it restarts is away, until it offers again": {
			{"it offers", say(offer), "alive eth0"},
			{"it says so", say(restarting), "away eth0"},
			{"it leaves", leave, "away eth0"},
			{"almost too long", after(grace - time.Millisecond), "away eth0"},
			{"it joins with nothing to offer", say(Health{}), "away eth0"},
			{"it offers something else", say(Health{Interfaces: eth1}), "alive eth1"},
			{"the grace no longer counts", after(grace), "alive eth1"},
			{"its node dies this time", die, "gone"},
		},
		"who does not come back in time is gone": {
			{"it says so", say(restarting), "away eth0"},
			{"it leaves", leave, "away eth0"},
			{"too long", after(grace), "gone"},
			{"it comes back late", say(offer), "alive eth0"},
		},
		"who comes back in time and offers nothing keeps nothing": {
			{"it says so", say(restarting), "away eth0"},
			{"it leaves", leave, "away eth0"},
			{"it joins", say(Health{}), "away eth0"},
			{"too long", after(grace), "alive"},
		},
		"who says so and stays is relied on no longer": {
			{"it says so", say(restarting), "away eth0"},
			{"too long", after(grace), "alive"},
			{"it leaves", leave, "gone"},
		},
		"who drains after all is away no longer": {
			{"it says so", say(restarting), "away eth0"},
			{"it joins and drains", say(Health{Draining: true, Interfaces: eth0}), "alive eth0"},
			{"it leaves", leave, "gone"},
		},
		"restarts one upon the other have one grace": {
			{"it says so", say(restarting), "away eth0"},
			{"it leaves", leave, "away eth0"},
			{"half the time", after(grace / 2), "away eth0"},
			{"it joins", say(Health{}), "away eth0"},
			{"it is restarted before it offered", say(Health{Restarting: true}), "away eth0"},
			{"it leaves again", leave, "away eth0"},
			{"the other half", after(grace / 2), "gone"},
		},
		"a restart after a return has a grace of its own": {
			{"it says so", say(restarting), "away eth0"},
			{"half the time", after(grace / 2), "away eth0"},
			{"it is back", say(offer), "alive eth0"},
			{"it says so again", say(restarting), "away eth0"},
			{"more than the rest of the first", after(grace - time.Millisecond), "away eth0"},
			{"all of its own", after(time.Millisecond), "alive"},
		},
		"who goes without a word is away, while its node is there": {
			{"it offers", say(offer), "alive eth0"},
			{"it goes", leave, "away eth0"},
			{"almost too long", after(grace - time.Millisecond), "away eth0"},
			{"it is starting", starting, "away eth0"},
			{"it offers again", say(offer), "alive eth0"},
		},
		"who goes without a word has one grace": {
			{"it offers", say(offer), "alive eth0"},
			{"it goes", leave, "away eth0"},
			{"half the time", after(grace / 2), "away eth0"},
			{"it is starting", starting, "away eth0"},
			{"it goes again", leave, "away eth0"},
			{"the other half", after(grace / 2), "gone"},
			{"it comes back late", say(offer), "alive eth0"},
		},
		"whose node dies while it is away is gone soon": {
			{"it offers", say(offer), "alive eth0"},
			{"it goes", leave, "away eth0"},
			{"its node dies", func(*Ring) { dark = true }, "away eth0"},
			{"a second", after(time.Second), "gone"},
		},
		"who begins anew before it was missed is away": {
			{"it offers", say(offer), "alive eth0"},
			{"it is starting", starting, "away eth0"},
			{"it goes again", leave, "away eth0"},
			{"it offers again", say(offer), "alive eth0"},
		},
		"who loses its interfaces and goes on is not away": {
			{"it offers", say(offer), "alive eth0"},
			{"it has none", say(Health{}), "alive"},
			{"it goes", leave, "gone"},
		},
		"who drains goes for good": {
			{"it offers", say(offer), "alive eth0"},
			{"it drains", say(Health{Draining: true, Interfaces: eth0}), "alive eth0"},
			{"it goes", leave, "gone"},
		},
		"who had nothing to offer is not waited for": {
			{"it says so", say(Health{Restarting: true}), "alive"},
			{"it leaves", leave, "gone"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dark = false
				there := func(netip.AddrPort, time.Duration) bool { return !dark }
				r := New(Config{Node: "n1", RestartGrace: grace, present: there}, log.NewNopLogger(), prometheus.NewRegistry())
				defer r.endAbsences()
				last := "gone"
				for _, s := range story {
					select {
					case <-r.Changed():
					default:
					}
					s.do(r)
					got := "gone"
					for _, m := range r.Members() {
						got = map[bool]string{true: "away", false: "alive"}[m.Away]
						for _, i := range m.Health.Interfaces {
							got += " " + i.Name
						}
					}
					if got != s.want {
						t.Fatalf("%s: it is %q, want %q", s.name, got, s.want)
					}
					select {
					case <-r.Changed():
					default:
						if got != last {
							t.Errorf("%s: nobody was told that it is %q", s.name, got)
						}
					}
					last = got
				}
			})
		})
	}
}

// tells lets the ring hear from others that a life of a member is away.
func tells(r *Ring, node string, instance uint32, left time.Duration) {
	m := Member{Node: node, Addr: netip.MustParseAddrPort("192.0.2.12:7947"), Health: Health{Interfaces: eth0}, instance: instance}
	r.hear(message(section{sectionAbsence, writeAbsence(m, left)}))
}

// What others tell of an absence may be older than what a member has seen itself.
func TestAnAbsenceThatOthersTellOf(t *testing.T) {
	const grace, looks = 10 * time.Second, 50 * time.Millisecond
	type step struct {
		name string
		do   func(r *Ring)
		want string // away, alive or gone
	}
	dark := false // n2's node
	told := func(instance uint32) func(*Ring) {
		return func(r *Ring) { tells(r, "n2", instance, grace); time.Sleep(2 * looks) }
	}
	offers := func(instance uint32) func(*Ring) {
		return func(r *Ring) { saysAll(r, "n2", meta{Health: Health{Interfaces: eth0}, instance: instance}) }
	}
	dies := func(r *Ring) { dark = true; leaves(r, "n2"); time.Sleep(2 * looks) }
	after := func(d time.Duration) func(*Ring) { return func(*Ring) { time.Sleep(d) } }
	for name, story := range map[string][]step{
		"who had lost sight of a member learns that it is away": {
			{"it offers", offers(1), "alive"},
			{"it is cut off", dies, "gone"},
			{"the network is whole again", func(*Ring) { dark = false }, "gone"},
			{"others tell", told(1), "away"},
			{"and again", told(1), "away"},
			{"too long", after(grace), "gone"},
			{"somebody tells late", told(1), "gone"},
		},
		"no more time is left than others say": {
			{"others tell", func(r *Ring) { tells(r, "n2", 1, grace/2); time.Sleep(grace/2 - time.Millisecond) }, "away"},
			{"its time is over", after(time.Millisecond), "gone"},
		},
		"nor more than a restart may take": {
			{"others tell", func(r *Ring) { tells(r, "n2", 1, time.Hour); time.Sleep(grace - time.Millisecond) }, "away"},
			{"its time is over", after(time.Millisecond), "gone"},
		},
		"a node that is dead is not waited for": {
			{"it offers", offers(1), "alive"},
			{"its node dies", dies, "gone"},
			{"who has not noticed tells", told(1), "gone"},
		},
		"who is there is not away": {
			{"it offers", offers(2), "alive"},
			{"who has not noticed tells", told(1), "alive"},
		},
		"who is there by the time that its node has been looked for is not away": {
			{"others tell, and it offers", func(r *Ring) { tells(r, "n2", 1, grace); offers(2)(r); time.Sleep(2 * looks) }, "alive"},
		},
		"who starts is": {
			{"it starts", func(r *Ring) { saysAll(r, "n2", meta{starting: true, instance: 2}) }, "alive"},
			{"others tell", told(1), "away"},
			{"it offers", offers(2), "alive"},
		},
		"an absence that was seen to end does not begin again": {
			{"others tell", told(1), "away"},
			{"it is back", offers(2), "alive"},
			{"its node dies", dies, "gone"},
			{"and is back without it", func(*Ring) { dark = false }, "gone"},
			{"who has not noticed tells of the first life", told(1), "gone"},
			{"others tell of the second", told(2), "away"},
		},
		"what an earlier version says is not known to be new": {
			{"others tell", told(0), "gone"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dark = false
				look := func(netip.AddrPort, time.Duration) bool { time.Sleep(looks); return !dark }
				r := New(Config{Node: "n1", RestartGrace: grace, present: look}, log.NewNopLogger(), prometheus.NewRegistry())
				r.Want([]Peer{{Node: "n2"}})
				r.setReady(nil)
				defer r.endAbsences()
				for _, s := range story {
					s.do(r)
					synctest.Wait()
					got := "gone"
					for _, m := range r.Members() {
						got = map[bool]string{true: "away", false: "alive"}[m.Away]
					}
					if got != s.want {
						t.Fatalf("%s: it is %s, want %s", s.name, got, s.want)
					}
				}
			})
		})
	}
}

func TestAMemberIsNotAwayForItself(t *testing.T) {
	r := New(Config{Node: "n1"}, log.NewNopLogger(), prometheus.NewRegistry())
	h := Health{Restarting: true, Interfaces: eth0}
	r.SetHealth(h)
	says(r, "n1", h)
	ms := r.Members()
	if len(ms) != 1 || ms[0].Away || !ms[0].Health.Equal(h) {
		t.Errorf("it sees itself as %+v", ms)
	}
}

func TestTheGraceHasADefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Node: "n1", present: always}, log.NewNopLogger(), prometheus.NewRegistry())
		defer r.endAbsences()
		says(r, "n2", Health{Restarting: true, Interfaces: eth0})
		leaves(r, "n2")
		time.Sleep(DefaultRestartGrace - time.Millisecond)
		synctest.Wait()
		if ms := r.Members(); len(ms) != 1 || !ms[0].Away || !strings.HasPrefix(ms[0].Addr.String(), "192.0.2.12") {
			t.Errorf("shortly before its end: %+v", ms)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if ms := r.Members(); len(ms) != 0 {
			t.Errorf("after it: %+v", ms)
		}
	})
}

// always is a look at nodes that are all there.
func always(netip.AddrPort, time.Duration) bool { return true }

func TestANodeThatIsGoneIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		r := New(Config{Node: "n1", present: func(netip.AddrPort, time.Duration) bool { return !gone.Load() }}, log.NewNopLogger(), prometheus.NewRegistry())
		defer r.endAbsences()
		says(r, "n2", Health{Restarting: true, Interfaces: eth0})
		leaves(r, "n2")
		time.Sleep(10*time.Second + lookInterval/2)
		gone.Store(true)
		time.Sleep((lookMisses - 1) * lookInterval)
		synctest.Wait()
		if ms := r.Members(); len(ms) != 1 || !ms[0].Away {
			t.Errorf("before the last look: %+v", ms)
		}
		time.Sleep(lookInterval)
		synctest.Wait()
		if ms := r.Members(); len(ms) != 0 {
			t.Errorf("after it: %+v", ms)
		}
	})
}

func TestANodeIsThereWhetherItsSpeakerListensOrNot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(l.Addr().String())
	if !present(addr, time.Second) {
		t.Error("with its speaker it is not")
	}
	l.Close()
	if !present(addr, time.Second) {
		t.Error("without its speaker it is not")
	}
}

// A kernel whose queue of connections is full says nothing, as one that is dead.
func TestANodeThatSaysNothingIsNotThere(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*unix.SockaddrInet4).Port))
	queued, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer queued.Close()
	const within = 60 * time.Millisecond
	start := time.Now()
	if present(addr, within) {
		t.Error("it is")
	}
	if took := time.Since(start); took < within*9/10 {
		t.Errorf("it was given %v to answer, want %v", took, within)
	}
	if present(netip.MustParseAddrPort("224.0.0.1:7947"), within) {
		t.Error("a node that cannot be reached at all is")
	}
}
