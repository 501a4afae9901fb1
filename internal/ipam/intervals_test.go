package ipam

import (
	"net/netip"
	"testing"

	"go4.org/netipx"
)

func TestTheEndsOfTheAddressSpaceAreOrdinaryAddresses(t *testing.T) {
	for _, s := range []string{"255.255.255.254-255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		r := netipx.MustParseIPRange(s)
		free := newIntervals(false)
		free.addRange(r.From(), r.To())
		for range 2 {
			first, last := free.takeFirst(), free.takeFirst()
			if first != r.From() || last != r.To() || !free.empty() {
				t.Fatalf("took %v and %v from %v", first, last, r)
			}
			free.add(last)
			free.add(first)
			if free.tree.Len() != 1 {
				t.Errorf("%v came back as %d intervals", r, free.tree.Len())
			}
		}
	}
	free := newIntervals(true)
	free.addRange(netip.MustParseAddr("255.255.255.254"), netip.MustParseAddr("255.255.255.255"))
	if free.takeFirst(); !free.empty() {
		t.Error("the last address of all is not avoided")
	}
}
