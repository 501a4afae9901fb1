package bgp

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// router answers each connection to port 179 of an address of a host with play, until the test ends.
func router(h *host, address string, play func(c net.Conn)) {
	h.t.Helper()
	var l net.Listener
	h.in(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(address, "179"))
		return err
	})
	h.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				play(c)
			}()
		}
	}()
}

// open is the beginning of a session with AS 64513.
func open(c net.Conn, hold uint16) {
	capabilities := wire.NewOptionParameterCapability([]wire.ParameterCapabilityInterface{
		wire.NewCapMultiProtocol(wire.RF_IPv4_UC), wire.NewCapFourOctetASNumber(64513)})
	m, err := wire.NewBGPOpenMessage(64513, hold, netip.MustParseAddr("192.0.2.1"), []wire.OptionParameterInterface{capabilities})
	if err == nil {
		send(c, m)
	}
	send(c, wire.NewBGPKeepAliveMessage())
}

func send(c net.Conn, m *wire.BGPMessage) {
	if b, err := m.Serialize(); err == nil {
		_, _ = c.Write(b) // the other side may have had enough
	}
}

// table sends many routes.
func fullTable(c net.Conn, routes int) {
	path := wire.NewPathAttributeAsPath([]wire.AsPathParamInterface{wire.NewAs4PathParam(2, []uint32{64513, 65550})})
	nextHop, err := wire.NewPathAttributeNextHop(netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		return
	}
	attributes := []wire.PathAttributeInterface{wire.NewPathAttributeOrigin(0), path, nextHop}
	for sent := 0; sent < routes; {
		var nlri []wire.PathNLRI
		for range 500 {
			n, err := wire.NewIPAddrPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(sent >> 16), byte(sent >> 8), byte(sent)}), 32))
			if err != nil {
				return
			}
			nlri = append(nlri, wire.PathNLRI{NLRI: n})
			sent++
		}
		send(c, wire.NewBGPUpdateMessage(nil, attributes, nlri))
	}
}

func TestPeersThatMisbehaveHarmNobody(t *testing.T) {
	theirs := append([]string{"192.0.2.2/24", "192.0.2.3/24", "192.0.2.4/24", "192.0.2.5/24"}, routerAddresses...)
	h := newHost(t, "up0", nodeAddresses, theirs)
	good := newBIRD(h, `protocol bgp good { strict bind; local 192.0.2.1 as 64513; neighbor 192.0.2.11 as 64512; passive; ipv4 { import all; export none; }; }`)
	router(h, "192.0.2.2", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	router(h, "192.0.2.3", func(c net.Conn) { _, _ = io.WriteString(c, strings.Repeat("HTTP/1.1 400 Bad Request\r\n", 100)) })
	router(h, "192.0.2.4", func(c net.Conn) {
		open(c, 90)
		go func() { _, _ = io.Copy(io.Discard, c) }()
		fullTable(c, 100_000)
		time.Sleep(time.Second)
	})
	router(h, "192.0.2.5", func(c net.Conn) {
		open(c, 3)
		_, _ = io.Copy(io.Discard, c)
	})
	s := newSpeaker(t)
	s.Apply(peersOf(t,
		"garbage {peerAddress: 192.0.2.3, myASN: 64512, peerASN: 64513}",
		"good {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64513}",
		"silent {peerAddress: 192.0.2.2, myASN: 64512, peerASN: 64513}",
		"talker {peerAddress: 192.0.2.4, myASN: 64512, peerASN: 64513}",
		"tired {peerAddress: 192.0.2.5, myASN: 64512, peerASN: 64513}",
	), toAll("203.0.113.1/32"))
	has(t, good.route, "203.0.113.1/32")
	since := sessionOf(s, "good").Since
	for peer, why := range map[string]string{
		"garbage": "header",
		"talker":  "sends more than 5000 routes",
		"tired":   "hold timer expired",
	} {
		eventually(t, peer+": "+why, func() bool { return strings.Contains(sessionOf(s, peer).LastError, why) })
	}
	s.Apply(s.peers, toAll("203.0.113.2/32"))
	has(t, good.route, "203.0.113.2/32")
	if got := sessionOf(s, "good"); got.State != Established || got.Since != since {
		t.Errorf("the good peer's session suffered: %+v", got)
	}
	if got := sessionOf(s, "silent").State; got == Established {
		t.Errorf("a peer that says nothing is %s", got)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 64<<20 {
		t.Errorf("%d MiB of heap are in use after a full table", m.HeapAlloc>>20)
	}
	t.Logf("%d MiB of heap in use", m.HeapAlloc>>20)
}
