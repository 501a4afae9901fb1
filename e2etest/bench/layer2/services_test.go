package layer2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/internal/service"
)

const (
	namespace = "default"
	label     = "bench"
	// writers is how many requests to the API server are under way at once.
	writers = 16
)

// services makes n Services with one IPv4 address each, all of them in front of the one application, and returns their
// addresses once every one is answered for. They are removed when the benchmark is over.
func (s *scene) services(b *testing.B, name string, n int, pool string) []netip.Addr {
	b.Helper()
	b.Cleanup(func() { s.remove(b, name) })
	s.each(b, n, func(ctx context.Context, i int) error {
		return s.expose(ctx, object(name, i, pool, corev1.ServiceTypeLoadBalancer))
	})
	addrs := s.assigned(b, name, n)
	s.owners(b, addrs)
	s.reachable(b, addrs[0])
	return addrs
}

// dual makes a Service with an address of each family, both of which one node has: they go to the same of two nodes that are
// preferred, and with it to the other one.
func (s *scene) dual(b *testing.B, name string) (v4, v6 netip.Addr) {
	b.Helper()
	b.Cleanup(func() { s.remove(b, name) })
	svc := object(name, 0, dualPool, corev1.ServiceTypeLoadBalancer)
	svc.Spec.IPFamilyPolicy, svc.Spec.IPFamilies = new(corev1.IPFamilyPolicyRequireDualStack), []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	if err := s.expose(b.Context(), svc); err != nil {
		b.Fatal(err)
	}
	addrs := s.assigned(b, name, 2)
	s.owners(b, addrs)
	for _, addr := range addrs {
		s.reachable(b, addr)
	}
	return addrs[0], addrs[1]
}

// assigned waits until Services have so many addresses, and returns them, sorted.
func (s *scene) assigned(b *testing.B, name string, n int) (addrs []netip.Addr) {
	b.Helper()
	stage.UntilEvery(b, time.Second, func(ctx context.Context) error { // a list of thousands is work for the cluster
		list, err := s.Kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{LabelSelector: label + "=" + name})
		if err != nil {
			return err
		}
		addrs = addrs[:0]
		for _, svc := range list.Items {
			for _, in := range svc.Status.LoadBalancer.Ingress {
				addrs = append(addrs, netip.MustParseAddr(in.IP))
			}
		}
		if len(addrs) != n {
			return fmt.Errorf("%s has %d of %d addresses", name, len(addrs), n)
		}
		return nil
	})
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// object is a Service without a selector: its endpoint is written by hand.
func object(name string, i int, pool string, kind corev1.ServiceType) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-%05d", name, i), Labels: map[string]string{label: name},
			Annotations: map[string]string{service.AnnotationAddressPool: pool},
		},
		Spec: corev1.ServiceSpec{
			Type: kind,
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, TargetPort: intstr.FromInt32(app.HTTPPort)},
				{Name: "stream", Port: app.StreamPort, TargetPort: intstr.FromInt32(app.StreamPort)},
			},
		},
	}
	if kind == corev1.ServiceTypeLoadBalancer {
		svc.Spec.AllocateLoadBalancerNodePorts = new(false) // there are fewer than Services here
	}
	return svc
}

// expose creates a Service and, for each of its families, the EndpointSlice that leads to the application.
func (s *scene) expose(ctx context.Context, svc *corev1.Service) error {
	svc, err := s.Kube.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	for _, family := range svc.Spec.IPFamilies {
		if _, err := s.Kube.DiscoveryV1().EndpointSlices(namespace).Create(ctx, s.endpoint(svc, family), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func (s *scene) endpoint(svc *corev1.Service, family corev1.IPFamily) *discoveryv1.EndpointSlice {
	addr := s.Host(lab.CP).IPv4
	if family == corev1.IPv6Protocol {
		addr = s.Host(lab.CP).IPv6
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name:   endpointsName(svc, family),
			Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name, label: svc.Labels[label]},
		},
		AddressType: discoveryv1.AddressType(family),
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addr.String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
		Ports: []discoveryv1.EndpointPort{
			{Name: new("http"), Port: new(int32(app.HTTPPort))},
			{Name: new("stream"), Port: new(int32(app.StreamPort))},
		},
	}
}

func endpointsName(svc *corev1.Service, family corev1.IPFamily) string {
	return svc.Name + "-" + strings.ToLower(string(family))
}

// remove deletes the Services of a name and waits until they are gone.
func (s *scene) remove(b *testing.B, name string) {
	if b.Failed() {
		return // the lab goes
	}
	opts := metav1.ListOptions{LabelSelector: label + "=" + name}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := s.Kube.CoreV1().Services(namespace).List(ctx, opts)
	if err != nil {
		b.Error(err)
		return
	}
	s.each(b, len(list.Items), func(ctx context.Context, i int) error {
		svc := &list.Items[i]
		var failed []error
		for _, family := range svc.Spec.IPFamilies {
			failed = append(failed, s.Kube.DiscoveryV1().EndpointSlices(namespace).Delete(ctx, endpointsName(svc, family), metav1.DeleteOptions{}))
		}
		return errors.Join(append(failed, s.Kube.CoreV1().Services(namespace).Delete(ctx, svc.Name, metav1.DeleteOptions{}))...)
	})
	stage.UntilEvery(b, time.Second, func(ctx context.Context) error {
		list, err := s.Kube.CoreV1().Services(namespace).List(ctx, opts)
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d Services are still there", len(list.Items))
		}
		return err
	})
}

// each calls f for 0 to n-1, several at a time, with patience for each.
func (s *scene) each(b *testing.B, n int, f func(ctx context.Context, i int) error) {
	b.Helper()
	g, ctx := errgroup.WithContext(context.Background()) // not the benchmark's, which has ended when this cleans up
	g.SetLimit(writers)
	for i := range n {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			return f(ctx, i)
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// owners waits until each address is answered for, and returns by whom.
func (s *scene) owners(b *testing.B, addrs []netip.Addr) map[netip.Addr]string {
	b.Helper()
	a, err := s.ask(addrs)
	if err != nil {
		b.Fatal(err)
	}
	since := time.Now()
	owners := map[netip.Addr]string{}
	until(b, func(context.Context) error {
		for _, addr := range addrs {
			if owners[addr] = a.owner(addr, since); owners[addr] == "" {
				return fmt.Errorf("nobody answers for %s", addr)
			}
		}
		return nil
	})
	if _, err := a.stop(); err != nil {
		b.Fatal(err)
	}
	return owners
}

// moved is how many addresses have another owner now.
func moved(before, after map[netip.Addr]string) (n int) {
	for addr, was := range before {
		if after[addr] != was {
			n++
		}
	}
	return n
}
