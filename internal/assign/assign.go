// Package assign is the controller's work: it gives Services of type LoadBalancer their addresses and says on every
// object what became of it. It owns the loop between what the API server shows, what package ipam decides, and
// what is written: Services' status, conditions of configuration objects, events.
//
// One goroutine, the loop, holds all state and decides; workers only carry out writes and report back. An address is
// the Service's from the moment of the decision, whether its write has succeeded yet or not, and it is free again
// only when the API server no longer shows it on the Service: a write that fails, conflicts or is late neither
// loses an address nor gives it out twice. Nothing is decided before Services, namespaces and configuration have been
// read.
//
// The package announces nothing and touches no Service that is not ours.
package assign

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/service"
)

// Options are what a Controller needs.
type Options struct {
	Client *kube.Client
	// Config is where the configuration is read from.
	Config kube.ConfigSource
	Events *kube.Events
	Logger log.Logger
	// Registry takes the controller's metrics.
	Registry prometheus.Registerer
	// Class is the only load balancer class to serve; empty means service.Class, and Services that name none.
	Class string
	// PerService has metrics about single Services too.
	PerService bool
	// Observe has the status of configuration objects tell what Services would hold, and writes no Service.
	Observe bool
}

// Controller assigns addresses. Its caches run from Start on, in followers too, so that a new leader need not read
// everything first; its loop runs in Run, in the leader only.
type Controller struct {
	client  *kube.Client
	events  *kube.Events
	logger  log.Logger
	class   string
	observe bool
	metrics *metrics

	services, namespaces cache.SharedIndexInformer
	source               kube.ConfigSource
	documents            *documents // nil when the source has objects with a status of their own
	speakers             *speakers  // nil when they write nothing, having no kinds for it

	inbox    *inbox
	desk     *desk
	reviewer *reviewer
	pause    time.Duration // reviewPause

	mu     sync.Mutex // held by the loop while it changes what follows, and by the metrics while they read it
	book   *book
	config configuration
	began  bool // everything has been read, and addresses are assigned
}

// New makes a controller.
func New(o Options) *Controller {
	c := &Controller{
		client:     o.Client,
		events:     o.Events,
		logger:     o.Logger,
		class:      o.Class,
		observe:    o.Observe,
		services:   o.Client.Services(),
		namespaces: o.Client.Namespaces(),
		source:     o.Config,
		pause:      reviewPause,
		book:       newBook(o.Class),
	}
	if source, ok := o.Config.(*kube.ConfigMapSource); ok {
		c.documents = newDocuments(o.Client, source)
	} else {
		c.speakers = newSpeakers(o.Client)
	}
	c.metrics = newMetrics(c, o.Registry, o.PerService)
	return c
}

// Start runs the caches until ctx is done, and returns when each has been read once.
func (c *Controller) Start(ctx context.Context) error {
	var reading errgroup.Group
	for _, cached := range c.caches() {
		reading.Go(func() error { return kube.Run(ctx, cached.informer) })
	}
	reading.Go(func() error { return c.source.Run(ctx) })
	if c.speakers != nil {
		c.speakers.run(ctx) // nobody waits for what they say
	}
	return reading.Wait()
}

// Ready says what has not been read yet; nil when all has.
func (c *Controller) Ready() error {
	errs := []error{c.source.Ready()}
	for _, cached := range c.caches() {
		if !cached.informer.HasSynced() {
			errs = append(errs, fmt.Errorf("%s have not been read from the API server yet", cached.resource))
		}
	}
	return errors.Join(errs...)
}

type cached struct {
	resource string
	informer cache.SharedIndexInformer
}

// caches are all but the configuration's.
func (c *Controller) caches() []cached {
	all := []cached{{resourceServices, c.services}, {resourceNamespaces, c.namespaces}}
	if c.documents != nil {
		all = append(all, cached{resourceConfigMaps, c.documents.status})
	}
	return all
}

