package assign

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/internal/ipam"
	"heraldlb.io/herald/internal/service"
)

// lack is what a Service still needs: a set of families, and whether a part of them is of no use. Services of one
// lack can be served by the same addresses, so when the first of them cannot be served none can.
type lack uint8

const (
	lacks4 lack = 1 << iota
	lacks6
	lacksAll
	lackKinds

	lacksNothing lack = 0
)

func lackOf(e *entry) lack {
	l := lacksNothing
	for _, f := range e.req.Families {
		has := slices.ContainsFunc(e.leases, func(x ipam.Lease) bool { return service.FamilyOf(x.Addr) == f })
		switch {
		case has:
		case f == corev1.IPv4Protocol:
			l |= lacks4
		default:
			l |= lacks6
		}
	}
	if l == lacks4|lacks6 && e.req.AllFamilies {
		l |= lacksAll
	}
	return l
}

// served tells whether the free addresses give such a Service something.
func (l lack) served(alloc *ipam.Allocator) bool {
	got4 := l&lacks4 != 0 && alloc.Available(corev1.IPv4Protocol)
	got6 := l&lacks6 != 0 && alloc.Available(corev1.IPv6Protocol)
	if l&lacksAll != 0 {
		return got4 && got6
	}
	return got4 || got6
}

// waiting are the Services that lack addresses, a queue for each kind of lack, the oldest Service first. However many
// wait, a freed address looks at the head of each queue only.
type waiting struct {
	queues [lackKinds][]*entry
	length int
}

func byAge(x, y *entry) int { return older(x.svc, y.svc) }

func (w *waiting) add(e *entry) {
	e.lack = lackOf(e)
	if e.lack == lacksNothing {
		return
	}
	q := &w.queues[e.lack]
	i, _ := slices.BinarySearchFunc(*q, e, byAge)
	*q = slices.Insert(*q, i, e)
	w.length++
}

func (w *waiting) remove(e *entry) {
	if e.lack == lacksNothing {
		return
	}
	q := &w.queues[e.lack]
	e.lack = lacksNothing
	if i, found := slices.BinarySearchFunc(*q, e, byAge); found {
		*q = slices.Delete(*q, i, i+1)
		w.length--
	}
}

// next returns the oldest Service that the free addresses can serve, nil when there is none.
func (w *waiting) next(alloc *ipam.Allocator) *entry {
	var oldest *entry
	for kind, q := range w.queues {
		if len(q) == 0 || !lack(kind).served(alloc) {
			continue
		}
		if oldest == nil || byAge(q[0], oldest) < 0 {
			oldest = q[0]
		}
	}
	return oldest
}
