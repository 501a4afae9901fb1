package ipam

import (
	"fmt"
	"strings"

	"heraldlb.io/herald/internal/service"
)

// Reason says in one CamelCase word why a Service did not get an address.
type Reason string

const (
	// NoPools: no pool is in force.
	NoPools Reason = "NoPools"
	// FamilyUnavailable: no pool has addresses of a family that the Service wants.
	FamilyUnavailable Reason = "FamilyUnavailable"
	// PoolExhausted: every pool that has addresses of the family has given them all away.
	PoolExhausted Reason = "PoolExhausted"
)

// The reasons of an Unseated address.
const (
	// AddressInUse: another Service has it.
	AddressInUse Reason = "AddressInUse"
	// PoolGone: no pool has it, and the pool it came from is gone.
	PoolGone Reason = "PoolGone"
	// ExtraAddress: the Service has another one of this family, and gets one of each.
	ExtraAddress Reason = "ExtraAddress"
)

// Refusal says why a Service did not get all it asked for.
type Refusal struct {
	Reason Reason
	// Message is a clause that names each pool that was passed over, says why, and what would help. It depends on the
	// pools' configuration only, so it is the same for as long as the refusal stands.
	Message string
}

// poolsNamed is how many pools a message names one by one. A condition may hold 32 KiB, an event 1 KiB, and nobody
// reads more names than this.
const poolsNamed = 8

// refusal returns why what is missing cannot all be had, nil when it can.
func (a *Allocator) refusal(req service.Request, missing [families]bool) *Refusal {
	if len(req.Families) == 0 {
		return &Refusal{Reason: FamilyUnavailable, Message: "the Service names no IP family in spec.ipFamilies"}
	}
	var first *Refusal
	for _, name := range req.Families {
		f := familyOf(name)
		switch {
		case !missing[f] || a.open[f].first() >= 0:
		case first == nil:
			first = a.full[f]
		case first != a.full[f] && first.Reason != NoPools:
			return &Refusal{Reason: first.Reason, Message: first.Message + "; " + a.full[f].Message}
		}
	}
	return first
}

// explain says why no pool has a free address of a family, for whenever that is so.
func (a *Allocator) explain(f family) *Refusal {
	inForce, withFamily := 0, 0
	var passed []string
	for _, p := range a.pools {
		why := ""
		switch {
		case p.total[ipv4].Sign() == 0 && p.total[ipv6].Sign() == 0:
			why = "not in force, see its condition Accepted"
		case p.total[f].Sign() == 0:
			inForce++
			why = fmt.Sprintf("has no %s addresses", familyNames[f])
		default:
			inForce++
			withFamily++
			why = fmt.Sprintf("all its %v %s addresses are in use", p.total[f], familyNames[f])
		}
		if len(passed) < poolsNamed {
			passed = append(passed, fmt.Sprintf("pool %s: %s", p.name, why))
		}
	}
	if more := len(a.pools) - len(passed); more > 0 {
		passed = append(passed, fmt.Sprintf("and %d more pools", more))
	}
	tried := strings.Join(passed, ", ")
	switch {
	case len(a.pools) == 0:
		return &Refusal{NoPools, "there is no IPAddressPool: create one"}
	case inForce == 0:
		return &Refusal{NoPools, "no IPAddressPool is in force: " + tried}
	case withFamily == 0:
		return &Refusal{FamilyUnavailable, fmt.Sprintf("no %s address: %s; add %[1]s addresses to a pool", familyNames[f], tried)}
	default:
		return &Refusal{PoolExhausted, fmt.Sprintf("no %s address: %s; add addresses to a pool or delete Services that need theirs no more", familyNames[f], tried)}
	}
}
