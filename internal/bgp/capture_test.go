package bgp

import (
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"heraldlb.io/herald/api/v1beta1"
)

var capture = flag.Bool("capture", false, "write testdata/messages anew, from what FRR and BIRD send")

// The messages that are kept of each make: what it says when it opens a session, tells its routes, and ends it.
var captured = []string{"open", "update-ipv4", "update-ipv6", "end-of-rib-ipv4", "end-of-rib-ipv6", "notification-administrative-shutdown"}

func messageFile(make, message string) string {
	return filepath.Join("testdata/messages", make+"-"+message+".hex")
}

func message(t testing.TB, make, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(messageFile(make, name))
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// nameOf returns what a message is called among those that are kept.
func nameOf(m *wire.BGPMessage) string {
	switch body := m.Body.(type) {
	case *wire.BGPOpen:
		return "open"
	case *wire.BGPNotification:
		return "notification-administrative-shutdown"
	case *wire.BGPUpdate:
		name := "update"
		end, family := body.IsEndOfRib()
		if end {
			name = "end-of-rib"
		}
		if family == wire.RF_IPv6_UC || !end && len(body.NLRI) == 0 {
			return name + "-ipv6"
		}
		return name + "-ipv4"
	}
	return ""
}

// read returns the next message.
func read(c net.Conn) ([]byte, *wire.BGPMessage, error) {
	b := make([]byte, wire.BGP_HEADER_LENGTH)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, nil, err
	}
	body := make([]byte, int(b[16])<<8+int(b[17])-len(b))
	if _, err := io.ReadFull(c, body); err != nil {
		return nil, nil, err
	}
	b = append(b, body...)
	m, err := wire.ParseBGPMessage(b)
	return b, m, err
}

