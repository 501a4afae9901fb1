package assign

import (
	"context"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"heraldlb.io/herald/internal/kube"
)

const (
	// writers is how many writes are under way at once. One connection's round trips, not the API server, bound a
	// single writer; beyond some ten the API server itself does.
	writers = 16
	// firstRetry is the pause after a write's first failure; it doubles with each further one up to lastRetry. A
	// conflict is the usual failure, and the change behind it arrives by watch within milliseconds.
	firstRetry = 20 * time.Millisecond
	lastRetry  = 30 * time.Second
	// lastConflict is the longest pause after a conflict: it says that somebody else writes the object, not that the
	// API server is in trouble, and a longer pause would only make the Service wait.
	lastConflict = 320 * time.Millisecond
	// firstReplacement is the pause before addresses are written again that somebody else has replaced; it doubles each time
	// up to lastRetry. Two controllers at one Service would else keep the API server busy with nothing else.
	firstReplacement = 200 * time.Millisecond
)

// subject is an object that may need a write.
type subject struct {
	resource string
	key      types.NamespacedName
}

// task is one write, or one question, to the API server. do runs in a worker; what it returns is for the loop to run.
type task struct {
	subject subject
	later   bool // not before all others are under way
	queued  time.Time
	do      func(context.Context) (apply func(), err error)
}

// outcome is what became of a task.
type outcome struct {
	subject subject
	apply   func()
	err     error
}

// desk holds the tasks that wait or are under way, one at most for each subject, and sees to the retries. It belongs
// to the loop.
type desk struct {
	inbox    *inbox
	logger   log.Logger
	metrics  deskMetrics
	waiting  []task
	later    []task // what waits until nothing else does
	taken    map[subject]bool
	failures map[subject]failure
}

type failure struct {
	count int
	text  string
}

func newDesk(in *inbox, logger log.Logger, m deskMetrics) *desk {
	m.depth.Set(0)
	return &desk{inbox: in, logger: logger, metrics: m, taken: map[subject]bool{}, failures: map[subject]failure{}}
}

// open starts the workers. They end when tasks is closed; then outcomes is closed.
func (d *desk) open(ctx context.Context) (tasks chan task, outcomes <-chan outcome) {
	tasks = make(chan task)
	out := make(chan outcome)
	var workers sync.WaitGroup
	for range writers {
		workers.Go(func() {
			for t := range tasks {
				attempt, cancel := context.WithTimeout(ctx, kube.WriteTimeout)
				begin := time.Now()
				apply, err := t.do(attempt)
				cancel()
				d.metrics.took.Observe(time.Since(begin).Seconds())
				out <- outcome{t.subject, apply, err}
			}
		})
	}
	go func() {
		workers.Wait()
		close(out)
	}()
	return tasks, out
}

// busy tells whether a subject has a task already. When that is done, the loop looks at the subject again.
func (d *desk) busy(s subject) bool { return d.taken[s] }

func (d *desk) queue(t task) {
	d.taken[t.subject] = true
	t.queued = time.Now()
	d.metrics.depth.Inc()
	line := d.line(t.later)
	*line = append(*line, t)
}

func (d *desk) line(later bool) *[]task {
	if later {
		return &d.later
	}
	return &d.waiting
}

// next returns the first waiting task and the channel to send it on; a nil channel when none waits.
func (d *desk) next(tasks chan<- task) (chan<- task, task) {
	for _, line := range [][]task{d.waiting, d.later} {
		if len(line) > 0 {
			return tasks, line[0]
		}
	}
	return nil, task{}
}

// handedOut takes the task that next returned off its line.
func (d *desk) handedOut(t task) {
	line := d.line(t.later)
	*line = (*line)[1:]
	d.metrics.depth.Dec()
	d.metrics.waited.Observe(time.Since(t.queued).Seconds())
}

// done ends a task. It tells whether the subject may have its next one now; after a failure it is put into the inbox
// again after a pause.
func (d *desk) done(o outcome) bool {
	s := o.subject
	delete(d.taken, s)
	d.metrics.writes.WithLabelValues(s.resource, result(o.err)).Inc()
	if o.err == nil {
		delete(d.failures, s)
		return true
	}
	f := d.failures[s]
	pause := min(firstRetry<<min(f.count, 20), lastRetry)
	if apierrors.IsConflict(o.err) {
		pause = min(pause, lastConflict)
	}
	if text := o.err.Error(); !apierrors.IsConflict(o.err) && text != f.text {
		f.text = text
		level.Warn(d.logger).Log("msg", "write failed, will be tried again", "resource", s.resource, "name", name(s.key), "err", o.err)
	}
	f.count++
	d.failures[s] = f
	time.AfterFunc(pause, func() { d.inbox.add(s) })
	return false
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case apierrors.IsConflict(err):
		return "conflict"
	default:
		return "error"
	}
}

// name writes a key as people do: without a namespace for what has none.
func name(key types.NamespacedName) string {
	if key.Namespace == "" {
		return key.Name
	}
	return key.String()
}

// inbox collects the subjects to look at, each once. It is safe for concurrent use.
type inbox struct {
	wake chan struct{} // holds something when there is something to take

	mu      sync.Mutex
	pending map[subject]bool
	order   []subject
}

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1), pending: map[subject]bool{}}
}

func (in *inbox) add(s subject) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.pending[s] {
		return
	}
	in.pending[s] = true
	in.order = append(in.order, s)
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// take returns what has come in, in its order, and empties the inbox.
func (in *inbox) take() []subject {
	in.mu.Lock()
	defer in.mu.Unlock()
	taken := in.order
	in.order = nil
	clear(in.pending)
	return taken
}

// handler puts whatever an informer tells of into the inbox.
func (in *inbox) handler(resource string) cache.ResourceEventHandler {
	return in.handlerFuncs(resource)
}

func (in *inbox) handlerFuncs(resource string) cache.ResourceEventHandlerFuncs {
	add := func(obj any) {
		key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
		if err != nil {
			return // only for what is no API object
		}
		namespace, name, err := cache.SplitMetaNamespaceKey(key)
		if err == nil {
			in.add(subject{resource, types.NamespacedName{Namespace: namespace, Name: name}})
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    add,
		UpdateFunc: func(_, obj any) { add(obj) },
		DeleteFunc: add,
	}
}
