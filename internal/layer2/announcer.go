package layer2

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
)

// Announcer announces addresses on the node's interfaces. Its methods may be called by several goroutines, before
// Run and after it; none of them waits for the network.
type Announcer struct {
	config  Config
	logger  log.Logger
	metrics *metrics
	kick    chan struct{} // something changed that reconcile has to look at
	changed chan struct{}

	// cluster are the MACs of all nodes, this one's included, and until when each is one; the zero time is for ever. It is
	// nil as long as the others' are not known. The map is replaced, never changed.
	cluster atomic.Pointer[map[hwAddr]time.Time]

	mu        sync.Mutex
	announced map[netip.Addr]Scope
	standIns  int // of these
	named     []string
	quiesced  bool
	ports     map[int]*port // by interface index
	faults    map[faultKey]*fault
	listErr   error // why the interfaces are not known
	published []Interface
	peers     []hwAddr                // nil: not told yet
	left      map[hwAddr]time.Time    // that were peers, and until when they are held for such
	macs      []hwAddr                // of this node
	local     map[netip.Addr][]string // this node's own addresses; replaced, never changed
	doubled   map[netip.Addr]struct{} // announced addresses that the kernel answers for too, as it was logged
	closing   sync.WaitGroup          // of ports
}

// New makes an Announcer that announces nothing and knows no interface until it runs.
func New(c Config, logger log.Logger, reg prometheus.Registerer) *Announcer {
	a := &Announcer{
		config:    c.withDefaults(),
		logger:    logger,
		kick:      make(chan struct{}, 1),
		changed:   make(chan struct{}, 1),
		announced: map[netip.Addr]Scope{},
		left:      map[hwAddr]time.Time{},
		ports:     map[int]*port{},
		faults:    map[faultKey]*fault{},
		listErr:   errors.New("the interfaces have not been listed yet"),
	}
	a.metrics = newMetrics(reg, live{
		count:    a.countReceived,
		queued:   func() float64 { return float64(a.queued()) },
		conflict: func() float64 { return float64(len(a.Conflicts())) },
	})
	return a
}

// Apply announces some addresses and withdraws others. An address that was not announced, or not on that
// interface, is answered for at once and its arrival told to the link, after a probe where the scope asks for one; one that
// was announced in the same scope is left alone. Where the scope makes this node a stand-in the address is answered for with
// the absent node's MAC, and its arrival is told to nobody before this node has it for itself. A question about a withdrawn
// address that arrives after Apply has returned is not answered, and nothing more is said about it.
func (a *Announcer) Apply(announce map[netip.Addr]Scope, withdraw []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range withdraw {
		if a.announced[addr].isStandIn() {
			a.standIns--
		}
		delete(a.announced, addr)
	}
	fresh := make([]netip.Addr, 0, len(announce))
	for addr, scope := range announce {
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
		fresh = append(fresh, addr)
		if _, bound := a.local[addr]; bound {
			a.reconcileSoon()
		}
	}
	slices.SortFunc(fresh, netip.Addr.Compare)
	for _, p := range a.ports {
		a.place(p, fresh, withdraw)
	}
	if len(a.ports) > 0 {
		a.probed(fresh)
	}
	a.metrics.addresses.Set(float64(len(a.announced) - a.standIns))
	a.metrics.standIns.Set(float64(a.standIns))
}

// probed notes that addresses are not new any more: an interface that comes back announces them at once.
func (a *Announcer) probed(addrs []netip.Addr) {
	for _, addr := range addrs {
		if scope := a.announced[addr]; scope.Probe {
			scope.Probe = false
			a.announced[addr] = scope
		}
	}
}

