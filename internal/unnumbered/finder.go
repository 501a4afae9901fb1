package unnumbered

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"heraldlb.io/herald/internal/privilege"
)

// look is how often interfaces are looked at, and what is due is sent.
const look = time.Second

// Finder finds the routers of interfaces. Its methods may be called from any goroutine.
type Finder struct {
	logger  log.Logger
	changed func()
	wake    chan struct{}

	mu    sync.Mutex
	links map[string]*link // by the interface's name
	err   error            // why nothing can be heard; nil when it can
}

// New makes a Finder that looks at no interface. When there is another router on one, changed is called, which must not
// block.
func New(logger log.Logger, changed func()) *Finder {
	return &Finder{logger: logger, changed: changed, wake: make(chan struct{}, 1), links: map[string]*link{}}
}

// Set says at which interfaces to look for a router. What is known of one that was looked at before is kept.
func (f *Finder) Set(interfaces []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.links {
		if !slices.Contains(interfaces, name) {
			delete(f.links, name)
		}
	}
	for _, name := range interfaces {
		if f.links[name] == nil {
			f.links[name] = &link{}
			if there, err := net.Interfaces(); err == nil {
				f.links[name].see(inspect(there, name))
			}
			select {
			case f.wake <- struct{}{}:
			default:
			}
		}
	}
}

// Router returns the link-local address of the router at an interface and that of the node which the router knows, both
// with their zone. The error says what is missing.
func (f *Finder) Router(name string) (router, own netip.Addr, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.links[name]
	switch {
	case l == nil || l.index == 0:
		return router, own, fmt.Errorf("the node has no interface %s: correct interface, or let nodeSelectors leave the node out", name)
	case !l.own.IsValid():
		return router, own, fmt.Errorf("interface %s has no IPv6 link-local address: enable IPv6 on it, and set it up", name)
	case l.router.IsValid():
		return l.router, l.own, nil
	case f.err != nil:
		return router, own, fmt.Errorf("interface %s: %w", name, f.err)
	}
	return router, own, fmt.Errorf("no router was heard on interface %s yet: let it send IPv6 router advertisements there", name)
}

// Run listens and sends until ctx is done. No socket is open while there is no interface to look at.
func (f *Finder) Run(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	done := make(chan struct{})
	var events chan netlink.LinkUpdate
	defer func() {
		close(done)
		if events != nil {
			for range events { // its sender may be about to send
			}
		}
	}()
	var conn *ipv6.PacketConn
	var reader sync.WaitGroup
	defer func() {
		if conn != nil {
			conn.Close() // ends the reader
		}
		reader.Wait()
	}()
	for {
		f.mu.Lock()
		wanted := len(f.links) > 0
		f.mu.Unlock()
		switch {
		case wanted && conn == nil:
			var err error
			conn, err = open()
			f.fail(err)
			if conn != nil {
				reader.Go(func() { f.listen(conn) })
			}
		case !wanted && conn != nil:
			conn.Close()
			reader.Wait()
			conn = nil
		}
		if wanted && events == nil {
			events = subscribe(done)
		}
		f.send(conn)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-f.wake:
		case e, more := <-events:
			if !more {
				events = nil // the kernel had more to tell than was read in time
			} else if e.Flags&unix.IFF_RUNNING == 0 {
				f.interrupted(int(e.Index))
			}
		}
	}
}

// subscribe asks for the changes of interfaces; nil when that fails. The kernel tells of each link once a second at most, so
// that nobody hears of a shorter interruption.
func subscribe(done chan struct{}) chan netlink.LinkUpdate {
	events := make(chan netlink.LinkUpdate)
	if netlink.LinkSubscribe(events, done) != nil {
		return nil
	}
	return events
}

// interrupted notes that a link is down.
func (f *Finder) interrupted(index int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.links {
		if l.index == index {
			l.doubt()
		}
	}
}

// open opens the socket that all Router Advertisements to the node arrive at.
func open() (*ipv6.PacketConn, error) {
	var raw *icmp.PacketConn
	err := privilege.With(privilege.NetRaw, func() (err error) {
		raw, err = icmp.ListenPacket("ip6:ipv6-icmp", "::")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen to router advertisements: %w", err)
	}
	conn := raw.IPv6PacketConn()
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	err = errors.Join(
		conn.SetICMPFilter(&filter),
		conn.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true),
		conn.SetMulticastHopLimit(hopLimit),
		conn.SetMulticastLoopback(false),
	)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen to router advertisements: set socket options: %w", err)
	}
	return conn, nil
}

// fail notes that nothing can be heard, or with nil that it can.
func (f *Finder) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && f.err == nil {
		level.Warn(f.logger).Log("msg", "unnumbered BGP peers cannot be found; trying again every second", "err", err)
	}
	f.err = err
}

// listen reads until the socket is closed.
func (f *Finder) listen(conn *ipv6.PacketConn) {
	b := make([]byte, 1<<16)
	for {
		n, control, from, err := conn.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		address, is := from.(*net.IPAddr)
		if err != nil || control == nil || !is {
			continue // what the kernel reports of an earlier packet
		}
		router, _ := netip.AddrFromSlice(address.IP)
		if valid(b[:n], router, control.HopLimit) && f.heard(control.IfIndex, router) {
			f.changed()
		}
	}
}

// heard tells the interface of that number that a router was heard, and whether it is another one.
func (f *Finder) heard(index int, router netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, l := range f.links {
		if l.index != index {
			continue
		}
		if router = router.WithZone(name); l.hear(router, time.Now()) {
			level.Info(f.logger).Log("msg", "found the router at an interface", "interface", name, "address", router)
			return true
		}
	}
	return false
}

// send looks at all interfaces and sends what is due. What fails is due again later.
func (f *Finder) send(conn *ipv6.PacketConn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.links) == 0 {
		return
	}
	interfaces, err := net.Interfaces()
	for name, l := range f.links {
		if err == nil { // else they stay as they were
			l.see(inspect(interfaces, name))
		}
		if conn == nil {
			continue
		}
		advertise, ask := l.due(time.Now())
		if advertise {
			l.write(conn, advertisement(), allNodes)
		}
		if ask {
			l.write(conn, solicitation(), allRouters)
		}
	}
}

// inspect returns how an interface is.
func inspect(interfaces []net.Interface, name string) (index int, own netip.Addr, up bool) {
	i := slices.IndexFunc(interfaces, func(i net.Interface) bool { return i.Name == name })
	if i < 0 {
		return 0, own, false
	}
	found := interfaces[i]
	addrs, _ := found.Addrs() // none, when it has just gone
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			return found.Index, p.Addr().WithZone(name), found.Flags&net.FlagRunning != 0
		}
	}
	return found.Index, own, false
}

// write sends a message from the node's link-local address. An address that is still being probed for fails, as does a link
// that has just gone.
func (l *link) write(conn *ipv6.PacketConn, message []byte, to netip.Addr) {
	control := &ipv6.ControlMessage{HopLimit: hopLimit, Src: l.own.AsSlice(), IfIndex: l.index}
	_, _ = conn.WriteTo(message, control, &net.IPAddr{IP: to.AsSlice()})
}
