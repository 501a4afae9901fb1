package ipam

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/google/btree"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/service"
)

// waiting are the Services that lack an address, where each is found by what it could use.
//
// Those that any free address of some pools would serve stand in one queue for each choice of pools: when the first of
// a queue cannot be served none can, so however many wait, a freed address looks at the first of some queues only.
// Who waits for a certain address, or for one to share, is woken by itself when this one changes.
type waiting struct {
	all    map[types.NamespacedName]*waiter
	nodes  *btree.FreeListG[*waiter] // of all the trees
	queues map[queueKey]*queue
	hot    map[*queue]struct{} // queues whose pools have something since their first was last tried
	awake  *btree.BTreeG[*waiter]

	byAddr      map[netip.Addr]map[*waiter]struct{} // who asks for an address by itself
	byNamespace map[string]map[*waiter]struct{}     // these, and who would share where there are quotas
	mixed       map[*waiter]struct{}                // of these, who also needs any address of the other family
}

// waiter is a Service that waits.
type waiter struct {
	request *service.Request
	queue   *queue // nil for who is woken by itself only
	certain bool
	group   *group // whose addresses it might share
}

// queue are the Services that the same addresses would serve, the oldest first.
type queue struct {
	queueKey
	tree *btree.BTreeG[*waiter]
}

type queueKey struct {
	choice    *choice
	namespace string // empty where no pool has a quota
	lack      lack
}

// lack is a set of families that are needed, and whether a part of them is of no use.
type lack uint8

const (
	lacks4 lack = 1 << iota
	lacks6
	lacksAll
)

func newWaiting() waiting {
	nodes := btree.NewFreeListG[*waiter](btree.DefaultFreeListSize)
	return waiting{
		all:         map[types.NamespacedName]*waiter{},
		nodes:       nodes,
		queues:      map[queueKey]*queue{},
		hot:         map[*queue]struct{}{},
		awake:       newQueueTree(nodes),
		byAddr:      map[netip.Addr]map[*waiter]struct{}{},
		byNamespace: map[string]map[*waiter]struct{}{},
		mixed:       map[*waiter]struct{}{},
	}
}

func newQueueTree(nodes *btree.FreeListG[*waiter]) *btree.BTreeG[*waiter] {
	return btree.NewWithFreeListG(degree, func(x, y *waiter) bool { return byAge(x, y) < 0 }, nodes)
}

// byAge orders by age; those of one age by name, so that the order is the same at every start.
func byAge(x, y *waiter) int {
	a, b := x.request, y.request
	if c := a.Created.Compare(b.Created); c != 0 {
		return c
	}
	if a.Key.Namespace != b.Key.Namespace {
		return cmp.Compare(a.Key.Namespace, b.Key.Namespace)
	}
	return cmp.Compare(a.Key.Name, b.Key.Name)
}

// Serve tries the oldest Service that waits and that something freed or configured since its last try could serve. It
// returns what came of it; false when there is no such Service. Whoever frees or configures calls it until then.
func (a *Allocator) Serve() (types.NamespacedName, Result, bool) {
	w, from := a.next()
	if w == nil {
		return types.NamespacedName{}, Result{}, false
	}
	r := a.Allocate(*w.request)
	if from != nil && from.tree.Has(w) {
		delete(a.waiting.hot, from) // in vain: the others of the queue would fare no better
	}
	return w.request.Key, r, true
}

// Waiting is how many Services lack something.
func (a *Allocator) Waiting() int { return len(a.waiting.all) }

// next returns the Service to try, and the queue whose turn it is, nil when the Service was woken by itself.
func (a *Allocator) next() (*waiter, *queue) {
	var from *queue
	oldest, ok := a.waiting.awake.Min()
	if !ok {
		oldest = nil
	}
	for q := range a.waiting.hot {
		first, ok := q.tree.Min()
		if !ok || !a.serveable(q) {
			delete(a.waiting.hot, q)
			continue
		}
		if oldest == nil || byAge(first, oldest) < 0 {
			oldest, from = first, q
		}
	}
	if oldest != nil {
		a.waiting.awake.Delete(oldest)
	}
	return oldest, from
}

// serveable tells whether the pools have something for those of a queue.
func (a *Allocator) serveable(q *queue) bool {
	spent, _ := a.spent(q.namespace)
	has := func(f family) bool { return a.first(q.choice, a.serving[f], a.serving[f], spent, nil) != nil }
	if q.lack&lacksAll != 0 {
		return has(ipv4) && has(ipv6)
	}
	return q.lack&lacks4 != 0 && has(ipv4) || q.lack&lacks6 != 0 && has(ipv6)
}

