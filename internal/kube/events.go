package kube

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Event is one thing that happened to an object, for people who look at that object.
type Event struct {
	Regarding corev1.ObjectReference
	Type      string // corev1.EventTypeNormal or corev1.EventTypeWarning
	Reason    string // CamelCase: what happened
	Action    string // CamelCase: what was being done
	Note      string // a sentence
}

const (
	// eventQueue is how many events may wait to be written. Beyond it events are dropped and counted: an event is a
	// courtesy, and neither memory nor anybody's address may depend on it.
	eventQueue = 4096
	// eventWriters at once: few, so that events leave the API server to the writes that matter.
	eventWriters = 2
	// eventTimeout ends one attempt; eventTries bounds the attempts, eventPause parts them.
	eventTimeout = 5 * time.Second
	eventTries   = 3
	eventPause   = time.Second
	// eventFlush is how long the events that wait when the process ends may still take.
	eventFlush = 2 * time.Second
	// maxNote is the API's limit for an event's note, in bytes.
	maxNote = 1024
)

// Events writes events, in the background and in order as far as the API server allows. client-go's recorder is not
// used because it counts events of one reason as a series under the first one's note: a second address would be
// reported under the first one's name.
type Events struct {
	client     *Client
	controller string
	instance   string
	logger     log.Logger
	queue      chan *eventsv1.Event
	total      *prometheus.CounterVec
}

// NewEvents returns a writer that signs its events as controller. Nothing is written before Run.
func NewEvents(c *Client, controller string, logger log.Logger, reg prometheus.Registerer) *Events {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	e := &Events{
		client:     c,
		controller: "heraldlb.io/" + controller,
		instance:   controller + "-" + host,
		logger:     logger,
		queue:      make(chan *eventsv1.Event, eventQueue),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_events_total",
			Help: "Events about objects by what became of them: written, failed, or dropped because too many waited.",
		}, []string{"result"}),
	}
	reg.MustRegister(e.total, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_events_queue_depth",
		Help: "Events that wait to be written.",
	}, func() float64 { return float64(len(e.queue)) }))
	for _, result := range []string{"written", "failed", "dropped"} {
		e.total.WithLabelValues(result)
	}
	return e
}

// Record takes an event to be written. It never blocks.
func (e *Events) Record(ev Event) {
	now := time.Now()
	namespace := ev.Regarding.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // where the API wants events of cluster-scoped objects
	}
	out := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      fmt.Sprintf("%s.%x", ev.Regarding.Name, now.UnixNano()),
		},
		EventTime:           metav1.NewMicroTime(now),
		ReportingController: e.controller,
		ReportingInstance:   e.instance[:min(len(e.instance), 128)],
		Action:              ev.Action,
		Reason:              ev.Reason,
		Regarding:           ev.Regarding,
		Note:                cut(ev.Note, maxNote),
		Type:                ev.Type,
	}
	select {
	case e.queue <- out:
	default:
		e.total.WithLabelValues("dropped").Inc()
	}
}

// Run writes events until ctx is done, and then those that still wait, for a short time.
func (e *Events) Run(ctx context.Context) {
	var writers sync.WaitGroup
	for range eventWriters {
		writers.Go(func() { e.write(ctx) })
	}
	writers.Wait()
}

func (e *Events) write(ctx context.Context) {
	for {
		select {
		case ev := <-e.queue:
			e.create(ctx, ev)
		case <-ctx.Done():
			e.flush(context.WithoutCancel(ctx))
			return
		}
	}
}

func (e *Events) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, eventFlush)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case ev := <-e.queue:
			e.create(ctx, ev)
		default:
			return
		}
	}
}

// create writes one event. What the server refuses is given up; what did not get through is tried again.
func (e *Events) create(ctx context.Context, ev *eventsv1.Event) {
	var err error
	for try := range eventTries {
		if try > 0 {
			select {
			case <-time.After(eventPause):
			case <-ctx.Done():
			}
		}
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventTimeout)
		_, err = e.client.eventsOf(ev.Namespace).Create(attempt, ev, metav1.CreateOptions{FieldManager: fieldManager})
		cancel()
		if err == nil || apierrors.IsAlreadyExists(err) {
			e.total.WithLabelValues("written").Inc()
			return
		}
		if ctx.Err() != nil || refused(err) {
			break
		}
	}
	e.total.WithLabelValues("failed").Inc()
	level.Debug(e.logger).Log("msg", "event not written", "reason", ev.Reason, "object", ev.Regarding.Name, "err", err)
}

// refused tells whether the server judged the event itself, so that another try meets the same answer.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsNotFound(err) ||
		apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err)
}

// cut shortens s to at most n bytes, at a rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const more = "..."
	n -= len(more)
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + more
}
