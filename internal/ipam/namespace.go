package ipam

import (
	"maps"
	"math"

	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/internal/service"
)

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
