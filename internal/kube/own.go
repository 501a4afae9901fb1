package kube

import (
	"context"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"

	"heraldlb.io/herald/api/v1beta1"
)

// The resources that speakers write.
const (
	ResourceSpeakers           = "speakers"
	ResourceAnnouncementSlices = "announcementslices"
)

// speakerManager is the owner that the API server notes for the fields that speakers write.
const speakerManager = "herald-speaker"

// Speakers watches what speakers say of themselves.
func (c *Client) Speakers() cache.SharedIndexInformer {
	return informer(c.Herald, ResourceSpeakers, "", &v1beta1.Speaker{}, everything)
}

// AnnouncementSlices watches what speakers announce.
func (c *Client) AnnouncementSlices() cache.SharedIndexInformer {
	return informer(c.Herald, ResourceAnnouncementSlices, "", &v1beta1.AnnouncementSlice{}, everything)
}

// ownObjects are the objects that a speaker writes of itself: as a cache shows them or, where that lags, as they were
// written last.
type ownObjects struct {
	client       *Client
	node         string
	writes       *prometheus.CounterVec
	foreign      func() // somebody else wrote or deleted one
	speakerCache cache.SharedIndexInformer
	sliceCache   cache.SharedIndexInformer

	mu      sync.Mutex
	written map[string]ownObject // by resource and name; one that was deleted is not there
}

type ownObject interface {
	metav1.Object
	runtime.Object
}

func newOwnObjects(c *Client, node string, reg prometheus.Registerer, foreign func()) *ownObjects {
	o := &ownObjects{
		client: c, node: node, foreign: foreign, written: map[string]ownObject{},
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_report_writes_total",
			Help: "Writes of this node's Speaker and AnnouncementSlices by resource and result: ok, conflict (tried again with the newer object), error (tried again later).",
		}, []string{"resource", "result"}),
		speakerCache: informer(c.Herald, ResourceSpeakers, "", &v1beta1.Speaker{}, fields.OneTermEqualSelector("metadata.name", node)),
		sliceCache:   informer(c.Herald, ResourceAnnouncementSlices, "", &v1beta1.AnnouncementSlice{}, fields.OneTermEqualSelector("nodeName", node)),
	}
	reg.MustRegister(o.writes)
	for _, resource := range []string{ResourceSpeakers, ResourceAnnouncementSlices} {
		o.writes.WithLabelValues(resource, "ok")
	}
	return o
}

// run follows the objects until ctx is done, and returns once all have been read. An error is ctx's.
func (o *ownObjects) run(ctx context.Context) error {
	for _, i := range []cache.SharedIndexInformer{o.speakerCache, o.sliceCache} {
		_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    o.seen,
			UpdateFunc: func(_, obj any) { o.seen(obj) },
			DeleteFunc: o.gone,
		})
		must(err)
	}
	return Run(ctx, o.speakerCache, o.sliceCache)
}

func (o *ownObjects) seen(obj any) {
	if own, ok := obj.(ownObject); ok && o.newer(own) {
		o.foreign()
	}
}

// newer tells whether an object is newer than what was written last.
func (o *ownObjects) newer(obj ownObject) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	last, ok := o.written[pathOf(obj)]
	return !ok || Newer(obj, last)
}

func (o *ownObjects) gone(obj any) {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	own, ok := obj.(ownObject)
	if !ok {
		return
	}
	o.mu.Lock()
	last, ours := o.written[pathOf(own)]
	ours = ours && last.GetUID() == own.GetUID()
	if ours {
		delete(o.written, pathOf(own))
	}
	o.mu.Unlock()
	if ours {
		o.foreign()
	}
}

// pathOf is the resource and the name of an object.
func pathOf(obj ownObject) string { return resourceOf(obj) + "/" + obj.GetName() }

func resourceOf(obj ownObject) string {
	if _, ok := obj.(*v1beta1.Speaker); ok {
		return ResourceSpeakers
	}
	return ResourceAnnouncementSlices
}

// speaker returns this node's Speaker, nil when there is none.
func (o *ownObjects) speaker() *v1beta1.Speaker {
	for _, s := range newest[*v1beta1.Speaker](o, o.speakerCache) {
		return s
	}
	return nil
}

