package kube

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/api/v1beta1"
)

func owned(n int) v1beta1.Announcement {
	addr := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return v1beta1.Announcement{Namespace: "web", Name: fmt.Sprint("s", n), Address: addr.String(), Role: v1beta1.RoleOwner, Protocol: v1beta1.ProtocolL2}
}

func ownedFrom(from, to int) (out []v1beta1.Announcement) {
	for n := from; n < to; n++ {
		out = append(out, owned(n))
	}
	return out
}

// touched ends a round and returns how many slices it has to write.
func (s *shelf) touched() int {
	s.tidy()
	n := len(s.changed)
	clear(s.changed)
	return n
}

func (s *shelf) sizes() (out []int) {
	for _, one := range s.slices {
		out = append(out, len(one))
	}
	return out
}

func at(second int64) metav1.MicroTime { return metav1.NewMicroTime(time.Unix(second, 0)) }

func TestAnnouncementsStayInTheirSlices(t *testing.T) {
	s := newShelf()
	for _, step := range []struct {
		name    string
		do      func()
		sizes   string
		written int
	}{
		{"the first fills as many as it takes", func() { s.put(ownedFrom(0, 1200), at(1)) }, "[500 500 200]", 3},
		{"nothing new is nothing", func() { s.put(ownedFrom(0, 1200), at(2)) }, "[500 500 200]", 0},
		{"a change is of one slice", func() { a := owned(7); a.Role = v1beta1.RoleStandIn; s.put([]v1beta1.Announcement{a}, at(3)) }, "[500 500 200]", 1},
		{"what is new goes to where there is most room", func() { s.put(ownedFrom(1200, 1300), at(4)) }, "[500 500 300]", 1},
		{"and, as long as there is some, to where something changes anyway", func() {
			s.remove(placeOf(owned(3)))
			s.remove(placeOf(owned(4)))
			s.put(ownedFrom(1300, 1303), at(5))
		}, "[500 500 301]", 2},
		{"an empty slice is used again before a new one is made", func() {
			for _, a := range ownedFrom(500, 1000) {
				s.remove(placeOf(a))
			}
		}, "[500 0 301]", 1},
		{"when it is needed", func() { s.put(ownedFrom(2000, 2300), at(6)) }, "[500 101 500]", 2},
		{"thin ones are put together", func() {
			for n, where := range s.places {
				if where != 1 && len(s.slices[where]) > 90 {
					s.remove(n)
				}
			}
		}, "[281 0 0]", 3},
	} {
		step.do()
		if written := s.touched(); fmt.Sprint(s.sizes()) != step.sizes || written != step.written {
			t.Errorf("%s: slices hold %v and %d are written, want %s and %d", step.name, s.sizes(), written, step.sizes, step.written)
		}
	}
}

func TestAnAnnouncementKeepsItsTimeInItsRole(t *testing.T) {
	s := newShelf()
	s.adopt(0, []v1beta1.Announcement{func() v1beta1.Announcement { a := owned(1); a.Since = at(1); return a }()})
	for _, step := range []struct {
		name  string
		edit  func(*v1beta1.Announcement)
		since int64
	}{
		{"from the process before", func(*v1beta1.Announcement) {}, 1},
		{"on other interfaces", func(a *v1beta1.Announcement) { a.Interfaces = []string{"eth1"} }, 1},
		{"another role is from now", func(a *v1beta1.Announcement) { a.Role = v1beta1.RoleStandIn }, 12},
		{"and so is the first one again", func(*v1beta1.Announcement) {}, 13},
	} {
		a := owned(1)
		step.edit(&a)
		s.put([]v1beta1.Announcement{a}, at(step.since))
		if got := s.content(0); len(got) != 1 || got[0].Since != at(step.since) {
			t.Errorf("%s: %v, want since %d", step.name, got, step.since)
		}
	}
}

func TestTheContentOfASliceIsInOrder(t *testing.T) {
	s := newShelf()
	var all []v1beta1.Announcement
	for _, addr := range []string{"10.0.0.9", "10.0.0.10", "2001:db8::1"} {
		for _, name := range []string{"a", "b"} {
			for _, protocol := range []v1beta1.AnnouncementProtocol{v1beta1.ProtocolBGP, v1beta1.ProtocolL2} {
				all = append(all, v1beta1.Announcement{Namespace: "x", Name: name, Address: addr, Protocol: protocol, Since: at(1)})
			}
		}
	}
	shuffled := slices.Clone(all)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	s.put(shuffled, at(1))
	for i, got := range s.content(0) {
		if placeOf(got) != placeOf(all[i]) {
			t.Fatalf("at %d is %v, want %v", i, got, all[i])
		}
	}
}
