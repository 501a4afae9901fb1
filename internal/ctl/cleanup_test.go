package ctl

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// wroteIngress notes on a Service of the test cluster, as the API server does, who wrote its addresses.
func wroteIngress(svc *corev1.Service, manager string) {
	svc.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
		Subresource: "status", FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`)}}
}

func TestCleanupTakesAwayWhatHeraldWroteAndNothingElse(t *testing.T) {
	api := cluster(t)
	api.EditServiceStatus("default", "web", func(svc *corev1.Service) {
		wroteIngress(svc, "herald-controller")
		svc.Status.Conditions = append(svc.Status.Conditions,
			metav1.Condition{Type: "heraldlb.io/Announced", Status: metav1.ConditionTrue, Reason: "Announced"},
			metav1.Condition{Type: "example.com/Checked", Status: metav1.ConditionTrue, Reason: "Fine"})
	})
	// Another load balancer has served this one since.
	api.EditServiceStatus("default", "hidden", func(svc *corev1.Service) { wroteIngress(svc, "somebody") })
	if got := run(t, api, "drain", "n1"); got.code != ExitOK {
		t.Fatal(got.err)
	}

	if got := run(t, api, "cleanup", "--dry-run"); got.code != ExitOK || !strings.Contains(got.out, "would clean 5 Services, 1 Node, 2 Events") ||
		!strings.Contains(got.out, "Service default/web, which had 192.0.2.100 and 2001:db8:1::1:0\n") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.err)
	}
	if got := run(t, api, "cleanup", "--timeout", "1ms"); got.code != ExitFailed || !strings.Contains(got.err, "pod herald-system/herald-speaker-x2x3z is still there") {
		t.Errorf("while Herald runs: exit %d, %s%s", got.code, got.out, got.err)
	}
	if w := api.Writes(); len(w) != 1 {
		t.Errorf("something was written while nothing should be: %v", w)
	}

	api.Delete("pods", "herald-system", "herald-speaker-x2x3z")
	conflicts := 2 // somebody else changes a Service meanwhile
	api.Fault(func(r *http.Request) int {
		if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/services/web/") && conflicts > 0 {
			conflicts--
			return http.StatusConflict
		}
		return 0
	})
	if got := run(t, api, "cleanup"); got.code != ExitOK || !strings.Contains(got.out, "cleaned 5 Services, 1 Node, 2 Events") {
		t.Errorf("exit %d, %s%s", got.code, got.out, got.err)
	}
	for _, svc := range api.Services() {
		if _, ok := svc.Annotations["heraldlb.io/pool"]; ok {
			t.Errorf("service %s has annotations %v", svc.Name, svc.Annotations)
		}
		for _, c := range svc.Status.Conditions {
			if strings.HasPrefix(c.Type, "heraldlb.io/") {
				t.Errorf("service %s has the condition %s", svc.Name, c.Type)
			}
		}
	}
	web := api.Service("default", "web")
	if len(web.Status.LoadBalancer.Ingress) != 0 || len(web.Status.Conditions) != 1 {
		t.Errorf("service web has %+v", web.Status)
	}
	if got := api.Service("default", "hidden").Status.LoadBalancer.Ingress; len(got) != 1 {
		t.Errorf("the addresses that another load balancer gave are now %v", got)
	}
	if got := api.Service("shop", "front").Annotations; got["heraldlb.io/address-pool"] != "dmz" {
		t.Errorf("the owner's annotations are now %v", got)
	}
	if len(api.Node("n1").Annotations) > 0 {
		t.Errorf("node n1 has annotations %v", api.Node("n1").Annotations)
	}
	if got := run(t, api, "cleanup"); got.code != ExitOK || got.out != "cleaned 0 Services, 0 Nodes, 0 Events\n" {
		t.Errorf("again: exit %d, %s%s", got.code, got.out, got.err)
	}
}
