package config

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/api/v1beta1"
)

func pool(name string, age time.Duration, addresses ...string) *v1beta1.IPAddressPool {
	p := &v1beta1.IPAddressPool{}
	p.Name = name
	p.CreationTimestamp = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(-age))
	p.Spec.Addresses = addresses
	return p
}

func advertisement(name string, spec v1beta1.L2AdvertisementSpec) *v1beta1.L2Advertisement {
	a := &v1beta1.L2Advertisement{Spec: spec}
	a.Name = name
	return a
}

func TestWhatAPoolMayHold(t *testing.T) {
	for _, c := range []struct {
		entry string
		want  string // part of the problem's message; empty for none
	}{
		{"192.0.2.0/24", ""},
		{"192.0.2.10-192.0.2.20", ""},
		{" 192.0.2.10 - 192.0.2.10 ", ""},
		{"2001:db8::/64", ""},
		{"2001:db8::1-2001:db8::ffff", ""},
		{"", "want a prefix"},
		{"192.0.2.1", "want a prefix"},
		{"192.0.2.300/24", "want a prefix"},
		{"192.0.2.1/24", "write 192.0.2.0/24"},
		{"192.0.2.20-192.0.2.10", "write 192.0.2.10-192.0.2.20"},
		{"192.0.2.1-2001:db8::1", "mixes IPv4 and IPv6"},
		{"::ffff:192.0.2.1-::ffff:192.0.2.9", "IPv4-mapped"},
		{"::ffff:192.0.2.0/120", "IPv4-mapped"},
		{"fe80::1%eth0-fe80::2%eth0", "zone"},
		{"0.0.0.0/0", "this-network"},
		{"::/0", "unspecified"},
		{"224.0.0.1-224.0.0.2", "multicast"},
		{"127.0.0.1/32", "loopback"},
		{"192.0.2.1-192.0.2.2-192.0.2.3", "not an IP address"},
	} {
		t.Run(c.entry, func(t *testing.T) {
			cfg, problems := New(Resources{Pools: []*v1beta1.IPAddressPool{pool("p", 0, c.entry), pool("other", 0, "203.0.113.0/24")}})
			if _, ok := cfg.Pool("other"); !ok {
				t.Error("the other pool was left out too")
			}
			_, accepted := cfg.Pool("p")
			if c.want == "" {
				if !accepted || len(problems) > 0 {
					t.Fatalf("accepted %v, problems %v; want it accepted", accepted, problems)
				}
				return
			}
			if accepted || len(problems) != 1 || !strings.Contains(problems[0].Error(), c.want) {
				t.Fatalf("accepted %v, problems %v; want one about %q", accepted, problems, c.want)
			}
			if p := problems[0]; p.Field != "spec.addresses[0]" || p.Condition != ConditionAccepted || p.Reason != ReasonInvalidAddresses {
				t.Errorf("problem %+v", p)
			}
		})
	}
}

func TestEveryFaultOfAPoolIsReported(t *testing.T) {
	_, problems := New(Resources{Pools: []*v1beta1.IPAddressPool{pool("p", 0, "junk", "192.0.2.0/24", "224.0.0.0/8"), pool("empty", 0)}})
	var fields []string
	for _, p := range problems {
		fields = append(fields, p.Name+" "+p.Field)
	}
	if want := []string{"empty spec.addresses", "p spec.addresses[0]", "p spec.addresses[2]"}; !slices.Equal(fields, want) {
		t.Errorf("problems at %q, want %q", fields, want)
	}
}

func TestOfTwoPoolsThatOverlapTheOlderStays(t *testing.T) {
	cfg, problems := New(Resources{Pools: []*v1beta1.IPAddressPool{
		pool("a-newer", time.Hour, "192.0.2.128-192.0.3.5"),
		pool("b-older", 2*time.Hour, "192.0.2.0/24"),
	}})
	if _, ok := cfg.Pool("b-older"); !ok {
		t.Error("the older pool is not in force")
	}
	if _, ok := cfg.Pool("a-newer"); ok {
		t.Error("the newer pool is in force")
	}
	if len(problems) != 1 || problems[0].Reason != ReasonOverlap || !strings.Contains(problems[0].Message, "b-older") {
		t.Errorf("problems %v", problems)
	}
	if p, ok := cfg.PoolOf(netip.MustParseAddr("192.0.2.200")); !ok || p.Name != "b-older" {
		t.Errorf("192.0.2.200 is in pool %q, %v", p.Name, ok)
	}
	if p, ok := cfg.PoolOf(netip.MustParseAddr("192.0.3.1")); ok {
		t.Errorf("192.0.3.1 is in pool %q", p.Name)
	}
}

