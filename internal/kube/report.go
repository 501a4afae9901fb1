package kube

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
)

const (
	// reportSoon is how long changes are collected before they are written: an election of 1,000 addresses is over by then,
	// and its outcome is written once.
	reportSoon = time.Second
	// reportLate is the longest that a change waits: a round of writes that follows another one at once waits twice as long,
	// and so does the next try after a failure. With it, what is shown is never older than 10 s.
	reportLate = 8 * time.Second
	// reportTimeout ends one round, reportFlush the last one of a process.
	reportTimeout = 5 * time.Second
	reportFlush   = 2 * time.Second
)

// Reporter writes what a speaker says of itself: the Speaker object and the AnnouncementSlices of its node. It is told what
// is, compares that with what the API server shows, and writes what differs, in rounds. Whatever others write into these
// objects is undone.
type Reporter struct {
	node   string
	logger log.Logger
	own    *ownObjects
	wake   chan struct{}

	soon, late time.Duration

	mu       sync.Mutex
	uid      types.UID              // of the Node, which owns the objects
	status   *v1beta1.SpeakerStatus // nil until it is told
	news     map[netip.Addr][]v1beta1.Announcement
	complete bool // all announcements have been told

	// Of the goroutine of Run.
	shelf     *shelf // nil before the first round that has all announcements
	byAddress map[netip.Addr][]place
	failure   string // that was logged last
}

// NewReporter makes the reporter of a node's speaker. Nothing is read or written before Run.
func NewReporter(c *Client, node string, logger log.Logger, reg prometheus.Registerer) *Reporter {
	r := &Reporter{
		node: node, logger: logger, wake: make(chan struct{}, 1), soon: reportSoon, late: reportLate,
		news: map[netip.Addr][]v1beta1.Announcement{}, byAddress: map[netip.Addr][]place{},
	}
	r.own = newOwnObjects(c, node, reg, r.stir)
	return r
}

// SetStatus says how the speaker stands, and the UID of its Node, which is empty when there is none: nothing is written then.
// Times of conditions are filled in.
func (r *Reporter) SetStatus(node types.UID, status v1beta1.SpeakerStatus) {
	r.mu.Lock()
	changed := r.uid != node || r.status == nil || !equality.Semantic.DeepEqual(*r.status, status)
	r.uid, r.status = node, &status
	r.mu.Unlock()
	if changed {
		r.stir()
	}
}

// SetAnnouncements says what there is to tell of these addresses from now on. The first call must bring all that there is.
// Times are filled in: an announcement that goes on in the same role, be it one of a process before this one, keeps its
// time.
func (r *Reporter) SetAnnouncements(changed map[netip.Addr][]v1beta1.Announcement) {
	r.mu.Lock()
	news := !r.complete || len(changed) > 0
	for addr, announcements := range changed {
		r.news[addr] = announcements
	}
	r.complete = true
	r.mu.Unlock()
	if news {
		r.stir()
	}
}

func (r *Reporter) stir() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run writes until ctx is done, and then once more.
func (r *Reporter) Run(ctx context.Context) {
	if r.own.run(ctx) != nil {
		return // ctx is done
	}
	var last time.Time // of the last round that had something to write
	for pause := r.soon; ; {
		select {
		case <-ctx.Done():
		case <-r.wake:
		}
		again := time.Since(last) < pause
		if !again {
			pause = r.soon
		}
		select {
		case <-ctx.Done():
			r.round(reportFlush)
			return
		case <-time.After(pause):
		}
		if !r.round(reportTimeout) {
			continue
		}
		last = time.Now()
		if again {
			pause = min(2*pause, r.late)
		}
	}
}

// round writes each object that does not show what it should, and tells whether there was any. It ends at the first
// failure; the next round goes on. Nothing but time ends a write under way: what became of it would not be known.
func (r *Reporter) round(limit time.Duration) (busy bool) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, write := range r.due() {
		busy = true
		err := write(ctx)
		if err == nil {
			continue
		}
		r.stir()
		if text := err.Error(); text != r.failure && !outdated(err) {
			r.failure = text
			level.Warn(r.logger).Log("msg", "what this speaker says of itself cannot be written, will be tried again", "node", r.node, "err", err)
		}
		return busy
	}
	if busy {
		r.failure = ""
	}
	return busy
}

