package layer2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// protocol is one of the two that a port speaks.
type protocol int

const (
	protocolARP protocol = iota
	protocolNDP
	protocols
)

func (p protocol) String() string { return [...]string{"arp", "ndp"}[p] }

func protocolOf(addr netip.Addr) protocol {
	if addr.Is4() {
		return protocolARP
	}
	return protocolNDP
}

// port is what announces on one interface: a socket for each protocol, the addresses that it answers for, and the
// queue of what it has to say. It is made for an interface as it is now and is replaced when the interface's index, name
// or MAC changes.
type port struct {
	link    link
	metrics *metrics
	fail    func(protocol, error) // told when a socket broke; must not call back

	sockets [protocols]*packet.Conn // nil: not open; guarded by mu
	readers sync.WaitGroup

	mu     sync.RWMutex
	addrs  map[netip.Addr]net.HardwareAddr // and the absent node's MAC where this one only stands in, else nil
	queue  *queue
	silent bool // nothing is queued any more

	groups *groups // used by the announcer's goroutines one at a time, under the announcer's lock

	wake chan struct{} // the queue got something earlier
	stop context.CancelFunc
	done chan struct{}
}

// newPort makes a port without sockets, and starts to send what is queued.
func newPort(l link, m *metrics, silent bool, fail func(protocol, error)) *port {
	ctx, stop := context.WithCancel(context.Background())
	p := &port{
		link:    l,
		metrics: m,
		fail:    fail,
		addrs:   map[netip.Addr]net.HardwareAddr{},
		queue:   newQueue(tenth),
		silent:  silent,
		groups:  newGroups(l.index),
		wake:    make(chan struct{}, 1),
		stop:    stop,
		done:    make(chan struct{}),
	}
	go p.send(ctx)
	return p
}

