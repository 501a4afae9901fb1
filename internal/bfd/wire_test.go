package bfd

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestTwoOfOurOwn(t *testing.T) {
	for _, c := range []struct {
		name        string
		here, there Session
	}{
		{name: "IPv4, one hop", here: Session{Peer: router4, Profile: every(quick)}, there: Session{Peer: node4, Profile: every(quick)}},
		{name: "IPv6, one hop", here: Session{Peer: router6, Profile: every(quick)}, there: Session{Peer: node6, Profile: every(quick)}},
		{name: "IPv6 link-local", here: Session{Peer: routerLL, Local: nodeLL, Profile: every(quick)}, there: Session{Peer: nodeLL, Local: routerLL, Profile: every(quick)}},
		{name: "IPv4, several hops, given source", here: Session{Peer: router4, Local: node4, Multihop: true, Profile: every(quick)}, there: Session{Peer: node4, Multihop: true, Profile: every(quick)}},
		{name: "IPv6, several hops, on an interface", here: Session{Peer: router6, Multihop: true, Interface: "rt", Profile: every(quick)}, there: Session{Peer: node6, Multihop: true, Profile: every(quick)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRouter(t)
			here, there := watch(t), r.watch()
			here.Set([]Session{c.here})
			there.Set([]Session{c.there})
			here.told(Up)
			there.told(Up)
			s := here.is(c.here.Peer, Up)
			eventually(t, "both agree on the fast pace", func() bool {
				s, _ = here.State(c.here.Peer)
				return s.Interval == quick && s.DetectionTime == multiplier*quick
			})
			if s.Err != nil {
				t.Error(s.Err)
			}

			start := time.Now()
			r.cut(true)
			here.told(Down)[0].failed(t, start)
			there.told(Down)
			r.cut(false)
			if c.here.Peer.Is6() { // the kernel takes IPv6 addresses away with the link
				return
			}
			here.told(Up)

			check(t, there.Close())
			if c := here.told(AdminDown)[0]; c.Diagnostic != AdministrativelyDown {
				t.Errorf("the diagnostic of a peer that closes is %v", c.Diagnostic)
			}
		})
	}
}

func TestSetByDifference(t *testing.T) {
	r := newRouter(t)
	here, there := watch(t), r.watch()
	here.Set([]Session{{Peer: router4, Profile: every(quick)}, {Peer: router6, Profile: every(quick)}})
	there.Set([]Session{{Peer: node4, Profile: every(quick)}, {Peer: node6, Profile: every(quick)}})
	here.told(Up, Up)
	there.told(Up, Up)
	since := here.is(router4, Up).Since

	t.Log("one profile becomes slower, the other session goes")
	here.Set([]Session{{Peer: router4, Profile: every(200 * time.Millisecond)}})
	eventually(t, "the pace of both sides changes", func() bool {
		ours, _ := here.State(router4)
		theirs, _ := there.State(node4)
		return ours.Interval == 200*time.Millisecond && theirs.Interval == 200*time.Millisecond
	})
	if c := there.told(AdminDown)[0]; c.Peer != node6 {
		t.Errorf("%v is admin down, want %v", c.Peer, node6)
	}
	if s := here.is(router4, Up); s.Since != since {
		t.Error("the session that was kept was down in between")
	}
	if s, ok := here.State(router6); ok {
		t.Errorf("the session that is not wanted has the status %+v", s)
	}

	t.Log("another path is another session")
	here.Set([]Session{{Peer: router4, Local: node4, Profile: every(quick)}})
	here.told(Up)
	there.told(AdminDown, Up)
}

func TestPassiveSideAnswers(t *testing.T) {
	r := newRouter(t)
	here, there := watch(t), r.watch()
	passive := every(quick)
	passive.PassiveMode = true
	here.Set([]Session{{Peer: routerLL, Local: nodeLL, Profile: passive}})
	there.Set([]Session{{Peer: nodeLL, Local: routerLL, Profile: every(quick)}})
	here.told(Up)
}

