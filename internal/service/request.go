package service

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The annotations with which a Service asks.
const (
	// AnnotationAddressPool names the pool that the addresses are to be from.
	AnnotationAddressPool = "heraldlb.io/address-pool"
	// AnnotationAddresses names the addresses, one of each family at most, separated by commas.
	AnnotationAddresses = "heraldlb.io/addresses"
	// AnnotationAllowSharedIP is a key of the user's choice: Services of one key may share addresses.
	AnnotationAllowSharedIP = "heraldlb.io/allow-shared-ip"
	// AnnotationAllowSharedNamespaces names the namespaces, separated by commas, with whose Services addresses may be
	// shared beside those of the Service's own; * names every one. Both sides have to name each other.
	AnnotationAllowSharedNamespaces = "heraldlb.io/allow-shared-namespaces"
)

// theirs are MetalLB's annotations that ask for the same as ours. They count where ours are absent; the first that is
// there does.
var theirs = map[string][]string{
	AnnotationAddressPool:   {"metallb.io/address-pool", "metallb.universe.tf/address-pool"},
	AnnotationAddresses:     {"metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"},
	AnnotationAllowSharedIP: {"metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"},
}

// Request is what a Service asks for, and what its status says it holds.
type Request struct {
	Key types.NamespacedName

	// Created is when the Service was made: of those that wait the oldest is served first.
	Created time.Time

	// Labels are the Service's, by which pools select it.
	Labels labels.Set

	// Families are the IP families wanted, the Service's first one first.
	Families []corev1.IPFamily

	// AllFamilies: a part of Families is of no use to the Service. When false, it wants what can be had of them.
	AllFamilies bool

	// Pool is the name of the pool asked for, empty for none.
	Pool string

	// Addresses are those asked for, of the families wanted, one of each at most.
	Addresses []netip.Addr

	// Sharing says with whom the Service would share its addresses.
	Sharing Sharing

	// Held are the addresses of status.loadBalancer.
	Held []Held

	// Fault says why the request cannot be meant as it is written, nil when it can. Then Pool and Addresses are empty,
	// so that a mistake in an annotation does not take away what the Service holds.
	Fault *Refusal
}

// Of returns what a Service asks for; false means that it is not to be served: another type, another class, or on
// its way out. class is the only load balancer class to serve; empty means Class, and Services that name none.
func Of(svc *corev1.Service, class string) (Request, bool) {
	if !OfClass(svc, class) || svc.DeletionTimestamp != nil {
		return Request{}, false
	}
	families := Families(svc)
	req := Request{
		Key:         types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name},
		Created:     svc.CreationTimestamp.Time,
		Labels:      svc.Labels,
		Families:    families,
		AllFamilies: len(families) < 2 || policy(svc) == corev1.IPFamilyPolicyRequireDualStack,
		Held:        HeldBy(svc),
	}
	var faults [3]*Refusal
	req.Pool, faults[0] = poolOf(svc)
	req.Addresses, faults[1] = addressesOf(svc, families)
	req.Sharing, faults[2] = sharingOf(svc)
	for _, fault := range faults {
		if fault != nil {
			req.Fault, req.Pool, req.Addresses = fault, "", nil
			break
		}
	}
	return req, true
}

// Address returns the address of a family that is asked for by itself, the zero Addr for none.
func (r *Request) Address(family corev1.IPFamily) netip.Addr {
	for _, a := range r.Addresses {
		if FamilyOf(a) == family {
			return a
		}
	}
	return netip.Addr{}
}

// annotation returns what a Service asks with an annotation of ours, or in its absence with one of theirs, and which
// one it is.
func annotation(svc *corev1.Service, ours string) (name, value string) {
	for _, name := range append([]string{ours}, theirs[ours]...) {
		if value, there := svc.Annotations[name]; there {
			return name, strings.TrimSpace(value)
		}
	}
	return ours, ""
}

func poolOf(svc *corev1.Service) (string, *Refusal) {
	name, value := annotation(svc, AnnotationAddressPool)
	if value != "" && len(validation.IsDNS1123Subdomain(value)) > 0 {
		return "", refuse(InvalidPool, "%s is %s, which cannot be the name of an IPAddressPool: name one pool", name, Quote(value))
	}
	return value, nil
}

// asked is an address that a Service asks for, and where it does.
type asked struct {
	addr  netip.Addr
	where string
}

// mostAddresses is one of each family.
const mostAddresses = 2

// addressesOf reads the addresses asked for, in the annotation and in spec.loadBalancerIP.
func addressesOf(svc *corev1.Service, families []corev1.IPFamily) ([]netip.Addr, *Refusal) {
	var all []asked
	name, value := annotation(svc, AnnotationAddresses)
	if n := strings.Count(value, ",") + 1; n > mostAddresses {
		return nil, refuse(TooManyAddresses, "%s asks for %d addresses, but a Service has one of each family at most: name one IPv4 and one IPv6 address", name, n)
	}
	if value != "" {
		for entry := range strings.SplitSeq(value, ",") {
			addr, fault := parse(entry, name)
			if fault != nil {
				return nil, fault
			}
			all = append(all, asked{addr, name})
		}
	}
	if ip := svc.Spec.LoadBalancerIP; ip != "" {
		addr, fault := parse(ip, "spec.loadBalancerIP")
		if fault != nil {
			return nil, fault
		}
		all = append(all, asked{addr, "spec.loadBalancerIP"})
	}
	var addrs []netip.Addr
	for i, x := range all {
		for _, y := range all[:i] {
			if FamilyOf(x.addr) == FamilyOf(y.addr) && x.addr != y.addr {
				return nil, refuse(ConflictingAddresses, "%s asks for %v and %s for %v, but a Service has one %s address: ask for one of them", y.where, y.addr, x.where, x.addr, FamilyOf(x.addr))
			}
		}
		if !slices.Contains(families, FamilyOf(x.addr)) {
			return nil, refuse(FamilyMismatch, "%s asks for %v, but the Service's IP family is %s: ask for an address of this family, or change spec.ipFamilies and spec.ipFamilyPolicy", x.where, x.addr, spell(families))
		}
		if !slices.Contains(addrs, x.addr) {
			addrs = append(addrs, x.addr)
		}
	}
	return addrs, nil
}

func parse(entry, where string) (netip.Addr, *Refusal) {
	entry = strings.TrimSpace(entry)
	addr, err := netip.ParseAddr(entry)
	switch {
	case err != nil:
		return addr, refuse(InvalidAddress, "%s asks for %s, which is no IP address: write one such as 192.0.2.1 or 2001:db8::1", where, Quote(entry))
	case addr.Zone() != "":
		return addr, refuse(InvalidAddress, "%s asks for %s, which has a zone: write the address without it", where, Quote(entry))
	case addr.Is4In6():
		return addr, refuse(InvalidAddress, "%s asks for %s, which is an IPv4-mapped IPv6 address: write %v", where, Quote(entry), addr.Unmap())
	}
	return addr, nil
}

func spell(families []corev1.IPFamily) string {
	if len(families) == 0 {
		return "not known yet"
	}
	names := make([]string, len(families))
	for i, f := range families {
		names[i] = string(f)
	}
	return strings.Join(names, " and ")
}
