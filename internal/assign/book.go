package assign

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/ipam"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/service"
)

// book is what the controller knows and has decided about Services: the truth between a decision and the moment the
// API server shows it. It is pure: it writes nothing and reads no clock; every method leaves in changed the
// Services whose status may have to be written.
//
// An address goes back to its pool only when the API server no longer shows it on its Service, so no two Services
// ever show one address.
type book struct {
	class   string // see service.Of
	follows bool   // what speakers announce is known, and so is what to say of it
	alloc   *ipam.Allocator
	entries map[types.NamespacedName]*entry
	changed []types.NamespacedName
	// contested are those whose addresses somebody else has replaced, until they are told of.
	contested []dispute
}

// dispute is a Service that somebody else writes addresses to.
type dispute struct {
	*entry
	theirs, ours netip.Addr
}

// replacedMemory is for how long it counts that somebody else has replaced a Service's addresses.
const replacedMemory = 5 * time.Minute

// entry is one Service that is ours, or was and still shows what we wrote.
type entry struct {
	key     types.NamespacedName
	svc     *corev1.Service // the newest version known
	req     service.Request
	since   time.Time // when it was first seen without its addresses; zero when it came with them
	leases  []ipam.Lease
	refusal *service.Refusal
	// notes are what happened to it that its status does not tell, for the next write to report.
	notes []note

	// announced is what its condition service.ConditionAnnounced should say while it has addresses; nil for no condition.
	announced *metav1.Condition
	// unreported is since when no speaker tells anything of one of its addresses; zero when they tell of all.
	unreported time.Time

	// written are the addresses that were written to its status last. replaced counts how often somebody else put others in
	// their place; replacedAt is when that was seen last.
	written    []netip.Addr
	replaced   int
	replacedAt time.Time

	// leaving: not ours any more. What we wrote is to be removed, then its addresses are free.
	leaving bool
	// missing: the informer does not show it; it is deleted or of another type.
	missing bool
	// stale: svc may be out of date and no informer will say so; ask the API server.
	stale bool
	// gone: it does not exist any more, and the informer still shows it.
	gone bool
}

func newBook(class string) *book {
	return &book{class: class, alloc: ipam.New(), entries: map[types.NamespacedName]*entry{}}
}

// start takes in the Services that exist when the controller starts. All that hold addresses are seated, the oldest
// first, before anyone is given a new one.
func (b *book) start(services []*corev1.Service, strays []*corev1.Service, now time.Time) {
	services = slices.Clone(services)
	slices.SortFunc(services, older)
	for _, svc := range services {
		if e := b.enter(svc, now); e != nil {
			b.seat(e)
		}
	}
	for _, svc := range services {
		if e := b.entries[keyOf(svc)]; e != nil {
			b.allocate(e)
		}
	}
	for _, svc := range strays {
		e := &entry{key: keyOf(svc), svc: svc, leaving: true, missing: true}
		b.entries[e.key] = e
		b.touch(e.key)
	}
}

// observe takes in a version of a Service, from the informer (shown) or as a write returned it. An older version than
// the one known is passed over: memory goes before a cache that lags.
func (b *book) observe(svc *corev1.Service, shown bool, now time.Time) {
	e := b.entries[keyOf(svc)]
	if e != nil && e.svc.UID != svc.UID {
		if kube.Newer(e.svc, svc) {
			return
		}
		b.forget(e) // deleted, and another one made under its name
		e = nil
	}
	switch {
	case e == nil:
		if e = b.enter(svc, now); e == nil {
			return
		}
	case e.gone || kube.Newer(e.svc, svc):
		return
	default:
		b.contest(e, svc, now)
		b.update(e, svc)
	}
	if shown {
		e.missing, e.stale = false, false
	}
	b.seat(e)
	b.allocate(e)
	b.settle(e)
	b.serve()
}

