package config

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/api/v1beta1"
)

func matching(key string, values ...string) []metav1.LabelSelector {
	return []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: metav1.LabelSelectorOpIn, Values: values}}}}
}

func TestWhichServicesAPoolIsFor(t *testing.T) {
	const yes, no, open = "selected", "passed over", "open"
	for _, c := range []struct {
		name      string
		pool      *v1beta1.ServiceAllocation
		namespace string
		labels    labels.Set // of the namespace
		service   labels.Set
		want      string
	}{
		{"a pool without serviceAllocation is open to all", nil, "web", nil, nil, open},
		{"a priority alone restricts nobody", &v1beta1.ServiceAllocation{Priority: 5}, "web", nil, nil, open},
		{"a named namespace is selected", &v1beta1.ServiceAllocation{Namespaces: []string{"web", "app"}}, "web", nil, nil, yes},
		{"another namespace is not", &v1beta1.ServiceAllocation{Namespaces: []string{"web", "app"}}, "db", nil, nil, no},
		{"a namespace whose labels match is selected", &v1beta1.ServiceAllocation{NamespaceSelectors: matching("team", "a")}, "x", labels.Set{"team": "a"}, nil, yes},
		{"a selector that matches no namespace selects nobody", &v1beta1.ServiceAllocation{NamespaceSelectors: matching("team", "a")}, "x", labels.Set{"team": "b"}, nil, no},
		{"a name is enough where a selector does not match", &v1beta1.ServiceAllocation{Namespaces: []string{"web"}, NamespaceSelectors: matching("team", "a")}, "web", nil, nil, yes},
		{"a selector is enough where the name differs", &v1beta1.ServiceAllocation{Namespaces: []string{"web"}, NamespaceSelectors: matching("team", "a")}, "x", labels.Set{"team": "a"}, nil, yes},
		{"a Service whose labels match is selected from any namespace", &v1beta1.ServiceAllocation{ServiceSelectors: matching("tier", "edge")}, "x", nil, labels.Set{"tier": "edge"}, yes},
		{"a selector that matches no Service selects nobody", &v1beta1.ServiceAllocation{ServiceSelectors: matching("tier", "edge")}, "x", nil, nil, no},
		{"the second of two selectors is enough", &v1beta1.ServiceAllocation{ServiceSelectors: append(matching("tier", "edge"), matching("app", "dns")...)}, "x", nil, labels.Set{"app": "dns"}, yes},
		{"with both, the namespace alone is not enough", &v1beta1.ServiceAllocation{Namespaces: []string{"web"}, ServiceSelectors: matching("tier", "edge")}, "web", nil, nil, no},
		{"with both, the Service alone is not enough", &v1beta1.ServiceAllocation{Namespaces: []string{"web"}, ServiceSelectors: matching("tier", "edge")}, "x", nil, labels.Set{"tier": "edge"}, no},
		{"with both, both select", &v1beta1.ServiceAllocation{Namespaces: []string{"web"}, ServiceSelectors: matching("tier", "edge")}, "web", nil, labels.Set{"tier": "edge"}, yes},
		{"the empty selector matches everybody", &v1beta1.ServiceAllocation{ServiceSelectors: []metav1.LabelSelector{{}}}, "x", nil, nil, yes},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := pool("p", 0, "192.0.2.0/24")
			in.Spec.ServiceAllocation = c.pool
			cfg, problems := New(Resources{Pools: []*v1beta1.IPAddressPool{in}})
			p, ok := cfg.Pool("p")
			if !ok || len(problems) > 0 {
				t.Fatalf("the pool was not accepted: %v", problems)
			}
			got := open
			switch selected, restricted := p.Selects(c.namespace, c.labels, c.service); {
			case selected:
				got = yes
			case restricted:
				got = no
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestWhatAPoolExcludesIsNotItsOwn(t *testing.T) {
	lan := pool("lan", time.Hour, "192.0.2.0/24", "2001:db8::/64")
	lan.Spec.Exclude = []string{"192.0.2.1", "192.0.2.128/25", " 2001:db8:: - 2001:db8::ff ", "203.0.113.0/24"}
	half := pool("half", 0, "192.0.2.128/25")
	cfg, problems := New(Resources{Pools: []*v1beta1.IPAddressPool{lan, half}})
	if len(problems) > 0 {
		t.Fatalf("problems %v", problems)
	}
	for addr, want := range map[string]string{
		"192.0.2.0": "lan", "192.0.2.1": "", "192.0.2.2": "lan", "192.0.2.127": "lan", "192.0.2.128": "half", "192.0.2.255": "half",
		"192.0.3.0": "", "2001:db8::ff": "", "2001:db8::100": "lan", "203.0.113.1": "",
	} {
		if p, _ := cfg.PoolOf(netip.MustParseAddr(addr)); p.Name != want {
			t.Errorf("%s is of pool %q, want %q", addr, p.Name, want)
		}
	}
}

func TestAPoolThatIsRefusedIsStillThere(t *testing.T) {
	bad := pool("bad", 0, "junk")
	bad.Labels = map[string]string{"site": "a"}
	cfg, _ := New(Resources{
		Pools:            []*v1beta1.IPAddressPool{bad, pool("lan", 0, "192.0.2.0/24")},
		L2Advertisements: []*v1beta1.L2Advertisement{advertisement("a", v1beta1.L2AdvertisementSpec{IPAddressPoolSelectors: matching("site", "a")})},
	})
	if !cfg.HasPool("bad") || !cfg.HasPool("lan") || cfg.HasPool("other") {
		t.Errorf("bad: %v, lan: %v, other: %v", cfg.HasPool("bad"), cfg.HasPool("lan"), cfg.HasPool("other"))
	}
	if a := cfg.L2Advertisements[0]; !a.SelectsPool("bad") || a.SelectsPool("lan") {
		t.Errorf("pools announced: %q", a.Pools)
	}
}

func TestWhatAPoolMayNotAsk(t *testing.T) {
	number := func(n int32) *int32 { return &n }
	for _, c := range []struct {
		name          string
		edit          func(*v1beta1.IPAddressPoolSpec)
		field, reason string
	}{
		{"an exclude that is no address", func(s *v1beta1.IPAddressPoolSpec) { s.Exclude = []string{"192.0.2.7", "junk"} }, "spec.exclude[1]", ReasonInvalidAddresses},
		{"everything excluded", func(s *v1beta1.IPAddressPoolSpec) { s.Exclude = []string{"192.0.0.0/16"} }, "spec.exclude", ReasonInvalidAddresses},
		{"an empty list of excludes", func(s *v1beta1.IPAddressPoolSpec) { s.Exclude = []string{} }, "spec.exclude", ReasonInvalidValue},
		{"a quota of none", func(s *v1beta1.IPAddressPoolSpec) { s.NamespaceQuota = number(0) }, "spec.namespaceQuota", ReasonInvalidValue},
		{"a negative priority", func(s *v1beta1.IPAddressPoolSpec) { s.ServiceAllocation = &v1beta1.ServiceAllocation{Priority: -1} }, "spec.serviceAllocation.priority", ReasonInvalidValue},
		{"an empty list of namespaces", func(s *v1beta1.IPAddressPoolSpec) {
			s.ServiceAllocation = &v1beta1.ServiceAllocation{Namespaces: []string{}}
		}, "spec.serviceAllocation.namespaces", ReasonInvalidValue},
		{"an empty list of selectors", func(s *v1beta1.IPAddressPoolSpec) {
			s.ServiceAllocation = &v1beta1.ServiceAllocation{ServiceSelectors: []metav1.LabelSelector{}}
		}, "spec.serviceAllocation.serviceSelectors", ReasonInvalidValue},
		{"a selector without values", func(s *v1beta1.IPAddressPoolSpec) {
			s.ServiceAllocation = &v1beta1.ServiceAllocation{NamespaceSelectors: matching("team")}
		}, "spec.serviceAllocation.namespaceSelectors[0]", ReasonInvalidSelector},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool("p", 0, "192.0.2.0/24")
			c.edit(&p.Spec)
			cfg, problems := New(Resources{Pools: []*v1beta1.IPAddressPool{p}})
			if len(cfg.Pools) > 0 || len(problems) != 1 || problems[0].Field != c.field || problems[0].Reason != c.reason {
				t.Errorf("pools %d, problems %+v; want one at %s, %s", len(cfg.Pools), problems, c.field, c.reason)
			}
		})
	}
}

func TestTheOrderInWhichPoolsAreTried(t *testing.T) {
	pools := []Pool{{Name: "a"}, {Name: "b", Priority: 20}, {Name: "c", Priority: 1}, {Name: "d"}, {Name: "e", Priority: 20}}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(pools), func(i, j int) { pools[i], pools[j] = pools[j], pools[i] })
	slices.SortFunc(pools, ComparePools)
	var got []string
	for _, p := range pools {
		got = append(got, p.Name)
	}
	if want := []string{"c", "b", "e", "a", "d"}; !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
}

