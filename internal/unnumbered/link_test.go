package unnumbered

import (
	"net/netip"
	"testing"
	"time"
)

var (
	own    = netip.MustParseAddr("fe80::11%eth0")
	first  = netip.MustParseAddr("fe80::1%eth0")
	second = netip.MustParseAddr("fe80::2%eth0")
)

// story is a link in a time that the test drives.
type story struct {
	*testing.T
	link
	now time.Time
}

// passes lets time pass, by the second, and returns how many messages of each kind were sent.
func (s *story) passes(d time.Duration) (advertisements, solicitations int) {
	for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(look) {
		a, b := s.due(s.now)
		if a {
			advertisements++
		}
		if b {
			solicitations++
		}
	}
	return advertisements, solicitations
}

func (s *story) sends(what string, d time.Duration, advertisements, solicitations int) {
	s.Helper()
	if a, b := s.passes(d); a != advertisements || b != solicitations {
		s.Errorf("%s: %d advertisements and %d solicitations in %v, want %d and %d", what, a, b, d, advertisements, solicitations)
	}
}

func (s *story) hears(what string, from netip.Addr, changed bool, router netip.Addr) {
	s.Helper()
	if got := s.hear(from, s.now); got != changed || s.router != router {
		s.Errorf("%s: changed %v, router %v; want %v, %v", what, got, s.router, changed, router)
	}
}

func TestOneLink(t *testing.T) {
	s := &story{T: t, now: time.Unix(1e9, 0)}
	s.sends("a link without an address", time.Minute, 0, 0)
	s.see(7, own, true)
	s.sends("a new link: three at once, then one every ten seconds; asking every four", 20*time.Second, 4, 5)
	s.hears("what we sent ourselves", own, false, netip.Addr{})
	s.hears("the router", first, true, first)
	s.sends("it is told soon that we are there", eager, 1, 0)
	s.hears("the router again", first, false, first)
	s.sends("a router that was heard is not asked", quiet, 1, 0)
	s.sends("one that is quiet is", solicit, 1, 1)
	s.hears("it answers", first, false, first)
	s.hears("another one on the link", second, false, first)
	s.sends("the first is asked", patience-look, 1, 3)
	s.hears("it answers", first, false, first)
	s.hears("so the other one does not take its place", second, false, first)
	s.passes(patience)
	s.hears("but does when the first says nothing", second, true, second)
	s.see(7, own, false)
	s.sends("the link is down", time.Minute, 0, 0)
	s.see(7, own, true)
	s.hears("the link is back, with the first", first, true, first)
	s.see(8, own, true)
	s.hears("another interface of the same name, with the same router", first, false, first)
	s.sends("which is told so", eager, 1, 0)
	if s.doubted {
		t.Error("the router is doubted still")
	}
}
