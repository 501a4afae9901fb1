package unnumbered

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"
)

func TestWhatIsSentIsReadByOthers(t *testing.T) {
	m, err := ndp.ParseMessage(advertisement())
	if ra, is := m.(*ndp.RouterAdvertisement); err != nil || !is || ra.RouterLifetime != 0 || len(ra.Options) != 0 {
		t.Errorf("an advertisement is read as %+v, %v", m, err)
	}
	m, err = ndp.ParseMessage(solicitation())
	if _, is := m.(*ndp.RouterSolicitation); err != nil || !is {
		t.Errorf("a solicitation is read as %+v, %v", m, err)
	}
}

func TestAdvertisementsThatAreDropped(t *testing.T) {
	router := netip.MustParseAddr("fe80::1")
	mtu := []byte{5, 1, 0, 0, 0, 0, 5, 220}
	good := append(advertisement(), mtu...)
	if !valid(good, router, hopLimit) || !valid(advertisement(), router, hopLimit) {
		t.Fatal("a good one is dropped")
	}
	for _, c := range []struct {
		name    string
		message []byte
		from    string
		hops    int
	}{
		{"that came through a router", good, "fe80::1", 254},
		{"from an address of more than the link", good, "2001:db8::1", 255},
		{"from nobody", good, "::", 255},
		{"from a group", good, "ff02::1", 255},
		{"from an IPv4 link-local address", good, "169.254.0.1", 255},
		{"nothing at all", nil, "fe80::1", 255},
		{"cut short", good[:15], "fe80::1", 255},
		{"of another type", append([]byte{133}, good[1:]...), "fe80::1", 255},
		{"with a code", append([]byte{134, 1}, good[2:]...), "fe80::1", 255},
		{"with an option of no length", append(advertisement(), 5, 0, 0, 0, 0, 0, 5, 220), "fe80::1", 255},
		{"with an option that is cut short", good[:len(good)-1], "fe80::1", 255},
		{"with an option longer than the rest", append(advertisement(), 5, 2, 0, 0, 0, 0, 5, 220), "fe80::1", 255},
		{"with half an option's head", append(advertisement(), 5), "fe80::1", 255},
	} {
		if valid(c.message, netip.MustParseAddr(c.from), c.hops) {
			t.Errorf("an advertisement %s is taken", c.name)
		}
	}
}

// FuzzAdvertisements compares with another make's parser: what it reads we take, but for options that it knows more of.
func FuzzAdvertisements(f *testing.F) {
	f.Add(advertisement())
	f.Add(append(advertisement(), 1, 1, 2, 0, 0, 0, 0, 1, 5, 1, 0, 0, 0, 0, 5, 220))
	f.Add(append(advertisement(), bytes.Repeat([]byte{24, 1}, 20)...))
	router := netip.MustParseAddr("fe80::1")
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		taken := valid(b, router, hopLimit)
		if !bytes.Equal(b, before) {
			t.Fatal("the message was changed")
		}
		m, err := ndp.ParseMessage(b)
		if _, is := m.(*ndp.RouterAdvertisement); err == nil && is && b[1] == 0 && !taken {
			t.Fatalf("dropped: %+v", m)
		}
	})
}
