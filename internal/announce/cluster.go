package announce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/kube"
)

// Informers are the caches that a Cluster reads. It adds indexers and handlers; they must not run yet.
type Informers struct {
	Services       cache.SharedIndexInformer
	EndpointSlices cache.SharedIndexInformer
	Nodes          cache.SharedIndexInformer
	Config         kube.ConfigSource
	Secrets        cache.SharedIndexInformer // of Herald's namespace, for passwords; nil when none are read. It is not waited for
}

// NewInformers returns the informers of a speaker, which keep of each object what a Plan is made from.
func NewInformers(c *kube.Client, source kube.ConfigSource) (Informers, error) {
	i := Informers{
		Services:       c.Services(),
		EndpointSlices: c.EndpointSlices(),
		Nodes:          c.Nodes(),
		Config:         source,
	}
	for _, informer := range []cache.SharedIndexInformer{i.Services, i.EndpointSlices, i.Nodes} {
		if err := informer.SetTransform(trim); err != nil {
			return Informers{}, fmt.Errorf("trim the caches: %w", err)
		}
	}
	return i, nil
}

// Cluster is the cluster's state as the caches have it, and what of it changed since it was last looked at.
type Cluster struct {
	informers Informers
	changed   chan struct{}

	mu      sync.Mutex
	pending pending
}

// pending is what changed.
type pending struct {
	services map[types.NamespacedName]struct{} // or their EndpointSlices
	nodes    bool
	config   bool
	secrets  bool
}

// byService indexes EndpointSlices by the Service that they belong to.
const byService = "service"

// NewCluster prepares the informers. An error is a mistake in how they were made.
func NewCluster(i Informers) (*Cluster, error) {
	c := &Cluster{informers: i, changed: make(chan struct{}, 1)}
	c.pending.services = map[types.NamespacedName]struct{}{}
	err := i.EndpointSlices.AddIndexers(cache.Indexers{byService: func(obj any) ([]string, error) {
		if s, ok := obj.(*discoveryv1.EndpointSlice); ok {
			return []string{serviceOf(s).String()}, nil
		}
		return nil, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("index EndpointSlices: %w", err)
	}
	type watch struct {
		informer cache.SharedIndexInformer
		mark     func(p *pending, obj any)
	}
	watched := []watch{
		{i.Services, func(p *pending, obj any) {
			if m, err := meta.Accessor(obj); err == nil {
				p.services[types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}] = struct{}{}
			}
		}},
		{i.EndpointSlices, func(p *pending, obj any) {
			if s, ok := obj.(*discoveryv1.EndpointSlice); ok {
				p.services[serviceOf(s)] = struct{}{}
			}
		}},
		{i.Nodes, func(p *pending, _ any) { p.nodes = true }},
	}
	if i.Secrets != nil {
		watched = append(watched, watch{i.Secrets, func(p *pending, _ any) { p.secrets = true }})
	}
	for _, on := range watched {
		handler := func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			c.note(func(p *pending) { on.mark(p, obj) })
		}
		_, err := on.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    handler,
			UpdateFunc: func(_, obj any) { handler(obj) },
			DeleteFunc: handler,
		})
		if err != nil {
			return nil, fmt.Errorf("watch the cluster: %w", err)
		}
	}
	if _, err := i.Config.OnChange(func() { c.note(func(p *pending) { p.config = true }) }); err != nil {
		return nil, fmt.Errorf("watch the configuration: %w", err)
	}
	return c, nil
}

// note keeps what changed, and wakes the loop.
func (c *Cluster) note(mark func(*pending)) {
	c.mu.Lock()
	mark(&c.pending)
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Ready says what of the cluster's state has not been read yet; nil when all has.
func (c *Cluster) Ready() error {
	i := c.informers
	errs := []error{i.Config.Ready()}
	for name, informer := range map[string]cache.SharedIndexInformer{"services": i.Services, "endpointslices": i.EndpointSlices, "nodes": i.Nodes} {
		if !informer.HasSynced() {
			errs = append(errs, fmt.Errorf("%s have not been read from the API server yet", name))
		}
	}
	return errors.Join(errs...)
}

// Read starts the informers and waits until all have been read once and a configuration is known. They follow the
// cluster until ctx is done.
func (c *Cluster) Read(ctx context.Context) error {
	i := c.informers
	if err := kube.Run(ctx, i.Services, i.EndpointSlices, i.Nodes); err != nil {
		return err
	}
	if err := i.Config.Run(ctx); err != nil {
		return err
	}
	if err := kube.AwaitConfig(ctx, i.Config); err != nil {
		return err
	}
	// The caches are full; the handlers may not have run yet. What is there is all news to a loop that starts.
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending.nodes, c.pending.config = true, true
	for _, obj := range i.Services.GetStore().List() {
		if svc, ok := obj.(*corev1.Service); ok {
			c.pending.services[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] = struct{}{}
		}
	}
	return nil
}

// take returns what changed since it was last called.
func (c *Cluster) take() pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending
	c.pending = pending{services: map[types.NamespacedName]struct{}{}}
	return p
}

// GossipAddr waits until the node's member of the ring can be given an address, and returns it (see gossipAddr). wait
// is told why it takes time.
func (c *Cluster) GossipAddr(ctx context.Context, node, bind string, wait func(error)) (netip.AddrPort, error) {
	for {
		addr, err := gossipAddr(bind, c.node(node))
		var pending notYet
		if !errors.As(err, &pending) {
			return addr, err
		}
		wait(fmt.Errorf("node %s: %w", node, err))
		select {
		case <-ctx.Done():
			return netip.AddrPort{}, context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// node returns the Node of this name, nil when there is none.
func (c *Cluster) node(name string) *corev1.Node {
	obj, _, _ := c.informers.Nodes.GetStore().GetByKey(name) // a thread-safe store has no error
	n, _ := obj.(*corev1.Node)
	return n
}

func (c *Cluster) nodes() []*corev1.Node {
	return list[*corev1.Node](c.informers.Nodes)
}

func (c *Cluster) resources() config.Resources { return c.informers.Config.Resources() }

func (c *Cluster) service(key types.NamespacedName) (*corev1.Service, bool) {
	obj, ok, err := c.informers.Services.GetStore().GetByKey(key.String())
	svc, isService := obj.(*corev1.Service)
	return svc, ok && err == nil && isService
}

func (c *Cluster) endpointSlices(key types.NamespacedName) []*discoveryv1.EndpointSlice {
	objs, err := c.informers.EndpointSlices.GetIndexer().ByIndex(byService, key.String())
	if err != nil {
		return nil // only when there is no such index
	}
	return cast[*discoveryv1.EndpointSlice](objs)
}

func serviceOf(s *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

func list[T any](i cache.SharedIndexInformer) []T { return cast[T](i.GetStore().List()) }

func cast[T any](objs []any) []T {
	out := make([]T, 0, len(objs))
	for _, obj := range objs {
		if t, ok := obj.(T); ok {
			out = append(out, t)
		}
	}
	return out
}