// due returns the writes that are due.
func (r *Reporter) due() []func(context.Context) error {
	r.mu.Lock()
	uid, status, complete := r.uid, r.status, r.complete
	r.mu.Unlock()
	if uid == "" || status == nil {
		return nil
	}
	owners := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: r.node, UID: uid}}
	due := r.dueSpeaker(owners, status)
	if complete {
		due = append(due, r.dueSlices(owners)...)
	}
	return due
}

func (r *Reporter) dueSpeaker(owners []metav1.OwnerReference, status *v1beta1.SpeakerStatus) (due []func(context.Context) error) {
	have := r.own.speaker()
	if have != nil && !equality.Semantic.DeepEqual(have.OwnerReferences, owners) {
		due = append(due, r.own.delete(have)) // of a Node of this name that is gone
		have = nil
	}
	next := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: r.node, OwnerReferences: owners}}
	if have == nil {
		due = append(due, r.own.create(next)) // without a status, which takes a write of its own
	} else {
		next = have.DeepCopy()
	}
	before := next.Status
	next.Status = *status.DeepCopy()
	next.Status.Conditions, _ = NextConditions(next.Generation, before.Conditions, status.Conditions, time.Now())
	if have == nil || !equality.Semantic.DeepEqual(before, next.Status) {
		due = append(due, r.own.update(next))
	}
	return due
}

func (r *Reporter) dueSlices(owners []metav1.OwnerReference) (due []func(context.Context) error) {
	shown := map[int]*v1beta1.AnnouncementSlice{}
	for _, s := range r.own.slices() {
		number, ok := r.numberOf(s.Name)
		if !ok || !equality.Semantic.DeepEqual(s.OwnerReferences, owners) {
			due = append(due, r.own.delete(s))
			continue
		}
		shown[number] = s
	}
	r.stock(shown)
	for number := range r.shelf.slices {
		content := r.shelf.content(number)
		switch have := shown[number]; {
		case have == nil && len(content) > 0:
			due = append(due, r.own.create(&v1beta1.AnnouncementSlice{
				ObjectMeta: metav1.ObjectMeta{Name: r.node + "-" + strconv.Itoa(number), OwnerReferences: owners},
				NodeName:   r.node, Announcements: content,
			}))
		case have != nil && len(content) == 0:
			due = append(due, r.own.delete(have))
		case have != nil && !equality.Semantic.DeepEqual(have.Announcements, content):
			next := have.DeepCopy()
			next.Announcements = content
			due = append(due, r.own.update(next))
		}
	}
	return due
}

// maxSlices bounds the numbers of slices that are taken for ours.
const maxSlices = 10_000

// numberOf reads the number of a slice from its name.
func (r *Reporter) numberOf(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, r.node+"-")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n >= 0 && n < maxSlices && strconv.Itoa(n) == digits
}

// stock brings the shelf up to date. The first time it takes over what is shown.
func (r *Reporter) stock(shown map[int]*v1beta1.AnnouncementSlice) {
	r.mu.Lock()
	news := r.news
	r.news = map[netip.Addr][]v1beta1.Announcement{}
	r.mu.Unlock()
	first := r.shelf == nil
	if first {
		r.shelf = newShelf()
		for number, s := range shown {
			r.shelf.adopt(number, s.Announcements)
		}
	}
	for number := range shown { // an empty one too, to be deleted
		r.shelf.extend(number)
	}
	told := map[place]bool{}
	now := metav1.NewMicroTime(time.Now().Truncate(time.Microsecond))
	for addr, announcements := range news {
		var places []place
		for _, a := range announcements {
			places = append(places, placeOf(a))
			told[placeOf(a)] = true
		}
		for _, p := range r.byAddress[addr] {
			if !told[p] {
				r.shelf.remove(p)
			}
		}
		delete(r.byAddress, addr)
		if len(places) > 0 {
			r.byAddress[addr] = places
		}
		r.shelf.put(announcements, now)
	}
	if first {
		for p := range r.shelf.places {
			if !told[p] {
				r.shelf.remove(p) // of a process before this one
			}
		}
	}
	r.shelf.tidy()
	clear(r.shelf.changed)
}
