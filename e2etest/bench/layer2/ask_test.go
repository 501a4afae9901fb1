package layer2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/probe"
)

const (
	// askEvery is how often who has an address is asked, where there are few addresses.
	askEvery = 20 * time.Millisecond
	// askApart keeps questions about many addresses from being the load that is measured: 2,000 a second at most.
	askApart = 500 * time.Microsecond
)

// asker asks by ARP and NDP, from the client, who has each of some addresses, again and again until it is stopped. Its sockets
// are beside the client's own, which therefore goes on believing what it believes.
type asker struct {
	conns   map[ethernet.EtherType]*packet.Conn // of the families that are asked for
	nodes   map[string]string                   // by MAC
	client  lab.Host
	every   time.Duration
	running sync.WaitGroup
	cancel  context.CancelFunc

	mu    sync.Mutex
	err   error
	began time.Time
	ended time.Time
	asked map[netip.Addr]*dialogue
}

// dialogue is what was asked and said about one address.
type dialogue struct {
	conn     *packet.Conn
	question []byte
	asked    []time.Time
	answers  []answer
}

// answer is one reply.
type answer struct {
	at       time.Time
	question int    // the last one that was asked before it came, counted from 1
	node     string // whose MAC it gives, or the MAC of no node
}

// ask begins to ask.
func (s *scene) ask(addrs []netip.Addr) (*asker, error) {
	a := &asker{
		conns: map[ethernet.EtherType]*packet.Conn{}, nodes: map[string]string{}, client: s.Host(lab.Client), asked: map[netip.Addr]*dialogue{},
		every: max(askEvery, time.Duration(len(addrs))*askApart),
	}
	for _, n := range s.Nodes() {
		a.nodes[s.Host(n).MAC.String()] = n
	}
	for _, addr := range addrs {
		if err := a.prepare(s, addr); err != nil {
			a.close()
			return nil, fmt.Errorf("ask for %s: %w", addr, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.began = cancel, time.Now()
	a.running.Go(func() { a.send(ctx, addrs) })
	for kind, conn := range a.conns {
		answer := a.arpAnswer
		if kind == ethernet.EtherTypeIPv6 {
			answer = func(b []byte) (netip.Addr, string, bool) { return probe.NDPAnswer(b, a.client.IPv6) }
		}
		a.running.Go(func() { a.listen(conn, answer) })
	}
	return a, nil
}

// prepare makes the question about an address, and the socket on which it is asked.
func (a *asker) prepare(s *scene, addr netip.Addr) (err error) {
	d := &dialogue{}
	kind := ethernet.EtherTypeARP
	if addr.Is4() {
		d.question, err = arpQuestion(a.client.MAC, a.client.IPv4, addr)
	} else {
		kind = ethernet.EtherTypeIPv6
		d.question, err = probe.NDPQuestion(a.client.MAC, a.client.IPv6, addr)
	}
	if err == nil && a.conns[kind] == nil {
		err = s.InNet(lab.Client, func() error {
			ifi, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			conn, err := packet.Listen(ifi, packet.Raw, int(kind), nil)
			if err == nil {
				a.conns[kind] = conn
			}
			return err
		})
	}
	d.conn = a.conns[kind]
	a.asked[addr] = d
	return err
}

func (a *asker) close() {
	for _, conn := range a.conns {
		conn.Close()
	}
}

func arpQuestion(mac net.HardwareAddr, from, target netip.Addr) ([]byte, error) {
	request, err := arp.NewPacket(arp.OperationRequest, mac, from, make(net.HardwareAddr, 6), target)
	if err != nil {
		return nil, err
	}
	payload, err := request.MarshalBinary()
	if err != nil {
		return nil, err
	}
	frame := ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: payload}
	return frame.MarshalBinary()
}

// send spreads the questions of a turn over its time. A timer that comes late, as on a busy machine, leaves none out.
func (a *asker) send(ctx context.Context, addrs []netip.Addr) {
	apart := a.every / time.Duration(len(addrs))
	tick := time.NewTicker(max(apart, time.Millisecond))
	defer tick.Stop()
	for i := 0; ; {
		for due := int(time.Since(a.began)/apart) + 1; i < due; i++ {
			d := a.asked[addrs[i%len(addrs)]]
			a.mu.Lock()
			d.asked = append(d.asked, time.Now())
			a.mu.Unlock()
			if _, err := d.conn.WriteTo(d.question, &packet.Addr{HardwareAddr: d.question[:6]}); err != nil {
				a.fail(err)
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// listen hears the answers on a socket, which answer reads.
func (a *asker) listen(conn *packet.Conn, answer func([]byte) (netip.Addr, string, bool)) {
	buffer := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				a.fail(err)
			}
			return
		}
		if addr, mac, ok := answer(buffer[:n]); ok {
			a.hear(addr, mac)
		}
	}
}

// arpAnswer reads a reply to the client. A gratuitous one answers nobody's question.
func (a *asker) arpAnswer(b []byte) (addr netip.Addr, mac string, ok bool) {
	var frame ethernet.Frame
	var reply arp.Packet
	if frame.UnmarshalBinary(b) != nil || reply.UnmarshalBinary(frame.Payload) != nil {
		return netip.Addr{}, "", false
	}
	return reply.SenderIP, reply.SenderHardwareAddr.String(), reply.Operation == arp.OperationReply && reply.TargetIP == a.client.IPv4
}

func (a *asker) hear(addr netip.Addr, mac string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.asked[addr]
	if d == nil {
		return
	}
	node, ok := a.nodes[mac]
	if !ok {
		node = mac
	}
	d.answers = append(d.answers, answer{at: time.Now(), question: len(d.asked), node: node})
}

func (a *asker) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = errors.Join(a.err, fmt.Errorf("ask on the LAN: %w", err))
}

// stop ends the questions. What it returns is the caller's.
func (a *asker) stop() (*asker, error) {
	a.cancel()
	for _, conn := range a.conns {
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // for the last question's answer
	}
	a.running.Wait()
	a.close()
	a.ended = time.Now()
	return a, a.err
}

// owner is whoever answered for an address last since a time; empty when nobody did.
func (a *asker) owner(addr netip.Addr, since time.Time) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	said := a.asked[addr].answers
	if len(said) == 0 || said[len(said)-1].at.Before(since) {
		return ""
	}
	return said[len(said)-1].node
}
