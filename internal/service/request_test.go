package service

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func annotated(pairs ...string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			svc.Annotations[pairs[i]] = pairs[i+1]
		}
	}
}

func loadBalancerIP(ip string) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = ip }
}

var dual = families(corev1.IPFamilyPolicyRequireDualStack, v4, v6)

func TestWhichPoolAndAddressesAServiceAsksFor(t *testing.T) {
	for _, c := range []struct {
		name      string
		svc       *corev1.Service
		pool      string
		addresses string
	}{
		{"nothing", balanced(), "", ""},
		{"a pool", balanced(annotated("heraldlb.io/address-pool", "lan")), "lan", ""},
		{"a pool with MetalLB's annotation", balanced(annotated("metallb.io/address-pool", "lan")), "lan", ""},
		{"a pool with its older one", balanced(annotated("metallb.universe.tf/address-pool", "lan")), "lan", ""},
		{"ours counts before theirs", balanced(annotated("heraldlb.io/address-pool", "ours", "metallb.io/address-pool", "theirs")), "ours", ""},
		{"ours without a value counts too", balanced(annotated("heraldlb.io/address-pool", "", "metallb.io/address-pool", "theirs")), "", ""},
		{"of theirs the newer one", balanced(annotated("metallb.universe.tf/address-pool", "older", "metallb.io/address-pool", "newer")), "newer", ""},
		{"an address", balanced(annotated("heraldlb.io/addresses", "192.0.2.1")), "", "192.0.2.1"},
		{"one of each family", balanced(dual, annotated("heraldlb.io/addresses", " 2001:db8::1 , 192.0.2.1 ")), "", "2001:db8::1 192.0.2.1"},
		{"MetalLB's way", balanced(annotated("metallb.io/loadBalancerIPs", "192.0.2.1")), "", "192.0.2.1"},
		{"MetalLB's older way", balanced(annotated("metallb.universe.tf/loadBalancerIPs", "192.0.2.1")), "", "192.0.2.1"},
		{"spec.loadBalancerIP", balanced(loadBalancerIP("192.0.2.1")), "", "192.0.2.1"},
		{"the same by both", balanced(loadBalancerIP("192.0.2.1"), annotated("heraldlb.io/addresses", "192.0.2.1")), "", "192.0.2.1"},
		{"one family by each", balanced(dual, loadBalancerIP("2001:db8::1"), annotated("heraldlb.io/addresses", "192.0.2.1")), "", "192.0.2.1 2001:db8::1"},
		{"the same twice in one spelling or another", balanced(families(corev1.IPFamilyPolicySingleStack, v6), annotated("heraldlb.io/addresses", "2001:db8::1,2001:DB8:0::1")), "", "2001:db8::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, _ := Of(c.svc, "")
			var got []string
			for _, a := range req.Addresses {
				got = append(got, a.String())
			}
			if req.Fault != nil || req.Pool != c.pool || strings.Join(got, " ") != c.addresses {
				t.Errorf("pool %q, addresses %q, fault %v; want %q, %q", req.Pool, got, req.Fault, c.pool, c.addresses)
			}
		})
	}
}