// manyPools are pools of one address each, with a gap between any two.
func manyPools(n int) []*v1beta1.IPAddressPool {
	pools := make([]*v1beta1.IPAddressPool, n)
	for i := range pools {
		pools[i] = pool(fmt.Sprintf("p%05d", i), 0, fmt.Sprintf("10.%d.%d.%d/32", i>>15&255, i>>7&255, i<<1&255))
	}
	return pools
}

func TestTenThousandPools(t *testing.T) {
	const n = 10_000
	in := append(manyPools(n), pool("all", -time.Hour, "10.0.0.0/8"))
	cfg, problems := New(Resources{Pools: in})
	if len(cfg.Pools) != n || len(problems) != 1 {
		t.Fatalf("%d pools in force and problems %v; want %d and one", len(cfg.Pools), problems, n)
	}
	if m := problems[0].Message; !strings.Contains(m, "p00000, p00001, p00002, 9997 more") || len(m) > 500 {
		t.Errorf("message %q", m)
	}
	for _, p := range cfg.Pools {
		addr := p.Addresses.Ranges()[0].From()
		if got, _ := cfg.PoolOf(addr); got.Name != p.Name {
			t.Fatalf("%v is of pool %q, want %q", addr, got.Name, p.Name)
		}
		if got, ok := cfg.PoolOf(addr.Next()); ok {
			t.Fatalf("%v, between two pools, is of pool %q", addr.Next(), got.Name)
		}
	}
}

func BenchmarkPoolOf(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		cfg, _ := New(Resources{Pools: manyPools(n)})
		last := cfg.Pools[n-1].Addresses.Ranges()[0].From()
		b.Run(fmt.Sprintf("pools=%d", n), func(b *testing.B) {
			for b.Loop() {
				cfg.PoolOf(last)
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		in := Resources{Pools: manyPools(n)}
		b.Run(fmt.Sprintf("pools=%d", n), func(b *testing.B) {
			for b.Loop() {
				New(in)
			}
		})
	}
}