// slices returns this node's slices.
func (o *ownObjects) slices() []*v1beta1.AnnouncementSlice {
	return newest[*v1beta1.AnnouncementSlice](o, o.sliceCache)
}

// newest returns what a cache shows, and what was written since.
func newest[T ownObject](o *ownObjects, informer cache.SharedIndexInformer) (out []T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	shown := map[string]bool{}
	reached := informer.GetStore().LastStoreSyncResourceVersion() // before the list is read, which shows this or more
	for _, obj := range listed[T](informer) {
		shown[obj.GetName()] = true
		if last, ok := o.written[pathOf(obj)].(T); ok && Newer(last, obj) {
			obj = last
		}
		out = append(out, obj)
	}
	for _, last := range o.written {
		if obj, ok := last.(T); ok && !shown[obj.GetName()] && !past(reached, obj) {
			out = append(out, obj)
		}
	}
	return out
}

// past tells whether a cache that has reached a version has seen an object come, and so, if it does not show the object, go.
func past(reached string, obj ownObject) bool {
	order, err := resourceversion.CompareResourceVersion(reached, obj.GetResourceVersion())
	return err == nil && order >= 0
}

// create returns the write that creates an object, and gives it what the next write of it needs.
func (o *ownObjects) create(obj ownObject) func(context.Context) error {
	return func(ctx context.Context) error {
		into := obj.DeepCopyObject().(ownObject)
		err := o.client.Herald.Post().Resource(resourceOf(obj)).Param("fieldManager", speakerManager).Body(obj).Do(ctx).Into(into)
		if err != nil {
			return o.failed(obj, "create", err)
		}
		o.wrote(into)
		obj.SetUID(into.GetUID())
		obj.SetResourceVersion(into.GetResourceVersion())
		return nil
	}
}

// update returns the write that makes a slice what obj is, or a Speaker's status.
func (o *ownObjects) update(obj ownObject) func(context.Context) error {
	return func(ctx context.Context) error {
		into := obj.DeepCopyObject().(ownObject)
		req := o.client.Herald.Put().Resource(resourceOf(obj)).Name(obj.GetName()).Param("fieldManager", speakerManager)
		if resourceOf(obj) == ResourceSpeakers {
			req = req.SubResource("status")
		}
		if err := req.Body(obj).Do(ctx).Into(into); err != nil {
			return o.failed(obj, "write", err)
		}
		o.wrote(into)
		return nil
	}
}

// delete returns the write that deletes an object, which is no error when it is gone.
func (o *ownObjects) delete(obj ownObject) func(context.Context) error {
	return func(ctx context.Context) error {
		uid := obj.GetUID()
		err := o.client.Herald.Delete().Resource(resourceOf(obj)).Name(obj.GetName()).
			Body(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}).Do(ctx).Error()
		if err != nil && !apierrors.IsNotFound(err) {
			return o.failed(obj, "delete", err)
		}
		o.forget(obj)
		o.writes.WithLabelValues(resourceOf(obj), "ok").Inc()
		return nil
	}
}

func (o *ownObjects) wrote(obj ownObject) {
	obj.SetManagedFields(nil)
	o.mu.Lock()
	o.written[pathOf(obj)] = obj
	o.mu.Unlock()
	o.writes.WithLabelValues(resourceOf(obj), "ok").Inc()
	if past(o.cacheOf(obj).GetStore().LastStoreSyncResourceVersion(), obj) {
		o.foreign() // the answer came after the news, which may have been of its deletion too
	}
}

func (o *ownObjects) cacheOf(obj ownObject) cache.SharedIndexInformer {
	if resourceOf(obj) == ResourceSpeakers {
		return o.speakerCache
	}
	return o.sliceCache
}

func (o *ownObjects) forget(obj ownObject) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.written, pathOf(obj))
}

func (o *ownObjects) failed(obj ownObject, what string, err error) error {
	result := "error"
	if outdated(err) {
		result = "conflict"
		o.forget(obj) // the cache knows better, or will
	}
	o.writes.WithLabelValues(resourceOf(obj), result).Inc()
	return fmt.Errorf("%s %s: %w", what, pathOf(obj), err)
}

// outdated tells whether a write failed because the object is not what it was taken for.
func outdated(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}