// open opens the socket of a protocol and starts to answer. Addresses of its family that the port has already are
// announced on it.
func (p *port) open(proto protocol) error {
	filter, etherType, answer := arpFilter, unix.ETH_P_ARP, p.answerARP
	if proto == protocolNDP {
		filter, etherType, answer = ndpFilter, unix.ETH_P_IPV6, p.answerNDP
	}
	program, err := bpf.Assemble(filter)
	if err != nil {
		return fmt.Errorf("assemble the %s filter: %w", proto, err)
	}
	ifi := &net.Interface{Index: p.link.index, Name: p.link.name, HardwareAddr: p.link.mac}
	var conn *packet.Conn
	err = withNetRaw(func() (err error) {
		conn, err = packet.Listen(ifi, packet.Raw, etherType, &packet.Config{Filter: program})
		return err
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.sockets[proto] = conn
	for a, absent := range p.addrs {
		if absent == nil && protocolOf(a) == proto {
			p.enqueue(a)
		}
	}
	p.mu.Unlock()
	p.readers.Go(func() {
		err := read(conn, answer)
		if p.closeSocket(proto, conn) {
			p.fail(proto, err)
		}
	})
	return nil
}

// closeSocket closes conn if it still is the socket of the protocol, and reports whether it was.
func (p *port) closeSocket(proto protocol, conn *packet.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sockets[proto] != conn {
		return false
	}
	p.sockets[proto] = nil
	conn.Close()
	return true
}

// close stops everything and waits until nothing of the port runs.
func (p *port) close() {
	p.stop()
	p.mu.Lock()
	for proto, conn := range p.sockets {
		if conn != nil {
			p.sockets[proto] = nil
			conn.Close()
		}
	}
	p.mu.Unlock()
	p.readers.Wait()
	<-p.done
	p.groups.close()
}

func (p *port) socket(proto protocol) *packet.Conn {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.sockets[proto]
}

// add makes the port answer for an address and announce it, or, with the MAC of an absent node, only answer with that.
// An address that it has in the same way stays as it is. An error tells that neighbors may not reach us with their
// solicitations; the address is announced all the same.
func (p *port) add(addr netip.Addr, absent net.HardwareAddr) error {
	p.mu.Lock()
	was, have := p.addrs[addr]
	p.addrs[addr] = absent
	switch {
	case absent != nil:
		p.queue.remove(addr)
	case !have || was != nil:
		p.enqueue(addr)
	}
	p.mu.Unlock()
	if have || addr.Is4() {
		return nil
	}
	group := solicitedNode(addr)
	err := p.groups.join(group)
	if err == nil {
		return nil
	}
	// The group was refused (IPv6 may be off on the interface). The hardware filter can still be opened for it, and
	// switches that do not snoop deliver.
	if conn := p.socket(protocolNDP); conn != nil && conn.JoinGroup(groupMAC(group)) == nil {
		return nil
	}
	return err
}

// enqueue starts the announcements of an address. It is called with the lock held.
func (p *port) enqueue(addr netip.Addr) {
	if p.silent {
		return
	}
	p.queue.add(addr, time.Now())
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// remove makes the port fall silent about an address, at once.
func (p *port) remove(addr netip.Addr) {
	p.mu.Lock()
	_, had := p.addrs[addr]
	delete(p.addrs, addr)
	p.queue.remove(addr)
	p.mu.Unlock()
	if had && addr.Is6() {
		p.groups.leave(solicitedNode(addr))
	}
}

// quiet ends all announcements; answers go on.
func (p *port) quiet() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
	p.queue = newQueue(tenth)
}

// reached returns the MAC that addr is reached at, this port's or an absent node's; false when it is none of the
// port's addresses.
func (p *port) reached(addr netip.Addr) (mac net.HardwareAddr, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	absent, ok := p.addrs[addr]
	if absent != nil {
		return absent, ok
	}
	return p.link.mac, ok
}

// owns tells whether the port has an address for its own node.
func (p *port) owns(addr netip.Addr) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	absent, ok := p.addrs[addr]
	return ok && absent == nil
}

// send announces what the queue says until ctx is done.
func (p *port) send(ctx context.Context) {
	defer close(p.done)
	timer := time.NewTimer(forever)
	defer timer.Stop()
	for {
		p.mu.Lock()
		addr, n, wait := p.queue.next(time.Now())
		p.mu.Unlock()
		if addr.IsValid() {
			p.announce(addr, n)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
	}
}

func (p *port) announce(addr netip.Addr, n int) {
	if !p.owns(addr) { // not any more, since the queue was asked
		return
	}
	var frame []byte
	var err error
	if addr.Is4() {
		frame, err = gratuitousARP(p.link.mac, addr, n)
	} else {
		frame, err = unsolicitedAdvertisement(p.link.mac, addr)
	}
	if err == nil {
		err = p.write(protocolOf(addr), frame)
	}
	if err != nil {
		p.metrics.sendErrors.WithLabelValues(protocolOf(addr).String()).Inc()
		return
	}
	p.metrics.announcements.WithLabelValues(protocolOf(addr).String()).Inc()
}

// errNoSocket is why nothing was sent while a socket waits to be opened again; what is to be said is queued anew
// then.
var errNoSocket = errors.New("no socket")

// write sends a whole frame.
func (p *port) write(proto protocol, frame []byte) error {
	conn := p.socket(proto)
	if conn == nil {
		return errNoSocket
	}
	_, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
	return err
}

func (p *port) answerARP(frame []byte) {
	q, ok := parseARP(frame)
	if !ok {
		return
	}
	mac, ok := p.reached(q.target)
	if !ok {
		return
	}
	reply, err := arpReply(p.link.mac, mac, q)
	p.answered(protocolARP, reply, err)
}

func (p *port) answerNDP(frame []byte) {
	q, ok := parseNS(frame)
	if !ok {
		return
	}
	mac, ok := p.reached(q.target)
	if !ok {
		return
	}
	reply, err := solicitedAdvertisement(p.link.mac, mac, q)
	p.answered(protocolNDP, reply, err)
}

func (p *port) answered(proto protocol, reply []byte, err error) {
	if err == nil {
		err = p.write(proto, reply)
	}
	if err != nil {
		p.metrics.sendErrors.WithLabelValues(proto.String()).Inc()
		return
	}
	p.metrics.answers.WithLabelValues(proto.String()).Inc()
}

// read hands each frame that passes the socket's filter to handle, in a buffer that it uses again. It reads the
// descriptor itself: recvfrom through the library would allocate an address for each of other people's questions.
func read(conn *packet.Conn, handle func([]byte)) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, nsFrameMax)
	for {
		var n int
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			n, readErr = unix.Read(int(fd), buf)
			return readErr != unix.EAGAIN && readErr != unix.EINTR
		})
		if err == nil {
			err = readErr
		}
		if errors.Is(err, unix.ENETDOWN) {
			continue // told once when the interface goes down; the socket works again when it is back
		}
		if err != nil {
			return err
		}
		handle(buf[:n])
	}
}
