package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/service"
)

// fieldManager is the owner that the API server notes for the fields Herald's controller writes.
const fieldManager = "herald-controller"

// WriteTimeout bounds one write of a leader.
const WriteTimeout = 3 * time.Second

// ServiceStatus is all that Herald writes on a Service. The zero value takes back whatever it wrote.
type ServiceStatus struct {
	// Addresses become status.loadBalancer.ingress, in this order.
	Addresses []netip.Addr
	// Pool is the value of service.AnnotationPool; empty for no annotation.
	Pool string
	// Allocated is the condition service.ConditionAllocated: its Status, Reason and Message. Nil for no condition.
	Allocated *metav1.Condition
	// Announced is the condition service.ConditionAnnounced, in the same way.
	Announced *metav1.Condition
	// OthersIngress: status.loadBalancer is not ours to write and stays as it is.
	OthersIngress bool
}

// ServicePatch returns the strategic merge patch of subresource status that gives svc this status, nil when it has
// it. The patch holds svc's resourceVersion, so the API server refuses it (409) when the Service is no longer the
// one that the status was decided on. A strategic merge patch names our conditions alone: those of others are
// neither sent nor touched.
func ServicePatch(svc *corev1.Service, want ServiceStatus, now time.Time) ([]byte, error) {
	status := map[string]any{}
	if !want.OthersIngress && !showsExactly(svc.Status.LoadBalancer.Ingress, want.Addresses) {
		status["loadBalancer"] = map[string]any{"ingress": ingress(want.Addresses)}
	}
	var conditions []any
	if c := conditionPatch(service.ConditionAllocated, service.Condition(svc), want.Allocated, now); c != nil {
		conditions = append(conditions, c)
	}
	if c := conditionPatch(service.ConditionAnnounced, service.Announced(svc), want.Announced, now); c != nil {
		conditions = append(conditions, c)
	}
	if len(conditions) > 0 {
		status["conditions"] = conditions
	}
	metadata := map[string]any{}
	if have, annotated := svc.Annotations[service.AnnotationPool]; have != want.Pool || annotated && want.Pool == "" {
		var value any // null removes it
		if want.Pool != "" {
			value = want.Pool
		}
		metadata["annotations"] = map[string]any{service.AnnotationPool: value}
	}
	if len(status) == 0 && len(metadata) == 0 {
		return nil, nil
	}
	metadata["resourceVersion"] = svc.ResourceVersion
	patch := map[string]any{"metadata": metadata}
	if len(status) > 0 {
		patch["status"] = status
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("make the status patch of Service %s/%s: %w", svc.Namespace, svc.Name, err)
	}
	return data, nil
}

// WroteIngress tells whether Herald was the last to write a Service's addresses, by what the API server noted of it. It needs the
// Service's managedFields.
func WroteIngress(svc *corev1.Service) bool {
	for _, m := range svc.ManagedFields {
		if m.Manager != fieldManager || m.Subresource != "status" || m.FieldsV1 == nil {
			continue
		}
		var owned struct {
			Status struct {
				LoadBalancer map[string]any `json:"f:loadBalancer"`
			} `json:"f:status"`
		}
		if err := json.Unmarshal(m.FieldsV1.GetRawBytes(), &owned); err != nil {
			continue
		}
		if _, ok := owned.Status.LoadBalancer["f:ingress"]; ok {
			return true
		}
	}
	return false
}

// PatchService applies a patch that ServicePatch made, and returns the Service as it is then.
func (c *Client) PatchService(ctx context.Context, key types.NamespacedName, patch []byte) (*corev1.Service, error) {
	svc, err := c.servicesOf(key.Namespace).Patch(ctx, key.Name, types.StrategicMergePatchType, patch,
		metav1.PatchOptions{FieldManager: fieldManager}, "status")
	if err != nil {
		return nil, fmt.Errorf("write the status of Service %s: %w", key, err)
	}
	svc.ManagedFields = nil
	return svc, nil
}

// GetService reads one Service from the API server, of whatever type it is.
func (c *Client) GetService(ctx context.Context, key types.NamespacedName) (*corev1.Service, error) {
	svc, err := c.servicesOf(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read Service %s: %w", key, err)
	}
	svc.ManagedFields = nil
	return svc, nil
}

func ingress(addresses []netip.Addr) []corev1.LoadBalancerIngress {
	if len(addresses) == 0 {
		return nil // null empties the list
	}
	mode := corev1.LoadBalancerIPModeVIP
	out := make([]corev1.LoadBalancerIngress, len(addresses))
	for i, a := range addresses {
		out[i] = corev1.LoadBalancerIngress{IP: a.String(), IPMode: &mode}
	}
	return out
}

func showsExactly(have []corev1.LoadBalancerIngress, want []netip.Addr) bool {
	return slices.EqualFunc(have, want, func(h corev1.LoadBalancerIngress, w netip.Addr) bool {
		return h.IP == w.String() && h.Hostname == "" && h.IPMode != nil && *h.IPMode == corev1.LoadBalancerIPModeVIP
	})
}

// conditionPatch is the entry of a strategic merge patch that makes have into want, nil when it is that already.
func conditionPatch(kind string, have, want *metav1.Condition, now time.Time) any {
	switch {
	case want == nil && have == nil:
		return nil
	case want == nil:
		return map[string]any{"$patch": "delete", "type": kind}
	case have != nil && have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message:
		return nil
	}
	next := *want
	next.Type = kind
	next.LastTransitionTime = metav1.NewTime(now)
	if have != nil && have.Status == want.Status {
		next.LastTransitionTime = have.LastTransitionTime
	}
	return next
}