// keep takes the messages of a router that connects to 192.0.2.11, until all are there.
func keep(t *testing.T, make string, shutdown func()) {
	t.Helper()
	l, err := net.Listen("tcp", "192.0.2.11:179")
	check(t, err)
	defer l.Close()
	c, err := l.Accept()
	check(t, err)
	defer c.Close()
	check(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	capabilities := wire.NewOptionParameterCapability([]wire.ParameterCapabilityInterface{
		wire.NewCapMultiProtocol(wire.RF_IPv4_UC), wire.NewCapMultiProtocol(wire.RF_IPv6_UC), wire.NewCapFourOctetASNumber(64512),
		wire.NewCapGracefulRestart(false, false, 60, []*wire.CapGracefulRestartTuple{wire.NewCapGracefulRestartTuple(wire.RF_IPv4_UC, true), wire.NewCapGracefulRestartTuple(wire.RF_IPv6_UC, true)}),
	})
	open, err := wire.NewBGPOpenMessage(64512, 90, netip.MustParseAddr("192.0.2.11"), []wire.OptionParameterInterface{capabilities})
	check(t, err)
	send(c, open)
	send(c, wire.NewBGPKeepAliveMessage())
	for have := map[string]bool{}; len(have) < len(captured); {
		b, m, err := read(c)
		check(t, err)
		name := nameOf(m)
		if name == "" || have[name] {
			continue
		}
		check(t, os.WriteFile(messageFile(make, name), []byte(hex.EncodeToString(b)+"\n"), 0o644))
		if have[name] = true; len(have) == len(captured)-1 {
			shutdown()
		}
	}
}

func TestCapture(t *testing.T) {
	if !*capture {
		t.Skip("writes testdata: asked for by -capture")
	}
	check(t, os.MkdirAll("testdata/messages", 0o755))
	h := newHost(t, "up0", nodeAddresses, routerAddresses)
	b := newBIRD(h, `
protocol static s4 { ipv4; route 198.51.100.0/24 unreachable; route 198.51.101.0/25 unreachable; }
protocol static s6 { ipv6; route 2001:db8:51::/48 unreachable; }
protocol bgp node { local 192.0.2.1 as 64513; neighbor 192.0.2.11 as 64512; graceful restart on; connect delay time 1; connect retry time 1;
  ipv4 { import all; export filter { bgp_community.add((64513, 7)); bgp_large_community.add((64513, 7, 8)); bgp_med = 10; if source = RTS_STATIC then accept; reject; }; };
  ipv6 { import all; export where source = RTS_STATIC; }; }
`)
	keep(t, "bird-2.0.12", func() { b.ask(`disable node "maintenance of rack 7"`) })
	b.stop()
	f := newFRR(h, `
router bgp 64513
 bgp router-id 192.0.2.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
 neighbor 192.0.2.11 remote-as 64512
 neighbor 192.0.2.11 timers connect 1
 address-family ipv4 unicast
  network 198.51.100.0/24
  network 198.51.101.0/25
  neighbor 192.0.2.11 route-map tag out
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:51::/48
  neighbor 192.0.2.11 activate
 exit-address-family
route-map tag permit 10
 set community 64513:7
 set large-community 64513:7:8
 set metric 10
`)
	keep(t, "frr-8.4.4", func() {
		f.ask("configure terminal", "router bgp 64513", "neighbor 192.0.2.11 shutdown message maintenance of rack 7")
	})
}

// What routers have said is played to a Speaker.
func TestCapturedMessages(t *testing.T) {
	h := newHost(t, "up0", nodeAddresses, append(routerAddresses, "192.0.2.2/24"))
	more := map[string]chan struct{}{}
	peers := peersOf(t,
		"bird {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64513, gracefulRestart: {}, families: [IPv4, IPv6]}",
		"frr {peerAddress: 192.0.2.2, myASN: 64512, peerASN: 64513, gracefulRestart: {}, families: [IPv4, IPv6]}",
	)
	makes := map[string]string{"bird": "bird-2.0.12", "frr": "frr-8.4.4"}
	for i, p := range peers {
		next := make(chan struct{})
		more[p.Name] = next
		router(h, fmt.Sprintf("192.0.2.%d", i+1), func(c net.Conn) {
			say := func(names ...string) {
				for _, name := range names {
					_, _ = c.Write(message(t, makes[p.Name], name)) // the test sees when nothing comes of it
				}
			}
			say("open")
			send(c, wire.NewBGPKeepAliveMessage())
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				_, _ = io.Copy(io.Discard, c)
			}()
			say("update-ipv4", "update-ipv6", "end-of-rib-ipv4", "end-of-rib-ipv6")
			<-next
			say("notification-administrative-shutdown")
			<-closed // by the other side: GoBGP does not read what is said to it once it cannot write
		})
	}
	s := newSpeaker(t)
	s.Apply(peers, toAll("203.0.113.1/32"))
	for _, p := range peers {
		eventually(t, p.Name+"'s routes are there", func() bool { return sessionOf(s, p.Name).Received >= 2 })
		got := sessionOf(s, p.Name)
		if got.State != Established || got.ASN != 64513 || got.RouterID != netip.MustParseAddr("192.0.2.1") || !got.GracefulRestart ||
			len(got.Families) != 2 || got.Families[0] != v1beta1.IPv4 {
			t.Errorf("%s: %+v", p.Name, got)
		}
		close(more[p.Name])
		eventually(t, p.Name+" says why it ends", func() bool { return strings.Contains(sessionOf(s, p.Name).LastError, "maintenance of rack 7") })
	}
}

// FuzzMessages reads anything as a message, as GoBGP does before it knows who speaks: what panics ends the speaker.
func FuzzMessages(f *testing.F) {
	for _, make := range []string{"bird-2.0.12", "frr-8.4.4"} {
		for _, name := range captured {
			f.Add(message(f, make, name))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > wire.BGP_MAX_MESSAGE_LENGTH {
			return // the session ends before it is read
		}
		m, err := wire.ParseBGPMessage(b)
		if err != nil {
			return
		}
		if update, is := m.Body.(*wire.BGPUpdate); is {
			families := map[wire.Family]wire.BGPAddPathMode{wire.RF_IPv4_UC: wire.BGP_ADD_PATH_NONE, wire.RF_IPv6_UC: wire.BGP_ADD_PATH_NONE}
			_, _ = wire.ValidateUpdateMsg(update, families, true, false, false) // what is wrong is for GoBGP to handle
			_, _ = update.IsEndOfRib()
		}
	})
}
