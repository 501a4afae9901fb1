package assign

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/ipam"
	"heraldlb.io/herald/internal/kube"
)

// conditionAvailable says whether a pool has an address for a new Service.
const conditionAvailable = "Available"

// The reasons of the conditions of configuration objects, beside those of package config.
const (
	reasonAccepted           = "Accepted"
	reasonResolvedRefs       = "ResolvedRefs"
	reasonAddressesAvailable = "AddressesAvailable"
	reasonFamilyExhausted    = "FamilyExhausted"
	reasonNotAccepted        = "NotAccepted"
)

// configuration is the configuration in force, and the objects it was made from.
type configuration struct {
	objects  map[subject]configObject
	problems map[subject][]config.Problem
	turns    uint64 // the allocator's, when the conditions were last looked at
}

// configObject is one configuration object as it is known.
type configObject struct {
	metav1.Object
	kind       string
	conditions []metav1.Condition
}

// same tells whether two versions of an object ask for the same: only the status differs.
func (o configObject) same(other configObject) bool {
	return o.Object != nil && other.Object != nil && o.GetUID() == other.GetUID() && o.GetGeneration() == other.GetGeneration()
}

func poolObject(p *v1beta1.IPAddressPool) configObject {
	return configObject{p, config.KindIPAddressPool, p.Status.Conditions}
}

func l2AdvertisementObject(a *v1beta1.L2Advertisement) configObject {
	return configObject{a, config.KindL2Advertisement, a.Status.Conditions}
}

// configure reads the configuration from the caches and, if it asks for anything else than before, puts it in force.
func (c *Controller) configure() {
	var r config.Resources
	objects := map[subject]configObject{}
	for _, p := range listed[*v1beta1.IPAddressPool](c.pools) {
		r.Pools = append(r.Pools, p)
		objects[subject{kube.ResourceIPAddressPools, types.NamespacedName{Name: p.Name}}] = poolObject(p)
	}
	for _, a := range listed[*v1beta1.L2Advertisement](c.l2Advertisements) {
		r.L2Advertisements = append(r.L2Advertisements, a)
		objects[subject{kube.ResourceL2Advertisements, types.NamespacedName{Name: a.Name}}] = l2AdvertisementObject(a)
	}
	changed := c.config.objects == nil || len(objects) != len(c.config.objects)
	for s, o := range objects {
		known := c.config.objects[s]
		changed = changed || !o.same(known)
		if o.same(known) && kube.Newer(known.Object, o.Object) {
			objects[s] = known // our own write, which the cache does not show yet
		}
	}
	c.config.objects = objects
	if !changed {
		return
	}
	cfg, problems := config.New(r)
	c.config.problems = map[subject][]config.Problem{}
	for _, p := range problems {
		s := subject{resourceOf(p.Kind), types.NamespacedName{Name: p.Name}}
		c.config.problems[s] = append(c.config.problems[s], p)
	}
	c.book.configure(poolsInForce(cfg, r.Pools))
	c.config.turns = 0 // every object's conditions are looked at again
}

// poolsInForce are the accepted pools, and, without addresses, those that exist and are not accepted: a mistake in an
// edit takes no address away from anybody.
func poolsInForce(cfg *config.Config, all []*v1beta1.IPAddressPool) []config.Pool {
	pools := slices.Clone(cfg.Pools)
	for _, p := range all {
		if _, ok := cfg.Pool(p.Name); !ok {
			pools = append(pools, config.Pool{Name: p.Name, Addresses: &netipx.IPSet{}})
		}
	}
	return pools
}

// planConfig queues a write if an object does not show the conditions it should.
func (c *Controller) planConfig(s subject) {
	o, exists := c.config.objects[s]
	if !exists || c.desk.busy(s) {
		return
	}
	want := c.conditions(s, o)
	patch, err := kube.ConditionsPatch(o, o.conditions, want, time.Now())
	if err != nil {
		level.Error(c.logger).Log("msg", "cannot say what to write", "resource", s.resource, "name", s.key.Name, "err", err)
		return
	}
	if patch != nil {
		c.desk.queue(task{subject: s, do: func(ctx context.Context) (func(), error) { return c.writeConditions(ctx, s, o, want, patch) }})
	}
}

// writeConditions carries out a write. It runs in a worker.
func (c *Controller) writeConditions(ctx context.Context, s subject, before configObject, want []metav1.Condition, patch []byte) (func(), error) {
	var into runtime.Object = &v1beta1.IPAddressPool{}
	if s.resource == kube.ResourceL2Advertisements {
		into = &v1beta1.L2Advertisement{}
	}
	err := c.client.PatchStatus(ctx, s.resource, s.key.Name, patch, into)
	if apierrors.IsNotFound(err) {
		return func() {}, nil // deleted: the informer will say so
	}
	if err != nil {
		return func() {}, err
	}
	return func() {
		after := before
		switch obj := into.(type) {
		case *v1beta1.IPAddressPool:
			after = poolObject(obj)
		case *v1beta1.L2Advertisement:
			after = l2AdvertisementObject(obj)
		}
		if known, exists := c.config.objects[s]; exists && known.same(after) && kube.Newer(after, known) {
			c.config.objects[s] = after
		}
		c.tellConfig(before, want)
	}, nil
}

