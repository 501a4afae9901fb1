package announce

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
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/layer2"
)

// Ring is the gossip ring as the loop uses it; *gossip.Ring is one.
type Ring interface {
	Want([]gossip.Peer)
	SetHealth(gossip.Health)
	Members() []gossip.Member
	Claim([]gossip.Claim)
	Forget([]netip.Addr)
	TakeClaims() []gossip.Claim
	Changed() <-chan struct{}
	Ready() error
	Recheck()
}

// Layer2 is the driver that announces with ARP and NDP; *layer2.Announcer is one.
type Layer2 interface {
	Use(interfaces []string)
	SetPeers([]net.HardwareAddr)
	Interfaces() []layer2.Interface
	Conflicts() []layer2.Conflict
	KernelAddresses(ours func(netip.Addr) bool) []layer2.KernelAddress
	FilteredInterfaces() ([]layer2.Filtered, error)
	Changed() <-chan struct{}
	Apply(announce map[netip.Addr]layer2.Scope, withdraw []netip.Addr)
	Remind()
	Quiesce()
	Ready() error
}

// Events takes what is to be told to whoever looks at a Service; *kube.Events is one.
type Events interface {
	Record(kube.Event)
}

// Config is what a Loop works with. None may be missing but PerService and Observe.
type Config struct {
	Node    string
	Cluster *Cluster
	Ring    Ring
	Layer2  Layer2
	// Gossip is where this node's member of the ring listens; its peers are expected at the same port.
	Gossip     netip.AddrPort
	Events     Events
	Logger     log.Logger
	Registerer prometheus.Registerer
	// PerService has metrics about single Services too.
	PerService bool
	// Observe has the loop work everything out, and announce nothing.
	Observe bool
}

// Loop keeps what this node announces equal to the Plan.
type Loop struct {
	node    string
	cluster *Cluster
	ring    Ring
	layer2  Layer2
	gossip  netip.AddrPort
	events  Events
	logger  log.Logger
	metrics *metrics
	seen    *serviceMetrics

	// Of the goroutine of Run.
	memory    config.Memory
	planner   *planner
	announced map[netip.Addr]struct{}
	standsIn  map[netip.Addr]string // for this node, which is away
	conflicts []layer2.Conflict     // that were told of
	kernel    []layer2.KernelAddress
	filtered  []layer2.Filtered
	filters   time.Time     // when they were looked for
	health    gossip.Health // that the ring was told last
	offered   []gossip.Interface
	started   bool
	draining  bool
	bgp       *speaking // nil without BGP
	observes  bool      // see observe.go
	reporter  Reporter  // nil when nobody asks
	reported  map[netip.Addr]struct{}
	version   string // of the speaker

	mu       sync.Mutex
	notReady error
}

// New makes the loop of a node.
func New(c Config) *Loop {
	l := &Loop{
		node:      c.Node,
		cluster:   c.Cluster,
		ring:      c.Ring,
		layer2:    c.Layer2,
		gossip:    c.Gossip,
		events:    c.Events,
		logger:    c.Logger,
		metrics:   newMetrics(c.Registerer),
		seen:      newServiceMetrics(c.Registerer, c.PerService, time.Now()),
		planner:   newPlanner(c.Node),
		announced: map[netip.Addr]struct{}{},
		standsIn:  map[netip.Addr]string{},
		reported:  map[netip.Addr]struct{}{},
		notReady:  errors.New("announce: the cluster's state has not been read yet"),
	}
	if c.Observe {
		l.observe()
	}
	return l
}

// Ready tells in words why this node announces nothing yet, nil once it takes part.
func (l *Loop) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.notReady
}

func (l *Loop) setReady(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notReady = err
}

// Run follows the cluster, which must have been read once, until ctx is done, and then leaves (see leave). The ring and
// the driver must still run then.
func (l *Loop) Run(ctx context.Context) {
	for l.wait(ctx, l.step()) {
	}
	l.leave()
}

// wait returns true when there may be something to do, or at a time that is not zero, and false when ctx is done.
func (l *Loop) wait(ctx context.Context, at time.Time) bool {
	var due <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-due:
	case <-l.cluster.changed:
	case <-l.ring.Changed():
	case <-l.layer2.Changed():
	case <-l.sessionsChanged():
		l.bgp.stale = true
	}
	return true
}

// step takes in what changed and makes the announcements follow. It returns when to do so again though nothing happens,
// zero for never.
func (l *Loop) step() time.Time {
	changed := l.cluster.take()
	l.read(changed)
	l.speak(changed)
	l.look()

	notReady := l.ring.Ready()
	now := time.Now()
	l.planner.setClaims(l.ring.TakeClaims(), now) // after Ready: who is ready has merged what its peers claim
	if notReady != nil && !l.started {
		l.setReady(fmt.Errorf("announce: nothing is announced before the gossip ring is joined: %w", notReady))
		l.reportStatus()
		return time.Time{}
	}
	if notReady == nil {
		l.offer()
	}
	l.planner.setJoined(notReady == nil && !l.draining)
	members := l.ring.Members()
	if returned(l.planner.members, members) {
		l.layer2.Remind()
	}
	l.planner.setMembers(members)
	l.layer2.SetPeers(macs(members, l.node))
	p := l.planner.plan(now)
	l.apply(p)
	l.tellConflicts()
	l.watchKernel()
	l.watchFilters(now)
	l.report()
	return p.wake
}

