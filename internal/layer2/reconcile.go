package layer2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-kit/log/level"
)

const (
	// The first and the longest wait before a socket that failed is tried again. A missing capability does not appear
	// by itself, but an interface that is being set up is ready a moment later.
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second

	// reconcileInterval is the least time from one look at the interfaces to the next. The first event of a burst is acted on
	// at once; a kernel that adds ten thousand addresses makes as many events, and each look lists them all.
	reconcileInterval = 20 * time.Millisecond
)

type faultKey struct {
	index int
	proto protocol
}

// fault is a socket that does not work.
type fault struct {
	name    string
	err     error
	wait    time.Duration
	retryAt time.Time
}

// follow reconciles when something changed, until ctx is done.
func (a *Announcer) follow(ctx context.Context) {
	retry := time.NewTimer(forever)
	defer retry.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.kick:
		case <-retry.C:
		}
		if at := a.reconcile(time.Now()); !at.IsZero() {
			retry.Reset(time.Until(at))
		} else {
			retry.Reset(forever)
		}
		rest.Reset(reconcileInterval)
		select {
		case <-ctx.Done():
			return
		case <-rest.C:
		}
	}
}

func (a *Announcer) reconcileSoon() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// reconcile makes ports and sockets what the interfaces want, and returns when to try failed sockets again.
func (a *Announcer) reconcile(now time.Time) (retryAt time.Time) {
	inv, err := list()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		if a.listErr == nil || a.listErr.Error() != err.Error() {
			level.Error(a.logger).Log("msg", "cannot list the node's interfaces; announcing on those known before", "err", err)
		}
		a.listErr = fmt.Errorf("list the node's interfaces: %w", err)
		return now.Add(retryMost)
	}
	a.listErr = nil
	if !slices.Equal(inv.macs, a.macs) {
		a.macs = inv.macs
		a.introduce()
	}
	a.followLinks(inv.links, now)
	a.publish()
	a.setLocal(inv.local)

	for _, f := range a.faults {
		if retryAt.IsZero() || f.retryAt.Before(retryAt) {
			retryAt = f.retryAt
		}
	}
	return retryAt
}

// followLinks opens, changes and closes ports as the links want it.
func (a *Announcer) followLinks(links []link, now time.Time) {
	wanted := map[int]link{}
	for _, l := range links {
		if len(l.subnets) > 0 || named(a.named, l.name) {
			wanted[l.index] = l
		}
	}
	for _, index := range slices.Collect(maps.Keys(a.ports)) {
		p := a.ports[index]
		if l, ok := wanted[index]; !ok || !l.equal(p.link) {
			level.Info(a.logger).Log("msg", "interface is not usable any more", "if", p.link.name)
			a.closePort(index)
		}
	}
	var placed bool
	for index, l := range wanted {
		p, ok := a.ports[index]
		replace := !ok || !slices.Equal(p.link.subnets, l.subnets)
		if !ok {
			level.Info(a.logger).Log("msg", "interface is usable", "if", l.name, "mac", l.mac, "subnets", fmt.Sprint(l.subnets))
			p = newPort(l, a.config, a.metrics, a.quiesced, hooks{
				familiar: a.familiar,
				broke:    func(proto protocol, err error) { a.broke(index, l.name, proto, err) },
				refused: func(err error) {
					level.Warn(a.logger).Log("msg", "cannot join solicited-node groups; where switches snoop MLD, neighbors may not reach the addresses", "if", l.name, "err", err)
				},
				conflict: a.conflict,
			})
			a.ports[index] = p
		}
		p.link.subnets = l.subnets
		for proto := range protocols {
			a.openSocket(p, proto, now)
		}
		if replace {
			a.place(p, slices.SortedFunc(maps.Keys(a.announced), netip.Addr.Compare), nil)
			placed = true
		}
	}
	if placed {
		a.probed(slices.Collect(maps.Keys(a.announced)))
	}
}

