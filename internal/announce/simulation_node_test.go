package announce

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
)

// What the parts around the planners take, as they were measured or are tuned (internal/gossip, internal/layer2).
const (
	simPacketLeast, simPacketMost = 500 * time.Microsecond, 20 * time.Millisecond
	simNoticeLeast, simNoticeMost = 200 * time.Millisecond, 400 * time.Millisecond // that a member does not answer
	simMeetMost                   = 5 * time.Second                                // until two parts of a ring find each other
	simJoinLeast, simJoinMost     = 20 * time.Millisecond, 400 * time.Millisecond
	simAloneAfter                 = 3 * time.Second // that a speaker is believed to have no peers
	simLookInterval               = time.Second
	simSync                       = 500 * time.Millisecond // until a member finds that it knows other claims than a peer
	simGrace                      = 30 * time.Second
	simWatchLeast, simWatchMost   = 2 * time.Millisecond, 150 * time.Millisecond // from the API server to a speaker
)

// simNode is a node of the cluster, its speaker, and what that sees.
type simNode struct {
	w    *simWorld
	name string

	// The truth.
	up      bool // the machine
	running bool // the speaker
	carrier bool
	island  int // it can talk to those on the same one
	api     bool
	facts   node
	move    string        // what a person asks it to take, as its Node says
	slow    time.Duration // by which the speaker acts late

	// The speaker.
	life     int // counts its starts, so that what was meant for the one before is dropped
	planner  *planner
	joined   bool
	offers   bool // it has said that it can announce
	leaving  bool // it drains
	says     gossip.Health
	sees     map[string]gossip.Member     // the others
	absent   map[string]time.Duration     // until when the absence of another one lasts, or has lasted
	knew     map[string]time.Duration     // since when that is known
	since    map[netip.Addr]time.Duration // when the owner of an address changed last
	planning bool                         // a plan is due
	freshAt  time.Duration                // since when it has joined and sees the API server
	missed   bool                         // something changed that it has not seen
	took     map[simTaken]bool            // what it was asked to take
}

func (n *simNode) talks(o *simNode) bool {
	return n == o || n.up && o.up && n.carrier && o.carrier && n.island == o.island
}

func (n *simNode) speaking() bool { return n.up && n.running }

// interfaces is what a node offers: one link, on which all nodes are.
func (n *simNode) interfaces() []gossip.Interface {
	if !n.carrier {
		return nil
	}
	return []gossip.Interface{on("eth0", "192.0.2.0/24")}
}

// start begins the life of a speaker that knows nothing.
func (n *simNode) start() {
	w := n.w
	n.life++
	n.running, n.joined, n.offers, n.leaving, n.planning = true, false, false, false, false
	n.planner = newPlanner(n.name)
	n.sees = map[string]gossip.Member{}
	n.absent, n.knew = map[string]time.Duration{}, map[string]time.Duration{}
	n.says = gossip.Health{}
	n.since = map[netip.Addr]time.Duration{}
	n.took = map[simTaken]bool{}
	n.freshAt = w.now
	n.read()
	n.join()
	n.later(w.between(0, simSync), n.sync)
}

// later makes the speaker do something, if it lives.
func (n *simNode) later(d time.Duration, do func()) {
	life := n.life
	n.w.after(d+n.slow, func() {
		if n.life == life && n.speaking() {
			do()
		}
	})
}

// read reads everything from the API server, if that can be reached.
func (n *simNode) read() {
	if !n.api {
		n.missed = true
		return
	}
	n.missed = false
	n.planner.setConfig(n.w.config())
	n.planner.setNodes(n.w.nodeFacts())
	n.hearMove()
	for _, s := range n.w.services {
		n.planner.setService(key(s.name), s.contribution())
	}
	n.plan()
}

// join looks for peers, and is done when one was met or none was there for a while.
func (n *simNode) join() { n.lookAround(simAloneAfter) }

func (n *simNode) lookAround(left time.Duration) {
	for _, o := range n.w.nodes {
		if o != n && o.speaking() && n.talks(o) {
			n.later(n.w.between(simJoinLeast, simJoinMost), func() { n.meets(o) })
			return
		}
	}
	if left <= 0 {
		n.w.say("%s finds nobody and believes to be alone", n.name)
		n.isJoined()
		return
	}
	n.later(simLookInterval, func() { n.lookAround(left - simLookInterval) })
}

