package e2etest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
)

func TestAnAdvertisementAnnouncesTheServicesThatItSelects(t *testing.T) {
	apply(t, append(couple("selects", 76), announced("selects", `serviceSelectors: [{matchLabels: {tier: web}}]`)...))
	svc := service(t, app.Service{Name: "selects", Selects: "testapp", Annotations: map[string]string{"heraldlb.io/address-pool": "selects"}})
	addrs := addresses(svc)
	label := func(value string) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"tier":%s}}}`, value)
		if _, err := kube.CoreV1().Services(svc.Namespace).Patch(t.Context(), svc.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	label(`"web"`)
	owners(t, addrs)
	label(`"db"`)
	for _, a := range addrs {
		silent(t, a)
	}
	label(`"web"`)
	owners(t, addrs)
}

// A preference decides where an address goes first. It moves it later only when that is asked for.
func TestAPreferenceMovesAnAddressOnlyWhenAskedTo(t *testing.T) {
	addrs := placed(t, "stays", 77, "n1")
	u := use(t, addrs, 5)
	// What is new follows the new preference, and by then all know of it.
	change(t, append(announced("stays", prefers("n2")), announced("follows", prefers("n2"))...))
	placed(t, "follows", 78, "n2")
	stays(t, u.end(t), "n1")

	u = use(t, addrs, 0)
	change(t, announced("stays", prefers("n2")+", rebalance: OnPreference"))
	u.movesFrom(t, "n1")
	u.goesOn(t, 20)
	to := moved(t, u.end(t), "n1")
	if !slices.Equal(to, []string{"n2", "n2"}) {
		t.Errorf("%v moved to %v, want n2, which is preferred", addrs, to)
	}
	moves(t, "stays", addrs, "n1", to, "LessPreferred")
}

// An advertisement that names interfaces announces on these alone, whatever their subnets are.
func TestAnAdvertisementAnnouncesOnTheInterfacesThatItNames(t *testing.T) {
	pool := poolWith("elsewhere", `addresses: ["203.0.113.7/32", "2001:db8:7::7/128"]`)
	apply(t, append(pool, announced("elsewhere", `interfaces: [eth0]`)...))
	svc := service(t, app.Service{Name: "elsewhere", Selects: "testapp", Annotations: map[string]string{"heraldlb.io/address-pool": "elsewhere"}})
	addrs := addresses(svc)
	owners(t, addrs)
	change(t, announced("elsewhere", `interfaces: ["cni*"]`))
	for _, a := range addrs {
		silent(t, a)
	}
	change(t, announced("elsewhere", `interfaces: ["cni*", "eth?"]`))
	owners(t, addrs)
	change(t, bytes.ReplaceAll(announced("elsewhere", ""), []byte(", }"), []byte("}")))
	for _, a := range addrs {
		silent(t, a) // no interface has them in its subnet
	}
}
