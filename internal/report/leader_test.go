package report

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhoLeadsIsToldByTheAPIServersClock(t *testing.T) {
	// By the API server's clock, and by the leader's.
	lease := func(written, renewed time.Duration) *coordinationv1.Lease {
		holder := "herald-controller-6c9f7_KJHGF"
		at := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(d)} }
		l := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &metav1.MicroTime{Time: now.Add(renewed)}}}
		l.ManagedFields = []metav1.ManagedFieldsEntry{
			{Manager: "herald-controller", Time: at(written), FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:holderIdentity":{},"f:renewTime":{}}}`)},
			{Manager: "kubectl", Time: at(0), FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{}}}`)}, // renews nothing
		}
		return l
	}
	unnoted := lease(0, -time.Minute)
	unnoted.ManagedFields = nil
	for _, c := range []struct {
		name  string
		lease *coordinationv1.Lease
		found map[string]string
	}{
		{"none has led", nil, map[string]string{}},
		{"one that renews", lease(-2*time.Second, -2*time.Second), map[string]string{}},
		{"one whose clock is behind", lease(-2*time.Second, -time.Hour), map[string]string{
			"ClockSkew": "the clock of controller herald-controller-6c9f7 is 59m behind the API server's: times and ages are shown wrong, and nothing else depends on them"}},
		{"one whose clock is ahead", lease(-2*time.Second, time.Hour), map[string]string{
			"ClockSkew": "the clock of controller herald-controller-6c9f7 is 60m ahead of the API server's: times and ages are shown wrong, and nothing else depends on them"}},
		{"one that is dead", lease(-time.Minute, -time.Minute), map[string]string{"NoLeader": "no controller leads: the last one said so 60s ago"}},
		{"one that is dead, and its clock was ahead", lease(-time.Minute, time.Hour), map[string]string{
			"ClockSkew": "the clock of controller herald-controller-6c9f7 is 61m ahead of the API server's: times and ages are shown wrong, and nothing else depends on them",
			"NoLeader":  "no controller leads: the last one said so 60s ago"}},
		{"one that is dead, of which the API server notes nothing", unnoted, map[string]string{"NoLeader": "no controller leads: the last one said so 60s ago"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out Controllers
			found := only(func(add func(...Finding)) {
				lead(&Snapshot{Now: now, Namespace: "herald-system", Lease: c.lease}, &out, add)
			})
			for _, f := range found {
				if f.Object != "Lease/herald-system/herald-controller" || f.Message != c.found[f.Reason] {
					t.Errorf("%+v", f)
				}
			}
			if len(found) != len(c.found) {
				t.Errorf("%+v, want %v", found, c.found)
			}
			if c.lease != nil && out.Leader != "herald-controller-6c9f7" {
				t.Errorf("the leader is %q", out.Leader)
			}
		})
	}
}
