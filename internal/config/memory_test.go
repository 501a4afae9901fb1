package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"heraldlb.io/herald/internal/config"
)

// inForce writes what of a Config the story of Memory is about.
func inForce(c *config.Config) string {
	var out []string
	for _, p := range c.Pools {
		out = append(out, p.Name)
	}
	for _, a := range c.L2Advertisements {
		out = append(out, fmt.Sprint(a.Name, a.Interfaces))
	}
	for _, p := range c.BGPPeers {
		out = append(out, fmt.Sprintf("%s>%v", p.Name, p.HoldTime))
	}
	return strings.Join(out, " ")
}

func TestARefusedEditLeavesTheVersionBeforeInForce(t *testing.T) {
	var m config.Memory
	peer := func(name, address, hold string) string {
		return fmt.Sprintf("BGPPeer %s o {peerAddress: %s, peerASN: 1, myASN: 2, holdTime: %s}", name, address, hold)
	}
	lan := "IPAddressPool lan o {addresses: [192.0.2.0/24]}"
	for _, step := range []struct {
		sentence  string
		documents []string
		want      string
		problems  string // kind and name of each
	}{
		{"all is well", []string{lan, "L2Advertisement l2 o {interfaces: [eth0]}", peer("a", "192.0.2.1", "9s")}, "lan l2[eth0] a>9s", ""},
		{"an edit is refused", []string{lan, "L2Advertisement l2 o {interfaces: []}", peer("a", "192.0.2.1", "9s")}, "lan l2[eth0] a>9s", "L2Advertisement/l2"},
		{"it is remembered over other changes", []string{lan, "L2Advertisement l2 o {interfaces: ['a b']}", peer("a", "192.0.2.1", "12s")}, "lan l2[eth0] a>12s", "L2Advertisement/l2"},
		{"a mended object is taken", []string{lan, "L2Advertisement l2 o {interfaces: [eth1]}", peer("a", "192.0.2.1", "12s")}, "lan l2[eth1] a>12s", ""},
		{"a pool is judged without memory", []string{"IPAddressPool lan o {addresses: [x]}", "L2Advertisement l2 o {interfaces: [eth1]}"}, "l2[eth1]", "IPAddressPool/lan"},
		{"a deleted object is forgotten", []string{lan}, "lan", ""},
		{"and not remembered when one of its name is refused", []string{lan, "L2Advertisement l2 o {interfaces: []}"}, "lan", "L2Advertisement/l2"},
		{"two peers", []string{peer("a", "192.0.2.1", "9s"), peer("b", "192.0.2.2", "9s")}, "a>9s b>9s", ""},
		{"one breaks while another takes its address: the older version stays, and keeps the address",
			[]string{peer("a", "nowhere", "9s"), peer("b", "192.0.2.1", "12s")}, "a>9s b>9s", "BGPPeer/a BGPPeer/b"},
		{"the order of the objects does not matter", []string{peer("b", "192.0.2.1", "12s"), peer("a", "nowhere", "9s")}, "a>9s b>9s", "BGPPeer/a BGPPeer/b"},
		{"the address is given up", []string{peer("a", "192.0.2.3", "9s"), peer("b", "192.0.2.1", "12s")}, "a>9s b>12s", ""},
	} {
		r := parsed(t, map[string]string{"all": documents(step.documents...)})
		c, problems := m.New(r)
		var names []string
		for _, p := range problems {
			names = append(names, p.Kind+"/"+p.Name)
		}
		if got := inForce(c); got != step.want || strings.Join(slices.Compact(names), " ") != step.problems {
			t.Errorf("%s: in force %q, want %q; problems %v, want of %q", step.sentence, got, step.want, problems, step.problems)
		}
	}
}

func TestAnObjectMadeAnewUnderItsNameIsNotTheOneRemembered(t *testing.T) {
	var m config.Memory
	good := parsed(t, map[string]string{"all": documents("L2Advertisement l2 o {interfaces: [eth0]}")})
	good.L2Advertisements[0].UID = "first"
	m.New(good)
	bad := parsed(t, map[string]string{"all": documents("L2Advertisement l2 o {interfaces: []}")})
	bad.L2Advertisements[0].UID = "second"
	if c, problems := m.New(bad); len(c.L2Advertisements) != 0 || len(problems) != 1 {
		t.Errorf("in force %v, problems %v", c.L2Advertisements, problems)
	}
	if bad.L2Advertisements[0].Spec.Interfaces == nil {
		t.Error("the resources were changed")
	}
}