// Run assigns addresses until ctx is done; then it waits for the writes under way. Start must have returned. Only
// one process may be in it: see kube.Client.Lead.
func (c *Controller) Run(ctx context.Context) error {
	c.reset()
	stop, err := c.listen()
	if err != nil {
		return err
	}
	defer stop()
	// A write that has begun is carried through: to stop in the middle would leave its result unknown.
	tasks, outcomes := c.desk.open(context.WithoutCancel(ctx))
	defer func() {
		close(tasks)
		for o := range outcomes {
			c.finish(o)
		}
	}()
	c.look() // where a ConfigMap is at fault, says so
	c.loop(ctx, tasks, outcomes, func() bool { return c.source.Ready() == nil })
	strays, err := c.freshServices(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	c.begin(strays)
	level.Info(c.logger).Log("msg", "assigning addresses", "services", len(c.book.entries), "observe", c.observe)
	c.metrics.leading.Set(1)
	defer c.metrics.leading.Set(0)
	c.loop(ctx, tasks, outcomes, func() bool { return false })
	return nil
}

// reset forgets what an earlier Run knew.
func (c *Controller) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inbox = newInbox()
	c.desk = newDesk(c.inbox, c.logger, c.metrics.desk)
	c.reviewer = newReviewer(c.pause)
	c.book = newBook(c.class)
	c.book.follows = c.speakers != nil
	c.config = configuration{}
	c.began = false
	if c.documents != nil {
		c.documents.restore()
	}
}

// listen has what changes put into the inbox, until stop is called.
func (c *Controller) listen() (stop func(), err error) {
	var undo []func()
	stop = func() {
		for _, f := range undo {
			f()
		}
	}
	for _, cached := range c.caches() {
		registration, err := cached.informer.AddEventHandler(c.inbox.handler(cached.resource))
		if err != nil {
			stop()
			return nil, fmt.Errorf("watch %s: %w", cached.resource, err)
		}
		undo = append(undo, func() { _ = cached.informer.RemoveEventHandler(registration) }) // no error of a registration of its own
	}
	if c.speakers != nil {
		end, err := c.speakers.listen(c.inbox)
		undo = append(undo, end)
		if err != nil {
			stop()
			return nil, err
		}
	}
	end, err := c.source.OnChange(func() { c.inbox.add(configurationSubject) })
	if err != nil {
		stop()
		return nil, err
	}
	undo = append(undo, end)
	return stop, nil
}

// freshServices waits until the cache of Services shows everything that an earlier leader wrote, and returns the
// Services of other types that still bear what Herald wrote.
func (c *Controller) freshServices(ctx context.Context) ([]*corev1.Service, error) {
	pause := firstRetry
	for {
		strays, err := c.client.FreshServices(ctx, c.services, service.Marked)
		if err == nil || ctx.Err() != nil {
			return strays, err
		}
		level.Warn(c.logger).Log("msg", "cannot start assigning addresses yet", "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastRetry)
	}
}

// begin takes in all that the caches hold.
func (c *Controller) begin(strays []*corev1.Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began = true
	c.configure()
	c.enterAll(strays)
	c.review()
	c.plan()
}

// enterAll takes in the namespaces and Services that the caches hold.
func (c *Controller) enterAll(strays []*corev1.Service) {
	for _, obj := range c.namespaces.GetStore().List() {
		ns := obj.(*corev1.Namespace)
		c.book.namespace(ns.Name, ns.Labels)
	}
	var services []*corev1.Service
	for _, obj := range c.services.GetStore().List() {
		services = append(services, obj.(*corev1.Service))
	}
	c.book.start(services, strays, time.Now())
}

// again works out anew what a controller that starts would give. One that observes does not remember what it would have
// given a moment ago: somebody else gives the addresses.
func (c *Controller) again() {
	c.configure()
	c.book = newBook(c.class)
	c.book.configure(c.config.pools)
	c.enterAll(nil)
}

// loop takes in what changed, decides, and hands out the writes, until ctx is done or what it is for is achieved.
func (c *Controller) loop(ctx context.Context, tasks chan<- task, outcomes <-chan outcome, achieved func() bool) {
	for !achieved() {
		out, next := c.desk.next(tasks)
		select {
		case <-ctx.Done():
			return
		case out <- next:
			c.desk.handedOut(next)
		case o := <-outcomes:
			c.finish(o)
		case <-c.inbox.wake:
			c.takeIn(c.inbox.take())
		case <-c.reviewer.timer.C:
			c.look()
		case <-c.speakers.tick():
			c.follow()
		}
	}
}

// takeIn looks at the objects that may have changed.
func (c *Controller) takeIn(subjects []subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.began || c.observe {
		c.reviewSoon()
		return // begin or again reads everything
	}
	configuration := false
	for _, s := range subjects {
		switch s.resource {
		case resourceServices:
			c.takeInService(s.key)
		case resourceNamespaces:
			c.book.namespace(s.key.Name, c.labelsOf(s.key.Name))
		case kube.ResourceAnnouncementSlices:
			c.speakers.look(s.key)
		case resourceNodes:
			c.speakers.lookAtNode(s.key.Name)
		case kube.ResourceSpeakers:
			c.reviewSoon()
		default:
			configuration = true
		}
	}
	if configuration {
		if c.configure() {
			c.review()
		} else {
			c.reviewSoon()
		}
	}
	c.plan()
}

// takeInService looks at a Service that may have changed.
func (c *Controller) takeInService(key types.NamespacedName) {
	obj, shown, err := c.services.GetStore().GetByKey(key.String())
	if err == nil && shown {
		c.book.observe(obj.(*corev1.Service), true, time.Now())
	} else {
		c.book.absent(key)
	}
	c.book.touch(key) // a write that failed is tried again
}

// labelsOf returns the labels of a namespace, nil when it is gone.
func (c *Controller) labelsOf(namespace string) map[string]string {
	obj, shown, err := c.namespaces.GetStore().GetByKey(namespace)
	if err != nil || !shown {
		return nil
	}
	return obj.(*corev1.Namespace).Labels
}

// look looks at the status of all configuration objects.
func (c *Controller) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began && c.observe {
		c.again()
	}
	c.review()
}

