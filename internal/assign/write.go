package assign

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/ipam"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/service"
)

// serviceWrite is a status to write, with what it was decided on.
type serviceWrite struct {
	key    types.NamespacedName
	before *corev1.Service
	want   kube.ServiceStatus
	leases []ipam.Lease
	notes  []note
	patch  []byte
}

// write carries out a write. It runs in a worker; what it returns runs in the loop.
func (c *Controller) write(ctx context.Context, w serviceWrite) (func(), error) {
	svc, err := c.client.PatchService(ctx, w.key, w.patch)
	switch {
	case err == nil:
		return func() { c.wrote(w, svc) }, nil
	case apierrors.IsNotFound(err):
		return func() {
			if e := c.entryOf(w.before); e != nil {
				c.tellGone(e)
				c.book.vanish(e)
			}
		}, nil
	case apierrors.IsConflict(err):
		return func() { c.book.conflicted(w.key) }, err
	default:
		return func() {}, err
	}
}

// wrote takes in a write that succeeded, and tells of it.
func (c *Controller) wrote(w serviceWrite, svc *corev1.Service) {
	now := time.Now()
	if e := c.entryOf(w.before); e != nil {
		e.notes = e.notes[min(len(w.notes), len(e.notes)):] // the others came while the write was under way
		e.written = w.want.Addresses
		if kube.Newer(e.svc, svc) { // somebody wrote after this, and that is known already
			c.book.contest(e, e.svc, now)
		}
		if !e.since.IsZero() && allocated(w.want.Allocated) {
			c.metrics.duration.Observe(now.Sub(e.since).Seconds())
			c.metrics.waited.Observe(now.Sub(service.WaitingSince(w.before, e.since)).Seconds())
			e.since = time.Time{}
		}
	}
	c.book.observe(svc, false, now)
	for _, t := range tell(w.before, w.want, w.leases, w.notes) {
		c.tell(w.before, t)
	}
}

// tellContested tells of Services that somebody else writes addresses to, each once for as long as it goes on.
func (c *Controller) tellContested() {
	for _, x := range c.book.contested {
		c.metrics.replaced.Inc()
		if x.replaced == 1 {
			c.tell(x.svc, told{true, eventAddressReplaced, fmt.Sprintf("Somebody else wrote %v to the status in place of %v: does another load balancer's controller, or a second one of Herald, serve this Service too? "+
				"Have each serve a class of its own (--lb-class)", x.theirs, x.ours), []netip.Addr{x.theirs}, ""})
		}
	}
	c.book.contested = nil
}

// tell makes an event and a log line of one change.
func (c *Controller) tell(svc *corev1.Service, t told) {
	kind, logger := corev1.EventTypeNormal, level.Info(c.logger)
	if t.warning {
		kind, logger = corev1.EventTypeWarning, level.Warn(c.logger)
	}
	line := []any{"msg", t.message, "reason", t.reason, "svc", keyOf(svc)}
	if len(t.addrs) > 0 {
		line = append(line, "ip", join(t.addrs))
	}
	logger.Log(line...)
	c.events.Record(kube.Event{Regarding: reference(svc), Type: kind, Reason: t.reason, Action: "Assign", Note: t.message})
	c.metrics.told(t)
}

// lookUp asks the API server for a Service that the informer does not show. It runs in a worker.
func (c *Controller) lookUp(ctx context.Context, key types.NamespacedName, uid types.UID) (func(), error) {
	svc, err := c.client.GetService(ctx, key)
	if apierrors.IsNotFound(err) {
		svc, err = nil, nil
	}
	if err != nil {
		return func() {}, err
	}
	return func() {
		if e := c.book.entries[key]; svc == nil && e != nil && e.svc.UID == uid {
			c.tellGone(e)
		}
		c.book.found(key, uid, svc, time.Now())
	}, nil
}

// tellGone tells of the addresses that a Service gave back by ceasing to exist. There is no object left for an event.
func (c *Controller) tellGone(e *entry) {
	if held := c.book.alloc.Held(e.key); len(held) > 0 {
		level.Info(c.logger).Log("msg", "Released "+spell(held)+": the Service is deleted", "reason", eventAddressReleased, "svc", e.key, "ip", join(addrsOf(held)))
	}
}

// entryOf returns the entry of a Service, nil when the entry of its name is another one's by now.
func (c *Controller) entryOf(svc *corev1.Service) *entry {
	e := c.book.entries[keyOf(svc)]
	if e == nil || e.svc.UID != svc.UID {
		return nil
	}
	return e
}

func addrsOf(leases []ipam.Lease) []netip.Addr {
	var addrs []netip.Addr
	for _, l := range leases {
		addrs = append(addrs, l.Addr)
	}
	return addrs
}

func join(addrs []netip.Addr) string {
	var s []string
	for _, a := range addrs {
		s = append(s, a.String())
	}
	return strings.Join(s, ",")
}
