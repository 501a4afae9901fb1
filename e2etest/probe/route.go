package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteChange is the next hops that a kernel has for a prefix from a time on, sorted; none is no route.
type RouteChange struct {
	At       time.Time
	NextHops []netip.Addr
}

// RouteWatcher follows the next hops that a kernel has for one IPv4 prefix.
type RouteWatcher struct {
	prefix netip.Prefix
	events chan netlink.RouteUpdate
	done   chan struct{}
	ended  chan struct{}

	mu      sync.Mutex
	err     error
	changes []RouteChange // the first is what there was at the beginning
	spoken  chan struct{} // closed when there is a newer change, and replaced
}

// WatchRoute follows an IPv4 prefix in the main table of the calling thread's network namespace. The caller stops the
// RouteWatcher.
func WatchRoute(prefix netip.Prefix) (*RouteWatcher, error) {
	w := &RouteWatcher{
		prefix: prefix.Masked(), events: make(chan netlink.RouteUpdate, 1024),
		done: make(chan struct{}), ended: make(chan struct{}), spoken: make(chan struct{}),
	}
	if !prefix.Addr().Is4() {
		return nil, fmt.Errorf("watch the route to %s: of IPv6 the kernel tells next hops one by one; watch an IPv4 prefix", prefix)
	}
	// Asked after the subscription, so that nothing is missed between the two.
	options := netlink.RouteSubscribeOptions{ErrorCallback: w.fail}
	if err := netlink.RouteSubscribeWithOptions(w.events, w.done, options); err != nil {
		return nil, fmt.Errorf("watch the route to %s: %w", prefix, err)
	}
	now, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN, Dst: ipNet(w.prefix)}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	if err != nil {
		close(w.done)
		return nil, fmt.Errorf("read the route to %s: %w", prefix, err)
	}
	first := RouteChange{At: time.Now()}
	for _, r := range now {
		first.NextHops = append(first.NextHops, hops(&r)...)
	}
	slices.SortFunc(first.NextHops, netip.Addr.Compare)
	w.changes = []RouteChange{first}
	go w.follow()
	return w, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// hops are the next hops of a route, sorted.
func hops(r *netlink.Route) []netip.Addr {
	ips := []net.IP{r.Gw}
	for _, n := range r.MultiPath {
		ips = append(ips, n.Gw)
	}
	var out []netip.Addr
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func (w *RouteWatcher) follow() {
	defer close(w.ended)
	for e := range w.events {
		if e.Table != unix.RT_TABLE_MAIN || e.Dst == nil || e.Dst.String() != w.prefix.String() {
			continue
		}
		next := RouteChange{At: time.Now()}
		if e.Type == unix.RTM_NEWROUTE {
			next.NextHops = hops(&e.Route)
		}
		w.mu.Lock()
		if !slices.Equal(next.NextHops, w.changes[len(w.changes)-1].NextHops) {
			w.changes = append(w.changes, next)
			close(w.spoken)
			w.spoken = make(chan struct{})
		}
		w.mu.Unlock()
	}
}

// fail keeps why the watch ended. The subscription calls it also when it is stopped.
func (w *RouteWatcher) fail(err error) {
	select {
	case <-w.done:
		return
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err)
}

// Wait returns the first change from now on, the present state included, that is as wanted.
func (w *RouteWatcher) Wait(ctx context.Context, wanted func(nextHops []netip.Addr) bool) (RouteChange, error) {
	w.mu.Lock()
	next := len(w.changes) - 1
	w.mu.Unlock()
	for {
		w.mu.Lock()
		changes, spoken := w.changes, w.spoken
		w.mu.Unlock()
		for ; next < len(changes); next++ {
			if wanted(changes[next].NextHops) {
				return changes[next], nil
			}
		}
		select {
		case <-ctx.Done():
			return RouteChange{}, fmt.Errorf("the next hops of %s are %v: %w", w.prefix, changes[len(changes)-1].NextHops, ctx.Err())
		case <-spoken:
		}
	}
}

// Stop ends the watch and returns all that the next hops have been, the first when it began. It may be called again. The error
// is why it ended before.
func (w *RouteWatcher) Stop() ([]RouteChange, error) {
	w.mu.Lock()
	select {
	case <-w.done:
	default:
		close(w.done)
	}
	w.mu.Unlock()
	<-w.ended
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changes, w.err
}
