package announce

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/layer2"
)

// handOver is how long a node that stops goes on answering after it asked the others to take over or to stand in. They
// hear of it within about 0.1 s, and the announcements of a takeover correct the neighbors; the rest is for a ring that is busy or loses
// packets.
const handOver = 500 * time.Millisecond

// Ring is the gossip ring as the loop uses it; *gossip.Ring is one.
type Ring interface {
	Want([]gossip.Peer)
	SetHealth(gossip.Health)
	Members() []gossip.Member
	Changed() <-chan struct{}
	Ready() error
	Recheck()
}

// Layer2 is the driver that announces with ARP and NDP; *layer2.Announcer is one.
type Layer2 interface {
	Use(interfaces []string)
	Interfaces() []layer2.Interface
	Changed() <-chan struct{}
	Apply(announce map[netip.Addr]layer2.Scope, withdraw []netip.Addr)
	Quiesce()
}

// Loop keeps what this node announces equal to the Plan.
type Loop struct {
	node    string
	cluster *Cluster
	ring    Ring
	layer2  Layer2
	gossip  netip.AddrPort
	logger  log.Logger

	// Of the goroutine of Run.
	planner   *planner
	announced map[netip.Addr]struct{}
	standsIn  map[netip.Addr]string // for this node, which is away
	health    gossip.Health         // that the ring was told last
	offered   []gossip.Interface
	started   bool
	bgp       *speaking // nil without BGP

	mu       sync.Mutex
	notReady error
}

