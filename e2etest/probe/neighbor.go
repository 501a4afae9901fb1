package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
)

const (
	// askInterval is between two questions: slow enough for every answerer to take each one by itself.
	askInterval = 10 * time.Millisecond
	// settle is how long answers are collected after the last question: a speaker that shares busy cores still answers in
	// time, and a second answerer is not missed because it is slower than the first.
	settle = 500 * time.Millisecond
)

// question is how one protocol asks who has an address.
type question struct {
	etherType int
	to        net.HardwareAddr
	frame     []byte
	// answerer returns the MAC that a frame gives for the address; false when the frame is no answer to this question.
	answerer func(frame []byte) (string, bool)
}

// interfaceAddresses returns an interface of the calling thread's network namespace and its addresses.
func interfaceAddresses(name string) (*net.Interface, []netip.Prefix, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, nil, fmt.Errorf("interface %s: %w", name, err)
	}
	addresses, err := ifi.Addrs()
	if err != nil {
		return nil, nil, fmt.Errorf("addresses of interface %s: %w", name, err)
	}
	var prefixes []netip.Prefix
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			prefixes = append(prefixes, p)
		}
	}
	return ifi, prefixes, nil
}

// source chooses the address to ask from, of the target's family: one on the target's subnet, as a host would, else the
// first that is as far-reaching as the target.
func source(prefixes []netip.Prefix, target netip.Addr) (netip.Addr, bool) {
	var other netip.Addr
	for _, p := range prefixes {
		a := p.Addr()
		if a.Is4() != target.Is4() {
			continue
		}
		if p.Contains(target) {
			return a, true
		}
		if !other.IsValid() || other.IsLinkLocalUnicast() && !a.IsLinkLocalUnicast() {
			other = a
		}
	}
	return other, other.IsValid()
}

// ask sends the question n times and counts all answers by MAC. The socket opens in the namespace of the calling thread.
func ask(ctx context.Context, ifi *net.Interface, q question, n int) (map[string]int, error) {
	conn, err := packet.Listen(ifi, packet.Raw, q.etherType, nil)
	if err != nil {
		return nil, fmt.Errorf("packet socket on %s, which needs CAP_NET_RAW: %w", ifi.Name, err)
	}
	defer conn.Close()

	heard := make(chan map[string]int, 1)
	go func() { heard <- collect(conn, q) }()
	asked := sendAll(ctx, conn, q, n)
	if asked == nil {
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			asked = ctx.Err()
		}
	}
	conn.SetReadDeadline(time.Now()) // ends collect
	counts := <-heard
	if asked != nil {
		return counts, fmt.Errorf("ask on %s: %w", ifi.Name, asked)
	}
	return counts, nil
}

func sendAll(ctx context.Context, conn *packet.Conn, q question, n int) error {
	tick := time.NewTicker(askInterval)
	defer tick.Stop()
	for i := range n {
		if i > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
		if _, err := conn.WriteTo(q.frame, &packet.Addr{HardwareAddr: q.to}); err != nil {
			return err
		}
	}
	return nil
}

func collect(conn *packet.Conn, q question) map[string]int {
	counts := map[string]int{}
	buffer := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return counts
		}
		if mac, ok := q.answerer(buffer[:n]); ok {
			counts[mac]++
		}
	}
}