func TestWhatAnAdvertisementSelects(t *testing.T) {
	cfg, problems := New(Resources{
		Pools: []*v1beta1.IPAddressPool{pool("lan", 0, "192.0.2.0/24"), pool("dmz", 0, "203.0.113.0/24")},
		L2Advertisements: []*v1beta1.L2Advertisement{
			advertisement("all", v1beta1.L2AdvertisementSpec{}),
			advertisement("lan-rack1", v1beta1.L2AdvertisementSpec{
				IPAddressPools: []string{"lan", "missing"},
				NodeSelectors:  []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": "1"}}},
				Interfaces:     []string{"eth1", "eth0"},
			}),
			advertisement("bad", v1beta1.L2AdvertisementSpec{
				NodeSelectors: []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Near"}}}},
			}),
		},
	})
	if len(cfg.L2Advertisements) != 2 {
		t.Fatalf("%d advertisements in force, want 2", len(cfg.L2Advertisements))
	}
	all, rack1 := cfg.L2Advertisements[0], cfg.L2Advertisements[1]
	rack := func(r string) labels.Set { return labels.Set{"rack": r} }
	for _, c := range []struct {
		what string
		got  bool
		want bool
	}{
		{"an empty spec selects every pool", all.SelectsPool("dmz"), true},
		{"an empty spec selects every node", all.SelectsNode(nil), true},
		{"a named pool is selected", rack1.SelectsPool("lan"), true},
		{"another is not", rack1.SelectsPool("dmz"), false},
		{"a node that matches is selected", rack1.SelectsNode(rack("1")), true},
		{"a node that does not match is not", rack1.SelectsNode(rack("2")), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v", c.what, c.got)
		}
	}
	if want := []string{"eth0", "eth1"}; !slices.Equal(rack1.Interfaces, want) {
		t.Errorf("interfaces %q, want %q", rack1.Interfaces, want)
	}
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprint(p.Name, " ", p.Condition, " ", p.Reason))
	}
	if want := []string{"bad Accepted InvalidSelector", "lan-rack1 ResolvedRefs PoolNotFound"}; !slices.Equal(got, want) {
		t.Errorf("problems %q, want %q", got, want)
	}
}

func TestTheOrderOfTheInputDoesNotMatter(t *testing.T) {
	in := Resources{
		Pools: []*v1beta1.IPAddressPool{
			pool("a", 0, "192.0.2.0/25"), pool("b", 0, "192.0.2.64/26"), pool("c", time.Hour, "192.0.2.100-192.0.2.101"),
			pool("d", 0, "junk"), pool("e", 0, "2001:db8::/64"),
		},
		L2Advertisements: []*v1beta1.L2Advertisement{
			advertisement("x", v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"e", "a"}}),
			advertisement("y", v1beta1.L2AdvertisementSpec{}),
		},
	}
	want, wantProblems := New(in)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		rng.Shuffle(len(in.Pools), func(i, j int) { in.Pools[i], in.Pools[j] = in.Pools[j], in.Pools[i] })
		rng.Shuffle(len(in.L2Advertisements), func(i, j int) {
			in.L2Advertisements[i], in.L2Advertisements[j] = in.L2Advertisements[j], in.L2Advertisements[i]
		})
		got, gotProblems := New(in)
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(gotProblems, wantProblems) {
			t.Fatalf("another order gave another answer:\n%+v\n%+v", got, want)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"192.0.2.0/24", "192.0.2.1-192.0.2.9", "2001:db8::/64", "::ffff:1.2.3.4/128", "-", "fe80::1%a-fe80::2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRange(s)
		if err != nil {
			return
		}
		if !r.IsValid() || r.From().Zone() != "" || r.From().Is4In6() {
			t.Errorf("ParseRange(%q) = %v", s, r)
		}
		if again, err := ParseRange(r.String()); err != nil || again != r {
			t.Errorf("ParseRange(%q) = %v; read again: %v, %v", s, r, again, err)
		}
	})
}
