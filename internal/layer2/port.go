package layer2

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// port is what announces on one interface: a socket for each protocol, the addresses that it answers for, and the
// queue of what it has to say. It is made for an interface as it is now and is replaced when the interface's index, name
// or MAC changes.
type port struct {
	link    link
	mac     hwAddr
	config  Config
	metrics *metrics
	hooks   hooks

	sockets [protocols]*socket // nil: not open; guarded by mu
	running sync.WaitGroup

	mu           sync.RWMutex
	allMulticast bool // for want of groups
	addrs        map[netip.Addr]state
	conflicts    map[netip.Addr]*conflict // of these
	queue        *queue
	silent       bool // nothing is queued any more

	groups *groups
	covers [protocols]cover // used by the announcer's goroutines one at a time, under the announcer's lock

	wake chan struct{} // the queue got something earlier
	stop func()        // ends announcements and answers, without waiting
	done chan struct{}
}

// hooks are how a port asks and tells its announcer. They are called from the port's own goroutines, and must not call
// back.
type hooks struct {
	familiar func(hwAddr) bool             // whether a MAC is one of the cluster's
	broke    func(protocol, error)         // a socket failed
	refused  func(error)                   // groups cannot be joined
	conflict func(c Conflict, begins bool) // somebody else has an address, or has it no more
}

// state is what a port does with an address.
type state struct {
	mac     hwAddr // where it is reached: here, or at an absent node
	standIn bool   // it is the absent node's
	probing bool   // it is not used yet
}

// placement puts an address on a port.
type placement struct {
	addr   netip.Addr
	absent hwAddr // the MAC of the node in whose place the port answers; zero when the address is this node's own
	probe  bool
}

// newPort makes a port without sockets, and starts to send what is queued.
func newPort(l link, c Config, m *metrics, silent bool, h hooks) *port {
	ctx, cancel := context.WithCancel(context.Background())
	p := &port{
		link:      l,
		mac:       hw(l.mac),
		config:    c,
		metrics:   m,
		hooks:     h,
		addrs:     map[netip.Addr]state{},
		conflicts: map[netip.Addr]*conflict{},
		queue:     newQueue(c, tenth),
		silent:    silent,
		groups:    newGroups(l.index),
		wake:      make(chan struct{}, 1),
		done:      make(chan struct{}),
	}
	p.stop = func() {
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		clear(p.addrs)
	}
	go p.send(ctx)
	p.running.Go(func() { p.groups.run(ctx, p.refused) })
	return p
}

// open opens the socket of a protocol and starts to answer. Addresses of its family that the port has already are
// announced on it.
func (p *port) open(proto protocol) error {
	s, err := openSocket(p.link, proto.etherType(), proto.program(&p.covers[proto]))
	if err != nil {
		return err
	}
	p.mu.Lock()
	if proto == protocolNDP && p.allMulticast {
		if err := s.allMulticast(p.link.index); err != nil {
			p.mu.Unlock()
			s.close()
			return err
		}
	}
	p.sockets[proto] = s
	for addr, st := range p.addrs {
		if !st.standIn && protocolOf(addr) == proto {
			p.enqueue(addr, st.probing)
		}
	}
	p.mu.Unlock()
	handle := p.arpHandler()
	if proto == protocolNDP {
		handle = p.ndpHandler()
	}
	p.running.Go(func() { p.broke(proto, s, s.read(handle)) })
	return nil
}

// broke gives up a socket that failed, if it still is the one of its protocol.
func (p *port) broke(proto protocol, s *socket, err error) {
	p.mu.Lock()
	current := p.sockets[proto] == s
	if current {
		p.sockets[proto] = nil
		p.metrics.closed(proto, s)
	}
	p.mu.Unlock()
	if current {
		p.hooks.broke(proto, err)
	}
}

// close ends what stop began, and waits until nothing of the port runs.
func (p *port) close() {
	p.mu.Lock()
	for proto, s := range p.sockets {
		if s != nil {
			p.sockets[proto] = nil
			p.metrics.closed(protocol(proto), s)
		}
	}
	p.mu.Unlock()
	p.running.Wait()
	<-p.done
}

func (p *port) socket(proto protocol) *socket {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.sockets[proto]
}

// update makes the port answer for some addresses and fall silent, at once, about others. An address that it has in
// the same way stays as it is.
func (p *port) update(add []placement, remove []netip.Addr) {
	p.listen(add) // before an announcement brings the questions

	now := time.Now()
	var gone []netip.Addr
	p.mu.Lock()
	for _, addr := range remove {
		if _, ok := p.addrs[addr]; ok {
			gone = append(gone, addr)
		}
		delete(p.addrs, addr)
		delete(p.conflicts, addr)
		p.queue.remove(addr)
	}
	for _, a := range add {
		p.place(a, now)
	}
	p.mu.Unlock()

	p.unlisten(gone)
}