// openSocket opens a socket that is not open, unless it failed and its time has not come.
func (a *Announcer) openSocket(p *port, proto protocol, now time.Time) {
	if p.socket(proto) != nil {
		return
	}
	key := faultKey{p.link.index, proto}
	f := a.faults[key]
	if f != nil && now.Before(f.retryAt) {
		return
	}
	if err := p.open(proto); err != nil {
		a.fault(key, p.link.name, err, now)
		return
	}
	if f != nil {
		delete(a.faults, key)
		if !a.faulty(f.err) {
			level.Info(a.logger).Log("msg", "packet sockets work again", "protocol", proto, "if", p.link.name)
		}
	}
}

// faulty tells whether a socket failed for the same reason.
func (a *Announcer) faulty(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	for _, f := range a.faults {
		if errors.Is(f.err, errno) {
			return true
		}
	}
	return false
}

// fault records that a socket does not work. It is logged when no other socket failed for the same reason before.
func (a *Announcer) fault(key faultKey, name string, err error, now time.Time) {
	known := a.faulty(err)
	f := a.faults[key]
	if f == nil {
		f = &fault{name: name, wait: retryFirst}
		a.faults[key] = f
	} else {
		f.wait = min(2*f.wait, retryMost)
	}
	if !known {
		level.Error(a.logger).Log("msg", "cannot announce on the interface: its packet socket failed; trying again", "protocol", key.proto, "if", name, "err", err)
	}
	f.err = err
	f.retryAt = now.Add(f.wait)
}

// broke is called when a socket failed that nobody had closed.
func (a *Announcer) broke(index int, name string, proto protocol, err error) {
	go func() { // the reader must end before its port can be closed under the lock
		a.mu.Lock()
		defer a.mu.Unlock()
		if p, ok := a.ports[index]; ok && p.socket(proto) == nil {
			a.fault(faultKey{index, proto}, name, err, time.Now())
			a.reconcileSoon()
		}
	}()
}

// closePort gives a port up. Closing a packet socket waits for the kernel, some 10 ms, and who waits for the news that an
// interface is gone should not.
func (a *Announcer) closePort(index int) {
	p := a.ports[index]
	delete(a.ports, index)
	for proto := range protocols {
		delete(a.faults, faultKey{index, proto})
	}
	for _, addr := range p.unused() { // still to be asked for, when the interface is back
		if scope, ok := a.announced[addr]; ok {
			scope.Probe = true
			a.announced[addr] = scope
		}
	}
	p.stop()
	a.closing.Go(p.close)
}

// setLocal takes in the node's own addresses, and logs when the kernel began to answer for an announced one.
func (a *Announcer) setLocal(local map[netip.Addr][]string) {
	if !maps.EqualFunc(local, a.local, slices.Equal[[]string]) {
		a.local = local
		a.tell()
	}
	doubled := map[netip.Addr]struct{}{}
	for addr := range a.announced {
		holders, ok := a.local[addr]
		if !ok {
			continue
		}
		doubled[addr] = struct{}{}
		if _, logged := a.doubled[addr]; !logged {
			level.Warn(a.logger).Log("msg", "an announced address is bound to an interface of this node, whose kernel may answer for it by itself: remove it there, or set strict ARP for IPVS", "ip", addr, "if", strings.Join(holders, ","))
		}
	}
	a.doubled = doubled
}

// publish makes Interfaces what the ports are, and tells when it differs.
func (a *Announcer) publish() {
	var now []Interface
	var open, failed [protocols]int
	for _, p := range a.ports {
		i := p.offers()
		for proto, ok := range [protocols]bool{i.ARP, i.NDP} {
			if ok {
				open[proto]++
			}
		}
		if i.ARP || i.NDP {
			now = append(now, i)
		}
	}
	for key := range a.faults {
		failed[key.proto]++
	}
	for proto := range protocols {
		a.metrics.socketsOpen.WithLabelValues(proto.String()).Set(float64(open[proto]))
		a.metrics.socketsFailed.WithLabelValues(proto.String()).Set(float64(failed[proto]))
	}
	slices.SortFunc(now, func(x, y Interface) int { return strings.Compare(x.Name, y.Name) })
	if !slices.EqualFunc(now, a.published, Interface.equal) {
		a.published = now
		a.tell()
	}
}
