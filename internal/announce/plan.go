package announce

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/gossip"
	"heraldlb.io/herald/internal/layer2"
)

// Decision is what a Plan says of one address.
type Decision struct {
	Addr     netip.Addr
	Services []types.NamespacedName // that hold the address, sorted

	// Owner is the node that announces the address: the one that claims it, while it is fit; empty when there is none.
	Owner string
	// Heir is the node that is to claim the address; empty while the owner stays and when nobody can.
	Heir string
	// Reason is why this node is not the owner; Fit when it is.
	Reason election.Reason
	// StandIn is the node that answers in the owner's place, and with its MAC, while the owner is away; empty when it is not
	// or nobody can.
	StandIn string
	// Scope is where this node announces the address, or answers as the stand-in; the zero Scope when it does neither.
	Scope layer2.Scope
}

func (d Decision) equal(o Decision) bool {
	return d.Addr == o.Addr && d.Owner == o.Owner && d.Heir == o.Heir && d.Reason == o.Reason && d.StandIn == o.StandIn &&
		d.Scope.Equal(o.Scope) && slices.Equal(d.Services, o.Services)
}

// planner holds the Plan of one node: what it makes of all that it was told, which is the configuration, the Services with
// their endpoints, the nodes, the members and the claims. It is a state machine without a clock and without a wire: it
// tells what is to be announced and claimed, and its caller does that. It looks only at the addresses that a change can
// touch, so that the cost of a Service's change does not grow with the number of Services.
type planner struct {
	self    string
	config  *config.Config
	nodes   map[string]node
	members map[string]gossip.Member
	joined  bool // this node knows what its peers know, and may claim

	services  map[types.NamespacedName]contribution
	holders   map[netip.Addr][]types.NamespacedName // sorted
	decisions map[netip.Addr]Decision

	claims    map[netip.Addr]election.Claim // also for addresses that no Service holds
	spread    *election.Spread
	vacancies map[netip.Addr]vacancy
	disputes  map[netip.Addr]dispute
	contested map[netip.Addr]struct{}  // this node's until a claim that it may not have to yield to
	strangers map[netip.Addr]time.Time // claims for addresses that no Service holds: since when
	sweep     time.Time                // when strangers are looked at again
	planned   time.Time                // the last time
	asked     string                   // the Move that was seen last
	moves     map[netip.Addr]time.Time // what of it is still to be done, and until when

	scratch []election.Candidate

	facts map[string]electorate // by advertisements; computed when needed, forgotten when configuration, nodes or members change

	routes *routes // what BGP tells

	conflicts map[netip.Addr][]layer2.Conflict // of this node's addresses with strangers
	dirty     map[netip.Addr]struct{}
	looked    map[netip.Addr]struct{} // at, since it was last taken
}

func newPlanner(self string) *planner {
	return &planner{
		self:      self,
		config:    &config.Config{},
		nodes:     map[string]node{},
		members:   map[string]gossip.Member{},
		services:  map[types.NamespacedName]contribution{},
		holders:   map[netip.Addr][]types.NamespacedName{},
		decisions: map[netip.Addr]Decision{},
		routes:    newRoutes(),
		claims:    map[netip.Addr]election.Claim{},
		spread:    election.NewSpread(),
		vacancies: map[netip.Addr]vacancy{},
		disputes:  map[netip.Addr]dispute{},
		strangers: map[netip.Addr]time.Time{},
		contested: map[netip.Addr]struct{}{},
		moves:     map[netip.Addr]time.Time{},
		facts:     map[string]electorate{},
		dirty:     map[netip.Addr]struct{}{},
		looked:    map[netip.Addr]struct{}{},
	}
}

func (p *planner) setConfig(c *config.Config) {
	p.routes.all = true
	p.config = c
	p.everything()
}

func (p *planner) setNodes(nodes map[string]node) {
	if maps.EqualFunc(p.nodes, nodes, node.equal) {
		return
	}
	p.nodes = nodes
	p.everything()
}