func TestARequestThatContradictsItselfIsRefusedWithBothSidesNamed(t *testing.T) {
	for _, c := range []struct {
		name   string
		svc    *corev1.Service
		reason Reason
		parts  []string // of the message
	}{
		{"two addresses of one family", balanced(annotated("heraldlb.io/addresses", "192.0.2.1,192.0.2.2")), ConflictingAddresses, []string{"192.0.2.1", "192.0.2.2", "heraldlb.io/addresses"}},
		{"the annotation against spec.loadBalancerIP", balanced(loadBalancerIP("192.0.2.2"), annotated("metallb.io/loadBalancerIPs", "192.0.2.1")), ConflictingAddresses,
			[]string{"metallb.io/loadBalancerIPs asks for 192.0.2.1", "spec.loadBalancerIP for 192.0.2.2"}},
		{"a family that the Service does not have", balanced(annotated("heraldlb.io/addresses", "2001:db8::1")), FamilyMismatch, []string{"2001:db8::1", "IPv4"}},
		{"the same by spec.loadBalancerIP", balanced(families(corev1.IPFamilyPolicySingleStack, v6), loadBalancerIP("192.0.2.1")), FamilyMismatch, []string{"192.0.2.1", "IPv6"}},
		{"a word for an address", balanced(annotated("heraldlb.io/addresses", "any")), InvalidAddress, []string{`"any"`, "heraldlb.io/addresses"}},
		{"a prefix for an address", balanced(annotated("heraldlb.io/addresses", "192.0.2.0/24")), InvalidAddress, []string{`"192.0.2.0/24"`}},
		{"a name for spec.loadBalancerIP", balanced(loadBalancerIP("lb.example.com")), InvalidAddress, []string{"spec.loadBalancerIP", "lb.example.com"}},
		{"an empty entry", balanced(dual, annotated("heraldlb.io/addresses", "192.0.2.1,")), InvalidAddress, []string{`""`}},
		{"a zone", balanced(dual, annotated("heraldlb.io/addresses", "fe80::1%eth0")), InvalidAddress, []string{"zone"}},
		{"an IPv4-mapped address", balanced(dual, annotated("heraldlb.io/addresses", "::ffff:192.0.2.1")), InvalidAddress, []string{"write 192.0.2.1"}},
		{"a thousand addresses", balanced(annotated("heraldlb.io/addresses", strings.Repeat("192.0.2.1,", 999)+"192.0.2.1")), TooManyAddresses, []string{"1000 addresses"}},
		{"several pools", balanced(annotated("heraldlb.io/address-pool", "lan,dmz")), InvalidPool, []string{`"lan,dmz"`, "heraldlb.io/address-pool"}},
		{"garbage for a pool", balanced(annotated("metallb.io/address-pool", "\x00\x01")), InvalidPool, []string{`"\x00\x01"`, "metallb.io/address-pool"}},
		{"garbage for a namespace", balanced(annotated("heraldlb.io/allow-shared-ip", "k", "heraldlb.io/allow-shared-namespaces", "web,No Name,x x")), InvalidNamespace, []string{`"No Name"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, ours := Of(c.svc, "")
			if !ours || req.Fault == nil || req.Fault.Reason != c.reason {
				t.Fatalf("ours %v, fault %v; want %s", ours, req.Fault, c.reason)
			}
			for _, part := range c.parts {
				if !strings.Contains(req.Fault.Message, part) {
					t.Errorf("the message lacks %q: %s", part, req.Fault.Message)
				}
			}
			if req.Pool != "" || req.Addresses != nil {
				t.Errorf("it asks for pool %q and addresses %v all the same", req.Pool, req.Addresses)
			}
		})
	}
}

func TestGarbageMakesNoLongMessage(t *testing.T) {
	garbage := strings.Repeat("\xff", 200_000)
	for _, edit := range []func(*corev1.Service){
		annotated("heraldlb.io/addresses", garbage), annotated("heraldlb.io/address-pool", garbage), loadBalancerIP(garbage),
		annotated("heraldlb.io/allow-shared-ip", "k", "heraldlb.io/allow-shared-namespaces", garbage),
	} {
		req, _ := Of(balanced(edit), "")
		if req.Fault == nil || len(req.Fault.Message) > 1000 {
			t.Errorf("fault %.2000v", req.Fault)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("192.0.2.1,2001:db8::1", "lan", "k", "web,*", "192.0.2.1")
	f.Add("::ffff:1.2.3.4", ".", "", ",", "fe80::1%a")
	f.Fuzz(func(t *testing.T, addresses, pool, key, namespaces, ip string) {
		svc := balanced(dual, loadBalancerIP(ip), annotated("heraldlb.io/addresses", addresses, "heraldlb.io/address-pool", pool,
			"heraldlb.io/allow-shared-ip", key, "heraldlb.io/allow-shared-namespaces", namespaces))
		req, _ := Of(svc, "")
		if len(req.Addresses) > 2 || len(req.Addresses) == 2 && FamilyOf(req.Addresses[0]) == FamilyOf(req.Addresses[1]) {
			t.Errorf("asks for %v", req.Addresses)
		}
		if slices.ContainsFunc(req.Addresses, func(a netip.Addr) bool { return !a.IsValid() || a.Is4In6() || a.Zone() != "" }) {
			t.Errorf("asks for %v", req.Addresses)
		}
		if req.Fault != nil && (len(req.Fault.Message) > 1000 || req.Fault.Reason == "") {
			t.Errorf("fault %+v", req.Fault)
		}
	})
}
