package layer2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
)

// The first and the longest wait before a socket that failed is tried again. A missing capability does not appear
// by itself, but an interface that is being set up is ready a moment later.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

// Announcer announces addresses on the node's interfaces. Its methods may be called by several goroutines, before
// Run and after it; none of them waits for the network.
type Announcer struct {
	logger  log.Logger
	metrics *metrics
	kick    chan struct{} // something changed that reconcile has to look at
	changed chan struct{}

	mu        sync.Mutex
	announced map[netip.Addr]Scope
	standIns  int // of these
	named     []string
	quiesced  bool
	ports     map[int]*port // by interface index
	faults    map[faultKey]*fault
	listErr   error // why the interfaces are not known
	published []Interface
}

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

// New makes an Announcer that announces nothing and knows no interface until it runs.
func New(logger log.Logger, reg prometheus.Registerer) *Announcer {
	return &Announcer{
		logger:    logger,
		metrics:   newMetrics(reg),
		kick:      make(chan struct{}, 1),
		changed:   make(chan struct{}, 1),
		announced: map[netip.Addr]Scope{},
		ports:     map[int]*port{},
		faults:    map[faultKey]*fault{},
		listErr:   errors.New("the interfaces have not been listed yet"),
	}
}

// Apply announces some addresses and withdraws others. An address that was not announced, or not on that
// interface, is answered for at once and its arrival told to the link; one that was announced in the same scope is
// left alone. Where the scope makes this node a stand-in the address is answered for with the absent node's MAC, and its
// arrival is told to nobody before this node has it for itself. A question about a withdrawn address that arrives after Apply has returned is not answered, and nothing
// more is said about it.
func (a *Announcer) Apply(announce map[netip.Addr]Scope, withdraw []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range withdraw {
		if a.announced[addr].isStandIn() {
			a.standIns--
		}
		delete(a.announced, addr)
		for _, p := range a.ports {
			p.remove(addr)
		}
	}
	for _, addr := range slices.SortedFunc(maps.Keys(announce), netip.Addr.Compare) {
		scope := announce[addr]
		old, ok := a.announced[addr]
		if ok && old.Equal(scope) {
			continue
		}
		if old.isStandIn() {
			a.standIns--
		}
		if scope.isStandIn() {
			a.standIns++
		}
		a.announced[addr] = scope
		for _, p := range a.ports {
			a.place(p, addr, scope)
		}
	}
	a.metrics.addresses.Set(float64(len(a.announced) - a.standIns))
	a.metrics.standIns.Set(float64(a.standIns))
}

// Use names the interfaces that are wanted whatever their subnets are; without it only interfaces with a subnet
// get sockets.
func (a *Announcer) Use(interfaces []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Equal(a.named, interfaces) {
		return
	}
	a.named = slices.Clone(interfaces)
	a.reconcileSoon()
}

// Quiesce ends all announcements for good, while answers go on: a node that is being relieved of its addresses
// answers until it withdraws them, and must not call them back.
func (a *Announcer) Quiesce() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.quiesced = true
	for _, p := range a.ports {
		p.quiet()
	}
}

// Interfaces returns where addresses can be announced now, sorted by name.
func (a *Announcer) Interfaces() []Interface {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.published
}

// Changed gets a value when Interfaces may return something new; several changes may make one value.
func (a *Announcer) Changed() <-chan struct{} { return a.changed }

// Ready tells in words what keeps this node from announcing, nil when nothing does.
func (a *Announcer) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listErr != nil {
		return fmt.Errorf("layer 2: %w", a.listErr)
	}
	var errs []error
	for key, f := range a.faults {
		errs = append(errs, fmt.Errorf("layer 2: %s on %s: %w", key.proto, f.name, f.err))
	}
	slices.SortFunc(errs, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
	if len(errs) == 0 && len(a.published) == 0 {
		return errors.New("layer 2: no interface is up with carrier and a subnet, so nothing can be announced")
	}
	return errors.Join(errs...)
}

