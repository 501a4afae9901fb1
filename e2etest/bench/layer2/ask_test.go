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
)

const (
	// askEvery is how often who has an address is asked, where there are few addresses.
	askEvery = 20 * time.Millisecond
	// askApart keeps questions about many addresses from being the load that is measured: 2,000 a second at most.
	askApart = 500 * time.Microsecond
)

// asker asks by ARP, from the client, who has each of some addresses, again and again until it is stopped. Its socket is
// beside the client's own ARP, which therefore goes on believing what it believes.
type asker struct {
	conn    *packet.Conn
	nodes   map[string]string // by MAC
	client  netip.Addr
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
func (s *stage) ask(addrs []netip.Addr) (*asker, error) {
	a := &asker{
		nodes: map[string]string{}, client: s.Host(lab.Client).IPv4, asked: map[netip.Addr]*dialogue{},
		every: max(askEvery, time.Duration(len(addrs))*askApart),
	}
	for _, n := range s.Nodes() {
		a.nodes[s.Host(n).MAC.String()] = n
	}
	mac := s.Host(lab.Client).MAC
	for _, addr := range addrs {
		frame, err := arpQuestion(mac, a.client, addr)
		if err != nil {
			return nil, fmt.Errorf("ask for %s: %w", addr, err)
		}
		a.asked[addr] = &dialogue{question: frame}
	}
	err := s.InNet(lab.Client, func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err == nil {
			a.conn, err = packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask on the LAN: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.began = cancel, time.Now()
	a.running.Go(func() { a.send(ctx, addrs) })
	a.running.Go(a.listen)
	return a, nil
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
	to := &packet.Addr{HardwareAddr: ethernet.Broadcast}
	for i := 0; ; {
		for due := int(time.Since(a.began)/apart) + 1; i < due; i++ {
			d := a.asked[addrs[i%len(addrs)]]
			a.mu.Lock()
			d.asked = append(d.asked, time.Now())
			a.mu.Unlock()
			if _, err := a.conn.WriteTo(d.question, to); err != nil {
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

func (a *asker) listen() {
	buffer := make([]byte, 2048)
	for {
		n, _, err := a.conn.ReadFrom(buffer)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				a.fail(err)
			}
			return
		}
		var frame ethernet.Frame
		var reply arp.Packet
		if frame.UnmarshalBinary(buffer[:n]) != nil || reply.UnmarshalBinary(frame.Payload) != nil {
			continue
		}
		// A gratuitous reply answers nobody's question.
		if reply.Operation == arp.OperationReply && reply.TargetIP == a.client {
			a.hear(reply.SenderIP, reply.SenderHardwareAddr.String())
		}
	}
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
	a.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // for the last question's answer
	a.running.Wait()
	a.conn.Close()
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
