package bench

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/service"
)

// BenchmarkAssign starts a controller while Services wait, and stops the time when the last one has its address: from
// the start of the process on, its caches and its Lease included. Beside it stands a bare loop that has everything in
// hand and only sends the same patches, as many at a time: no controller can be faster than that.
func BenchmarkAssign(b *testing.B) {
	b.Run("services=2000", func(b *testing.B) { benchmarkAssign(b, 2000, alone) })
	b.Run("services=200/sharing=pairs", func(b *testing.B) { benchmarkAssign(b, 200, inPairs) })
}

func benchmarkAssign(b *testing.B, n int, shape func(i int) *corev1.Service) {
	s := populate(b, n, shape)
	var bare, ours time.Duration
	var cost usage
	for b.Loop() {
		began := time.Now()
		s.loop(b, wanted)
		s.await(b, n)
		bare += time.Since(began)
		s.loop(b, nothing)
		s.await(b, 0)

		began = time.Now()
		p := start(b)
		s.await(b, n)
		ours += time.Since(began)
		cost = p.stop(b)
		s.loop(b, nothing)
		s.await(b, 0)
	}
	b.ReportMetric(0, "ns/op") // both, and what lies between them: it says nothing
	b.ReportMetric(bare.Seconds()/float64(b.N), "bare-s")
	b.ReportMetric(ours.Seconds()/float64(b.N), "controller-s")
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "controller/bare")
	b.ReportMetric(cost.cpu.Seconds(), "cpu-s")
	b.ReportMetric(cost.memory/(1<<20), "MiB")
}

// BenchmarkOneMore makes one Service beside many that have their addresses, and stops the time when it has its own.
func BenchmarkOneMore(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			s := populate(b, n, alone)
			p := start(b)
			s.await(b, n)
			for i := 0; b.Loop(); i++ {
				s.create(b, alone(n+i))
				s.await(b, n+i+1)
			}
			cost := p.stop(b)
			b.ReportMetric(cost.memory/(1<<20), "MiB")
		})
	}
}

// alone is a Service that shares with nobody.
func alone(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%05d", i)},
		Spec: corev1.ServiceSpec{
			Type:                  corev1.ServiceTypeLoadBalancer,
			Ports:                 []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
			Selector:              map[string]string{"app": fmt.Sprintf("a%05d", i)},
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
			// There are fewer node ports than Services here.
			AllocateLoadBalancerNodePorts: new(false),
		},
	}
}

// inPairs is a Service of policy Local that shares its address with its neighbor.
func inPairs(i int) *corev1.Service {
	svc := alone(i)
	svc.Annotations = map[string]string{service.AnnotationAllowSharedIP: fmt.Sprintf("pair%05d", i/2)}
	svc.Spec.Selector = map[string]string{"app": fmt.Sprintf("a%05d", i/2)}
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	svc.Spec.Ports[0].Port += int32(i % 2)
	return svc
}

// wanted is the status that the controller gives a Service, or one just like it.
func wanted(i int) kube.ServiceStatus {
	return kube.ServiceStatus{
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})},
		Pool:      pool,
		Allocated: &metav1.Condition{Status: metav1.ConditionTrue, Reason: service.ReasonAssigned, Message: fmt.Sprintf("Holds 198.18.%d.%d from pool %s", i>>8, i&255, pool)},
	}
}

func nothing(int) kube.ServiceStatus { return kube.ServiceStatus{} }

// loop brings the Services' status to what is wanted, and does nothing else.
func (s *services) loop(b *testing.B, want func(i int) kube.ServiceStatus) {
	b.Helper()
	s.each(b, s.list(), func(ctx context.Context, i int, svc *corev1.Service) error {
		patch, err := kube.ServicePatch(svc, want(i), time.Now())
		if err != nil || patch == nil {
			return err
		}
		_, err = client.PatchService(ctx, types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}, patch)
		return err
	})
}