// meets exchanges tables with a peer: members, absences and claims.
func (n *simNode) meets(o *simNode) {
	if !o.speaking() || !n.talks(o) {
		n.join()
		return
	}
	n.sees[o.name] = o.member()
	for _, name := range slices.Sorted(maps.Keys(o.sees)) {
		if m, p := o.sees[name], n.w.node(name); p != n {
			n.sees[name] = m
			if m.Away {
				n.endAbsence(p, o.absent[name])
			}
			n.notice(p, simNoticeLeast, simNoticeMost) // the peer may not have noticed yet how that one is
		}
	}
	for _, p := range n.w.nodes { // a member is ready once it has met all whom it can reach
		if p != n && p.speaking() && n.talks(p) {
			n.exchange(p)
		}
	}
	n.later(0, n.isJoined) // after what it heard was taken in
	for _, p := range n.w.nodes {
		p.notice(n, simPacketLeast, 100*time.Millisecond)
		n.notice(p, simPacketLeast, 100*time.Millisecond)
	}
}

func (n *simNode) isJoined() {
	if n.missed {
		n.later(200*time.Millisecond, n.isJoined) // a speaker that has read nothing waits
		return
	}
	if !n.joined {
		n.w.say("%s has joined and sees %s", n.name, strings.Join(slices.Sorted(maps.Keys(n.sees)), " "))
	}
	n.joined, n.offers = true, true
	n.freshAt = n.w.now
	n.tells()
	n.plan()
}

// member is how the speaker looks to others.
func (n *simNode) member() gossip.Member {
	return gossip.Member{Node: n.name, Health: n.says}
}

// tells spreads the speaker's health.
func (n *simNode) tells() {
	n.says.Draining = n.leaving
	if n.joined {
		n.says.Interfaces = n.interfaces()
	}
	for _, o := range n.w.nodes {
		o.notice(n, 5*time.Millisecond, 100*time.Millisecond)
	}
}

// notice makes the speaker see, after a while, how another one is then.
func (n *simNode) notice(o *simNode, least, most time.Duration) {
	if n == o || !n.speaking() {
		return
	}
	n.later(n.w.between(least, most), func() { n.observe(o) })
}

// observe makes the speaker see how another one is. One that goes without having asked to be relieved is away for as long
// as its machine is there, and until it offers something again.
func (n *simNode) observe(o *simNode) {
	before, had := n.sees[o.name]
	switch there := n.talks(o); {
	case there && o.speaking() && o.offers:
		if !had { // what brings a member back is an exchange of tables
			n.exchange(o)
		}
		n.sees[o.name] = o.member()
	case there && had && !o.leaving && len(before.Health.Interfaces) > 0:
		if !before.Away {
			n.sees[o.name] = gossip.Member{Node: o.name, Health: gossip.Health{Interfaces: before.Health.Interfaces}, Away: true}
			n.endAbsence(o, n.w.now+simGrace)
		}
	default:
		delete(n.sees, o.name)
	}
	after, has := n.sees[o.name]
	if has != had || after.Away != before.Away {
		state := "dead"
		if after.Away {
			state = "away"
		} else if has {
			state = "alive"
		}
		n.w.say("%s holds %s for %s", n.name, o.name, state)
	}
	n.plan()
}

// hearMembers takes in who is there and who is away, as another one knows it.
func (n *simNode) hearMembers(o *simNode) {
	for _, name := range slices.Sorted(maps.Keys(o.sees)) {
		m, p, until := o.sees[name], n.w.node(name), o.absent[name]
		news := func() bool {
			_, sees := n.sees[name]
			return !sees && p != n && n.talks(p) && p.offers != m.Away && (!m.Away || until > n.w.now+simSync)
		}
		switch {
		case !news():
		case !m.Away:
			n.notice(p, simPacketLeast, 100*time.Millisecond)
		default:
			n.later(n.w.between(simPacketLeast, simPacketMost), func() {
				if !news() {
					return
				}
				n.w.say("%s hears from %s that %s is away", n.name, o.name, name)
				n.sees[name] = m
				n.endAbsence(p, until)
				n.notice(p, simNoticeLeast, simNoticeMost) // the peer may not have noticed yet how that one is
				n.plan()
			})
		}
	}
}

// endAbsence makes an absence end in time.
func (n *simNode) endAbsence(o *simNode, at time.Duration) {
	n.absent[o.name], n.knew[o.name] = at, n.w.now
	n.later(at-n.w.now, func() {
		if n.sees[o.name].Away && n.absent[o.name] == at {
			n.w.say("%s waits for %s no more", n.name, o.name)
			delete(n.sees, o.name)
			n.plan()
		}
	})
}

// plan makes the speaker act on what it knows, soon.
func (n *simNode) plan() {
	if n.planning {
		return
	}
	n.planning = true
	n.later(n.w.between(0, time.Millisecond), func() {
		n.planning = false
		n.act()
	})
}