// place makes an address what the placement says. It is called with the lock held.
func (p *port) place(a placement, now time.Time) {
	old, have := p.addrs[a.addr]
	if a.absent != (hwAddr{}) {
		p.addrs[a.addr] = state{mac: a.absent, standIn: true}
		delete(p.conflicts, a.addr)
		p.queue.remove(a.addr)
		return
	}
	if have && !old.standIn {
		return
	}
	// What was answered for in another's place is not new.
	probe := a.probe && !have && !p.config.NoProbes && !p.silent
	p.addrs[a.addr] = state{mac: p.mac, probing: probe}
	p.enqueue(a.addr, probe)
}

// listen has the kernel hand over what is asked about addresses.
func (p *port) listen(add []placement) {
	var changed [protocols]bool
	var join []groupChange
	for _, a := range add {
		proto := protocolOf(a.addr)
		if !p.has(a.addr) && p.covers[proto].add(a.addr) {
			changed[proto] = true
		}
		if proto == protocolNDP {
			join = append(join, groupChange{addr: a.addr})
		}
	}
	p.groups.change(join...)
	for proto, changed := range changed {
		if changed {
			p.filter(protocol(proto))
		}
	}
}

// refused hears that the kernel lets the interface join no group, as when IPv6 is off on it. Its hardware filter can still be
// opened, and switches that do not snoop deliver.
func (p *port) refused(err error) {
	p.mu.Lock()
	if p.allMulticast {
		p.mu.Unlock()
		return
	}
	p.allMulticast = true
	if s := p.sockets[protocolNDP]; s != nil {
		err = errors.Join(err, s.allMulticast(p.link.index))
	}
	p.mu.Unlock()
	p.hooks.refused(err)
}

// unlisten undoes listen, for addresses that the port has no more.
func (p *port) unlisten(gone []netip.Addr) {
	var worn [protocols]bool
	var leave []groupChange
	for _, addr := range gone {
		proto := protocolOf(addr)
		worn[proto] = p.covers[proto].remove() || worn[proto]
		if proto == protocolNDP {
			leave = append(leave, groupChange{addr, true})
		}
	}
	p.groups.change(leave...)
	for proto, worn := range worn {
		if !worn {
			continue
		}
		p.covers[proto] = cover{}
		p.mu.RLock()
		left := slices.Collect(maps.Keys(p.addrs))
		p.mu.RUnlock()
		for _, addr := range left {
			if protocolOf(addr) == protocol(proto) {
				p.covers[proto].add(addr)
			}
		}
		p.filter(protocol(proto))
	}
}

// filter gives the protocol's socket the filter of its cover.
func (p *port) filter(proto protocol) {
	s := p.socket(proto)
	if s == nil {
		return // it gets the filter when it is opened
	}
	if err := s.setFilter(proto.program(&p.covers[proto])); err != nil {
		p.broke(proto, s, err)
	}
}

func (p *port) has(addr netip.Addr) bool {
	_, ok := p.lookup(addr)
	return ok
}

func (p *port) lookup(addr netip.Addr) (state, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	st, ok := p.addrs[addr]
	return st, ok
}

// enqueue starts the announcements of an address. It is called with the lock held.
func (p *port) enqueue(addr netip.Addr, probe bool) {
	if p.silent {
		return
	}
	p.queue.add(addr, time.Now(), probe)
	p.awake()
}

func (p *port) awake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// remind has all addresses announced once more.
func (p *port) remind() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.remind(time.Now())
	p.awake()
}

// quiet ends all announcements; answers go on. What is still asked for is not used any more.
func (p *port) quiet() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
	p.queue = newQueue(p.config, tenth)
}

// waiting counts the addresses about which there is something to say that the pace holds back.
func (p *port) waiting(now time.Time) int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.queue.waiting(now)
}

// unused returns the addresses that the port still asks for, or that somebody else has.
func (p *port) unused() (out []netip.Addr) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for addr, st := range p.addrs {
		if st.probing {
			out = append(out, addr)
		}
	}
	return out
}

// offers returns the interface as addresses can be announced on it now.
func (p *port) offers() Interface {
	i := Interface{
		Name: p.link.name,
		MAC:  p.link.mac,
		ARP:  p.socket(protocolARP) != nil,
		NDP:  p.socket(protocolNDP) != nil,
	}
	for _, s := range p.link.subnets {
		if s.Addr().Is4() && i.ARP || s.Addr().Is6() && i.NDP {
			i.Subnets = append(i.Subnets, s)
		}
	}
	return i
}