// Run follows the interfaces until ctx is done, and closes all sockets then.
func (a *Announcer) Run(ctx context.Context) {
	var watching sync.WaitGroup
	watching.Go(func() { a.watch(ctx) })
	retry := time.NewTimer(forever)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			watching.Wait()
			a.closeAll()
			return
		case <-a.kick:
		case <-retry.C:
		}
		if at := a.reconcile(time.Now()); !at.IsZero() {
			retry.Reset(time.Until(at))
		} else {
			retry.Reset(forever)
		}
	}
}

func (a *Announcer) closeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for index := range a.ports {
		a.closePort(index)
	}
	a.publish()
}

func (a *Announcer) reconcileSoon() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// reconcile makes ports and sockets what the interfaces want, and returns when to try failed sockets again.
func (a *Announcer) reconcile(now time.Time) (retryAt time.Time) {
	links, err := list()
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

	wanted := map[int]link{}
	for _, l := range links {
		if len(l.subnets) > 0 || named(a.named, l.name) {
			wanted[l.index] = l
		}
	}
	for index, p := range a.ports {
		if l, ok := wanted[index]; !ok || !l.equal(p.link) {
			level.Info(a.logger).Log("msg", "interface is not usable any more", "if", p.link.name)
			a.closePort(index)
		}
	}
	for index, l := range wanted {
		p, ok := a.ports[index]
		replace := !ok || !slices.Equal(p.link.subnets, l.subnets)
		if !ok {
			level.Info(a.logger).Log("msg", "interface is usable", "if", l.name, "mac", l.mac, "subnets", fmt.Sprint(l.subnets))
			p = newPort(l, a.metrics, a.quiesced, func(proto protocol, err error) { a.broke(index, l.name, proto, err) })
			a.ports[index] = p
		}
		p.link.subnets = l.subnets
		for proto := range protocols {
			a.openSocket(p, proto, now)
		}
		if replace {
			for addr, scope := range a.announced {
				a.place(p, addr, scope)
			}
		}
	}
	a.publish()

	for _, f := range a.faults {
		if retryAt.IsZero() || f.retryAt.Before(retryAt) {
			retryAt = f.retryAt
		}
	}
	return retryAt
}

// place puts an address on a port or takes it away, as its scope says.
func (a *Announcer) place(p *port, addr netip.Addr, scope Scope) {
	// Whether the socket works now does not matter: when it does, the port announces what it has.
	on := Interface{Name: p.link.name, ARP: true, NDP: true, Subnets: p.link.subnets}
	if !scope.Includes(on, addr) {
		p.remove(addr)
		return
	}
	if err := p.add(addr, scope.standIn(p.link.name)); err != nil {
		level.Warn(a.logger).Log("msg", "cannot join the solicited-node group; neighbors may not reach the address", "ip", addr, "if", p.link.name, "err", err)
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
		level.Error(a.logger).Log("msg", "cannot announce on the interface: its packet socket failed; the process needs capability NET_RAW", "protocol", key.proto, "if", name, "err", err)
	}
	f.err = err
	f.retryAt = now.Add(f.wait)
}

// broke is called when a reader ended that nobody had stopped.
func (a *Announcer) broke(index int, name string, proto protocol, err error) {
	go func() { // the reader must end before its port can be closed under the lock
		a.mu.Lock()
		defer a.mu.Unlock()
		if _, ok := a.ports[index]; ok {
			a.fault(faultKey{index, proto}, name, err, time.Now())
			a.reconcileSoon()
		}
	}()
}

func (a *Announcer) closePort(index int) {
	a.ports[index].close()
	delete(a.ports, index)
	for proto := range protocols {
		delete(a.faults, faultKey{index, proto})
	}
}

// publish makes Interfaces what the ports are, and tells when it differs.
func (a *Announcer) publish() {
	var now []Interface
	var open, failed [protocols]int
	for _, p := range a.ports {
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
	if slices.EqualFunc(now, a.published, Interface.equal) {
		return
	}
	a.published = now
	select {
	case a.changed <- struct{}{}:
	default:
	}
}