// look looks at the node's own interfaces.
func (l *Loop) look() {
	now := interfaces(l.layer2.Interfaces())
	if l.started && gained(l.offered, now) {
		// The interface that is back may be the one that leads to the peers. Believing to be alone now would take their
		// addresses from them.
		l.ring.Recheck()
	}
	l.offered = now
}

// offer tells the ring what this node can announce. It does so only when it has joined: others withdraw on the word. While
// it looks around again, what it announced stands.
func (l *Loop) offer() {
	switch _, known := l.planner.nodes[l.node]; {
	case l.draining:
	case !known:
		l.setReady(fmt.Errorf("announce: there is no Node named %q: --node-name must be the name of the Node this speaker runs on", l.node))
	default:
		l.setReady(nil)
	}
	l.started = true
	l.say(gossip.Health{Draining: l.draining, Interfaces: l.offered})
}

// say tells the ring of this node's health.
func (l *Loop) say(h gossip.Health) {
	l.health = h
	l.ring.SetHealth(h)
}

// read takes in what changed in the cluster.
func (l *Loop) read(p pending) {
	if p.config {
		c, problems := l.memory.New(l.cluster.resources())
		for _, problem := range problems {
			level.Debug(l.logger).Log("msg", "configuration object has a problem", "err", problem)
		}
		l.planner.setConfig(c)
		l.layer2.Use(l.planner.interfaces())
	}
	if p.nodes {
		nodes := l.cluster.nodes()
		facts := make(map[string]node, len(nodes))
		for _, n := range nodes {
			facts[n.Name] = nodeOf(n)
		}
		l.planner.setNodes(facts)
		l.readMove()
		l.ring.Want(peers(nodes, l.gossip))
	}
	for key := range p.services {
		l.planner.setService(key, l.contribution(key))
	}
}

// readMove takes in which addresses a person wants at this node.
func (l *Loop) readMove() {
	var value string
	if n := l.cluster.node(l.node); n != nil {
		value = n.Annotations[AnnotationMove]
	}
	if err := l.planner.setMove(value, time.Now()); err != nil {
		level.Warn(l.logger).Log("msg", "cannot do what the Node's annotation "+AnnotationMove+" asks for", "node", l.node, "err", err)
	}
}

func (l *Loop) contribution(key types.NamespacedName) contribution {
	svc, ok := l.cluster.service(key)
	l.seen.see(key, svc, time.Now())
	if !ok {
		return contribution{}
	}
	return contributionOf(svc, l.cluster.endpointSlices(key), l.observes)
}

// interfaces are the driver's interfaces as the ring tells of them.
func interfaces(in []layer2.Interface) []gossip.Interface {
	var out []gossip.Interface
	for _, i := range in {
		out = append(out, gossip.Interface{Name: i.Name, MAC: i.MAC, ARP: i.ARP, NDP: i.NDP, Subnets: i.Subnets})
	}
	return out
}

// gained tells whether there is an interface, a protocol or a subnet now that was not there before.
func gained(before, now []gossip.Interface) bool {
	return slices.ContainsFunc(now, func(n gossip.Interface) bool {
		i := slices.IndexFunc(before, func(b gossip.Interface) bool { return b.Name == n.Name })
		if i < 0 || n.ARP && !before[i].ARP || n.NDP && !before[i].NDP {
			return true
		}
		return slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return !slices.Contains(before[i].Subnets, p) })
	})
}

// returned tells whether there is a member now that was not, and that could have announced something meanwhile: one that has just
// started offers nothing yet.
func returned(before map[string]gossip.Member, now []gossip.Member) bool {
	return len(before) > 0 && slices.ContainsFunc(now, func(m gossip.Member) bool {
		_, known := before[m.Node]
		return !known && !m.Away && len(m.Health.Interfaces) > 0
	})
}

// macs are the addresses from which other members may rightly announce what this node announces.
func macs(members []gossip.Member, self string) (out []net.HardwareAddr) {
	for _, m := range members {
		if m.Node == self {
			continue
		}
		for _, i := range m.Health.Interfaces {
			if i.MAC != nil {
				out = append(out, i.MAC)
			}
		}
	}
	return out
}

// names prints Services as a list.
func names(keys []types.NamespacedName) string {
	var out []byte
	for i, k := range keys {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, k.String()...)
	}
	return string(out)
}