// update gives an entry a newer version of its Service.
func (b *book) update(e *entry, svc *corev1.Service) {
	was := e.leaving
	e.svc = svc
	e.req, e.leaving = b.read(svc)
	if was || !e.leaving {
		return
	}
	why := "the Service is no longer of type LoadBalancer and of Herald's class"
	if svc.DeletionTimestamp != nil {
		why = "the Service is being deleted"
	}
	for _, l := range b.alloc.Held(e.key) {
		e.note(eventAddressReleased, "%v is released: "+why, l.Addr)
	}
}

// contest notes when a newer version of a Service shows addresses of somebody else's in place of those written to it. Two
// that give one Service its addresses would do so for ever, as fast as they can write.
func (b *book) contest(e *entry, svc *corev1.Service, now time.Time) {
	shown := service.HeldBy(svc)
	ours := slices.ContainsFunc(shown, func(h service.Held) bool { return slices.Contains(e.written, h.Addr) })
	if len(e.written) == 0 || len(shown) == 0 || ours || svc.DeletionTimestamp != nil {
		return
	}
	if now.Sub(e.replacedAt) > replacedMemory {
		e.replaced = 0
	}
	e.replaced++
	e.replacedAt = now
	b.contested = append(b.contested, dispute{e, shown[0].Addr, e.written[0]})
	e.written = nil
}

// read returns what a Service asks for, and whether it is not ours (any more).
func (b *book) read(svc *corev1.Service) (req service.Request, leaving bool) {
	req, ours := service.Of(svc, b.class)
	return req, !ours
}

// enter makes an entry for a Service that is ours, or still bears what we wrote although it is on its way out. Nil
// means that it is none of our business.
func (b *book) enter(svc *corev1.Service, now time.Time) *entry {
	req, leaving := b.read(svc)
	if leaving && !(service.OfClass(svc, b.class) && service.Marked(svc)) {
		return nil
	}
	e := &entry{key: keyOf(svc), svc: svc, req: req, leaving: leaving}
	if shown := service.Announced(svc); shown != nil && b.follows {
		e.announced = shown.DeepCopy() // until speakers say otherwise
	}
	if leaving {
		e.req.Key, e.req.Held = e.key, service.HeldBy(svc)
	}
	if len(e.req.Held) == 0 {
		e.since = now
	}
	b.entries[e.key] = e
	return e
}

// seat lets an entry keep the addresses that its status shows.
func (b *book) seat(e *entry) {
	for _, u := range b.alloc.Seat(e.req) {
		switch u.Reason {
		case ipam.AddressInUse:
			e.note(eventAddressConflict, "%v belongs to Service %s, which had it first: another address is assigned if there is one", u.Held.Addr, u.Holder)
		case ipam.PoolGone:
			e.note(eventAddressReleased, "%v is withdrawn: it is in no IPAddressPool", u.Held.Addr)
		}
	}
}

// allocate gives an entry what it asks for as far as it can be had, and puts it where it waits for the rest.
func (b *book) allocate(e *entry) {
	if e.leaving {
		b.alloc.Cancel(e.key)
		e.leases, e.refusal = nil, nil
		b.touch(e.key)
		return
	}
	r := b.alloc.Allocate(e.req)
	e.leases, e.refusal = r.Leases, r.Refusal
	b.touch(e.key)
}

// settle gives back the addresses that an entry no longer wants and no longer shows, and ends a leaving entry that
// has nothing of ours left.
func (b *book) settle(e *entry) {
	for _, l := range b.alloc.Held(e.key) {
		wanted := slices.ContainsFunc(e.leases, func(x ipam.Lease) bool { return x.Addr == l.Addr })
		if !wanted && !shows(e.svc, l.Addr) {
			b.alloc.Return(e.key, l.Addr)
		}
	}
	if e.leaving && !e.stale && bears(e.svc, b.desired(e)) {
		b.forget(e)
	}
}

// absent takes in that the informer shows no such Service.
func (b *book) absent(key types.NamespacedName) {
	e := b.entries[key]
	switch {
	case e == nil:
	case e.gone:
		delete(b.entries, key)
	case e.missing:
	default:
		e.missing, e.stale = true, true
		b.touch(key)
	}
}