// finish takes in what became of a write.
func (c *Controller) finish(o outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o.apply()
	if c.desk.done(o) {
		if o.subject.resource == resourceServices {
			c.book.touch(o.subject.key)
		} else {
			c.reviewSoon()
		}
	}
	c.plan()
}

// plan queues a write for each Service that does not show what it should.
func (c *Controller) plan() {
	c.tellContested()
	changed := c.book.drain()
	if c.observe {
		return
	}
	for _, key := range changed {
		c.planService(key)
		c.speakers.look(key)
	}
	if len(changed) > 0 {
		c.reviewSoon() // a pool's counts may be other ones
	}
}

// planService queues what a Service needs: a question to the API server where what we know may be out of date, else
// a write if it does not show what it should.
func (c *Controller) planService(key types.NamespacedName) {
	s := subject{resourceServices, key}
	e := c.book.entries[key]
	if e == nil || e.gone || c.desk.busy(s) {
		return
	}
	if e.stale {
		c.desk.queue(task{subject: s, do: func(ctx context.Context) (func(), error) { return c.lookUp(ctx, key, e.svc.UID) }})
		return
	}
	want := c.book.desired(e)
	patch, err := kube.ServicePatch(e.svc, want, time.Now())
	if err != nil {
		level.Error(c.logger).Log("msg", "cannot say what to write", "svc", key, "err", err)
		return
	}
	if patch == nil {
		e.notes = nil
		return
	}
	if wait := e.patience(time.Now()); wait > 0 {
		time.AfterFunc(wait, func() { c.inbox.add(s) })
		return
	}
	write := serviceWrite{key: key, before: e.svc, want: want, leases: e.leases, notes: e.notes, patch: patch}
	c.desk.queue(task{subject: s, do: func(ctx context.Context) (func(), error) { return c.write(ctx, write) }})
}

// patience is how long a Service that somebody else writes addresses to has to wait for the next write.
func (e *entry) patience(now time.Time) time.Duration {
	if e.replaced == 0 {
		return 0
	}
	pause := min(firstReplacement<<min(e.replaced-1, 20), lastRetry)
	return e.replacedAt.Add(pause).Sub(now)
}

const (
	resourceServices   = "services"
	resourceNamespaces = "namespaces"
	resourceNodes      = "nodes"
)

// configurationSubject stands for the configuration as a whole.
var configurationSubject = subject{resource: "configuration"}

// reference says which Service an event is about.
func reference(svc *corev1.Service) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID, ResourceVersion: svc.ResourceVersion}
}

// allocated tells whether a condition says that a Service has all it needs.
func allocated(c *metav1.Condition) bool { return c != nil && c.Status == metav1.ConditionTrue }
