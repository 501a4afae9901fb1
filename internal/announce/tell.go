package announce

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/election"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/layer2"
)

// The reasons of the events on a Service. The node that an address comes to tells of its move; the one that it leaves only
// when it goes nowhere. So each change of owner is told once.
const (
	eventAddressAnnounced = "AddressAnnounced"
	eventAddressMoved     = "AddressMoved"
	eventAddressWithdrawn = "AddressWithdrawn"
	eventAddressConflict  = "AddressConflict"
)

// Reasons why an address is withdrawn, beside those of the election.
const (
	reasonReleased election.Reason = "Released" // no Service holds it any more
)

// because says in words why the owner of an address had to go or nobody can be it.
var because = map[election.Reason]string{
	election.NotAlive:           "its speaker is gone and its node does not answer",
	election.NotSelected:        "no L2Advertisement selects it",
	election.ExcludedByLabel:    "it is labelled " + corev1.LabelNodeExcludeBalancers,
	election.NetworkUnavailable: "its network is not available",
	election.NoInterface:        "it has no usable interface for the address",
	election.NoEndpoint:         "no endpoint can be served from it",
	election.ServicePathDown:    "its service proxy does not work",
	election.Draining:           "it is being drained",
	election.NotReady:           "it is not Ready",
	election.LessPreferred:      "another node is preferred",
	election.Requested:          "a person asked for the move",
}

// metrics are what the speaker counts of owners.
type metrics struct {
	takeovers   *prometheus.CounterVec
	withdrawals *prometheus.CounterVec
	duration    prometheus.Histogram
	kernel      prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		takeovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_layer2_takeovers_total",
			Help: "Addresses that this node claimed, by why the owner before was no longer to have them; Unclaimed when there was none.",
		}, []string{"reason"}),
		withdrawals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_layer2_withdrawals_total",
			Help: "Addresses that this node owned and stopped to announce, by reason: Claimed by another node, Released by the Services, or why this node cannot serve them.",
		}, []string{"reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_layer2_takeover_duration_seconds",
			Help:    "Time from when this node knew that an address needs a new owner until it announced it, of those that it claimed.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		kernel: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_layer2_kernel_addresses",
			Help: "Addresses of Services, whoever announces them, for which this node's kernel answers by itself, because they are bound to an interface.",
		}),
	}
	reg.MustRegister(m.takeovers, m.withdrawals, m.duration, m.kernel)
	for reason := range because {
		m.takeovers.WithLabelValues(string(reason))
	}
	m.takeovers.WithLabelValues(string(election.Unclaimed))
	m.withdrawals.WithLabelValues(string(election.Claimed))
	return m
}

// tell logs, counts and tells of one change, as far as this node is the one to do so.
func (l *Loop) tell(c change) {
	addr, was, is := c.new.Addr, c.old.Owner == l.node, c.new.Owner == l.node
	switch {
	case c.taken != election.Fit:
		l.metrics.takeovers.WithLabelValues(string(c.taken)).Inc()
		if !c.since.IsZero() {
			l.metrics.duration.Observe(time.Since(c.since).Seconds())
		}
		level.Info(l.logger).Log("msg", "address is claimed and announced", "ip", addr, "svc", names(c.new.Services), "node", l.node, "from", c.from, "reason", c.taken)
		if c.taken == election.Unclaimed {
			l.event(c.new.Services, corev1.EventTypeNormal, eventAddressAnnounced, "%s is announced from node %s", addr, l.node)
		} else {
			l.event(c.new.Services, corev1.EventTypeNormal, eventAddressMoved, "%s is announced from node %s, and from %s no more: %s (%s)",
				addr, l.node, c.from, because[c.taken], c.taken)
		}
	case is && !was:
		level.Info(l.logger).Log("msg", "address is announced", "ip", addr, "svc", names(c.new.Services), "node", l.node)
		if len(c.old.Services) > 0 { // else this speaker has just started
			l.event(c.new.Services, corev1.EventTypeNormal, eventAddressAnnounced, "%s is announced from node %s again", addr, l.node)
		}
	case was && !is:
		reason := c.new.Reason
		if len(c.new.Services) == 0 {
			reason = reasonReleased
		}
		l.metrics.withdrawals.WithLabelValues(string(reason)).Inc()
		level.Info(l.logger).Log("msg", "address is withdrawn", "ip", addr, "svc", names(c.old.Services), "node", l.node, "to", c.new.Owner, "reason", reason)
		if c.new.Owner == "" && c.new.Heir == "" {
			l.event(c.new.Services, corev1.EventTypeWarning, eventAddressWithdrawn, "%s is announced from no node, and from %s no more: %s (%s)",
				addr, l.node, because[reason], reason)
		}
	}
}

// event tells of an address at each Service that holds it.
func (l *Loop) event(services []types.NamespacedName, kind, reason, format string, args ...any) {
	for _, key := range services {
		svc, ok := l.cluster.service(key)
		if !ok {
			continue
		}
		l.events.Record(kube.Event{
			Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID, ResourceVersion: svc.ResourceVersion},
			Type:      kind,
			Reason:    reason,
			Action:    "Announce",
			Note:      fmt.Sprintf(format, args...),
		})
	}
}

// tellConflicts tells of strangers that use an address of this node's, once each.
func (l *Loop) tellConflicts() {
	now := l.layer2.Conflicts()
	if !slices.EqualFunc(l.conflicts, now, sameConflict) {
		l.planner.setConflicts(now)
	}
	for _, c := range now {
		if slices.ContainsFunc(l.conflicts, func(k layer2.Conflict) bool { return sameConflict(k, c) }) {
			continue
		}
		what := "this node goes on to answer for it"
		if c.Held {
			what = "this node leaves it alone until that one is gone"
		}
		l.event(l.services(c.Addr), corev1.EventTypeWarning, eventAddressConflict, "%s, announced from node %s, is used by %s on the link of %s: %s",
			c.Addr, l.node, c.MAC, c.Interface, what)
	}
	l.conflicts = now
}

func (l *Loop) services(addr netip.Addr) []types.NamespacedName {
	return l.planner.decisions[addr].Services
}

func sameConflict(x, y layer2.Conflict) bool {
	return x.Addr == y.Addr && x.Interface == y.Interface && x.Held == y.Held && x.MAC.String() == y.MAC.String()
}
