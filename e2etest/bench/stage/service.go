package stage

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/internal/service"
)

const namespace = metav1.NamespaceDefault

// Object is a Service of one IPv4 address in front of the application: of a pool of Herald's, or, where an external address is
// given, with that one and none of Herald's business.
func Object(name, pool string, external netip.Addr) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, TargetPort: intstr.FromInt32(app.HTTPPort), Protocol: corev1.ProtocolTCP},
			{Name: "stream", Port: app.StreamPort, TargetPort: intstr.FromInt32(app.StreamPort), Protocol: corev1.ProtocolTCP},
			{Name: "echo-udp", Port: app.EchoPort, TargetPort: intstr.FromInt32(app.EchoPort), Protocol: corev1.ProtocolUDP},
		}},
	}
	if external.IsValid() {
		svc.Spec.ExternalIPs = []string{external.String()}
		return svc
	}
	svc.Annotations = map[string]string{service.AnnotationAddressPool: pool}
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
	return svc
}

// Expose creates a Service and the EndpointSlice of the same name that leads to the application.
func (s *Stage) Expose(ctx context.Context, svc *corev1.Service) error {
	if _, err := s.Kube.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return err
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: svc.Name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{s.Host(lab.CP).IPv4.String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
	}
	for _, p := range svc.Spec.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: new(p.TargetPort.IntVal), Protocol: &p.Protocol})
	}
	_, err := s.Kube.DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice, metav1.CreateOptions{})
	return err
}

// Address is the address that Herald has given a Service; the error says that there is none yet.
func (s *Stage) Address(ctx context.Context, name string) (netip.Addr, error) {
	svc, err := s.Kube.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return netip.Addr{}, err
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		return netip.ParseAddr(in.IP)
	}
	return netip.Addr{}, fmt.Errorf("service %s has no address", name)
}
