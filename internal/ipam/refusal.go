package ipam

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/internal/service"
)

// The reasons for which a Service does not get an address, beside those of package service.
const (
	// NoPools: no pool is in force.
	NoPools service.Reason = "NoPools"
	// NoEligiblePool: pools have addresses of the family, but none is for the Service unless it asks for it by name.
	NoEligiblePool service.Reason = "NoEligiblePool"
	// FamilyUnavailable: no pool has addresses of a family that the Service wants.
	FamilyUnavailable service.Reason = "FamilyUnavailable"
	// PoolExhausted: every pool that could serve the Service has given all its addresses away.
	PoolExhausted service.Reason = "PoolExhausted"
	// QuotaExceeded: the Service's namespace has all the addresses that the pools grant it.
	QuotaExceeded service.Reason = "QuotaExceeded"
	// PoolDraining: the pools that could serve the Service serve nobody new.
	PoolDraining service.Reason = "PoolDraining"
	// PoolNotFound: there is no pool of the name asked for.
	PoolNotFound service.Reason = "PoolNotFound"
	// PoolNotAccepted: the pool asked for is not in force.
	PoolNotAccepted service.Reason = "PoolNotAccepted"
	// PoolNotAllowed: the pool asked for does not select the Service.
	PoolNotAllowed service.Reason = "PoolNotAllowed"
	// AddressOutsidePool: the address asked for is in no pool, or not in the one asked for.
	AddressOutsidePool service.Reason = "AddressOutsidePool"
	// AddressInUse: another Service has the address.
	AddressInUse service.Reason = "AddressInUse"
	// SharingConflict: a Service of the same sharing key has the address, and something else forbids to share it.
	SharingConflict service.Reason = "SharingConflict"
)

// The other reasons of an Unseated address.
const (
	// PoolGone: no pool has it, and the pool it came from is gone.
	PoolGone service.Reason = "PoolGone"
	// ExtraAddress: the Service has another one of this family, and gets one of each.
	ExtraAddress service.Reason = "ExtraAddress"
)

// poolsNamed is how many pools a message names one by one. A condition may hold 32 KiB, an event 1 KiB, and nobody
// reads more names than this.
const poolsNamed = 8

