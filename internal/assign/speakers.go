package assign

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/kube"
)

const (
	// followEvery parts two writes of what speakers announce: 20 a second at most, however many addresses have moved. They
	// give way to writes that give addresses.
	followEvery = 50 * time.Millisecond
	// followMany is how many Services are looked at in between.
	followMany = 200
	// followPatience is how long an address may be mentioned by no speaker until its Service says so: between two owners, and
	// after it is given, it is none for a moment.
	followPatience = 10 * time.Second
)

// speakers is what speakers say of themselves, and which Services have to be looked at because of it. Its look methods and
// waiting may be called on nil, as where speakers have no kinds to write.
type speakers struct {
	slices, speakers, nodes cache.SharedIndexInformer

	patience time.Duration // followPatience

	// Of the loop.
	timer *time.Timer
	armed bool
	due   line // Services to look at
	// Services to write: those whose condition has another status, or none yet, before those where only the words differ.
	urgent, other line
}

// line is a queue in which each Service stands once.
type line struct {
	keys  []types.NamespacedName
	stand map[types.NamespacedName]bool
}

func newLine() line { return line{stand: map[types.NamespacedName]bool{}} }

func (l *line) add(key types.NamespacedName) {
	if !l.stand[key] {
		l.stand[key] = true
		l.keys = append(l.keys, key)
	}
}

func (l *line) next() (key types.NamespacedName, ok bool) {
	if len(l.keys) == 0 {
		return key, false
	}
	key, l.keys = l.keys[0], l.keys[1:]
	delete(l.stand, key)
	return key, true
}

// The indexes of the slices.
const (
	indexService = "service"
	indexNode    = "node"
)

func newSpeakers(c *kube.Client) *speakers {
	s := &speakers{
		slices: c.AnnouncementSlices(), speakers: c.Speakers(), nodes: c.Nodes(), patience: followPatience,
		timer: time.NewTimer(followEvery),
	}
	s.timer.Stop()
	s.reset()
	if err := s.slices.AddIndexers(cache.Indexers{
		indexService: func(obj any) ([]string, error) {
			var keys []string
			for key := range servicesIn(obj) {
				keys = append(keys, key.String())
			}
			return keys, nil
		},
		indexNode: func(obj any) ([]string, error) {
			slice, _ := obj.(*v1beta1.AnnouncementSlice)
			return []string{slice.NodeName}, nil
		},
	}); err != nil {
		panic(err) // only once the informer runs
	}
	for i, trim := range map[cache.SharedIndexInformer]cache.TransformFunc{s.nodes: trimNode, s.slices: trimSlice} {
		if err := i.SetTransform(trim); err != nil {
			panic(err) // only once the informer runs
		}
	}
	return s
}

// listening stands for the peers of an announcement, whoever they are.
var listening = []string{"any"}

// trimSlice leaves of a slice what a condition is made of, and keeps one copy of each name: with BGP every node tells of every
// Service.
func trimSlice(obj any) (any, error) {
	s, ok := obj.(*v1beta1.AnnouncementSlice)
	if !ok {
		return obj, nil
	}
	s.ManagedFields, s.OwnerReferences = nil, nil
	for i := range s.Announcements {
		a := &s.Announcements[i]
		a.Interfaces = nil
		if len(a.Peers) > 0 {
			a.Peers = listening
		}
		a.Namespace, a.Name, a.Address = unique.Make(a.Namespace).Value(), unique.Make(a.Name).Value(), unique.Make(a.Address).Value()
		a.Role, a.Protocol = unique.Make(a.Role).Value(), unique.Make(a.Protocol).Value()
	}
	return s, nil
}

// trimNode leaves of a Node whether it is Ready.
func trimNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	out := &corev1.Node{}
	out.Name, out.UID, out.ResourceVersion = n.Name, n.UID, n.ResourceVersion
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return out, nil
}

