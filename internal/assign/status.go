package assign

import (
	"context"
	"slices"
	"time"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/ipam"
	"heraldlb.io/herald/internal/kube"
)

// reviewPause is how long the status of configuration objects may lag behind what happens to addresses. However many
// Services get addresses meanwhile, an object is written once.
const reviewPause = time.Second

// reviewer says when the status of configuration objects is to be looked at.
type reviewer struct {
	pause time.Duration
	timer *time.Timer
	armed bool
}

func newReviewer(pause time.Duration) *reviewer {
	r := &reviewer{pause: pause, timer: time.NewTimer(pause)}
	r.timer.Stop()
	return r
}

// soon asks for a look after the pause, however often it is called before.
func (r *reviewer) soon() {
	if !r.armed {
		r.armed = true
		r.timer.Reset(r.pause)
	}
}

// reviewSoon has the status of configuration objects looked at a little later.
func (c *Controller) reviewSoon() { c.reviewer.soon() }

// review queues a write for each configuration object that does not show what it should.
func (c *Controller) review() {
	c.reviewer.armed = false
	counts := map[string][]ipam.Count{}
	for _, n := range c.book.alloc.Counts() {
		counts[n.Pool] = append(counts[n.Pool], n)
	}
	want := make(map[subject]v1beta1.IPAddressPoolStatus, len(c.config.objects))
	waiting := c.speakers.waiting()
	for s, o := range c.config.objects {
		var own []ipam.Count
		if o.kind == config.KindIPAddressPool {
			own = counts[o.GetName()]
		}
		want[s] = statusOf(o.kind, slices.Concat(c.config.problems[s], waiting[s]), own)
	}
	if c.documents != nil {
		c.reviewDocuments(want)
		return
	}
	for s, o := range c.config.objects {
		c.planObject(s, o, want[s])
	}
}

// planObject queues a write if an object does not show the status it should.
func (c *Controller) planObject(s subject, o configObject, want v1beta1.IPAddressPoolStatus) {
	if c.desk.busy(s) {
		return // it is looked at again
	}
	patch, err := kube.StatusPatch(o, o.shown, want, time.Now())
	if err != nil {
		level.Error(c.logger).Log("msg", "cannot say what to write", "resource", s.resource, "name", s.key.Name, "err", err)
		return
	}
	if patch != nil {
		c.desk.queue(task{subject: s, later: true, do: func(ctx context.Context) (func(), error) { return c.writeObject(ctx, s, o, want, patch) }})
	}
}

// writeObject carries out a write. It runs in a worker.
func (c *Controller) writeObject(ctx context.Context, s subject, before configObject, want v1beta1.IPAddressPoolStatus, patch []byte) (func(), error) {
	into, err := kube.Scheme.New(v1beta1.GroupVersion.WithKind(before.kind))
	if err != nil {
		return func() {}, err
	}
	err = c.client.PatchStatus(ctx, s.resource, s.key.Name, patch, into)
	if apierrors.IsNotFound(err) {
		return func() {}, nil // deleted: the source will say so
	}
	if err != nil {
		return func() {}, err
	}
	return func() {
		c.wroteObject(s, into)
		c.tellConfig(before, before.shown.Conditions, want.Conditions)
	}, nil
}

// wroteObject takes in an object as a write returned it.
func (c *Controller) wroteObject(s subject, obj runtime.Object) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return // only for what is no API object
	}
	after, before := known(m), c.config.objects[s]
	if before.same(after) && kube.Newer(after, before) {
		c.config.objects[s] = after
	}
}

// tellConfig tells of an object that was put out of force or back into it.
func (c *Controller) tellConfig(o configObject, before, after []metav1.Condition) {
	event := kube.Event{Regarding: corev1.ObjectReference{
		APIVersion: v1beta1.GroupVersion.String(), Kind: o.kind, Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
	}}
	about := ""
	if c.documents != nil {
		event.Regarding = configMapReference(c.documents.source.Key(), c.documents.source.State().Object)
		about = o.kind + " " + o.GetName() + ": "
	}
	c.tellAccepted(event, about, before, after)
}

// tellWhole tells of documents that were taken or not taken as a whole.
func (c *Controller) tellWhole(state kube.ConfigMapState, before, after []metav1.Condition) {
	c.tellAccepted(kube.Event{Regarding: configMapReference(c.documents.source.Key(), state.Object)}, "", before, after)
}

// tellAccepted makes an event and a log line of the condition Accepted, if it says something new.
func (c *Controller) tellAccepted(event kube.Event, about string, before, after []metav1.Condition) {
	was := meta.FindStatusCondition(before, config.ConditionAccepted)
	is := meta.FindStatusCondition(after, config.ConditionAccepted)
	event.Action, event.Note = "Configure", about+is.Message
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
	logger.Log("msg", event.Note, "reason", event.Reason, "kind", event.Regarding.Kind, "name", event.Regarding.Name)
	c.events.Record(event)
}

// configMapReference says which ConfigMap an event is about; cm is nil when there is none.
func configMapReference(key types.NamespacedName, cm *corev1.ConfigMap) corev1.ObjectReference {
	ref := corev1.ObjectReference{APIVersion: "v1", Kind: config.KindConfigMap, Namespace: key.Namespace, Name: key.Name}
	if cm != nil {
		ref.UID, ref.ResourceVersion = cm.UID, cm.ResourceVersion
	}
	return ref
}
