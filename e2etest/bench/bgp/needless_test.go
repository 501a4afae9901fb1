package bgp

import (
	"context"
	"errors"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/lab"
)

// unrelated are edits of configuration that are none of the router's business, with the number of the round.
const unrelated = `apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: routed, labels: {round: "%[1]d"}, annotations: {heraldlb.io/allow-release: "true"}}
spec: {addresses: [203.0.113.0/26, 203.0.113.%[2]d/32]}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed, labels: {round: "%[1]d"}}
spec: {ipAddressPools: [routed]}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: other}
spec: {ipAddressPools: [nothing], localPref: %[2]d}
---
apiVersion: heraldlb.io/v1beta1
kind: Community
metadata: {name: other}
spec: {communities: [{name: round, value: "64512:%[2]d"}]}
---
apiVersion: heraldlb.io/v1beta1
kind: BFDProfile
metadata: {name: other}
spec: {transmitInterval: %[3]d}
`

// BenchmarkNeedless does what must not bother the router: endpoints come and go while others stay, and configuration changes
// that has nothing to do with what it is told.
func BenchmarkNeedless(b *testing.B) {
	s := set(b)
	s.Ready(b)
	h := &herald{scene: s}
	address := h.begin(b, byHoldTimer) // BFD's false alarms, on a busy machine, are for BenchmarkBusy to count
	defer h.end(b)
	counters := []string{"herald_bgp_updates_sent_total", "herald_bgp_sessions_established_total"}
	count := func() (out []float64) {
		stage.Until(b, func(ctx context.Context) error {
			out = nil
			for _, name := range counters {
				n, err := s.Sum(ctx, name)
				if err != nil {
					return err
				}
				out = append(out, n)
			}
			return nil
		})
		return out
	}
	s.edit(b, 0)
	before := count()
	l := s.use(b, address, func() {
		for i := range *rounds {
			s.edit(b, i+1)
			s.churn(b, "herald")
		}
	})
	after := count()
	b.ReportMetric(float64(l.changes), "next-hop-changes")
	b.ReportMetric(after[0]-before[0], "updates")
	bench.Report(b, nil, fmt.Sprintf("%d rounds of 5 edits and 2 endpoints: %d changes of next hops, %v UPDATEs sent, %v sessions set up anew, %d of %d new connections failed, %d of %d established broken",
		*rounds, l.changes, after[0]-before[0], after[1]-before[1], l.failed, l.connections, l.broken, l.held))
}

func (s *scene) edit(b *testing.B, i int) {
	b.Helper()
	if err := s.Apply(b.Context(), fmt.Appendf(nil, unrelated, i, 100+i%50, 100+i%50)); err != nil {
		b.Fatal(err)
	}
}

// churn gives a Service a second endpoint, which is no other than the first one by its other name, and takes it away again.
func (s *scene) churn(b *testing.B, name string) {
	b.Helper()
	slices := s.Kube.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	at := s.Host(lab.CP).IPv4
	var errs []error
	for _, endpoints := range []string{
		fmt.Sprintf(`{"addresses":[%q],"conditions":{"ready":true}},{"addresses":[%q],"conditions":{"ready":true},"nodeName":"n1"}`, at, at),
		fmt.Sprintf(`{"addresses":[%q],"conditions":{"ready":true}}`, at),
	} {
		_, err := slices.Patch(b.Context(), name, types.MergePatchType, []byte(`{"endpoints":[`+endpoints+`]}`), metav1.PatchOptions{})
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
}