// found takes in what the API server said of a Service that the informer does not show: nil when it exists no more.
func (b *book) found(key types.NamespacedName, uid types.UID, svc *corev1.Service, now time.Time) {
	e := b.entries[key]
	if e == nil || e.svc.UID != uid {
		return
	}
	if svc == nil || svc.UID != uid {
		b.vanish(e)
		return
	}
	e.stale = false
	b.observe(svc, false, now)
}

// vanish takes in that a Service exists no more. While the informer still shows it, its entry stays, so that it is
// not served anew.
func (b *book) vanish(e *entry) {
	missing := e.missing
	b.forget(e)
	if !missing {
		e.gone = true
		b.entries[e.key] = e
	}
}

// conflicted takes in that a write was refused because the Service had changed. Where the informer will not show the
// change, the API server has to be asked.
func (b *book) conflicted(key types.NamespacedName) {
	if e := b.entries[key]; e != nil && e.missing {
		e.stale = true
	}
}

// forget drops an entry and frees what it held.
func (b *book) forget(e *entry) {
	delete(b.entries, e.key)
	e.leases, e.refusal = nil, nil
	b.alloc.Release(e.key)
	b.serve()
}

// serve gives what was freed to those that wait for it, the oldest first.
func (b *book) serve() {
	for {
		key, r, ok := b.alloc.Serve()
		if !ok {
			return
		}
		if e := b.entries[key]; e != nil {
			e.leases, e.refusal = r.Leases, r.Refusal
			b.touch(key)
		}
	}
}

// namespace takes in the labels of a namespace, nil when it is gone. Services in it may be served by other pools then.
func (b *book) namespace(name string, labels map[string]string) {
	b.alloc.SetNamespace(name, labels)
	b.serve()
}

// configure replaces the pools. Everybody keeps what can be kept; then those that lack something are served.
func (b *book) configure(pools []config.Pool) {
	withdrawn := b.alloc.SetPools(pools)
	all := make([]*entry, 0, len(b.entries))
	for _, e := range b.entries {
		if !e.gone {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(x, y *entry) int { return older(x.svc, y.svc) })
	for _, e := range all {
		for _, l := range withdrawn[e.key] {
			e.note(eventAddressReleased, "%v is withdrawn: IPAddressPool %s is gone", l.Addr, l.Pool)
		}
		// Who still shows an address of a pool that has come back keeps it.
		b.alloc.Seat(e.req)
	}
	for _, e := range all {
		b.allocate(e)
		b.settle(e)
	}
	b.serve()
}

// desired is the status an entry should have.
func (b *book) desired(e *entry) kube.ServiceStatus {
	if e.leaving {
		// Of another class or type, the addresses are somebody else's.
		return kube.ServiceStatus{OthersIngress: !service.OfClass(e.svc, b.class)}
	}
	var s kube.ServiceStatus
	var pools []string
	for _, l := range e.leases {
		s.Addresses = append(s.Addresses, l.Addr)
		pools = append(pools, l.Pool)
	}
	s.Pool = service.PoolAnnotation(pools)
	s.Allocated = condition(e)
	if len(s.Addresses) > 0 {
		s.Announced = e.announced
	}
	return s
}

// bears tells whether a Service has this status.
func bears(svc *corev1.Service, want kube.ServiceStatus) bool {
	patch, err := kube.ServicePatch(svc, want, time.Time{})
	return err == nil && patch == nil
}

func (b *book) touch(key types.NamespacedName) { b.changed = append(b.changed, key) }

// drain returns the Services touched since the last call.
func (b *book) drain() []types.NamespacedName {
	out := b.changed
	b.changed = nil
	return out
}

func shows(svc *corev1.Service, addr netip.Addr) bool {
	return slices.ContainsFunc(service.HeldBy(svc), func(h service.Held) bool { return h.Addr == addr })
}

func keyOf(svc *corev1.Service) types.NamespacedName {
	return types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
}

// older orders Services by age; those of one age by name, so that the order is the same at every start.
func older(x, y *corev1.Service) int {
	return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
}