// Packets that came over a router, or that pretend to, are refused where one hop is wanted.
func TestPacketsFromAfarAreDropped(t *testing.T) {
	r := newRouter(t)
	here := watch(t)
	here.Set([]Session{{Peer: router4, Profile: every(quick)}, {Peer: router6, Multihop: true, Profile: every(quick)}})
	hello := packet{state: Down, multiplier: 3, mine: 1, desiredTx: time.Second, requiredRx: time.Second}
	send := func(s Session, ttl int) {
		r.in(func() error {
			out, err := openSender(s)
			if err != nil {
				return err
			}
			defer unix.Close(out.fd)
			f := familyOf(s.Peer)
			if err := unix.SetsockoptInt(out.fd, f.level, f.ttl, ttl); err != nil {
				return err
			}
			return out.send(hello.bytes())
		})
	}
	send(Session{Peer: node4, Local: router4}, 254)
	send(Session{Peer: node6, Local: router6, Multihop: true}, 253)
	eventually(t, "two packets dropped", func() bool { return here.metric("herald_bfd_packets_dropped_total", "ttl") == 2 })
	here.is(router4, Down)
	here.is(router6, Down)
	send(Session{Peer: node4, Local: router4}, 255)
	send(Session{Peer: node6, Local: router6, Multihop: true}, 254)
	here.is(router4, Init)
	here.is(router6, Init)
}

func TestFaultsAreInTheStatusAndPass(t *testing.T) {
	r := newRouter(t)
	here, there := watch(t), r.watch()
	there.Set([]Session{{Peer: node4, Profile: every(quick)}})

	t.Log("another program has the port")
	other, err := listen(ipv4, singleHopPort)
	check(t, err)
	here.Set([]Session{{Peer: router4, Profile: every(quick)}})
	if s, _ := here.State(router4); s.Err == nil {
		eventually(t, "the status says that the port is taken", func() bool { s, _ = here.State(router4); return s.Err != nil })
	} else if !strings.Contains(s.Err.Error(), "3784") {
		t.Errorf("the status says %q", s.Err)
	}
	check(t, unix.Close(other))
	here.told(Up)
	if s := here.is(router4, Up); s.Err != nil {
		t.Errorf("the fault stays: %v", s.Err)
	}

	t.Log("an interface that is not there yet")
	here.Set([]Session{{Peer: netip.MustParseAddr("fe80::2%later"), Profile: every(quick)}})
	eventually(t, "the status says that the interface is missing", func() bool {
		s, _ := here.State(netip.MustParseAddr("fe80::2%later"))
		return s.Err != nil && strings.Contains(s.Err.Error(), "later")
	})
	there.told(Up, AdminDown)
	there.Set([]Session{{Peer: nodeLL, Local: routerLL, Profile: every(quick)}})
	check(t, netlink.LinkSetDown(r.link))
	check(t, netlink.LinkSetName(r.link, "later"))
	check(t, netlink.LinkSetUp(r.link))
	check(t, netlink.AddrReplace(r.link, address(t, nodeLL)))
	there.told(Up)
}

// In a flood the peer's own packets may be lost, but ours go on: nobody can make the peer believe that we are gone.
func TestAFloodDoesNotKeepUsFromSending(t *testing.T) {
	r := newRouter(t)
	here, there := watch(t), r.watch()
	patient := every(quick)
	patient.DetectMultiplier = 100
	here.Set([]Session{{Peer: router4, Profile: every(quick)}})
	there.Set([]Session{{Peer: node4, Profile: patient}})
	here.told(Up)
	there.told(Up)
	r.in(func() error {
		out, err := openSender(Session{Peer: node4, Local: router4})
		if err != nil {
			return err
		}
		defer unix.Close(out.fd)
		noise := packet{state: Up, multiplier: 3, mine: 1, yours: 1}.bytes()
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			if err := out.send(noise); err != nil && !passing(err) {
				return err
			}
		}
		return nil
	})
	there.told()
	there.is(node4, Up)
	if n := here.metric("herald_bfd_packets_dropped_total", "no_session"); n < 2*burst {
		t.Errorf("%v packets of the flood arrived: too few to tell anything", n)
	}
}
