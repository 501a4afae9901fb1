package assign

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/ipam"
)

// conditionAvailable says whether a pool has an address for a new Service.
const conditionAvailable = "Available"

// The reasons of the conditions of configuration objects, beside those of package config.
const (
	reasonAccepted           = "Accepted"
	reasonResolvedRefs       = "ResolvedRefs"
	reasonAddressesAvailable = "AddressesAvailable"
	reasonFamilyExhausted    = "FamilyExhausted"
	reasonNotAccepted        = "NotAccepted"
)

// statusOf is what an object of this kind should show. The counts are a pool's.
func statusOf(kind string, problems []config.Problem, counts []ipam.Count) v1beta1.IPAddressPoolStatus {
	accepted := judge(config.ConditionAccepted, reasonAccepted, "The object is in force", problems)
	out := v1beta1.IPAddressPoolStatus{Conditions: []metav1.Condition{accepted}}
	switch kind {
	case config.KindIPAddressPool:
		out.Conditions = append(out.Conditions, available(accepted.Status, counts))
		for _, n := range counts {
			if n.Family == corev1.IPv4Protocol {
				out.IPv4 = addressCounts(n)
			} else {
				out.IPv6 = addressCounts(n)
			}
		}
	case config.KindL2Advertisement, config.KindBGPAdvertisement, config.KindBGPPeer: // the kinds that name others
		out.Conditions = append(out.Conditions, judge(config.ConditionResolvedRefs, reasonResolvedRefs, "All that the object names is in force", problems))
	}
	return out
}

func addressCounts(n ipam.Count) *v1beta1.AddressCounts {
	return &v1beta1.AddressCounts{
		Total: n.Total.String(), Assigned: int64(n.Assigned), Available: n.Available.String(), Outside: int64(n.Outside),
	}
}

// judge is a condition that is True unless a problem makes it False.
func judge(condition, good, message string, problems []config.Problem) metav1.Condition {
	c := metav1.Condition{Type: condition, Status: metav1.ConditionTrue, Reason: good, Message: message}
	var faults []string
	for _, p := range problems {
		if p.Condition != condition {
			continue
		}
		if len(faults) == 0 {
			c.Status, c.Reason = metav1.ConditionFalse, p.Reason
		}
		faults = append(faults, p.Text())
	}
	if len(faults) > 0 {
		c.Message = shorten(faults)
	}
	return c
}

// maxMessage is the API's limit for a condition's message, in bytes.
const maxMessage = 32 << 10

// shorten joins faults and keeps within what a condition may hold.
func shorten(faults []string) string {
	const most = 20
	if more := len(faults) - most; more > 0 {
		faults = append(slices.Clone(faults[:most]), fmt.Sprintf("and %d more faults", more))
	}
	text := strings.Join(faults, "; ")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "")
	}
	return text
}

// available is the condition Available of a pool with these counts. Its message changes only when a family runs out or
// has addresses again, not with every address.
func available(accepted metav1.ConditionStatus, counts []ipam.Count) metav1.Condition {
	c := metav1.Condition{Type: conditionAvailable, Status: metav1.ConditionFalse}
	if accepted != metav1.ConditionTrue {
		c.Reason, c.Message = reasonNotAccepted, "The pool is not in force: see the condition Accepted"
		return c
	}
	var exhausted []string
	for _, n := range counts {
		switch {
		case n.Free():
			c.Status = metav1.ConditionTrue
		case n.Draining:
			c.Reason, c.Message = string(ipam.PoolDraining), "The pool is draining: it serves nobody new"
			return c
		case n.Total.Sign() > 0:
			exhausted = append(exhausted, fmt.Sprintf("all %v %s addresses are in use", n.Total, n.Family))
		}
	}
	switch {
	case c.Status == metav1.ConditionFalse:
		c.Reason = string(ipam.PoolExhausted)
		c.Message = sentence(strings.Join(exhausted, ", "))
	case len(exhausted) > 0:
		c.Reason = reasonFamilyExhausted
		c.Message = sentence(strings.Join(exhausted, ", "))
	default:
		c.Reason, c.Message = reasonAddressesAvailable, "The pool has addresses for new Services"
	}
	return c
}
