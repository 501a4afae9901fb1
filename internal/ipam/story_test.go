package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/service"
)

var (
	only4     = []corev1.IPFamily{corev1.IPv4Protocol}
	only6     = []corev1.IPFamily{corev1.IPv6Protocol}
	fourFirst = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	sixFirst  = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
)

// pools reads "name: range range, name: range" into pools; a name without a range is a pool not in force.
func pools(s string) []config.Pool {
	var out []config.Pool
	for entry := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(entry) == "" {
			continue
		}
		name, ranges, _ := strings.Cut(entry, ":")
		var b netipx.IPSetBuilder
		for r := range strings.FieldsSeq(strings.ReplaceAll(ranges, "|", ":")) {
			parsed, err := config.ParseRange(r)
			if err != nil {
				panic(err)
			}
			b.AddRange(parsed)
		}
		set, err := b.IPSet()
		if err != nil {
			panic(err)
		}
		out = append(out, config.Pool{Name: strings.TrimSpace(name), Addresses: set})
	}
	return out
}

func key(name string) types.NamespacedName { return types.NamespacedName{Namespace: "web", Name: name} }

func prefer(name string, families []corev1.IPFamily) service.Request {
	return service.Request{Key: key(name), Families: families}
}

func require(name string, families []corev1.IPFamily) service.Request {
	return service.Request{Key: key(name), Families: families, AllFamilies: true}
}

// claims returns a request that says it holds addresses, each written as address@pool.
func claims(name string, held ...string) service.Request {
	req := prefer(name, nil)
	for _, h := range held {
		addr, pool, _ := strings.Cut(h, "@")
		req.Held = append(req.Held, service.Held{Addr: netip.MustParseAddr(addr), Pool: pool})
		req.Families = append(req.Families, service.FamilyOf(netip.MustParseAddr(addr)))
	}
	return req
}

func leases(ls []Lease) string {
	var out []string
	for _, l := range ls {
		out = append(out, l.Addr.String()+"@"+l.Pool)
	}
	return strings.Join(out, " ")
}

func result(r Result) string {
	out := leases(r.Leases)
	if len(r.Unwanted) > 0 {
		out += " unwanted " + leases(r.Unwanted)
	}
	if r.Refusal != nil {
		out += " " + string(r.Refusal.Reason)
	}
	return strings.TrimSpace(out)
}

