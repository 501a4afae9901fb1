package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
)

// StatusPatch returns the merge patch of subresource status that brings an object's status from have to want, nil when
// it is that already. Both are a pool's; those of other kinds are the same without counts. Conditions of other types
// than want has stay. A merge patch replaces the whole list, so it holds the object's resourceVersion and is refused
// (409) when the list it was made from is no longer the object's.
func StatusPatch(obj metav1.Object, have, want v1beta1.IPAddressPoolStatus, now time.Time) ([]byte, error) {
	status := map[string]any{}
	if conditions, changed := NextConditions(obj.GetGeneration(), have.Conditions, want.Conditions, now); changed {
		status["conditions"] = conditions
	}
	if !equality.Semantic.DeepEqual(have.IPv4, want.IPv4) {
		status["ipv4"] = want.IPv4 // nil becomes null, which removes it
	}
	if !equality.Semantic.DeepEqual(have.IPv6, want.IPv6) {
		status["ipv6"] = want.IPv6
	}
	if len(status) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": obj.GetResourceVersion()},
		"status":   status,
	})
	if err != nil {
		return nil, fmt.Errorf("make the status patch of %s: %w", obj.GetName(), err)
	}
	return data, nil
}

// NextConditions returns the conditions have with those of want put in, and tells whether that changes anything. A
// condition's time moves when its status does.
func NextConditions(generation int64, have, want []metav1.Condition, now time.Time) (next []metav1.Condition, changed bool) {
	next = slices.Clone(have)
	for _, c := range want {
		c.ObservedGeneration = generation
		c.LastTransitionTime = metav1.NewTime(now)
		changed = meta.SetStatusCondition(&next, c) || changed
	}
	return next, changed
}

// PatchStatus applies a patch that StatusPatch made to an object of group heraldlb.io, and reads the object as it is
// then into result.
func (c *Client) PatchStatus(ctx context.Context, resource, name string, patch []byte, result runtime.Object) error {
	err := c.Herald.Patch(types.MergePatchType).Resource(resource).Name(name).SubResource("status").
		Param("fieldManager", fieldManager).Body(patch).Do(ctx).Into(result)
	if err != nil {
		return fmt.Errorf("write the status of %s %s: %w", resource, name, err)
	}
	return nil
}
