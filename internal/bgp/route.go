package bgp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
)

// MaxPassword is the greatest length of a password, in bytes; the kernel takes no longer one (RFC 2385 recommends as much).
const MaxPassword = 80

// Peer is a router to talk to: as config.Config.PeersOn fills it in for this node, with its password.
type Peer struct {
	config.BGPPeer
	Password string // empty means none
}

// Route is how a prefix is told to some peers.
type Route struct {
	// Peers are the names of those that are told; nil means all, those that come later included.
	Peers []string

	config.Attributes
	Communities config.Communities
}

// gracefulShutdown asks routers to prefer other ways from now on (RFC 8326).
const gracefulShutdown = 0xffff0000

// leaving is the route of a node that is about to withdraw it.
func (r Route) leaving() Route {
	var lowest uint32
	r.LocalPref = &lowest
	r.Communities.Add(config.Communities{Standard: []uint32{gracefulShutdown}})
	return r
}

// treatment is what prefixes have in common that are told to the same peers with the same attributes.
type treatment struct {
	id       uint32
	routes   []Route
	prefixes map[v1beta1.IPFamily]int // how many have it
}

// count adds n prefixes of the family of one.
func (tr *treatment) count(one netip.Prefix, n int) {
	family := v1beta1.IPv6
	if one.Addr().Is4() {
		family = v1beta1.IPv4
	}
	tr.prefixes[family] += n
}

// key identifies a treatment: the same routes give the same key, and others another.
func key(routes []Route) string {
	var b []byte
	number := func(n int) { b = binary.AppendUvarint(b, uint64(n)) }
	optional := func(n *uint32) {
		if n == nil {
			b = append(b, 0)
			return
		}
		b = append(b, 1)
		number(int(*n))
	}
	for _, r := range routes {
		if r.Peers == nil {
			b = append(b, 0)
		} else {
			b = append(b, 1)
			number(len(r.Peers))
			for _, p := range r.Peers {
				number(len(p))
				b = append(b, p...)
			}
		}
		optional(r.LocalPref)
		optional(r.MED)
		number(r.Prepend)
		b = fmt.Append(b, r.Communities)
	}
	return string(b)
}

// table is what is to be told: each prefix with its treatment.
type table struct {
	byPrefix map[netip.Prefix]string // keys
	byKey    map[string]*treatment
	free     []uint32 // ids that were used before
	drained  bool
}

func newTable() *table {
	return &table{byPrefix: map[netip.Prefix]string{}, byKey: map[string]*treatment{}}
}

// step is one thing to do about a prefix.
type step struct {
	prefix netip.Prefix
	id     uint32 // of its treatment; 0 is to withdraw
}

// set changes the routes of prefixes and returns what is to be done, by prefix. Treatments that nothing has any more are
// kept until sweep: what GoBGP withdraws it looks up in the policy by which it was told.
func (t *table) set(changed map[netip.Prefix][]Route) []step {
	var steps []step
	for prefix, routes := range changed {
		old, had := t.byPrefix[prefix]
		if len(routes) == 0 {
			if had {
				t.byKey[old].count(prefix, -1)
				delete(t.byPrefix, prefix)
				steps = append(steps, step{prefix: prefix})
			}
			continue
		}
		if t.drained {
			routes = leaving(routes)
		}
		k := key(routes)
		if had && k == old {
			continue
		}
		if had {
			t.byKey[old].count(prefix, -1)
		}
		tr := t.treatment(k, routes)
		tr.count(prefix, 1)
		t.byPrefix[prefix] = k
		steps = append(steps, step{prefix, tr.id})
	}
	slices.SortFunc(steps, func(x, y step) int { return x.prefix.Compare(y.prefix) })
	return steps
}

// all returns what is to be done when nothing has been told yet.
func (t *table) all() []step {
	steps := make([]step, 0, len(t.byPrefix))
	for prefix, k := range t.byPrefix {
		steps = append(steps, step{prefix, t.byKey[k].id})
	}
	slices.SortFunc(steps, func(x, y step) int { return x.prefix.Compare(y.prefix) })
	return steps
}

// drain makes all routes, and those that come later, those of a node that leaves.
func (t *table) drain() []step {
	t.drained = true
	changed := make(map[netip.Prefix][]Route, len(t.byPrefix))
	for prefix, k := range t.byPrefix {
		changed[prefix] = t.byKey[k].routes
	}
	return t.set(changed)
}

func (t *table) treatment(k string, routes []Route) *treatment {
	if tr := t.byKey[k]; tr != nil {
		return tr
	}
	tr := &treatment{routes: routes, prefixes: map[v1beta1.IPFamily]int{}}
	if n := len(t.free); n > 0 {
		tr.id, t.free = t.free[n-1], t.free[:n-1]
	} else {
		tr.id = uint32(len(t.byKey) + 1)
	}
	t.byKey[k] = tr
	return tr
}

// sweep forgets the treatments that nothing has, and tells whether there were any.
func (t *table) sweep() bool {
	any := false
	for k, tr := range t.byKey {
		if tr.prefixes[v1beta1.IPv4]+tr.prefixes[v1beta1.IPv6] == 0 {
			any = true
			t.free = append(t.free, tr.id)
			delete(t.byKey, k)
		}
	}
	return any
}

// treatments returns them in order of their ids.
func (t *table) treatments() []*treatment {
	out := make([]*treatment, 0, len(t.byKey))
	for _, tr := range t.byKey {
		out = append(out, tr)
	}
	slices.SortFunc(out, func(x, y *treatment) int { return int(x.id) - int(y.id) })
	return out
}

func leaving(routes []Route) []Route {
	out := make([]Route, len(routes))
	for i, r := range routes {
		out[i] = r.leaving()
	}
	return out
}

// peerName orders peers.
func peerName(x, y Peer) int { return strings.Compare(x.Name, y.Name) }
