package announce

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// trim leaves of an object what a Plan is made from, for the caches of a speaker: in a large cluster they are most of its
// memory. The object is changed.
func trim(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		trimMeta(&o.ObjectMeta)
		o.Spec = corev1.ServiceSpec{
			Type: o.Spec.Type, ExternalTrafficPolicy: o.Spec.ExternalTrafficPolicy, LoadBalancerClass: o.Spec.LoadBalancerClass,
		}
	case *discoveryv1.EndpointSlice:
		name := o.Labels[discoveryv1.LabelServiceName]
		trimMeta(&o.ObjectMeta)
		o.Annotations, o.Labels = nil, map[string]string{discoveryv1.LabelServiceName: name}
		o.Ports = nil
		for i, e := range o.Endpoints {
			o.Endpoints[i] = discoveryv1.Endpoint{Conditions: e.Conditions, NodeName: e.NodeName}
		}
	case *corev1.Node:
		trimMeta(&o.ObjectMeta)
		o.Spec = corev1.NodeSpec{Unschedulable: o.Spec.Unschedulable, Taints: o.Spec.Taints}
		o.Status = corev1.NodeStatus{Conditions: o.Status.Conditions, Addresses: o.Status.Addresses}
	}
	return obj, nil
}

func trimMeta(m *metav1.ObjectMeta) {
	m.ManagedFields, m.OwnerReferences, m.Finalizers = nil, nil, nil
	delete(m.Annotations, corev1.LastAppliedConfigAnnotation)
}