// place puts addresses on a port, or takes them away, as their scopes say, and takes away what is withdrawn.
func (a *Announcer) place(p *port, addrs, withdraw []netip.Addr) {
	// Whether the socket works now does not matter: when it does, the port announces what it has.
	on := Interface{Name: p.link.name, ARP: true, NDP: true, Subnets: p.link.subnets}
	remove := slices.Clone(withdraw)
	var add []placement
	for _, addr := range addrs {
		scope := a.announced[addr]
		absent := scope.standIn(p.link.name)
		// Without a MAC to tell a stand-in has no answer; its own would move the address.
		if scope.Includes(on, addr) && absent.unicast() == scope.isStandIn() {
			add = append(add, placement{addr: addr, absent: absent, probe: scope.Probe})
		} else {
			remove = append(remove, addr)
		}
	}
	p.update(add, remove)
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

// peerMemory is how long the MACs of a peer that is gone are still held for the cluster's. A node that is taken for dead
// and lives goes on for a moment to say what it said, until it hears that another has its addresses.
const peerMemory = 10 * time.Second

// SetPeers tells the MACs of the other nodes' interfaces. What they say about this node's addresses is no conflict: it
// is settled between the speakers, and one of them may stand in for this node. The list should go on to have a node whose
// speaker is away. Before SetPeers is called nobody is held for a stranger.
func (a *Announcer) SetPeers(macs []net.HardwareAddr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	peers := make([]hwAddr, 0, len(macs)) // never nil
	for _, mac := range macs {
		peers = append(peers, hw(mac))
	}
	slices.SortFunc(peers, func(x, y hwAddr) int { return bytes.Compare(x[:], y[:]) })
	peers = slices.Compact(peers)
	if a.peers != nil && slices.Equal(peers, a.peers) {
		return
	}
	now := time.Now()
	maps.DeleteFunc(a.left, func(_ hwAddr, until time.Time) bool { return now.After(until) })
	for _, mac := range a.peers {
		a.left[mac] = now.Add(peerMemory)
	}
	a.peers = peers
	a.introduce()
}

// introduce makes the nodes' MACs known to the ports. It is called with the lock held.
func (a *Announcer) introduce() {
	if a.peers == nil {
		return
	}
	all := maps.Clone(a.left)
	for _, mac := range slices.Concat(a.peers, a.macs) {
		all[mac] = time.Time{}
	}
	a.cluster.Store(&all)
}

// familiar tells whether a MAC is one of the cluster's, or may be.
func (a *Announcer) familiar(mac hwAddr) bool {
	all := a.cluster.Load()
	if all == nil {
		return true
	}
	until, ok := (*all)[mac]
	return ok && (until.IsZero() || time.Now().Before(until))
}

// Conflicts returns which of this node's addresses strangers claim now, sorted by address and interface. Changed tells
// when it may return something new.
func (a *Announcer) Conflicts() []Conflict {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Conflict
	for _, p := range a.ports {
		out = p.listConflicts(out)
	}
	slices.SortFunc(out, func(x, y Conflict) int {
		return cmp.Or(x.Addr.Compare(y.Addr), strings.Compare(x.Interface, y.Interface))
	})
	return out
}

// conflict is called by ports when a conflict begins and when it is over.
func (a *Announcer) conflict(c Conflict, begins bool) {
	defer a.tell()
	if !begins {
		level.Info(a.logger).Log("msg", "the other host claims the address no more", "ip", c.Addr, "mac", c.MAC, "if", c.Interface)
		return
	}
	a.metrics.conflicts.Inc()
	msg := "a host outside of the cluster claims an address of this node; defending it"
	if c.Held {
		msg = "a host outside of the cluster has the address; it is not announced until the host is gone"
	}
	level.Warn(a.logger).Log("msg", msg, "ip", c.Addr, "mac", c.MAC, "if", c.Interface)
}

// Remind has all addresses announced once more, soon: a node that could not be talked to may have told neighbors otherwise,
// and they would believe it until the next refresh.
func (a *Announcer) Remind() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.ports {
		p.remind()
	}
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

// Changed gets a value when Interfaces, Conflicts or KernelAddresses may return something new; several changes may make
// one value.
func (a *Announcer) Changed() <-chan struct{} { return a.changed }

func (a *Announcer) tell() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

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

func (a *Announcer) queued() int {
	now, n := time.Now(), 0
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.ports {
		n += p.waiting(now)
	}
	return n
}

// countReceived asks the kernel what came in.
func (a *Announcer) countReceived() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.ports {
		for proto := range protocols {
			if s := p.socket(proto); s != nil {
				a.metrics.count(proto, s)
			}
		}
	}
}

// Run follows the interfaces until ctx is done, and closes all sockets then.
func (a *Announcer) Run(ctx context.Context) {
	var watching sync.WaitGroup
	watching.Go(func() { a.watch(ctx) })
	a.follow(ctx)
	watching.Wait()
	a.closeAll()
}

func (a *Announcer) closeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, index := range slices.Collect(maps.Keys(a.ports)) {
		a.closePort(index)
	}
	a.publish()
	a.closing.Wait()
}
