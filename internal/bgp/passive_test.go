package bgp

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// knock connects to port 179 of an address from an address of a host, and returns nil when the node hangs up without a word.
func (h *host) knock(from, to string) error {
	var c net.Conn
	var err error
	h.in(func() error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 2 * time.Second}
		c, err = d.Dial("tcp", net.JoinHostPort(to, "179"))
		return nil
	})
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // a TCP connection has one
	said, err := io.ReadAll(c)
	if len(said) > 0 {
		return errors.New("the node says something")
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

func TestPassivePeers(t *testing.T) {
	h := newHost(t, "up0", append(nodeAddresses, "192.0.2.12/24"), append(routerAddresses, "192.0.2.2/24", "192.0.2.3/24", "192.0.2.66/24"))
	const tor = `local as 64513; neighbor 192.0.2.11 as 64512; strict bind; connect delay time 1; connect retry time 1; error wait time 1, 2; ipv4 { import all; export none; };`
	one := newBIRD(h, `
protocol bgp one { local 192.0.2.1; `+tor+` }
protocol bgp six { local 2001:db8:1::1 as 64513; neighbor 2001:db8:1::11 as 64512; strict bind; passive; ipv6 { import all; export none; }; }
`)
	two := newBIRD(h, `protocol bgp two { local 192.0.2.2; password "secret"; `+tor+` }`) // a BIRD has one session with a neighbor
	s := newSpeaker(t)
	peers := peersOf(t,
		"one {peerAddress: 192.0.2.1, myASN: 64512, peerASN: 64513, passive: true}",
		"six {peerAddress: '2001:db8:1::1', myASN: 64512, peerASN: 64513}",
		"three {peerAddress: 192.0.2.3, sourceAddress: 192.0.2.12, myASN: 64512, peerASN: 64513, passive: true}",
		"two {peerAddress: 192.0.2.2, myASN: 64512, peerASN: 64513, passive: true, passwordSecret: {name: s}}",
	)
	peers[3].Password = "secret"
	established := func(names ...string) {
		t.Helper()
		for _, name := range names {
			eventually(t, name+" has a session", func() bool { return sessionOf(s, name).State == Established })
		}
	}
	taken, err := net.Listen("tcp", "192.0.2.12:179") // another program of the node
	check(t, err)

	s.Apply(peers[1:2], toAll("203.0.113.1/32", "2001:db8:2::1/128"))
	established("six")
	since := sessionOf(s, "six").Since
	s.Apply(peers, nil)
	established("one", "two")
	has(t, one.route, "203.0.113.1/32")
	has(t, two.route, "203.0.113.1/32")
	if got := sessionOf(s, "three"); got.State != Waiting || !strings.Contains(got.LastError, "stop the program of the node that has it") {
		t.Errorf("a peer that cannot be listened for: %+v", got)
	}

	t.Run("nobody else gets a word", func(t *testing.T) {
		if err := h.knock("192.0.2.66", "192.0.2.11"); err != nil {
			t.Errorf("a stranger: %v", err)
		}
		if err := h.knock("192.0.2.3", "192.0.2.11"); err != nil {
			t.Errorf("a peer that should connect to another address: %v", err)
		}
		var dial *net.OpError
		if err := h.knock("192.0.2.2", "192.0.2.11"); !errors.As(err, &dial) || !dial.Timeout() {
			t.Errorf("a peer's address without its password: %v", err)
		}
		if err := h.knock("2001:db8:1::1", "2001:db8:1::11"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("an address that no peer connects to: %v", err)
		}
	})
	t.Run("what can be listened for later is", func(t *testing.T) {
		taken.Close()
		s.look()
		eventually(t, "the node listens", func() bool { return h.knock("192.0.2.66", "192.0.2.12") == nil })
		if got := sessionOf(s, "three"); got.State == Waiting {
			t.Errorf("the peer waits still: %+v", got)
		}
	})
	t.Run("and no more than that", func(t *testing.T) {
		s.Apply([]Peer{peers[0], peers[1], peers[3]}, nil)
		if err := h.knock("192.0.2.66", "192.0.2.12"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the address of a peer that is gone: %v", err)
		}
		s.Apply(peers[1:2], nil)
		hasNot(t, one.route, "203.0.113.1/32")
		hasNot(t, two.route, "203.0.113.1/32")
		if err := h.knock("192.0.2.66", "192.0.2.11"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("no passive peer is left: %v", err)
		}
	})
	if got := sessionOf(s, "six"); got.State != Established || got.Since != since {
		t.Errorf("the session that we make was touched: %+v", got)
	}
}

func TestWhyNobodyIsListenedFor(t *testing.T) {
	own := netip.MustParseAddr("192.0.2.11")
	err := startError(own, own, &net.OpError{Op: "listen", Err: syscall.EACCES})
	if !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "add NET_BIND_SERVICE") {
		t.Errorf("without the capability: %v", err)
	}
}
