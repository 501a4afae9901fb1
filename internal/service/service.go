// Package service reads from a Service what it asks of Herald: whether it is ours to serve, the IP families, pool and
// addresses it wants, with whom it would share them, and what it holds. It also owns the names that Herald reads and
// writes on Services, so that controller and speaker agree on them.
//
// It is pure, and it only reads: it never changes a Service and decides nothing about addresses. What a Service asks
// for and nobody could give, because it contradicts itself, is refused here; the rest is package ipam's.
package service

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Class is the spec.loadBalancerClass that means Herald.
const Class = "heraldlb.io/herald"

// AnnotationPool is written on a Service together with its addresses and names the pool they are from: one name,
// or, when each address is from a pool of its own, one name for each address, separated by commas.
const AnnotationPool = "heraldlb.io/pool"

// ConditionAllocated is the type of the condition that says whether the Service has the addresses it asks for.
const ConditionAllocated = "heraldlb.io/Allocated"

// ConditionAnnounced is the type of the condition that says whether the Service's addresses are announced, from where and
// how, or why not.
const ConditionAnnounced = "heraldlb.io/Announced"

// The reasons of ConditionAnnounced, beside those that speakers give when nobody announces an address.
const (
	// ReasonAnnounced: each address of the Service is announced.
	ReasonAnnounced = "Announced"
	// ReasonNoSession: nodes are ready to announce an address by BGP, and no router has a session with them.
	ReasonNoSession = "NoSession"
	// ReasonNodesNotReady: all nodes that announced an address by BGP are not Ready, so what they said may be of yesterday.
	ReasonNodesNotReady = "NodesNotReady"
	// ReasonObserving: speakers would announce an address, and only observe.
	ReasonObserving = "Observing"
	// ReasonNotReported: no speaker has told anything of an address.
	ReasonNotReported = "NotReported"
)

// The reasons of ConditionAllocated when it is True. When it is False the reason is package ipam's.
const (
	// ReasonAssigned: the Service has an address of each family it wants.
	ReasonAssigned = "AddressAssigned"
	// ReasonPartlyAssigned: a PreferDualStack Service has one of its two.
	ReasonPartlyAssigned = "AddressPartlyAssigned"
)

// Held is one address of a Service's status, with the pool that AnnotationPool names for it, empty for none.
type Held struct {
	Addr netip.Addr
	Pool string
}

// OfClass tells whether a Service is of type LoadBalancer and of the class, in the sense of Of.
func OfClass(svc *corev1.Service, class string) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	named := svc.Spec.LoadBalancerClass
	switch {
	case class != "":
		return named != nil && *named == class
	case named == nil:
		return true
	default:
		return *named == Class
	}
}

// arrival is the most that passes between a Service's creation and its being seen, while whoever sees it is there or has
// just taken over from another. Longer than that, the Service was of another type or class before.
const arrival = time.Minute

// WaitingSince returns since when a Service that was first seen then waits for what Herald does for it: its creation, or
// when it was seen. The API server notes creation to the second, so up to a second more is told than was.
func WaitingSince(svc *corev1.Service, seen time.Time) time.Time {
	if created := svc.CreationTimestamp.Time; created.Before(seen) && seen.Sub(created) <= arrival {
		return created
	}
	return seen
}

// Marked tells whether Herald has written its pool annotation or its condition on a Service.
func Marked(svc *corev1.Service) bool {
	_, annotated := svc.Annotations[AnnotationPool]
	return annotated || Condition(svc) != nil
}

// Condition returns the Service's ConditionAllocated, nil when there is none. It points into svc.
func Condition(svc *corev1.Service) *metav1.Condition {
	return meta.FindStatusCondition(svc.Status.Conditions, ConditionAllocated)
}

// Announced returns the Service's ConditionAnnounced, nil when there is none. It points into svc.
func Announced(svc *corev1.Service) *metav1.Condition {
	return meta.FindStatusCondition(svc.Status.Conditions, ConditionAnnounced)
}

// Families returns the families the Service wants, its first one first. The API server has made spec.ipFamilies
// fit the cluster: a PreferDualStack Service names two families exactly where the cluster has both.
func Families(svc *corev1.Service) []corev1.IPFamily {
	families := svc.Spec.IPFamilies
	if len(families) == 0 {
		families = familiesOf(svc.Spec.ClusterIPs)
	}
	if policy(svc) == corev1.IPFamilyPolicySingleStack && len(families) > 1 {
		families = families[:1]
	}
	return slices.Clone(families)
}

// HeldBy returns the addresses of the Service's status, in its order. What is not an IP address is left out.
func HeldBy(svc *corev1.Service) []Held {
	var held []Held
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(ingress.IP); err == nil {
			held = append(held, Held{Addr: a.Unmap()})
		}
	}
	annotation, annotated := svc.Annotations[AnnotationPool]
	if !annotated {
		return held
	}
	pools := strings.Split(annotation, ",")
	for i := range held {
		switch {
		case len(pools) == 1:
			held[i].Pool = pools[0]
		case i < len(pools):
			held[i].Pool = pools[i]
		}
	}
	return held
}

// PoolAnnotation is the value of AnnotationPool for addresses from these pools, given in the addresses' order.
func PoolAnnotation(pools []string) string {
	if len(slices.Compact(slices.Clone(pools))) == 1 {
		return pools[0]
	}
	return strings.Join(pools, ",")
}

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) corev1.IPFamily {
	if a.Unmap().Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func policy(svc *corev1.Service) corev1.IPFamilyPolicy {
	if svc.Spec.IPFamilyPolicy == nil {
		return corev1.IPFamilyPolicySingleStack
	}
	return *svc.Spec.IPFamilyPolicy
}

func familiesOf(clusterIPs []string) []corev1.IPFamily {
	var families []corev1.IPFamily
	for _, ip := range clusterIPs {
		if a, err := netip.ParseAddr(ip); err == nil {
			families = append(families, FamilyOf(a))
		}
	}
	return families
}
