package layer2

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// replyMax is the length of the longest frame that we send.
const replyMax = ndpFrameLen + linkOptionLen

// send announces what the queue says until ctx is done.
func (p *port) send(ctx context.Context) {
	defer close(p.done)
	timer := time.NewTimer(forever)
	defer timer.Stop()
	b := make([]byte, 0, replyMax)
	for ctx.Err() == nil {
		p.mu.Lock()
		s, wait := p.queue.next(time.Now())
		over := p.use(s)
		p.mu.Unlock()
		if over != nil {
			p.hooks.conflict(over.report(s.addr, p.link.name), false)
		}
		if s.addr.IsValid() {
			p.say(s, b)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// use begins to answer for an address that nobody turned out to have, and returns the conflict that is over. It is called
// with the lock held under which the step was taken: a claim that comes now comes after it.
func (p *port) use(s step) (over *conflict) {
	if s.n < 0 {
		return nil
	}
	if st, ok := p.addrs[s.addr]; ok && st.probing {
		st.probing = false
		p.addrs[s.addr] = st
	}
	if c := p.conflicts[s.addr]; c != nil && c.over(time.Now()) {
		delete(p.conflicts, s.addr)
		p.queue.settle(s.addr)
		return c
	}
	return nil
}

// say sends one step of the queue, in the buffer b.
func (p *port) say(s step, b []byte) {
	if st, ok := p.lookup(s.addr); s.silent || !ok || st.standIn { // not any more, since the queue was asked
		return
	}
	proto := protocolOf(s.addr)
	if s.n < 0 {
		p.sent(proto, &p.metrics.probes, p.write(proto, probe(b, p.mac, s.addr)))
		return
	}
	p.sent(proto, &p.metrics.announcements, p.write(proto, announcement(b, p.mac, s.addr, s.n)))
	if s.probe {
		p.sent(proto, &p.metrics.probes, p.write(proto, probe(b, p.mac, s.addr)))
	}
}

// errNoSocket is why nothing was sent while a socket waits to be opened again; what is to be said is queued anew
// then.
var errNoSocket = errors.New("no socket")

// write sends a whole frame.
func (p *port) write(proto protocol, frame []byte) error {
	s := p.socket(proto)
	if s == nil {
		return errNoSocket
	}
	return s.write(frame)
}

// sent counts a frame that was sent, or was not.
func (p *port) sent(proto protocol, counters *byProtocol, err error) {
	if err != nil {
		counters = &p.metrics.sendErrors
	}
	counters[proto].Inc()
}

// arpHandler returns what deals with frames of the ARP socket; it is for one goroutine.
func (p *port) arpHandler() func(frame []byte) {
	b := make([]byte, 0, replyMax)
	return func(frame []byte) {
		m, ok := parseARP(frame)
		if !ok {
			return
		}
		if !m.sender.IsUnspecified() {
			p.claimed(m.sender, m.from)
		}
		if !m.asks() {
			return
		}
		if mac, ok := p.asked(m.target, m.from, m.probes()); ok {
			p.sent(protocolARP, &p.metrics.answers, p.write(protocolARP, arpAnswer(b, p.mac, mac, m)))
		}
	}
}

// ndpHandler returns what deals with frames of the NDP socket; it is for one goroutine.
func (p *port) ndpHandler() func(frame []byte) {
	b := make([]byte, 0, replyMax)
	return func(frame []byte) {
		m, ok := parseNDP(frame)
		switch {
		case !ok:
			return
		case !m.solicitation:
			p.claimed(m.target, m.from)
			return
		case !m.sender.IsUnspecified():
			p.claimed(m.sender, m.from)
		}
		if mac, ok := p.asked(m.target, m.from, m.probes()); ok {
			p.sent(protocolNDP, &p.metrics.answers, p.write(protocolNDP, ndpAnswer(b, p.mac, mac, m)))
		}
	}
}

// asked returns the MAC to answer a question with, if it is ours to answer. While we ask ourselves whether anybody has the
// address, another's probe says that it wants the address too (RFC 5227, section 2.1.1).
func (p *port) asked(target netip.Addr, from hwAddr, probes bool) (mac hwAddr, ok bool) {
	st, ok := p.lookup(target)
	if ok && st.probing {
		if probes {
			p.claimed(target, from)
		}
		return mac, false
	}
	return st.mac, ok
}
