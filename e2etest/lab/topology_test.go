package lab

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestEveryHostHasAddressesThatReadAlike(t *testing.T) {
	for _, want := range []struct{ name, mac, v4, v6 string }{
		{Router, "02:00:00:00:01:01", "192.0.2.1", "2001:db8:1::1"},
		{Client, "02:00:00:00:01:02", "192.0.2.2", "2001:db8:1::2"},
		{CP, "02:00:00:00:01:10", "192.0.2.10", "2001:db8:1::10"},
		{Remote, "02:00:00:00:02:02", "198.51.100.2", "2001:db8:2::2"},
		{"n1", "02:00:00:00:01:11", "192.0.2.11", "2001:db8:1::11"},
		{"n9", "02:00:00:00:01:19", "192.0.2.19", "2001:db8:1::19"},
	} {
		h, err := findHost(topology(9), want.name)
		if err != nil {
			t.Fatal(err)
		}
		if h.MAC.String() != want.mac || h.IPv4.String() != want.v4 || h.IPv6.String() != want.v6 {
			t.Errorf("%s: got %s %s %s, want %s %s %s", want.name, h.MAC, h.IPv4, h.IPv6, want.mac, want.v4, want.v6)
		}
	}
}

func TestNoTwoHostsShareAnything(t *testing.T) {
	seen := map[string]string{}
	claim := func(what, host string) {
		if other, taken := seen[what]; taken {
			t.Errorf("%s belongs to %s and to %s", what, other, host)
		}
		seen[what] = host
	}
	for _, h := range topology(MaxNodes) {
		if h.Name == Switch {
			continue
		}
		claim(h.Name, h.Name)
		claim(h.MAC.String(), h.Name)
		claim(h.IPv4.String(), h.Name)
		claim(h.IPv6.String(), h.Name)
		if h.isNode() {
			p4, p6 := h.podPrefixes()
			claim(p4.String(), h.Name)
			claim(p6.String(), h.Name)
			if !pods4.Contains(p4.Addr()) || !pods6.Contains(p6.Addr()) {
				t.Errorf("%s: pods %s and %s are outside %s and %s", h.Name, p4, p6, pods4, pods6)
			}
		}
	}
}

func TestPodRangesFollowTheNodesNumber(t *testing.T) {
	p4, p6 := onLAN("n3", 13).podPrefixes()
	if p4.String() != "10.244.3.0/24" || p6.String() != "fd00:10:244:3::/64" {
		t.Errorf("n3 has pods %s and %s", p4, p6)
	}
}

func TestRoutes(t *testing.T) {
	hosts := topology(2)
	find := func(name, to string) string {
		h, err := findHost(hosts, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes(h, hosts) {
			if r.to == netip.MustParsePrefix(to) {
				return r.via.String()
			}
		}
		return ""
	}
	for _, c := range []struct{ story, host, to, via string }{
		{"a node reaches another node's pods through that node", "n1", "10.244.2.0/24", "192.0.2.12"},
		{"in both families", "n1", "fd00:10:244:2::/64", "2001:db8:1::12"},
		{"its own pods are on a bridge of its own", "n1", "10.244.1.0/24", ""},
		{"Service addresses need a route before they can be translated", "n1", "0.0.0.0/0", "192.0.2.1"},
		{"in both families too", "n1", "::/0", "2001:db8:1::1"},
		{"the control plane reaches pods", CP, "10.244.1.0/24", "192.0.2.11"},
		{"the router knows the way to pods for everybody else", Router, "10.244.1.0/24", "192.0.2.11"},
		{"the router is the end of the world", Router, "0.0.0.0/0", ""},
		{"the client is no part of the cluster", Client, "10.244.1.0/24", ""},
		{"the remote host has the router on its own side", Remote, "::/0", "2001:db8:2::1"},
		{"the switch has no address to route with", Switch, "0.0.0.0/0", ""},
	} {
		if got := find(c.host, c.to); got != c.via {
			t.Errorf("%s: route of %s to %s goes via %q, want %q", c.story, c.host, c.to, got, c.via)
		}
	}
}

func TestOnlyRouterAndNodesForward(t *testing.T) {
	for _, h := range topology(2) {
		want := h.Name == Router || h.isNode()
		for _, s := range sysctls(h) {
			if strings.HasSuffix(s[0], "forward") || strings.HasSuffix(s[0], "forwarding") {
				if got := s[1] == "1"; got != want {
					t.Errorf("%s: %s=%s", h.Name, s[0], s[1])
				}
			}
		}
	}
}

func TestPartitionRulesDropBothWaysBetweenGroupsAndNothingElse(t *testing.T) {
	rules := partitionRules([][]string{{"n1", "n2"}, {"n3"}, {"cp"}})
	var drops []string
	for line := range strings.Lines(rules) {
		if strings.Contains(line, "drop") {
			drops = append(drops, strings.TrimSpace(line))
		}
	}
	want := []string{
		`iifname { "n1", "n2" } oifname { "n3" } drop`,
		`iifname { "n1", "n2" } oifname { "cp" } drop`,
		`iifname { "n3" } oifname { "n1", "n2" } drop`,
		`iifname { "n3" } oifname { "cp" } drop`,
		`iifname { "cp" } oifname { "n1", "n2" } drop`,
		`iifname { "cp" } oifname { "n3" } drop`,
	}
	if !slices.Equal(drops, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(drops, "\n"), strings.Join(want, "\n"))
	}
	if heal := partitionRules(nil); strings.Contains(heal, "drop") || !strings.Contains(heal, "delete table bridge herald_lab") {
		t.Errorf("lifting a partition: %s", heal)
	}
}

func TestPartitionsThatAreNoneAreRefused(t *testing.T) {
	hosts := topology(3)
	for _, c := range []struct {
		story  string
		groups [][]string
		says   string // empty: accepted
	}{
		{"two sides", [][]string{{"n1", "n2"}, {"n3"}}, ""},
		{"three sides, with hosts that are no nodes", [][]string{{"n1"}, {Client, Router}, {CP}}, ""},
		{"no side", nil, "at least two"},
		{"one side", [][]string{{"n1"}}, "at least two"},
		{"an empty side", [][]string{{"n1"}, {}}, "empty"},
		{"a host on both sides", [][]string{{"n1"}, {"n1", "n2"}}, "two groups"},
		{"a host that is not there", [][]string{{"n1"}, {"n4"}}, `no host "n4"`},
		{"a host that is not on the LAN", [][]string{{"n1"}, {Remote}}, `no host "remote"`},
	} {
		err := checkGroups(c.groups, hosts)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", c.story, err, c.says)
		}
	}
}