func (p *planner) setMembers(members []gossip.Member) {
	next := make(map[string]gossip.Member, len(members))
	for _, m := range members {
		next[m.Node] = m
	}
	if maps.EqualFunc(p.members, next, func(x, y gossip.Member) bool { return x.Away == y.Away && x.Health.Equal(y.Health) }) {
		return
	}
	p.members = next
	p.everything()
}

// setJoined tells whether this node knows what its peers know. While it does not it claims nothing and begins to
// announce nothing; what it announces it goes on with.
func (p *planner) setJoined(joined bool) {
	if joined && !p.joined {
		p.everything()
	}
	p.joined = joined
}

// everything marks all addresses.
func (p *planner) everything() {
	clear(p.facts)
	for addr := range p.holders {
		p.dirty[addr] = struct{}{}
		p.routes.touch(addr)
	}
}

// setService replaces what a Service adds; the zero contribution is that of a Service that is gone.
func (p *planner) setService(key types.NamespacedName, c contribution) {
	old := p.services[key]
	if old.equal(c) {
		return
	}
	p.routes.touch(old.addrs()...)
	p.routes.touch(c.addrs()...)
	for _, addr := range old.addrs() {
		p.dirty[addr] = struct{}{}
		p.holders[addr] = slices.DeleteFunc(p.holders[addr], func(k types.NamespacedName) bool { return k == key })
		if len(p.holders[addr]) == 0 {
			delete(p.holders, addr)
		}
	}
	for _, addr := range c.addrs() {
		p.dirty[addr] = struct{}{}
		p.holders[addr] = append(p.holders[addr], key)
		slices.SortFunc(p.holders[addr], compareKeys)
	}
	if len(c.held) == 0 {
		delete(p.services, key)
	} else {
		p.services[key] = c
	}
}

// Plan is what is new since the last one.
type plan struct {
	changes []change
	claims  []gossip.Claim // that this node makes
	forget  []netip.Addr   // addresses whose claims are of no use any more
	wake    time.Time      // when to plan again though nothing happened; zero for never
}

// change is how a Decision differs from the one before. An address that is new or gone has a zero Decision on that
// side, but for its Addr.
type change struct {
	old, new Decision
	// taken: this node has just claimed the address, from the node that had claimed it before, for this reason.
	taken election.Reason
	from  string
	since time.Time // when it was found that the address needs a new owner
}

// plan brings the Plan up to date. Between two calls the clock only goes forward.
func (p *planner) plan(now time.Time) plan {
	var out plan
	p.expire(now)
	addrs := slices.SortedFunc(maps.Keys(p.dirty), netip.Addr.Compare)
	for _, addr := range addrs {
		p.judge(addr, now)
	}
	for _, addr := range p.spread.Share() {
		if _, already := p.dirty[addr]; !already {
			addrs = append(addrs, addr)
		}
	}
	// New maps in place of empty ones: one that was large once takes as long to walk as if it still were.
	p.dirty = map[netip.Addr]struct{}{}
	for _, addr := range addrs {
		p.settle(addr, now, &out)
		p.looked[addr] = struct{}{}
	}
	slices.SortFunc(out.changes, func(x, y change) int { return x.new.Addr.Compare(y.new.Addr) })
	if len(p.vacancies) == 0 {
		p.vacancies = map[netip.Addr]vacancy{}
	}
	if len(p.disputes) == 0 {
		p.disputes = map[netip.Addr]dispute{}
	}
	out.forget = p.forgotten(now)
	out.wake = p.wake()
	return out
}

// judge finds out whether an address needs a new owner.
func (p *planner) judge(addr netip.Addr, now time.Time) {
	if len(p.holders[addr]) == 0 {
		p.spread.Delete(addr)
		delete(p.vacancies, addr)
		return
	}
	r := p.result(addr, p.candidates(addr), now)
	p.spread.Set(addr, r)
	v, vacant := p.vacancies[addr]
	switch {
	case !r.Open():
		delete(p.vacancies, addr)
	case !vacant:
		p.vacancies[addr] = vacancy{since: now, why: r.Why}
	default:
		v.why = r.Why
		p.vacancies[addr] = v
	}
}

