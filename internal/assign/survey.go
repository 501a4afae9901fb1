package assign

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/ipam"
	"heraldlb.io/herald/internal/service"
)

// Survey is what a controller that starts would make of a cluster. It writes nothing.
type Survey struct {
	book *book
}

// NewSurvey lets a controller of this class (see service.Of) look at Services, under a configuration that was made from
// these resources.
func NewSurvey(class string, cfg *config.Config, r config.Resources, namespaces []corev1.Namespace, services []corev1.Service) Survey {
	b := newBook(class)
	for i := range namespaces {
		b.namespace(namespaces[i].Name, namespaces[i].Labels)
	}
	b.configure(poolsInForce(cfg, r.Pools))
	all := make([]*corev1.Service, len(services))
	for i := range services {
		all[i] = &services[i]
	}
	b.start(all, nil, time.Time{})
	return Survey{b}
}

// Holding returns what a Service would hold, and why not more.
func (s Survey) Holding(key types.NamespacedName) ([]ipam.Lease, *service.Refusal) {
	e := s.book.entries[key]
	if e == nil {
		return nil, nil
	}
	return e.leases, e.refusal
}

// Considered returns what each pool could give to a Service.
func (s Survey) Considered(key types.NamespacedName) []ipam.Considered {
	e := s.book.entries[key]
	if e == nil {
		return nil
	}
	return s.book.alloc.Consider(e.req)
}
