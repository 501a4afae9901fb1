package gossip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// readBuffer is what the kernel is asked to keep of packets that wait: a few thousand. A burst of claims must not push
	// probes out.
	readBuffer = 2 << 20

	// bindTries is how often a port that the kernel chose for TCP is tried for UDP, where another may have it.
	bindTries = 10

	// labelHeader is the first byte of a packet that carries a cluster label; the label's length follows, and the label.
	labelHeader = 244
)

// transport is the gossip port: UDP for packets and TCP for streams, on one address. It takes the place of memberlist's
// own, which makes 64 KiB of garbage for each packet that comes.
type transport struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	label   string
	foreign func() // counts a packet with another cluster's label

	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	stop    sync.Once
	running sync.WaitGroup
}

func listen(bind netip.AddrPort, label string, foreign func()) (*transport, error) {
	tcp, udp, err := bindBoth(bind)
	for try := 1; err != nil && bind.Port() == 0 && try < bindTries; try++ {
		tcp, udp, err = bindBoth(bind)
	}
	if err != nil {
		return nil, err
	}
	_ = udp.SetReadBuffer(readBuffer) // less will do
	t := &transport{
		udp: udp, tcp: tcp, label: label, foreign: foreign,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}),
	}
	t.running.Go(t.readPackets)
	t.running.Go(t.accept)
	return t, nil
}

func bindBoth(bind netip.AddrPort) (*net.TCPListener, *net.UDPConn, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bind))
	if err != nil {
		return nil, nil, err
	}
	port := uint16(tcp.Addr().(*net.TCPAddr).Port)
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(bind.Addr(), port)))
	if err != nil {
		tcp.Close()
		return nil, nil, err
	}
	return tcp, udp, nil
}

func (t *transport) port() int { return t.tcp.Addr().(*net.TCPAddr).Port }

func (t *transport) readPackets() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		at := time.Now()
		if err != nil {
			if t.pause(err) {
				continue
			}
			return
		}
		if !t.ours(buf[:n]) {
			t.foreign()
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: at}
		select {
		case t.packets <- p:
		case <-t.done:
			return
		}
	}
}

// ours tells whether a packet carries this cluster's label. Memberlist looks again, and authenticates it.
func (t *transport) ours(b []byte) bool {
	if t.label == "" {
		return len(b) > 0
	}
	return len(b) > 2+len(t.label) && b[0] == labelHeader && int(b[1]) == len(t.label) && string(b[2:2+len(t.label)]) == t.label
}

func (t *transport) accept() {
	for {
		conn, err := t.tcp.Accept()
		if err != nil {
			if t.pause(err) {
				continue
			}
			return
		}
		select {
		case t.streams <- conn:
		case <-t.done:
			conn.Close()
			return
		}
	}
}

// pause waits a little after an error, such as one of too many open files. It returns false when the transport was shut
// down.
func (t *transport) pause(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	select {
	case <-t.done:
		return false
	case <-time.After(10 * time.Millisecond):
		return true
	}
}

func (t *transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, 0, err
	}
	return addr.Unmap().AsSlice(), port, nil
}

func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("address of %s: %w", a.Name, err)
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return (&net.Dialer{Timeout: timeout}).Dial("tcp", a.Addr)
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

func (t *transport) Shutdown() error {
	t.stop.Do(func() {
		close(t.done)
		t.tcp.Close()
		t.udp.Close()
	})
	t.running.Wait()
	return nil
}

// watching tells the ring how the calls end that memberlist makes: it calls a member by TCP when that did not answer a
// probe, which is the first sign of a death.
type watching struct {
	memberlist.NodeAwareTransport
	ring *Ring
}

func (w watching) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	conn, err := w.NodeAwareTransport.DialAddressTimeout(a, timeout)
	w.ring.called(a.Name, err == nil, errors.Is(err, syscall.ECONNREFUSED))
	return conn, err
}
