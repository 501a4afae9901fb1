package ipam

import (
	"encoding/binary"
	"maps"
	"math"

	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/internal/service"
)

// choice are the pools from which a Service may be served without naming an address. Services of one choice share
// one.
type choice struct {
	only  *pool     // the pool asked for by name; else
	tiers [2]bitset // the ranks of the pools that select the Service, then of the open ones

	full [families]*service.Refusal // what is said when every pool has given all away, made on first use
}

func (c *choice) has(p *pool) bool {
	if c.only != nil {
		return c.only == p
	}
	return c.tiers[0].has(p.rank) || c.tiers[1].has(p.rank)
}

// before tells whether the choice prefers pool x to pool y.
func (c *choice) before(x, y *pool) bool {
	if first := c.tiers[0].has(x.rank); first != c.tiers[0].has(y.rank) {
		return first
	}
	return x.rank < y.rank
}

// first returns the pool the choice prefers of those that are in both sets and not in not, without except; nil for
// none.
func (a *Allocator) first(c *choice, x, y, not bitset, except *pool) *pool {
	if p := c.only; p != nil {
		if p != except && x.has(p.rank) && y.has(p.rank) && !not.has(p.rank) {
			return p
		}
		return nil
	}
	skip := -1
	if except != nil {
		skip = except.rank
	}
	for _, tier := range c.tiers {
		if tier == nil {
			continue
		}
		if rank := firstOf(tier, x, y, not, skip); rank >= 0 {
			return a.pools[rank]
		}
	}
	return nil
}

// choicesKnown is how many Services' labels are remembered with their choice. To find it anew costs a look at every
// restricted pool.
const choicesKnown = 4096

// choiceOf returns the pools from which a Service may be served without naming an address: the one it names, or those
// that select it and the open ones. A pool it names and that does not exist makes it nil.
func (a *Allocator) choiceOf(req *service.Request) *choice {
	if req.Pool != "" {
		if p := a.byName[req.Pool]; p != nil {
			return p.alone
		}
		return nil
	}
	if len(a.restricted) == 0 {
		return a.everyone
	}
	key := req.Key.Namespace + "/" + req.Labels.String()
	if c := a.known[key]; c != nil {
		return c
	}
	if len(a.known) >= choicesKnown {
		clear(a.known)
		clear(a.chosen)
	}
	c := a.everyone
	selecting, ranks := newBitset(len(a.pools)), []byte(nil)
	for _, p := range a.restricted {
		if a.serves(p, req) {
			selecting.set(p.rank)
			ranks = binary.AppendUvarint(ranks, uint64(p.rank))
		}
	}
	if ranks != nil {
		if c = a.chosen[string(ranks)]; c == nil {
			c = &choice{tiers: [2]bitset{selecting, a.everyone.tiers[1]}}
			a.chosen[string(ranks)] = c
		}
	}
	a.known[key] = c
	return c
}

// serves tells whether a pool is for a Service.
func (a *Allocator) serves(p *pool, req *service.Request) bool {
	selected, restricted := p.Selects(req.Key.Namespace, a.labelsOf(req.Key.Namespace), req.Labels)
	return selected || !restricted
}

// namespace is what is known of one: its labels, and what its Services have of pools with a quota.
type namespace struct {
	labels labels.Set
	used   map[*pool]int
	spent  bitset // the ranks of the pools that give it no further address; nil for none
	tight  bitset // the ranks of the pools that give it one further address at most; nil for landscape.scarce

	full map[fullOf]*service.Refusal // what is said while the quotas stand like this
}

type fullOf struct {
	choice *choice
	family family
}

func (a *Allocator) labelsOf(name string) labels.Set {
	if n := a.namespaces[name]; n != nil {
		return n.labels
	}
	return nil
}

// SetNamespace takes in a namespace's labels, by which pools select it. Nil is for a namespace that is gone.
func (a *Allocator) SetNamespace(name string, labels map[string]string) {
	if maps.Equal(a.labelsOf(name), labels) {
		return
	}
	a.namespace(name).labels = maps.Clone(labels)
	a.forgetNamespace(name)
	clear(a.known)
	a.waiting.wakeNamespace(name)
}

func (a *Allocator) namespace(name string) *namespace {
	n := a.namespaces[name]
	if n == nil {
		n = &namespace{}
		a.namespaces[name] = n
	}
	return n
}

func (a *Allocator) forgetNamespace(name string) {
	if n := a.namespaces[name]; len(n.labels) == 0 && len(n.used) == 0 {
		delete(a.namespaces, name)
	}
}

// resetQuotas begins to count anew, for new pools.
func (a *Allocator) resetQuotas() {
	a.scarce = nil
	for _, p := range a.pools {
		if p.NamespaceQuota == 1 {
			if a.scarce == nil {
				a.scarce = newBitset(len(a.pools))
			}
			a.scarce.set(p.rank)
		}
	}
	for name, n := range a.namespaces {
		n.used, n.spent, n.tight, n.full = nil, nil, nil, nil
		a.forgetNamespace(name)
	}
}

// charge counts n more addresses of a pool for a namespace.
func (a *Allocator) charge(p *pool, name string, n int) {
	if p.NamespaceQuota == 0 {
		return
	}
	s := a.namespace(name)
	if s.used == nil {
		s.used, s.spent, s.tight = map[*pool]int{}, newBitset(len(a.pools)), newBitset(len(a.pools))
		copy(s.tight, a.scarce)
	}
	before := a.room(p, name)
	s.used[p] += n
	if s.used[p] == 0 {
		delete(s.used, p)
	}
	after := a.room(p, name)
	mark(s.spent, p.rank, after < 1)
	mark(s.tight, p.rank, after < 2)
	s.full = nil
	a.forgetNamespace(name)
	if after > before {
		a.wakeRoom(p, name)
	}
}

func mark(b bitset, i int, in bool) {
	if in {
		b.set(i)
	} else {
		b.clear(i)
	}
}

// room is how many more addresses a pool gives to a namespace by its quota.
func (a *Allocator) room(p *pool, name string) int {
	if p.NamespaceQuota == 0 {
		return math.MaxInt
	}
	n := a.namespaces[name]
	if n == nil {
		return p.NamespaceQuota
	}
	return p.NamespaceQuota - n.used[p]
}

// spent returns the pools that give a namespace no further address, and those that give it one at most.
func (a *Allocator) spent(name string) (none, one bitset) {
	if n := a.namespaces[name]; n != nil && n.used != nil {
		return n.spent, n.tight
	}
	return nil, a.scarce
}