func refuse(reason service.Reason, format string, args ...any) *service.Refusal {
	return &service.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

var noFamily = &service.Refusal{Reason: FamilyUnavailable, Message: "the Service names no IP family in spec.ipFamilies"}

// join makes one refusal of those of the families, in the Service's order.
func join(order []corev1.IPFamily, why [families]*service.Refusal) *service.Refusal {
	var all *service.Refusal
	for _, name := range order {
		switch one := why[familyOf(name)]; {
		case one == nil || one == all:
		case all == nil:
			all = one
		case one.Message != all.Message:
			return &service.Refusal{Reason: all.Reason, Message: all.Message + "; " + one.Message}
		}
	}
	return all
}

// closedTo says why a request can be served from no pool at all: the one it asks for cannot serve it. Nil when it can.
func (a *Allocator) closedTo(req *service.Request) *service.Refusal {
	if req.Pool == "" {
		return nil
	}
	p := a.byName[req.Pool]
	switch {
	case p == nil:
		return refuse(PoolNotFound, "pool %s is asked for, and there is no IPAddressPool of this name: create it, or ask for another", service.Quote(req.Pool))
	case !p.inForce:
		return refuse(PoolNotAccepted, "pool %s is asked for, and it is not in force: see its condition Accepted", p.Name)
	case !a.serves(p, req):
		return refuse(PoolNotAllowed, "pool %s is asked for, and it is not for this Service by its serviceAllocation: ask for another, or have the pool select the Service", p.Name)
	default:
		return nil
	}
}

// explain says why no pool of the choice gives the Service an address of a family. It says the same for as long as
// that is so, so the words are made once.
func (p *planner) explain(f family) *service.Refusal {
	if p.a.first(p.choice, p.a.serving[f], p.a.serving[f], p.spent, nil) != nil {
		return refuse(QuotaExceeded, "no %s address: the namespaceQuota of the only pool that has one leaves namespace %s a single address, which the other IP family needs; raise the quota, or add addresses to another pool", familyNames[f], p.req.Key.Namespace)
	}
	said := &p.choice.full[f]
	if p.spent != nil && p.a.first(p.choice, p.spent, p.spent, nil, nil) != nil {
		n := p.a.namespaces[p.req.Key.Namespace]
		of := fullOf{p.choice, f}
		if n.full[of] == nil {
			if n.full == nil {
				n.full = map[fullOf]*service.Refusal{}
			}
			n.full[of] = p.describe(f)
		}
		return n.full[of]
	}
	if *said == nil {
		*said = p.describe(f)
	}
	return *said
}

// describe goes through the pools, those of the choice first, and says of each why it was passed over.
func (p *planner) describe(f family) *service.Refusal {
	seen := map[service.Reason]bool{}
	var passed []string
	for _, one := range p.inOrder() {
		reason, why := p.passOver(one, f)
		seen[reason] = true
		if len(passed) < poolsNamed {
			passed = append(passed, fmt.Sprintf("pool %s: %s", one.Name, why))
		}
	}
	if more := len(p.a.pools) - len(passed); more > 0 && p.choice.only == nil {
		passed = append(passed, fmt.Sprintf("and %d more pools", more))
	}
	tried, name := strings.Join(passed, ", "), familyNames[f]
	switch {
	case len(p.a.pools) == 0:
		return refuse(NoPools, "there is no IPAddressPool: create one")
	case seen[PoolExhausted]:
		return refuse(PoolExhausted, "no %s address: %s; add addresses to a pool or delete Services that need theirs no more", name, tried)
	case seen[QuotaExceeded]:
		return refuse(QuotaExceeded, "no %s address: %s; raise the quota or delete Services that need theirs no more", name, tried)
	case seen[PoolDraining]:
		return refuse(PoolDraining, "no %s address: %s; end a drain or add another pool", name, tried)
	case seen[NoEligiblePool]:
		return refuse(NoEligiblePool, "no %s address: %s; ask for a pool by name, or have one select the Service", name, tried)
	case seen[FamilyUnavailable]:
		return refuse(FamilyUnavailable, "no %s address: %s; add %[1]s addresses to a pool", name, tried)
	default:
		return refuse(NoPools, "no IPAddressPool is in force: %s", tried)
	}
}

// inOrder are the pools that were considered, those of the choice first.
func (p *planner) inOrder() []*pool {
	if p.choice.only != nil {
		return []*pool{p.choice.only}
	}
	tier := func(x *pool) int {
		switch {
		case p.choice.tiers[0].has(x.rank):
			return 0
		case p.choice.tiers[1].has(x.rank):
			return 1
		default:
			return 2
		}
	}
	all := slices.Clone(p.a.pools)
	slices.SortStableFunc(all, func(x, y *pool) int { return tier(x) - tier(y) })
	return all
}

// passOver says why a pool does not serve the Service.
func (p *planner) passOver(one *pool, f family) (service.Reason, string) {
	switch name := familyNames[f]; {
	case !one.inForce:
		return NoPools, "not in force, see its condition Accepted"
	case one.total[f].Sign() == 0:
		return FamilyUnavailable, fmt.Sprintf("has no %s addresses", name)
	case !p.choice.has(one) && !one.AutoAssign:
		return NoEligiblePool, "serves only who asks for it, autoAssign is false"
	case !p.choice.has(one):
		return NoEligiblePool, "not for this Service by its serviceAllocation"
	case one.Drain:
		return PoolDraining, "draining"
	case p.spent.has(one.rank):
		return QuotaExceeded, fmt.Sprintf("namespace %s has all %d addresses of its namespaceQuota", p.req.Key.Namespace, one.NamespaceQuota)
	default:
		return PoolExhausted, fmt.Sprintf("all its %v %s addresses are in use", one.total[f], name)
	}
}
