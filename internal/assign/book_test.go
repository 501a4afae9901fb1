package assign

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/config"
)

// What one more Service costs does not grow with how many there are: nobody else is looked at.
func TestOneMoreServiceTouchesNoOther(t *testing.T) {
	var set netipx.IPSetBuilder
	set.AddPrefix(netip.MustParsePrefix("198.18.0.0/16"))
	addresses, err := set.IPSet()
	if err != nil {
		t.Fatal(err)
	}
	b := newBook("")
	b.configure([]config.Pool{{Name: "lan", Addresses: addresses, AutoAssign: true}})
	balanced := func(i int) *corev1.Service {
		name := fmt.Sprintf("s%05d", i)
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), ResourceVersion: "1"},
			Spec: corev1.ServiceSpec{
				Type:       corev1.ServiceTypeLoadBalancer,
				IPFamilies: []corev1.IPFamily{v4},
				Ports:      []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
			},
		}
	}
	var all []*corev1.Service
	for i := range 10_000 {
		all = append(all, balanced(i))
	}
	b.start(all, nil, time.Now())
	if got := len(b.drain()); got != len(all) {
		t.Fatalf("%d Services were given an address, want all %d", got, len(all))
	}

	one := balanced(len(all))
	b.observe(one, true, time.Now())
	touched := b.drain()
	if touched = slices.Compact(touched); len(touched) != 1 || touched[0] != keyOf(one) {
		t.Errorf("one more Service had %v looked at, want it alone", touched)
	}
	if e := b.entries[keyOf(one)]; len(e.leases) != 1 {
		t.Errorf("it was given %v, refused: %v", e.leases, e.refusal)
	}
}