func (n *simNode) act() {
	if !n.offers {
		return
	}
	members := []gossip.Member{n.member()}
	for _, name := range slices.Sorted(maps.Keys(n.sees)) {
		members = append(members, n.sees[name])
	}
	n.planner.setJoined(n.joined && !n.leaving)
	n.planner.setMembers(members)
	p := n.planner.plan(n.w.clock())
	for _, c := range p.changes {
		if c.new.Owner != c.old.Owner {
			n.since[c.new.Addr] = n.w.now
		}
		if c.taken == election.Unclaimed {
			n.w.checkUnclaimed(n, c.new.Addr)
		}
		if c.taken == election.Requested {
			n.w.checkTaken(n, c.new.Addr)
		}
		switch {
		case c.taken != "":
			n.w.say("%s claims %s from %q: %s (epoch %d)", n.name, c.new.Addr, c.from, c.taken, n.planner.claims[c.new.Addr].Epoch)
		case c.old.Owner == n.name && c.new.Owner != n.name:
			n.w.say("%s yields %s to %q: %s", n.name, c.new.Addr, c.new.Owner, c.new.Reason)
		case c.new.Owner == n.name && c.old.Owner != n.name:
			n.w.say("%s announces %s again", n.name, c.new.Addr)
		case c.new.Heir != c.old.Heir && c.new.Heir != "":
			n.w.say("%s waits for %s to claim %s", n.name, c.new.Heir, c.new.Addr)
		case c.new.StandIn == n.name && c.old.StandIn != n.name:
			n.w.say("%s stands in for %s on %s", n.name, c.new.Owner, c.new.Addr)
		}
	}
	if len(p.claims) > 0 {
		n.w.moves += len(p.claims)
		n.w.claimed = n.w.now
	}
	n.broadcast(p.claims)
	if !p.wake.IsZero() {
		n.later(max(0, p.wake.Sub(n.w.clock())), n.act)
	}
}

// broadcast spreads claims: each packet is sent a few times and may be lost each time, and who hears news passes it on.
func (n *simNode) broadcast(claims []gossip.Claim) {
	if len(claims) == 0 {
		return
	}
	for _, o := range n.w.nodes {
		if _, sees := n.sees[o.name]; !sees {
			continue
		}
		for try := range 3 {
			if n.w.chance(n.w.loss) {
				continue
			}
			n.w.after(time.Duration(try)*20*time.Millisecond+n.w.between(simPacketLeast, simPacketMost), func() {
				if n.up && o.speaking() && n.talks(o) {
					o.hear(claims)
				}
			})
			break
		}
	}
}

// hear takes in claims, and passes on what is news.
func (n *simNode) hear(claims []gossip.Claim) {
	n.later(0, func() {
		var news []gossip.Claim
		for _, c := range claims {
			before := n.planner.claims[c.Addr]
			n.planner.setClaims([]gossip.Claim{c}, n.w.clock())
			if n.planner.claims[c.Addr] != before {
				news = append(news, c)
			}
		}
		if len(news) > 0 {
			n.broadcast(news)
			n.plan()
		}
	})
}

// sync exchanges tables with some peer now and then, when the two differ.
func (n *simNode) sync() {
	for _, i := range n.w.rng.Perm(len(n.w.nodes)) {
		if o := n.w.nodes[i]; o != n && o.speaking() && n.talks(o) {
			if _, sees := n.sees[o.name]; sees {
				n.exchange(o)
				break
			}
		}
	}
	n.w.checkAbsences(n)
	n.later(simSync, n.sync)
}

// exchange tells each of two what the other one knows.
func (n *simNode) exchange(o *simNode) {
	n.hearMembers(o)
	o.hearMembers(n)
	if maps.Equal(n.planner.claims, o.planner.claims) {
		return
	}
	mine, theirs := n.table(), o.table()
	n.hear(theirs)
	o.hear(mine)
}

func (n *simNode) table() (out []gossip.Claim) {
	for _, addr := range slices.SortedFunc(maps.Keys(n.planner.claims), netip.Addr.Compare) {
		c := n.planner.claims[addr]
		out = append(out, gossip.Claim{Addr: addr, Node: c.Node, Epoch: c.Epoch})
	}
	return out
}

// place returns the node that the speaker tells as the place of an address; empty when it does not answer.
func (n *simNode) place(addr netip.Addr) string {
	if !n.speaking() || !n.carrier {
		return ""
	}
	d := n.planner.decisions[addr]
	switch n.name {
	case d.Owner:
		return n.name
	case d.StandIn:
		return d.Owner
	}
	return ""
}

func (n *simNode) String() string {
	return fmt.Sprintf("%s(up %t, speaker %t, joined %t, carrier %t, island %d, api %t)", n.name, n.up, n.running, n.joined, n.carrier, n.island, n.api)
}
