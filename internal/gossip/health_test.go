package gossip

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
)

func TestHealthSurvivesTheWire(t *testing.T) {
	for _, h := range []Health{
		{},
		{Draining: true},
		{Restarting: true},
		{ServicePathDown: true},
		{Interfaces: []Interface{
			{Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 1, 0x11}, ARP: true, NDP: true, Subnets: []netip.Prefix{
				netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("198.51.100.128/25"),
				netip.MustParsePrefix("2001:db8::/64"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("2001:db8::4/126"),
			}},
			{Name: "a-name-of-15-chr", NDP: true},
		}},
	} {
		for _, m := range []meta{{Health: h}, {Health: h, starting: true, version: "v1.2.3", instance: 0xfedcba98}} {
			b, complete := m.encode(512)
			got, err := decode(append(b, "a later version's fields"...))
			if err != nil || !complete || !got.equal(m) {
				t.Errorf("sent %+v, got %+v, %v", m, got, err)
			}
		}
	}
}

func TestHealthThatDoesNotFitIsCutAtAnInterface(t *testing.T) {
	var h Health
	for i := range 100 {
		h.Interfaces = append(h.Interfaces, Interface{Name: fmt.Sprintf("vlan%d", i), ARP: true, Subnets: []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}})
	}
	b, complete := meta{Health: h, version: "v1.2.3"}.encode(512)
	got, err := decode(b)
	if err != nil || complete || len(b) > 512 || len(got.Interfaces) < 20 || got.version != "v1.2.3" {
		t.Fatalf("%d bytes with %d interfaces, complete: %t, %v", len(b), len(got.Interfaces), complete, err)
	}
	if want := (Health{Interfaces: h.Interfaces[:len(got.Interfaces)]}); !got.Health.Equal(want) {
		t.Errorf("got %+v", got)
	}
}

func TestMalformedHealth(t *testing.T) {
	whole, _ := meta{Health: Health{Interfaces: []Interface{{Name: "eth0", Subnets: []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}}}}, version: "v1"}.encode(512)
	first, second := len(whole)-instanceLen-len("v1")-1, len(whole)-instanceLen // where speakers end that do not tell their version, or their instance
	for i := range whole {
		if i == first || i == second {
			continue
		}
		if _, err := decode(whole[:i]); err == nil {
			t.Errorf("accepted the first %d of %d bytes", i, len(whole))
		}
	}
	for name, b := range map[string][]byte{
		"another version":     {2, 0, 0},
		"a prefix of 129 bit": {1, 0, 1, 0, 2, 0, 0, 0, 0, 1, 1, 'a', 1, 33 + 129},
		"a version too long":  slices.Concat([]byte{1, 0, 0, 33}, slices.Repeat([]byte{'v'}, 33)),
	} {
		if h, err := decode(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, h)
		}
	}
}

// What is said of a member is passed on to neighbors: a group's MAC would have them send to everybody.
func TestAMACThatNoStationCanHaveIsNone(t *testing.T) {
	for _, mac := range []net.HardwareAddr{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 1}, {0, 0, 0, 0, 0, 0}, {2, 0, 0}} {
		b, _ := meta{Health: Health{Interfaces: []Interface{{Name: "eth0", MAC: mac}}}}.encode(512)
		if h, err := decode(b); err != nil || h.Interfaces[0].MAC != nil {
			t.Errorf("%v became %+v, %v", mac, h, err)
		}
	}
}

func TestWhatMembersAreJudgedBy(t *testing.T) {
	h := func(change func(*Health, *Interface)) Health {
		i := Interface{Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, ARP: true, Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
		var h Health
		change(&h, &i)
		h.Interfaces = []Interface{i}
		return h
	}
	same := h(func(*Health, *Interface) {})
	if !same.Equal(h(func(*Health, *Interface) {})) {
		t.Error("two that are alike differ")
	}
	for name, change := range map[string]func(*Health, *Interface){
		"draining":     func(h *Health, _ *Interface) { h.Draining = true },
		"restarting":   func(h *Health, _ *Interface) { h.Restarting = true },
		"service path": func(h *Health, _ *Interface) { h.ServicePathDown = true },
		"name":         func(_ *Health, i *Interface) { i.Name = "eth1" },
		"MAC":          func(_ *Health, i *Interface) { i.MAC = net.HardwareAddr{2, 0, 0, 0, 0, 2} },
		"ARP":          func(_ *Health, i *Interface) { i.ARP = false },
		"NDP":          func(_ *Health, i *Interface) { i.NDP = true },
		"subnets":      func(_ *Health, i *Interface) { i.Subnets = nil },
	} {
		if same.Equal(h(change)) {
			t.Errorf("%s makes no difference", name)
		}
	}
}

func FuzzHealth(f *testing.F) {
	b, _ := meta{version: "v1", Health: Health{Draining: true, Restarting: true, Interfaces: []Interface{{Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, ARP: true, Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}}}.encode(512)
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		again, complete := m.encode(1 << 20)
		if !complete {
			t.Fatalf("%+v cannot be encoded", m)
		}
		if got, err := decode(again); err != nil || !got.equal(m) {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
	})
}

func (m meta) equal(o meta) bool {
	return m.Health.Equal(o.Health) && m.starting == o.starting && m.version == o.version && m.instance == o.instance
}