func nodeReady(obj any) bool {
	n, ok := obj.(*corev1.Node)
	return ok && len(n.Status.Conditions) > 0 && n.Status.Conditions[0].Status == corev1.ConditionTrue
}

// run starts the caches.
func (s *speakers) run(ctx context.Context) {
	for _, i := range []cache.SharedIndexInformer{s.slices, s.speakers, s.nodes} {
		go i.Run(ctx.Done())
	}
}

func (s *speakers) synced() bool {
	return s.slices.HasSynced() && s.speakers.HasSynced() && s.nodes.HasSynced()
}

// servicesIn returns the announcements of a slice by Service; nil of what is none.
func servicesIn(obj any) map[types.NamespacedName][]v1beta1.Announcement {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	slice, ok := obj.(*v1beta1.AnnouncementSlice)
	if !ok {
		return nil
	}
	out := map[types.NamespacedName][]v1beta1.Announcement{}
	for _, a := range slice.Announcements {
		key := types.NamespacedName{Namespace: a.Namespace, Name: a.Name}
		out[key] = append(out[key], a)
	}
	return out
}

// listen has the Services of which something else is told, the Nodes that become Ready or cease to be, and Speakers put into
// the inbox, until stop is called.
func (s *speakers) listen(in *inbox) (stop func(), err error) {
	s.reset()
	tell := func(before, after any) {
		old, now := servicesIn(before), servicesIn(after)
		for key := range old {
			if !slices.EqualFunc(old[key], now[key], sameAnnouncement) {
				in.add(subject{kube.ResourceAnnouncementSlices, key})
			}
		}
		for key := range now {
			if old[key] == nil {
				in.add(subject{kube.ResourceAnnouncementSlices, key})
			}
		}
	}
	handlers := map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		s.slices: cache.ResourceEventHandlerFuncs{
			AddFunc: func(obj any) { tell(nil, obj) }, UpdateFunc: tell, DeleteFunc: func(obj any) { tell(obj, nil) },
		},
		s.speakers: in.handler(kube.ResourceSpeakers),
		s.nodes: cache.FilteringResourceEventHandler{FilterFunc: nodeReady, Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: in.handlerFuncs(resourceNodes).AddFunc, DeleteFunc: in.handlerFuncs(resourceNodes).DeleteFunc,
		}},
	}
	var undo []func()
	stop = func() {
		for _, f := range undo {
			f()
		}
	}
	for informer, handler := range handlers {
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return stop, fmt.Errorf("watch what speakers say: %w", err)
		}
		undo = append(undo, func() { _ = informer.RemoveEventHandler(registration) }) // no error of a registration of its own
	}
	return stop, nil
}

func sameAnnouncement(x, y v1beta1.Announcement) bool {
	return x.Address == y.Address && x.Role == y.Role && x.Protocol == y.Protocol && x.Reason == y.Reason && x.Message == y.Message &&
		x.Since.Equal(&y.Since) && (len(x.Peers) == 0) == (len(y.Peers) == 0)
}

// reset forgets what an earlier leader had to do.
func (s *speakers) reset() { s.due, s.urgent, s.other = newLine(), newLine(), newLine() }

// look has a Service looked at soon.
func (s *speakers) look(key types.NamespacedName) {
	if s != nil {
		s.due.add(key)
		s.arm()
	}
}

// lookAtNode has the Services that a node announces looked at soon.
func (s *speakers) lookAtNode(name string) {
	objs, err := s.slices.GetIndexer().ByIndex(indexNode, name)
	if err != nil {
		return // only when there is no such index
	}
	for _, obj := range objs {
		for key := range servicesIn(obj) {
			s.look(key)
		}
	}
}

// arm has the loop follow after a while, if there is anything to do.
func (s *speakers) arm() {
	if !s.armed && len(s.due.keys)+len(s.urgent.keys)+len(s.other.keys) > 0 {
		s.armed = true
		s.timer.Reset(followEvery)
	}
}

// tick is when to follow.
func (s *speakers) tick() <-chan time.Time {
	if s == nil {
		return nil
	}
	return s.timer.C
}

