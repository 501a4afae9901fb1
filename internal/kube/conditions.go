package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// The resources of group heraldlb.io that have a status.
const (
	ResourceIPAddressPools   = "ipaddresspools"
	ResourceL2Advertisements = "l2advertisements"
)

// ConditionsPatch returns the merge patch of subresource status that brings an object's conditions to want, nil when
// they are that already; conditions of other types stay. A merge patch replaces the whole list, so it holds the
// object's resourceVersion and is refused (409) when the list it was made from is no longer the object's.
func ConditionsPatch(obj metav1.Object, have, want []metav1.Condition, now time.Time) ([]byte, error) {
	next := slices.Clone(have)
	changed := false
	for _, c := range want {
		c.ObservedGeneration = obj.GetGeneration()
		c.LastTransitionTime = metav1.NewTime(now)
		changed = meta.SetStatusCondition(&next, c) || changed
	}
	if !changed {
		return nil, nil
	}
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": obj.GetResourceVersion()},
		"status":   map[string]any{"conditions": next},
	})
	if err != nil {
		return nil, fmt.Errorf("make the status patch of %s: %w", obj.GetName(), err)
	}
	return data, nil
}

// PatchStatus applies a patch that ConditionsPatch made to an object of group heraldlb.io, and reads the object as
// it is then into result.
func (c *Client) PatchStatus(ctx context.Context, resource, name string, patch []byte, result runtime.Object) error {
	err := c.Herald.Patch(types.MergePatchType).Resource(resource).Name(name).SubResource("status").
		Param("fieldManager", fieldManager).Body(patch).Do(ctx).Into(result)
	if err != nil {
		return fmt.Errorf("write the status of %s %s: %w", resource, name, err)
	}
	return nil
}
