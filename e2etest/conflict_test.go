package e2etest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/probe"
)

// These take their time and run at once: conflicts of n2 and n3, and the service path of n1.
func TestWhatIsWrongWithANodeOrItsLinkIsNoticed(t *testing.T) {
	t.Run("a stranger uses an address", aStrangerUsesAnAddress)
	t.Run("a stranger had an address first", aStrangerHadAnAddressFirst)
	t.Run("a service path fails", aServicePathFails)
}

func aStrangerUsesAnAddress(t *testing.T) {
	t.Parallel()
	addrs := placed(t, "used", 73, "n3")
	shows(t, "n3", "herald_layer2_conflicts 0")
	for _, a := range addrs {
		take(t, a)
		speak(t, a)
		note := told(t, "used", "AddressConflict", 1+slices.Index(addrs, a))
		for _, part := range []string{a.String(), "n3", cluster.Host("router").MAC.String(), "goes on to answer"} {
			if last := note[len(note)-1]; !strings.Contains(last, part) {
				t.Errorf("event %q lacks %q", last, part)
			}
		}
		if got, err := answering(t.Context(), a, 5); err != nil || got["n3"] == 0 || got["router"] == 0 {
			t.Errorf("%s is answered for by %v, %v, want n3 and the router", a, got, err)
		}
	}
	shows(t, "n3", "herald_layer2_conflicts 2")
	explains(t, "used", metav1.ConditionTrue, "AddressConflict", cluster.Host("router").MAC.String())
	for _, a := range addrs {
		abandon(t, a)
	}
	shows(t, "n3", "herald_layer2_conflicts 0")
	for i, who := range owners(t, addrs) {
		if who != "n3" {
			t.Errorf("%s is at %s, want n3, which had it all the time", addrs[i], who)
		}
	}
}

func aStrangerHadAnAddressFirst(t *testing.T) {
	t.Parallel()
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.74"), netip.MustParseAddr("2001:db8:1::74")}
	for _, a := range addrs {
		take(t, a)
	}
	apply(t, append(couple("held", 74), announced("held", prefers("n2"))...))
	svc := service(t, app.Service{Name: "held", Selects: "testapp", Annotations: map[string]string{"heraldlb.io/address-pool": "held"}})
	if got := addresses(svc); !slices.Equal(got, addrs) {
		t.Fatalf("service held has %v, want %v", got, addrs)
	}
	for _, note := range told(t, "held", "AddressConflict", 2) {
		for _, part := range []string{"n2", cluster.Host("router").MAC.String(), "leaves it alone"} {
			if !strings.Contains(note, part) {
				t.Errorf("event %q lacks %q", note, part)
			}
		}
	}
	shows(t, "n2", "herald_layer2_conflicts 2")
	explains(t, "held", metav1.ConditionFalse, "AddressConflict", cluster.Host("router").MAC.String())
	for i, who := range owners(t, addrs) {
		if who != "router" {
			t.Errorf("%s is answered for by %s, want the router, which had it first", addrs[i], who)
		}
	}
	for _, a := range addrs {
		abandon(t, a)
	}
	within(t, 30*time.Second, func(ctx context.Context) error {
		for _, a := range addrs {
			if who, err := only(ctx, a); err != nil || who != "n2" {
				return fmt.Errorf("%s is answered for by %q, %v; want n2", a, who, err)
			}
		}
		return nil
	})
	shows(t, "n2", "herald_layer2_conflicts 0")
	explains(t, "held", metav1.ConditionTrue, "Announced", "n2")
}

// take gives the router an address, which it answers for from then on, until the test is over at the latest.
func take(t *testing.T, a netip.Addr) {
	t.Helper()
	t.Cleanup(func() { router("address", "del", a) }) // it may be gone already
	if err := router("address", "add", a); err != nil {
		t.Fatal(err)
	}
}

// abandon takes it away again.
func abandon(t *testing.T, a netip.Addr) {
	t.Helper()
	if err := router("address", "del", a); err != nil {
		t.Fatal(err)
	}
}

// router changes an address of the router's interface on the LAN. It does not look whether others have it.
func router(object, verb string, a netip.Addr) error {
	args := []string{object, verb, netip.PrefixFrom(a, a.BitLen()).String(), "dev", "eth0"}
	if a.Is6() && verb == "add" {
		args = append(args, "nodad")
	}
	out, err := cluster.Command(context.Background(), "router", "ip", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("router: ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return err
}

// speak makes the router use an address.
func speak(t *testing.T, a netip.Addr) {
	t.Helper()
	if err := cluster.InNet("router", func() error { return probe.Speak(a) }); err != nil {
		t.Fatal(err)
	}
}

func aServicePathFails(t *testing.T) {
	t.Parallel()
	addrs := placed(t, "path", 75, "n1")
	for _, n := range cluster.Nodes() {
		shows(t, n, "herald_service_path_down 0")
	}
	u := use(t, addrs, 0)
	frozen(t, "n1/kube-proxy")
	u.movesFrom(t, "n1")
	to := moved(t, u.end(t), "n1")
	moves(t, "path", addrs, "n1", to, "ServicePathDown")
	thawed(t, "n1/kube-proxy")
	shows(t, "n1", "herald_service_path_down 0")

	u = use(t, addrs, 0)
	for _, n := range cluster.Nodes() {
		frozen(t, n+"/kube-proxy")
	}
	for _, n := range cluster.Nodes() {
		shows(t, n, "herald_service_path_down 1")
	}
	u.goesOn(t, 20)
	for _, n := range cluster.Nodes() {
		thawed(t, n+"/kube-proxy")
	}
	for _, n := range cluster.Nodes() {
		shows(t, n, "herald_service_path_down 0")
	}
	u.goesOn(t, 20)
	for i, who := range u.end(t) {
		if !slices.Equal(who, to[i:i+1]) {
			t.Errorf("while no service path worked %s was answered for by %v, want %s only", addrs[i], who, to[i])
		}
	}
}