// told returns what speakers tell of a Service. What a node told that exists no more counts for nothing.
func (s *speakers) told(key types.NamespacedName) (out []heard) {
	objs, err := s.slices.GetIndexer().ByIndex(indexService, key.String())
	if err != nil {
		return nil // only when there is no such index
	}
	for _, obj := range objs {
		slice := obj.(*v1beta1.AnnouncementSlice)
		node, exists, _ := s.nodes.GetStore().GetByKey(slice.NodeName)
		if !exists {
			continue
		}
		for _, a := range slice.Announcements {
			if a.Namespace == key.Namespace && a.Name == key.Name {
				out = append(out, heard{Announcement: a, node: slice.NodeName, ready: nodeReady(node)})
			}
		}
	}
	return out
}

// waiting returns what keeps speakers from talking to a BGPPeer that only they can see: a Secret that is missing, a value
// that a Node does not carry.
func (s *speakers) waiting() map[subject][]config.Problem {
	if s == nil {
		return nil
	}
	nodes := map[config.Problem][]string{}
	for _, obj := range s.speakers.GetStore().List() {
		speaker := obj.(*v1beta1.Speaker)
		for _, session := range speaker.Status.Sessions {
			if session.Reason != "" {
				p := config.Problem{Kind: config.KindBGPPeer, Name: session.Peer, Condition: config.ConditionResolvedRefs, Reason: session.Reason, Message: session.LastError}
				nodes[p] = append(nodes[p], speaker.Name)
			}
		}
	}
	out := map[subject][]config.Problem{}
	for _, p := range slices.SortedFunc(maps.Keys(nodes), func(x, y config.Problem) int { return strings.Compare(x.Reason+x.Message, y.Reason+y.Message) }) {
		if !strings.Contains(p.Message, "node "+nodes[p][0]+":") { // else it names the node itself
			p.Message = nodesText(nodes[p]) + ": " + p.Message
		}
		s := configSubject(p.Kind, p.Name)
		out[s] = append(out[s], p)
	}
	return out
}

// follow looks at Services of which speakers tell something else, and writes one.
func (c *Controller) follow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.speakers
	s.armed = false
	defer s.arm()
	if !c.began || !s.synced() || len(c.desk.waiting) > 0 {
		return
	}
	now := time.Now()
	for range followMany {
		key, ok := s.due.next()
		if !ok {
			break
		}
		e, next := c.announced(key, now)
		switch {
		case next == nil:
		case e.announced == nil || e.announced.Status != next.Status:
			s.urgent.add(key)
		default:
			s.other.add(key)
		}
	}
	for {
		key, ok := s.urgent.next()
		if !ok {
			key, ok = s.other.next()
		}
		if !ok {
			return
		}
		if e, next := c.announced(key, now); next != nil { // it may have changed meanwhile
			e.announced = next
			c.book.touch(key)
			c.plan()
			return
		}
	}
}

// announced returns an entry and what it should say by what speakers tell, nil when it does so or has to wait.
func (c *Controller) announced(key types.NamespacedName, now time.Time) (e *entry, next *metav1.Condition) {
	e = c.book.entries[key]
	if e == nil || e.gone || e.leaving || len(e.leases) == 0 {
		return e, nil
	}
	next, unreported := fold(addrsOf(e.leases), c.speakers.told(key))
	switch {
	case !unreported:
		e.unreported = time.Time{}
	case e.unreported.IsZero():
		e.unreported = now
		again, in := subject{kube.ResourceAnnouncementSlices, key}, c.inbox
		time.AfterFunc(c.speakers.patience, func() { in.add(again) })
		return e, nil
	case now.Sub(e.unreported) < c.speakers.patience:
		return e, nil
	}
	if had := e.announced; had != nil && had.Status == next.Status && had.Reason == next.Reason && had.Message == next.Message {
		return e, nil
	}
	return e, next
}
