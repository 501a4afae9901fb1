package service

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Sharing is what decides whether two Services may have one address.
type Sharing struct {
	// Key is the user's: Services share only with those of the same key, those without a key with nobody.
	Key string

	// Namespace is the Service's own. Namespaces, sorted, are the others with whose Services it would share;
	// AnyNamespace means all of them.
	Namespace    string
	Namespaces   []string
	AnyNamespace bool

	// Ports are the Service's, sorted.
	Ports []Port

	// Local: traffic is delivered only on nodes that have an endpoint, so whoever shares has to have the same ones.
	Local bool

	// Selector is the Service's, in one spelling; empty for a Service without one.
	Selector string
}

// Port is a port on which a Service is reached.
type Port struct {
	Protocol corev1.Protocol
	Number   int32
}

func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Protocol) }

// ComparePorts orders ports.
func ComparePorts(x, y Port) int {
	return cmp.Or(cmp.Compare(x.Number, y.Number), strings.Compare(string(x.Protocol), string(y.Protocol)))
}

// sharingOf reads what a Service says about sharing.
func sharingOf(svc *corev1.Service) (Sharing, *Refusal) {
	s := Sharing{
		Namespace: svc.Namespace,
		Local:     svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	if _, s.Key = annotation(svc, AnnotationAllowSharedIP); s.Key == "" {
		return s, nil // nothing else is looked at
	}
	s.Selector = labels.Set(svc.Spec.Selector).String()
	for _, p := range svc.Spec.Ports {
		s.Ports = append(s.Ports, Port{cmp.Or(p.Protocol, corev1.ProtocolTCP), p.Port})
	}
	slices.SortFunc(s.Ports, ComparePorts)
	name, value := annotation(svc, AnnotationAllowSharedNamespaces)
	if value == "" {
		return s, nil
	}
	var fault *Refusal
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		switch {
		case entry == "*":
			s.AnyNamespace = true
		case fault == nil && len(validation.IsDNS1123Label(entry)) > 0: // after one, the others are kept and match nothing
			fault = refuse(InvalidNamespace, "%s names %s, which cannot be a namespace: write names separated by commas, or * for every namespace", name, Quote(entry))
		default:
			s.Namespaces = append(s.Namespaces, entry)
		}
	}
	slices.Sort(s.Namespaces)
	s.Namespaces = slices.Compact(s.Namespaces)
	return s, fault
}

// Equal tells whether two say the same.
func (s *Sharing) Equal(other *Sharing) bool {
	return s.Key == other.Key && s.Namespace == other.Namespace && s.AnyNamespace == other.AnyNamespace && s.Local == other.Local &&
		s.Selector == other.Selector && slices.Equal(s.Namespaces, other.Namespaces) && slices.Equal(s.Ports, other.Ports)
}

// With tells whether two Services may have one address.
func (s *Sharing) With(other *Sharing) bool {
	if s.Key == "" || s.Key != other.Key {
		return false
	}
	_, clash := s.commonPort(other)
	return !clash && s.sameBackends(other) && s.admits(other) && other.admits(s)
}

// Obstacle says why two Services may not have one address, as a clause about the other one; empty when they may.
func (s *Sharing) Obstacle(other *Sharing) string {
	port, clash := s.commonPort(other)
	switch {
	case s.Key == "":
		return "and this Service has no annotation " + AnnotationAllowSharedIP
	case other.Key == "":
		return "which has no annotation " + AnnotationAllowSharedIP
	case s.Key != other.Key:
		return fmt.Sprintf("which shares under the key %s and not under %s", Quote(other.Key), Quote(s.Key))
	case clash:
		return fmt.Sprintf("which uses port %v too", port)
	case !s.sameBackends(other):
		return "which has another selector, and with externalTrafficPolicy Local only Services of the same selector share"
	case !s.admits(other):
		return fmt.Sprintf("whose namespace %s is not in this Service's annotation %s", other.Namespace, AnnotationAllowSharedNamespaces)
	case !other.admits(s):
		return fmt.Sprintf("which does not name the namespace %s in its annotation %s", s.Namespace, AnnotationAllowSharedNamespaces)
	default:
		return ""
	}
}

func (s *Sharing) commonPort(other *Sharing) (Port, bool) {
	for i, j := 0, 0; i < len(s.Ports) && j < len(other.Ports); {
		switch c := ComparePorts(s.Ports[i], other.Ports[j]); {
		case c == 0:
			return s.Ports[i], true
		case c < 0:
			i++
		default:
			j++
		}
	}
	return Port{}, false
}

// sameBackends: the node that has the address has an endpoint of each. Without selectors nobody can tell.
func (s *Sharing) sameBackends(other *Sharing) bool {
	return !s.Local && !other.Local || s.Selector != "" && s.Selector == other.Selector
}

func (s *Sharing) admits(other *Sharing) bool {
	if s.Namespace == other.Namespace || s.AnyNamespace {
		return true
	}
	_, named := slices.BinarySearch(s.Namespaces, other.Namespace)
	return named
}