// result judges an address by the claim that counts for it.
func (p *planner) result(addr netip.Addr, candidates []election.Candidate, now time.Time) election.Result {
	claim := p.claims[addr]
	if claim.Last() {
		return election.Appoint(addr, candidates)
	}
	r := election.Judge(candidates, claim.Node, p.electorate(addr).rebalance)
	d, ok := p.disputes[addr]
	switch {
	case !ok || d.node != claim.Node || !now.Before(d.until):
	case r.Why == d.why:
		r.Owner, r.Why = claim.Node, election.Fit
	default: // what is seen has changed; when it changes back, that is news
		d.until = now
		p.disputes[addr] = d
	}
	return r
}

// settle makes the Decision on an address, and this node's claim when it is the heir.
func (p *planner) settle(addr netip.Addr, now time.Time, out *plan) {
	old, was := p.decisions[addr]
	if !was {
		old = Decision{Addr: addr}
	}
	c := change{old: old}
	if len(p.holders[addr]) == 0 {
		c.new = Decision{Addr: addr}
		delete(p.decisions, addr)
		delete(p.disputes, addr)
		if _, claimed := p.claims[addr]; claimed {
			p.strangers[addr] = now // the Service may come back, or another one get the address
		}
	} else {
		delete(p.strangers, addr)
		candidates := p.candidates(addr)
		r := p.result(addr, candidates, now)
		if back, ok := p.returns(addr, r); ok {
			out.claims = append(out.claims, back)
			r = p.result(addr, candidates, now)
			p.spread.Set(addr, r)
		}
		heir := ""
		if r.Open() {
			heir = p.heir(addr, r, candidates, now)
		}
		if p.claims[addr].Node == p.self {
			delete(p.moves, addr) // it is done, whatever becomes of the address
		}
		why := r.Why
		if heir != p.self && p.moved(addr, candidates, now) {
			heir, why = p.self, election.Requested
		}
		if p.joined && (heir == p.self || p.reclaims(addr, candidates)) {
			c.from, c.since = p.claims[addr].Node, p.vacancies[addr].opens()
			c.taken = why
			out.claims = append(out.claims, p.claim(addr, why, now))
			r = p.result(addr, candidates, now)
			p.spread.Set(addr, r)
			delete(p.vacancies, addr)
			heir = ""
		}
		c.new = p.decide(addr, candidates, r.Owner, heir)
		if !p.joined && c.new.Owner == p.self && old.Owner != p.self {
			p.dirty[addr] = struct{}{} // once it has joined
			c.new = old
		}
		p.decisions[addr] = c.new
	}
	delete(p.contested, addr)
	if !old.equal(c.new) {
		out.changes = append(out.changes, c)
	}
}

// decide makes the Decision on an address that owner has.
func (p *planner) decide(addr netip.Addr, candidates []election.Candidate, owner, heir string) Decision {
	d := Decision{Addr: addr, Services: slices.Clone(p.holders[addr]), Owner: owner, Heir: heir, Reason: election.NotAlive}
	facts := p.electorate(addr).facts
	var absent []layer2.Absent
	current := "" // only of itself does this node know that it stands in
	if p.decisions[addr].StandIn == p.self {
		current = p.self
	}
	if standIn, ok := election.StandIn(addr, candidates, owner, current); ok {
		if absent = absentInterfaces(facts, owner, addr); len(absent) > 0 {
			d.StandIn = standIn
		}
	}
	for i, v := range election.Explain(candidates, owner) {
		if v.Node != p.self {
			continue
		}
		d.Reason = v.Reason
		switch p.self {
		case d.Owner:
			d.Scope = facts[i].scope
		case d.StandIn:
			d.Scope = facts[i].scope
			d.Scope.Absent = absent
		}
	}
	return d
}

// interfaces returns the interfaces that advertisements name, sorted.
func (p *planner) interfaces() []string {
	var out []string
	for _, a := range p.config.L2Advertisements {
		out = append(out, a.Interfaces...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func compareKeys(x, y types.NamespacedName) int { return strings.Compare(x.String(), y.String()) }
