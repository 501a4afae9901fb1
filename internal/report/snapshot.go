package report

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
)

// Snapshot is a cluster as the API server showed it. A list is nil when it was not asked for or could not be read; then
// Unread says so.
type Snapshot struct {
	Now       time.Time
	Namespace string // that Herald is installed in
	Class     string // the load balancer class that the controller serves, see service.Of

	Resources config.Resources
	// Source is where Resources were read from, in words.
	Source string
	// Documents are the conditions of the ConfigMap's newest version as a whole; Resources is the one that is in force.
	Documents []metav1.Condition
	// FromConfigMap: that is a ConfigMap. Then there need not be any of Herald's kinds, and speakers say nothing of themselves.
	FromConfigMap bool

	Speakers           []v1beta1.Speaker
	AnnouncementSlices []v1beta1.AnnouncementSlice

	Services       []corev1.Service // of type LoadBalancer
	EndpointSlices []discoveryv1.EndpointSlice
	Nodes          []corev1.Node
	Namespaces     []corev1.Namespace
	Events         []eventsv1.Event

	// Herald's own workloads.
	Pods       []corev1.Pod
	Deployment *appsv1.Deployment
	DaemonSet  *appsv1.DaemonSet
	Lease      *coordinationv1.Lease // of the controller that leads

	Unread []Unread
}

// Missed tells whether a part of a Snapshot could not be read.
func (s *Snapshot) Missed(what string) bool {
	return slices.ContainsFunc(s.Unread, func(u Unread) bool { return u.What == what })
}

// Unread is a part of a Snapshot that could not be read.
type Unread struct {
	What string `json:"what"`
	Why  string `json:"why"`
	// NoKind: the API server does not know its kind.
	NoKind bool `json:"noKind,omitempty"`
}

// Setting returns what a container of Herald's is told by a flag or its environment variable, fallback when by neither.
func Setting(pod corev1.PodSpec, flag, fallback string) string {
	if len(pod.Containers) == 0 {
		return fallback
	}
	c := pod.Containers[0]
	for i, arg := range slices.Concat(c.Command, c.Args) {
		name, value, assigned := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch rest := slices.Concat(c.Command, c.Args)[i+1:]; {
		case name != flag || !strings.HasPrefix(arg, "-"):
		case assigned:
			return value
		case len(rest) > 0:
			return rest[0]
		}
	}
	variable := "HERALD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
	for _, e := range c.Env {
		if e.Name == variable && e.ValueFrom == nil {
			return cmp.Or(e.Value, fallback)
		}
	}
	return fallback
}

// Observes tells whether the controller gives nothing to Services, and only tells what it would.
func (s *Snapshot) Observes() bool {
	if s.Deployment == nil {
		return false
	}
	pod := s.Deployment.Spec.Template.Spec
	if len(pod.Containers) > 0 && slices.Contains(pod.Containers[0].Args, "--"+flagObserve) {
		return true
	}
	on, err := strconv.ParseBool(Setting(pod, flagObserve, "false"))
	return on && err == nil
}

// flagObserve is the flag of controllers and speakers that only observe.
const flagObserve = "observe"

// condition returns the condition of a type, the zero Condition when there is none.
func condition(all []metav1.Condition, name string) metav1.Condition {
	for _, c := range all {
		if c.Type == name {
			return c
		}
	}
	return metav1.Condition{}
}
