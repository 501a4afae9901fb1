package ipam

import (
	"fmt"
	"strings"
	"testing"
)

func TestARefusalNamesEachPoolAndWhatWouldHelp(t *testing.T) {
	for _, c := range []struct {
		name     string
		commands []string // the last one is refused
		want     string
	}{
		{"no pool at all", []string{"ask s 4"}, "there is no IPAddressPool: create one"},
		{"pools not in force", []string{"pools bad:", "ask s 4"}, "no IPAddressPool is in force: pool bad: not in force, see its condition Accepted"},
		{"each pool has a reason of its own",
			[]string{
				"pools bad:; bank: 192.0.2.1/32 namespaces=bank; byname: 192.0.2.2/32 manual; going: 192.0.2.3/32 drain; lan: 192.0.2.4/32; six: 2001:db8::/64; thrifty: 192.0.2.8/30 quota=1",
				"ask a 4", "ask b 4", "ask s 4",
			},
			"no IPv4 address: pool going: draining, pool lan: all its 1 IPv4 addresses are in use, pool six: has no IPv4 addresses, " +
				"pool thrifty: namespace web has all 1 addresses of its namespaceQuota, pool bad: not in force, see its condition Accepted, " +
				"pool bank: not for this Service by its serviceAllocation, pool byname: serves only who asks for it, autoAssign is false; " +
				"add addresses to a pool or delete Services that need theirs no more"},
		{"of two families both are explained", []string{"pools lan: 192.0.2.1/32", "ask a 4", "ask s 46"},
			"no IPv4 address: pool lan: all its 1 IPv4 addresses are in use; add addresses to a pool or delete Services that need theirs no more; " +
				"no IPv6 address: pool lan: has no IPv6 addresses; add IPv6 addresses to a pool"},
		{"a pool asked for by name is the only one considered", []string{"pools lan: 192.0.2.1/32; wan: 192.0.2.2/32", "ask a 4", "ask s 4 pool=lan"},
			"no IPv4 address: pool lan: all its 1 IPv4 addresses are in use; add addresses to a pool or delete Services that need theirs no more"},
		{"a pool of a very long name that does not exist", []string{"ask s 4 pool=" + strings.Repeat("x", 500)},
			"pool \"" + strings.Repeat("x", 64) + "\"... is asked for, and there is no IPAddressPool of this name: create it, or ask for another"},
		{"an address and a pool that has it not", []string{"pools lan: 192.0.2.1/32; wan: 192.0.2.2/32", "ask s 4 pool=lan address=192.0.2.2"},
			"192.0.2.2 is asked for and so is pool lan, but the address is of pool wan: ask for one of the two"},
		{"an address of a clashing port", []string{"pools lan: 192.0.2.1/32", "ask a 4 key=k ports=80,443", "ask s 4 key=k ports=443 address=192.0.2.1"},
			"192.0.2.1 is asked for, and it is held by Service web/a, which uses port 443/TCP too: ask for another address, or make it one that both may share"},
		{"a quota that both families need", []string{"pools lan: 192.0.2.0/24 2001:db8::/64 quota=1", "ask s 46"},
			"no IPv6 address: the namespaceQuota of the only pool that has one leaves namespace web a single address, which the other IP family needs; raise the quota, or add addresses to another pool"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := New()
			last := len(c.commands) - 1
			for _, command := range c.commands[:last] {
				do(t, a, command)
			}
			r := a.Allocate(request(t, strings.TrimPrefix(c.commands[last], "ask ")))
			if r.Refusal == nil || r.Refusal.Message != c.want {
				t.Errorf("got  %+v\nwant %s", r.Refusal, c.want)
			}
		})
	}
}

func TestManyPoolsMakeAShortMessage(t *testing.T) {
	a := New()
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf("p%03d:", i))
	}
	do(t, a, "pools "+strings.Join(many, ";"))
	r := a.Allocate(request(t, "s 4"))
	if got := r.Refusal.Message; len(got) > 1000 || !strings.Contains(got, "and 292 more pools") {
		t.Errorf("300 pools make a message of %d bytes: %q", len(got), got)
	}
}

func TestTenThousandPoolsServeTheirOwn(t *testing.T) {
	var many []string
	for i := range 10_000 {
		many = append(many, fmt.Sprintf("p%05d: 10.%d.%d.0/31 namespaces=n%05d", i, i/256, i%256, i))
	}
	a := New()
	do(t, a, "pools "+strings.Join(many, ";"))
	for i := 0; i < 10_000; i += 997 {
		want := fmt.Sprintf("10.%d.%d.0@p%05d", i/256, i%256, i)
		if got := do(t, a, fmt.Sprintf("ask n%05d/s 4", i)); got != want {
			t.Errorf("namespace n%05d got %q, want %q", i, got, want)
		}
	}
	if got := do(t, a, "ask elsewhere/s 4"); got != "NoEligiblePool" {
		t.Errorf("a namespace without a pool got %q", got)
	}
}