// tellConfig tells of an object that was put out of force or back into it.
func (c *Controller) tellConfig(o configObject, want []metav1.Condition) {
	was := meta.FindStatusCondition(o.conditions, config.ConditionAccepted)
	is := meta.FindStatusCondition(want, config.ConditionAccepted)
	event := kube.Event{
		Regarding: corev1.ObjectReference{APIVersion: v1beta1.GroupVersion.String(), Kind: o.kind, Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion()},
		Action:    "Configure",
		Note:      is.Message,
	}
	logger := level.Info(c.logger)
	switch {
	case is.Status == metav1.ConditionFalse && (was == nil || was.Status != is.Status || was.Message != is.Message):
		event.Type, event.Reason = corev1.EventTypeWarning, eventConfigurationRejected
		logger = level.Warn(c.logger)
	case is.Status == metav1.ConditionTrue && was != nil && was.Status == metav1.ConditionFalse:
		event.Type, event.Reason = corev1.EventTypeNormal, eventConfigurationAccepted
	default:
		return
	}
	logger.Log("msg", is.Message, "reason", event.Reason, "kind", o.kind, "name", o.GetName())
	c.events.Record(event)
}

// conditions are what an object's status should say.
func (c *Controller) conditions(s subject, o configObject) []metav1.Condition {
	problems := c.config.problems[s]
	accepted := judge(config.ConditionAccepted, reasonAccepted, "The object is in force", problems)
	if s.resource == kube.ResourceL2Advertisements {
		return []metav1.Condition{accepted, judge(config.ConditionResolvedRefs, reasonResolvedRefs, "All that the object names is in force", problems)}
	}
	return []metav1.Condition{accepted, available(o.GetName(), accepted.Status, c.book.alloc.Counts())}
}

// judge is a condition that is True unless a problem makes it False.
func judge(condition, good, message string, problems []config.Problem) metav1.Condition {
	c := metav1.Condition{Type: condition, Status: metav1.ConditionTrue, Reason: good, Message: message}
	var faults []string
	for _, p := range problems {
		if p.Condition != condition {
			continue
		}
		if len(faults) == 0 {
			c.Status, c.Reason = metav1.ConditionFalse, p.Reason
		}
		faults = append(faults, p.Field+": "+p.Message)
	}
	if len(faults) > 0 {
		c.Message = shorten(faults)
	}
	return c
}

// shorten joins faults and keeps within what a condition may hold.
func shorten(faults []string) string {
	const most = 20
	if more := len(faults) - most; more > 0 {
		faults = append(slices.Clone(faults[:most]), fmt.Sprintf("and %d more faults", more))
	}
	return strings.Join(faults, "; ")
}

// available is the condition Available of a pool. Its message changes only when a family runs out or has addresses
// again, not with every address.
func available(pool string, accepted metav1.ConditionStatus, counts []ipam.Count) metav1.Condition {
	c := metav1.Condition{Type: conditionAvailable, Status: metav1.ConditionFalse}
	if accepted != metav1.ConditionTrue {
		c.Reason, c.Message = reasonNotAccepted, "The pool is not in force: see the condition Accepted"
		return c
	}
	var exhausted []string
	for _, n := range counts {
		switch {
		case n.Pool != pool:
		case n.Free():
			c.Status = metav1.ConditionTrue
		case n.Draining:
			c.Reason, c.Message = string(ipam.PoolDraining), "The pool is draining: it serves nobody new"
			return c
		case n.Total.Sign() > 0:
			exhausted = append(exhausted, fmt.Sprintf("all %v %s addresses are in use", n.Total, n.Family))
		}
	}
	switch {
	case c.Status == metav1.ConditionFalse:
		c.Reason = string(ipam.PoolExhausted)
		c.Message = sentence(strings.Join(exhausted, ", "))
	case len(exhausted) > 0:
		c.Reason = reasonFamilyExhausted
		c.Message = sentence(strings.Join(exhausted, ", "))
	default:
		c.Reason, c.Message = reasonAddressesAvailable, "The pool has addresses for new Services"
	}
	return c
}

func resourceOf(kind string) string {
	if kind == config.KindL2Advertisement {
		return kube.ResourceL2Advertisements
	}
	return kube.ResourceIPAddressPools
}

func listed[T any](informer cache.SharedIndexInformer) []T {
	var all []T
	for _, obj := range informer.GetStore().List() {
		all = append(all, obj.(T))
	}
	return all
}
