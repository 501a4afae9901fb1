package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// everything selects every object of a resource.
var everything = fields.Everything()

// Services watches the Services of type LoadBalancer in all namespaces. A Service that changes to another type is
// seen as deleted.
func (c *Client) Services() cache.SharedIndexInformer {
	return informer(c.core, "services", "", &corev1.Service{},
		fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer)))
}

// EndpointSlices watches the EndpointSlices of all namespaces.
func (c *Client) EndpointSlices() cache.SharedIndexInformer {
	return informer(c.discovery, "endpointslices", "", &discoveryv1.EndpointSlice{}, everything)
}

// Nodes watches the cluster's nodes.
func (c *Client) Nodes() cache.SharedIndexInformer {
	return informer(c.core, "nodes", "", &corev1.Node{}, everything)
}

// Namespaces watches the namespaces. The cache keeps their labels and nothing else.
func (c *Client) Namespaces() cache.SharedIndexInformer {
	inf := informer(c.core, "namespaces", "", &corev1.Namespace{}, everything)
	must(inf.SetTransform(func(obj any) (any, error) {
		if ns, ok := obj.(*corev1.Namespace); ok {
			return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns.Name, UID: ns.UID, ResourceVersion: ns.ResourceVersion, Labels: ns.Labels}}, nil
		}
		return obj, nil
	}))
	return inf
}

// GossipSecret watches the speakers' Secret in a namespace.
func (c *Client) GossipSecret(namespace string) cache.SharedIndexInformer {
	return informer(c.core, "secrets", namespace, &corev1.Secret{},
		fields.OneTermEqualSelector("metadata.name", GossipSecret))
}

// Secrets watches those of a namespace.
func (c *Client) Secrets(namespace string) cache.SharedIndexInformer {
	return informer(c.core, "secrets", namespace, &corev1.Secret{}, fields.Everything())
}

// informer watches one resource, in one namespace or, when that is empty, in all. It never resyncs: a handler hears
// of changes and of nothing else.
func informer(client rest.Interface, resource, namespace string, example runtime.Object, selector fields.Selector) cache.SharedIndexInformer {
	inf := cache.NewSharedIndexInformer(
		cache.ToListWatcherWithWatchListSemantics(reconnecting(cache.NewListWatchFromClient(client, resource, namespace, selector), resource), client),
		example, 0,
		cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	must(inf.SetTransform(dropManagedFields))
	return inf
}

// must is for what fails only once an informer runs.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// dropManagedFields forgets what no part of Herald reads and what makes up most of an object's size.
func dropManagedFields(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

// Run starts informers and waits until each has read its resource once. They stop when ctx is done. When ctx ends
// first, the error is ctx's.
func Run(ctx context.Context, informers ...cache.SharedIndexInformer) error {
	synced := make([]cache.InformerSynced, 0, len(informers))
	for _, inf := range informers {
		go inf.Run(ctx.Done())
		synced = append(synced, inf.HasSynced)
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return fmt.Errorf("read the cluster's state: %w", context.Cause(ctx))
	}
	return nil
}
