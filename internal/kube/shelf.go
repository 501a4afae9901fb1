package kube

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
)

// shelf keeps a node's announcements in slices of limited size. An announcement stays in the slice that it is in, so that
// a change touches few slices, however many there are.
type shelf struct {
	slices  []slice // by number; one without announcements is none
	places  map[place]int
	changed map[int]bool // since the last round
}

// slice is the content of one AnnouncementSlice.
type slice map[place]v1beta1.Announcement

// place tells announcements apart.
type place struct {
	namespace, name, address string
	protocol                 v1beta1.AnnouncementProtocol
}

func placeOf(a v1beta1.Announcement) place {
	return place{a.Namespace, a.Name, a.Address, a.Protocol}
}

func newShelf() *shelf { return &shelf{places: map[place]int{}, changed: map[int]bool{}} }

// adopt takes in what a slice already holds. What another slice holds too is dropped.
func (s *shelf) adopt(number int, announcements []v1beta1.Announcement) {
	s.extend(number)
	for _, a := range announcements {
		p := placeOf(a)
		if _, known := s.places[p]; !known {
			s.slices[number][p] = a
			s.places[p] = number
		}
	}
}

// extend makes room for a slice of this number.
func (s *shelf) extend(number int) {
	for number >= len(s.slices) {
		s.slices = append(s.slices, slice{})
	}
}

// put adds announcements or changes them. One that goes on in the same role keeps its time.
func (s *shelf) put(announcements []v1beta1.Announcement, now metav1.MicroTime) {
	for _, a := range announcements {
		p := placeOf(a)
		a.Since = now
		number, known := s.places[p]
		if known {
			old := s.slices[number][p]
			if old.Role == a.Role {
				a.Since = old.Since
			}
			if equality.Semantic.DeepEqual(old, a) {
				continue
			}
		} else {
			number = s.room()
			s.places[p] = number
		}
		s.slices[number][p] = a
		s.changed[number] = true
	}
}

// room finds a slice for one more announcement: one that is to be written anyway, else the emptiest in use, else a new one.
func (s *shelf) room() int {
	best := -1
	for n := range s.slices {
		size := len(s.slices[n])
		if size == v1beta1.MaxAnnouncements {
			continue
		}
		if s.changed[n] && size > 0 {
			return n
		}
		if size > 0 && (best < 0 || size < len(s.slices[best])) {
			best = n
		}
	}
	if best >= 0 {
		return best
	}
	for n := range s.slices {
		if len(s.slices[n]) == 0 {
			return n
		}
	}
	s.extend(len(s.slices))
	return len(s.slices) - 1
}

// remove takes an announcement out.
func (s *shelf) remove(p place) {
	if number, known := s.places[p]; known {
		delete(s.slices[number], p)
		delete(s.places, p)
		s.changed[number] = true
	}
}

// tidy puts the announcements into as few slices as hold them, once they are in more than twice as many.
func (s *shelf) tidy() {
	used := 0
	for _, one := range s.slices {
		if len(one) > 0 {
			used++
		}
	}
	least := (len(s.places) + v1beta1.MaxAnnouncements - 1) / v1beta1.MaxAnnouncements
	if used <= 2*least {
		return
	}
	all := make([]v1beta1.Announcement, 0, len(s.places))
	for _, one := range s.slices {
		all = slices.AppendSeq(all, maps.Values(one))
	}
	slices.SortFunc(all, compareAnnouncements)
	for n := range s.slices {
		s.slices[n] = slice{}
		s.changed[n] = true
	}
	for i, a := range all {
		n := i / v1beta1.MaxAnnouncements
		s.slices[n][placeOf(a)] = a
		s.places[placeOf(a)] = n
	}
}

// content returns the announcements of a slice in order, nil when there are none.
func (s *shelf) content(number int) []v1beta1.Announcement {
	if number >= len(s.slices) {
		return nil
	}
	return slices.SortedFunc(maps.Values(s.slices[number]), compareAnnouncements)
}

func compareAnnouncements(x, y v1beta1.Announcement) int {
	return cmp.Or(compareAddresses(x.Address, y.Address), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name),
		cmp.Compare(x.Protocol, y.Protocol))
}

// compareAddresses puts addresses in their numeric order.
func compareAddresses(x, y string) int {
	a, _ := netip.ParseAddr(x) // what is no address comes first
	b, _ := netip.ParseAddr(y)
	return cmp.Or(a.Compare(b), cmp.Compare(x, y))
}