// New makes the loop of a node. gossipAddr is where this node's member of the ring listens; its peers are expected
// at the same port.
func New(node string, cluster *Cluster, ring Ring, driver Layer2, gossipAddr netip.AddrPort, logger log.Logger) *Loop {
	return &Loop{
		node:      node,
		cluster:   cluster,
		ring:      ring,
		layer2:    driver,
		gossip:    gossipAddr,
		logger:    logger,
		planner:   newPlanner(node),
		announced: map[netip.Addr]struct{}{},
		standsIn:  map[netip.Addr]string{},
		notReady:  errors.New("announce: the cluster's state has not been read yet"),
	}
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

// Run follows the cluster, which must have been read once, until ctx is done, and then leaves: the others are asked to
// stand in for this node when it is only being restarted, and else to take its addresses; this node answers until they
// had the time to, and then withdraws. The ring and the driver must still run then.
func (l *Loop) Run(ctx context.Context) {
	for {
		l.step()
		select {
		case <-ctx.Done():
			l.leave()
			return
		case <-l.cluster.changed:
		case <-l.ring.Changed():
		case <-l.layer2.Changed():
		}
	}
}

// step takes in what changed and makes the announcements follow.
func (l *Loop) step() {
	changed := l.cluster.take()
	l.read(changed)
	l.speak(changed)

	now := interfaces(l.layer2.Interfaces())
	if l.started && gained(l.offered, now) {
		// The interface that is back may be the one that leads to the peers. Believing to be alone now would take their
		// addresses from them.
		l.ring.Recheck()
	}
	l.offered = now

	// A node is offered to the ring only when it can announce what it would be elected for: others withdraw on the word.
	// While it looks around again, what it announced stands.
	if err := l.ring.Ready(); err != nil {
		if !l.started {
			l.setReady(fmt.Errorf("announce: nothing is announced before the gossip ring is joined: %w", err))
		}
		return
	}
	if _, known := l.planner.nodes[l.node]; !known {
		l.setReady(fmt.Errorf("announce: there is no Node named %q: --node-name must be the name of the Node this speaker runs on", l.node))
	} else {
		l.setReady(nil)
	}
	l.started = true
	l.say(gossip.Health{Interfaces: l.offered})
	l.planner.setMembers(l.ring.Members())
	l.apply(l.planner.plan())
}

// say tells the ring of this node's health.
func (l *Loop) say(h gossip.Health) {
	l.health = h
	l.ring.SetHealth(h)
}

// read takes in what changed in the cluster.
func (l *Loop) read(p pending) {
	if p.config {
		c, problems := config.New(l.cluster.resources())
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
		l.ring.Want(peers(nodes, l.gossip))
	}
	for key := range p.services {
		l.planner.setService(key, l.contribution(key))
	}
}

func (l *Loop) contribution(key types.NamespacedName) contribution {
	svc, ok := l.cluster.service(key)
	if !ok {
		return contribution{}
	}
	return contributionOf(svc, l.cluster.endpointSlices(key))
}

// apply hands the changes of the Plan to the driver, and logs each change of what this node owns and of whom it stands
// in for.
func (l *Loop) apply(changes []change) {
	announce := map[netip.Addr]layer2.Scope{}
	var withdraw []netip.Addr
	stoodIn := counts(l.standsIn)
	for _, c := range changes {
		addr := c.new.Addr
		_, had := l.announced[addr]
		_, stood := l.standsIn[addr]
		delete(l.standsIn, addr)
		if c.new.Owner == l.node {
			announce[addr] = c.new.Scope
			l.announced[addr] = struct{}{}
			if !had {
				level.Info(l.logger).Log("msg", "address is announced", "ip", addr, "svc", names(c.new.Services), "node", l.node, "from", c.old.Owner)
			}
			continue
		}
		switch {
		case c.new.StandIn == l.node:
			announce[addr] = c.new.Scope
			l.standsIn[addr] = c.new.Owner
		case had, stood:
			withdraw = append(withdraw, addr)
		}
		if had {
			delete(l.announced, addr)
			reason := string(c.new.Reason)
			if len(c.new.Services) == 0 {
				reason = "Released" // no Service holds it any more
			}
			level.Info(l.logger).Log("msg", "address is withdrawn", "ip", addr, "svc", names(c.old.Services), "node", l.node, "to", c.new.Owner, "reason", reason)
		}
	}
	if len(announce) > 0 || len(withdraw) > 0 {
		l.layer2.Apply(announce, withdraw)
	}
	l.logStandIns(stoodIn, counts(l.standsIn))
}

// logStandIns tells for whom this node begins and ends to stand in.
func (l *Loop) logStandIns(before, now map[string]int) {
	for _, absent := range slices.Sorted(maps.Keys(before)) {
		if now[absent] == 0 {
			level.Info(l.logger).Log("msg", "stands in no more", "for", absent, "addresses", before[absent], "node", l.node)
		}
	}
	for _, absent := range slices.Sorted(maps.Keys(now)) {
		if before[absent] == 0 {
			level.Info(l.logger).Log("msg", "stands in for a node whose speaker is being restarted", "for", absent, "addresses", now[absent], "node", l.node)
		}
	}
}

// counts returns for how many addresses this node stands in, by node that is away.
func counts(standsIn map[netip.Addr]string) map[string]int {
	out := map[string]int{}
	for _, absent := range standsIn {
		out[absent]++
	}
	return out
}

// leave gives up what this node announces and answers for: for a while, when its speaker is only being restarted, and
// else for good.
func (l *Loop) leave() {
	l.setReady(errors.New("announce: this speaker is stopping"))
	msg := "handing over"
	restart := restarts(l.cluster.node(l.node))
	if restart {
		msg = "being restarted: keeps its addresses, others answer for it"
		h := l.health
		h.Restarting = true
		l.say(h)
	} else {
		l.layer2.Quiesce()
		l.say(gossip.Health{Draining: true, Interfaces: interfaces(l.layer2.Interfaces())})
	}
	withdraw := slices.AppendSeq(slices.Collect(maps.Keys(l.announced)), maps.Keys(l.standsIn))
	if len(withdraw) > 0 && len(l.ring.Members()) > 1 {
		level.Info(l.logger).Log("msg", msg, "addresses", len(l.announced), "node", l.node)
		time.Sleep(handOver)
	}
	slices.SortFunc(withdraw, netip.Addr.Compare)
	l.layer2.Apply(nil, withdraw)
	clear(l.announced)
	clear(l.standsIn)
	l.quitBGP(restart)
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
