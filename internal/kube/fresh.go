package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
)

const (
	// lookEvery is how often a cache that lags is looked at.
	lookEvery = 10 * time.Millisecond
	// doubtAfter: a Service so long missing from the cache may have been deleted since it was listed; ask.
	doubtAfter = time.Second
)

// Newer tells whether a was written after b, two versions of one object.
func Newer(a, b metav1.Object) bool {
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && order > 0
}

// FreshServices waits until an informer of Services, as Services returns it, shows everything that had been written
// when it was called. A cache alone cannot promise that: a process that has just become the leader could miss
// what its predecessor wrote last, and give an address out twice.
//
// It returns the Services of other types for which marked is true, which the informer never shows.
func (c *Client) FreshServices(ctx context.Context, informer cache.SharedIndexInformer, marked func(*corev1.Service) bool) ([]*corev1.Service, error) {
	var strays []*corev1.Service
	written := map[types.NamespacedName]*metav1.ObjectMeta{}
	list := pager.New(func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return c.servicesOf(metav1.NamespaceAll).List(ctx, opts)
	})
	// Without a resourceVersion the list is the newest state, not a cache's.
	err := list.EachListItem(ctx, metav1.ListOptions{}, func(obj runtime.Object) error {
		svc := obj.(*corev1.Service)
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
			written[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] = &metav1.ObjectMeta{ResourceVersion: svc.ResourceVersion}
		} else if marked(svc) {
			strays = append(strays, svc.DeepCopy())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list all Services: %w", err)
	}
	if err := c.await(ctx, informer, written); err != nil {
		return nil, err
	}
	return strays, nil
}

// await returns once the informer shows each of the Services as it was written, or later, or it is gone.
func (c *Client) await(ctx context.Context, informer cache.SharedIndexInformer, written map[types.NamespacedName]*metav1.ObjectMeta) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	doubt := time.Now().Add(doubtAfter)
	for {
		for key, version := range written {
			obj, shown, err := informer.GetStore().GetByKey(key.String())
			if err == nil && shown && !Newer(version, obj.(*corev1.Service)) {
				delete(written, key)
			}
		}
		if len(written) == 0 {
			return nil
		}
		if time.Now().After(doubt) {
			if err := c.forgetGone(ctx, written); err != nil {
				return err
			}
			doubt = time.Now().Add(doubtAfter)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the newest state of %d Services: %w", len(written), context.Cause(ctx))
		}
	}
}

// forgetGone takes the Services off the list that exist no more, or are no longer of a type the informer shows.
func (c *Client) forgetGone(ctx context.Context, written map[types.NamespacedName]*metav1.ObjectMeta) error {
	for key := range written {
		svc, err := c.GetService(ctx, key)
		switch {
		case apierrors.IsNotFound(err):
			delete(written, key)
		case err != nil:
			return err
		case svc.Spec.Type != corev1.ServiceTypeLoadBalancer:
			delete(written, key)
		}
	}
	return nil
}