// wait puts a Service that was refused something where it is found when that is freed.
func (p *planner) wait() {
	a, key, certain := p.a, queueKey{choice: p.choice}, false
	for f, lacks := range p.lacks {
		switch {
		case !lacks:
		case p.req.Address(familyNames[f]).IsValid():
			certain = true
		default:
			key.lack |= lacks4 << f
		}
	}
	if key.lack == lacks4|lacks6 && p.req.AllFamilies {
		key.lack |= lacksAll
	}
	if a.quotas {
		key.namespace = p.req.Key.Namespace
	}
	if w := a.waiting.all[p.req.Key]; w != nil && w.staysIn(key, certain, p.req) {
		w.request = p.req
		a.waiting.awake.Delete(w)
		return
	}
	a.Cancel(p.req.Key)
	w := &waiter{request: p.req, certain: certain}
	a.waiting.all[p.req.Key] = w
	if p.choice == nil || p.closed != nil {
		return // only the configuration can help
	}
	a.list(w, key)
	if p.req.Sharing.Key != "" {
		w.group = a.groupOf(p.req.Sharing.Key)
		w.group.waiters[w] = struct{}{}
	}
}

// staysIn tells whether a waiter keeps its place in its queue with a new request.
func (w *waiter) staysIn(key queueKey, certain bool, req *service.Request) bool {
	return w.queue != nil && w.queue.queueKey == key && !certain && w.group == nil && req.Sharing.Key == "" && w.request.Created.Equal(req.Created)
}

// list puts a waiter where it is found by pool, address or namespace.
func (a *Allocator) list(w *waiter, key queueKey) {
	shares := w.request.Sharing.Key != ""
	if w.certain {
		for _, addr := range w.request.Addresses {
			put(a.waiting.byAddr, addr, w)
		}
	}
	if w.certain || shares && a.quotas {
		put(a.waiting.byNamespace, w.request.Key.Namespace, w)
	}
	if w.certain || shares && key.lack&lacksAll != 0 {
		if key.lack != 0 {
			a.waiting.mixed[w] = struct{}{}
		}
		return
	}
	w.queue = a.waiting.queues[key]
	if w.queue == nil {
		w.queue = &queue{key, newQueueTree(a.waiting.nodes)}
		a.waiting.queues[key] = w.queue
	}
	w.queue.tree.ReplaceOrInsert(w)
}

// Cancel takes a Service from wherever it waits. What it holds it keeps.
func (a *Allocator) Cancel(key types.NamespacedName) {
	w := a.waiting.all[key]
	if w == nil {
		return
	}
	delete(a.waiting.all, key)
	a.waiting.awake.Delete(w)
	a.waiting.unlist(w)
	if w.group != nil {
		delete(w.group.waiters, w)
		a.forgetGroup(w.group)
	}
}

// unlist takes a waiter from where it is found by pool, address or namespace.
func (s *waiting) unlist(w *waiter) {
	if q := w.queue; q != nil {
		q.tree.Delete(w)
		if q.tree.Len() == 0 {
			delete(s.queues, q.queueKey)
			delete(s.hot, q)
		}
		w.queue = nil
	}
	for _, addr := range w.request.Addresses {
		drop(s.byAddr, addr, w)
	}
	drop(s.byNamespace, w.request.Key.Namespace, w)
	delete(s.mixed, w)
}

func put[K comparable](in map[K]map[*waiter]struct{}, key K, w *waiter) {
	if in[key] == nil {
		in[key] = map[*waiter]struct{}{}
	}
	in[key][w] = struct{}{}
}

func drop[K comparable](in map[K]map[*waiter]struct{}, key K, w *waiter) {
	delete(in[key], w)
	if len(in[key]) == 0 {
		delete(in, key)
	}
}

func (s *waiting) wake(some map[*waiter]struct{}) {
	for w := range some {
		s.awake.ReplaceOrInsert(w)
	}
}

// wakeAll has everybody tried again. Nobody stands in a queue any more.
func (s *waiting) wakeAll() {
	for _, w := range s.all {
		s.unlist(w)
		s.awake.ReplaceOrInsert(w)
	}
}

// wakeNamespace has everybody of a namespace tried again.
func (s *waiting) wakeNamespace(name string) {
	for key, w := range s.all {
		if key.Namespace == name {
			s.awake.ReplaceOrInsert(w)
		}
	}
}

// wakeFor has those tried again who could use a pool that has an address of a family for a new Service.
func (a *Allocator) wakeFor(p *pool, f family) {
	for _, q := range a.waiting.queues {
		if q.lack&(lacks4<<f) != 0 && q.choice.has(p) {
			a.waiting.hot[q] = struct{}{}
		}
	}
	a.waiting.wake(a.waiting.mixed)
}

// wakeRoom has those of a namespace tried again who could use a pool that gives it addresses again.
func (a *Allocator) wakeRoom(p *pool, namespace string) {
	for _, q := range a.waiting.queues {
		if q.namespace == namespace && q.choice.has(p) {
			a.waiting.hot[q] = struct{}{}
		}
	}
	a.waiting.wake(a.waiting.byNamespace[namespace])
}

// wakeAt has those tried again whom a change at an address can help: it is free, or it can be shared.
func (a *Allocator) wakeAt(t *tenancy) {
	for w := range a.waiting.byAddr[t.addr] {
		if t.admits(&w.request.Sharing) {
			a.waiting.awake.ReplaceOrInsert(w)
		}
	}
	if t.group == nil {
		return
	}
	for w := range t.group.waiters {
		if slices.Contains(w.request.Families, familyNames[t.family()]) && t.admits(&w.request.Sharing) {
			a.waiting.awake.ReplaceOrInsert(w)
		}
	}
}