func withdrawn(w map[types.NamespacedName][]Lease) string {
	var out []string
	for k, ls := range w {
		out = append(out, k.Name+": "+leases(ls))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func unseated(us []Unseated) string {
	var out []string
	for _, u := range us {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%v %s %s", u.Held.Addr, u.Reason, u.Holder.Name)))
	}
	return strings.Join(out, "; ")
}

func counts(a *Allocator) string {
	var out []string
	for _, c := range a.Counts() {
		s := fmt.Sprintf("%s/%s %d of %v", c.Pool, strings.ToLower(string(c.Family)), c.InUse, c.Total)
		if c.Outside > 0 {
			s += fmt.Sprintf(", %d outside", c.Outside)
		}
		if !c.Free {
			s += ", full"
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

// TestStory is one allocator's life, in order.
func TestStory(t *testing.T) {
	a := New()
	set := func(s string) func() string { return func() string { return withdrawn(a.SetPools(pools(s))) } }
	allocate := func(r service.Request) func() string { return func() string { return result(a.Allocate(r)) } }
	seat := func(r service.Request) func() string { return func() string { return unseated(a.Seat(r)) } }
	release := func(name string) func() string { return func() string { return leases(a.Release(key(name))) } }
	giveBack := func(name, addr string) func() string {
		return func() string { return fmt.Sprint(a.Return(key(name), netip.MustParseAddr(addr))) }
	}
	count := func() string { return counts(a) }

	for _, step := range []struct {
		sentence string
		do       func() string
		want     string
	}{
		{"without a pool nobody is served", allocate(require("s1", only4)), "NoPools"},
		{"a pool that is not in force serves nobody", set("lan:"), ""},
		{"and says so", allocate(require("s1", only4)), "NoPools"},
		{"a pool of four addresses comes", set("lan: 192.0.2.1-192.0.2.4"), ""},
		{"s1 gets the lowest", allocate(require("s1", only4)), "192.0.2.1@lan"},
		{"s1 asks again and keeps it", allocate(require("s1", only4)), "192.0.2.1@lan"},
		{"s2 gets the next", allocate(require("s2", only4)), "192.0.2.2@lan"},
		{"an IPv6 Service finds no IPv6 pool", allocate(require("s3", only6)), "FamilyUnavailable"},
		{"one that must have both takes no half", allocate(require("s3", fourFirst)), "FamilyUnavailable"},
		{"one that would like both takes what there is", allocate(prefer("s3", sixFirst)), "192.0.2.3@lan FamilyUnavailable"},
		{"the pool gains IPv6", set("lan: 192.0.2.1-192.0.2.4 2001|db8||/127"), ""},
		{"s3 gains its second family and keeps its first address", allocate(prefer("s3", sixFirst)), "2001:db8::@lan 192.0.2.3@lan"},
		{"s4 takes the last IPv4 address and the last IPv6 one", allocate(require("s4", fourFirst)), "192.0.2.4@lan 2001:db8::1@lan"},
		{"now the pool is full", count, "lan/ipv4 4 of 4, full; lan/ipv6 2 of 2, full"},
		{"s5 has to wait", allocate(require("s5", only4)), "PoolExhausted"},
		{"s5 with a preference has to wait too", allocate(prefer("s5", fourFirst)), "PoolExhausted"},
		{"s2 goes", release("s2"), "192.0.2.2@lan"},
		{"s2 goes again and gives nothing twice", release("s2"), ""},
		{"s5 gets what s2 had", allocate(require("s5", only4)), "192.0.2.2@lan"},
		{"s4 turns to IPv6 only and wants its IPv4 address no more", allocate(require("s4", only6)), "2001:db8::1@lan unwanted 192.0.2.4@lan"},
		{"it is not free before s4 has given it back", allocate(require("s6", only4)), "PoolExhausted"},
		{"nobody else can give it back", giveBack("s6", "192.0.2.4"), "false"},
		{"s4 does", giveBack("s4", "192.0.2.4"), "true"},
		{"s4 must have both again and gets what it had", allocate(require("s4", fourFirst)), "192.0.2.4@lan 2001:db8::1@lan"},
		{"s1 must have both, cannot, and keeps its address all the same", allocate(require("s1", fourFirst)), "192.0.2.1@lan PoolExhausted"},
		{"s1 is content with one again", allocate(require("s1", only4)), "192.0.2.1@lan"},

		{"the pool shrinks and its holders keep what they have", set("lan: 192.0.2.4-192.0.2.4 2001|db8||/127"), ""},
		{"they are counted", count, "lan/ipv4 4 of 1, 3 outside, full; lan/ipv6 2 of 2, full"},
		{"s1 asks again and keeps its address", allocate(require("s1", only4)), "192.0.2.1@lan"},
		{"s5 goes; its address is no pool's any more", release("s5"), "192.0.2.2@lan"},
		{"so nobody gets it", allocate(require("s5", only4)), "PoolExhausted"},
		{"the pool grows back", set("lan: 192.0.2.1-192.0.2.4 2001|db8||/127"), ""},
		{"and nobody is outside", count, "lan/ipv4 3 of 4; lan/ipv6 2 of 2, full"},
		{"a bad edit takes the pool out of force, nobody loses anything", set("lan:"), ""},
		{"all are outside now", count, "lan/ipv4 3 of 0, 3 outside, full; lan/ipv6 2 of 0, 2 outside, full"},
		{"the pool is split in two under new names", set("east: 192.0.2.1-192.0.2.2, west: 192.0.2.3-192.0.2.4 2001|db8||/127"), ""},
		{"each address counts for the pool that has it", count, "east/ipv4 1 of 2; west/ipv4 2 of 2, full; west/ipv6 2 of 2, full"},
		{"s1 sees its address's new pool", allocate(require("s1", only4)), "192.0.2.1@east"},
		{"west is deleted: who held from it loses its addresses", set("east: 192.0.2.1-192.0.2.2"), "s3: 192.0.2.3@west 2001:db8::@west; s4: 192.0.2.4@west 2001:db8::1@west"},
		{"s3 starts anew", allocate(prefer("s3", fourFirst)), "192.0.2.2@east FamilyUnavailable"},

		{"pools are chosen by name", set("a: 198.51.100.1-198.51.100.1, b: 198.51.100.2-198.51.100.9 2001|db8||/64, east: 192.0.2.1-192.0.2.2, z: 203.0.113.1-203.0.113.9 2001|db8|1||/64"), ""},
		{"a Service of one family takes the first pool", allocate(require("t1", only4)), "198.51.100.1@a"},
		{"one of both takes both from the first pool that has both", allocate(require("t2", fourFirst)), "198.51.100.2@b 2001:db8::@b"},
		{"one that gains a family stays with its pool", allocate(require("t3", only6)), "2001:db8::1@b"},
		{"although another pool comes first", set("a: 198.51.100.1-198.51.100.1 198.51.100.100-198.51.100.101, b: 198.51.100.2-198.51.100.9 2001|db8||/64, east: 192.0.2.1-192.0.2.2"), ""},
		{"as it does", allocate(require("t3", fourFirst)), "198.51.100.3@b 2001:db8::1@b"},
		{"pools of one family each serve both together", set("v4: 203.0.113.1-203.0.113.9, v6: 2001|db8|2||/64"), "s1: 192.0.2.1@east; s3: 192.0.2.2@east; t1: 198.51.100.1@a; t2: 198.51.100.2@b 2001:db8::@b; t3: 198.51.100.3@b 2001:db8::1@b"},
		{"one address from each", allocate(require("t4", sixFirst)), "2001:db8:2::@v6 203.0.113.1@v4"},
		{"a /64 is counted to the last address", count, "v4/ipv4 1 of 9; v6/ipv6 1 of 18446744073709551616"},
		{"t4 goes", release("t4"), "203.0.113.1@v4 2001:db8:2::@v6"},

		{"after a restart u1 keeps what it held", seat(claims("u1", "203.0.113.5@v4", "2001:db8:2::5@v6")), ""},
		{"u1 is seated twice to no effect", seat(claims("u1", "203.0.113.5@v4")), ""},
		{"u2 cannot take u1's address", seat(claims("u2", "203.0.113.5@v4")), "203.0.113.5 AddressInUse u1"},
		{"u2 gets another", allocate(require("u2", only4)), "203.0.113.1@v4"},
		{"u3 keeps an address that its pool has lost", seat(claims("u3", "192.0.2.77@v4")), ""},
		{"u4 does not keep one whose pool is gone", seat(claims("u4", "192.0.2.78@lan", "192.0.2.79")), "192.0.2.78 PoolGone; 192.0.2.79 PoolGone"},
		{"u5 keeps one whose pool it never named", seat(claims("u5", "203.0.113.6")), ""},
		{"u6 keeps one address of a family", seat(claims("u6", "203.0.113.7", "203.0.113.8")), "203.0.113.8 ExtraAddress"},
		{"the counts know them all", count, "v4/ipv4 5 of 9, 1 outside; v6/ipv6 1 of 18446744073709551616"},
		{"a Service that names no family is told", allocate(require("u7", nil)), "FamilyUnavailable"},
	} {
		if got := step.do(); got != step.want {
			t.Fatalf("%s: got %q, want %q", step.sentence, got, step.want)
		}
	}
}

func TestARefusalNamesEachPoolAndWhatWouldHelp(t *testing.T) {
	a := New()
	message := func(r service.Request) string {
		if refusal := a.Allocate(r).Refusal; refusal != nil {
			return refusal.Message
		}
		return ""
	}
	if got, want := message(require("s", only4)), "there is no IPAddressPool: create one"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	a.SetPools(pools("bad:, lan: 192.0.2.1-192.0.2.1, six: 2001|db8||1-2001|db8||1"))
	a.Allocate(require("holder", fourFirst))
	want := "no IPv4 address: pool bad: not in force, see its condition Accepted, pool lan: all its 1 IPv4 addresses are in use, " +
		"pool six: has no IPv4 addresses; add addresses to a pool or delete Services that need theirs no more"
	if got := message(require("s", only4)); got != want {
		t.Errorf("got  %q,\nwant %q", got, want)
	}
	if got := message(require("s", fourFirst)); !strings.HasPrefix(got, want+"; no IPv6 address: ") {
		t.Errorf("of two families both are explained; got %q", got)
	}

	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf("p%03d:", i))
	}
	a.SetPools(pools(strings.Join(many, ",")))
	if got := message(require("s", only4)); len(got) > 1000 || !strings.Contains(got, "and 292 more pools") {
		t.Errorf("300 pools make a message of %d bytes: %q", len(got), got)
	}
}

func TestTheEndsOfTheAddressSpaceAreOrdinaryAddresses(t *testing.T) {
	for _, s := range []string{"255.255.255.254-255.255.255.255", "ffff|ffff|ffff|ffff|ffff|ffff|ffff|fffe-ffff|ffff|ffff|ffff|ffff|ffff|ffff|ffff"} {
		r := netipx.MustParseIPRange(strings.ReplaceAll(s, "|", ":"))
		free := newIntervals()
		free.addRange(r.From(), r.To())
		for range 2 {
			first, last := free.takeFirst(), free.takeFirst()
			if first != r.From() || last != r.To() || !free.empty() {
				t.Fatalf("took %v and %v from %v", first, last, r)
			}
			free.add(last)
			free.add(first)
			if free.tree.Len() != 1 {
				t.Errorf("%v came back as %d intervals", r, free.tree.Len())
			}
		}
	}
}
