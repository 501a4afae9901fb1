package announce

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What the caches keep of an object says the same as the object, in fewer words.
func TestWhatIsTrimmedSaysTheSame(t *testing.T) {
	yes := true
	waste := strings.Repeat("waste", 100)
	meta := func(m *metav1.ObjectMeta) {
		m.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: waste}}
		m.OwnerReferences = []metav1.OwnerReference{{Name: waste}}
		m.Finalizers = []string{waste}
		if m.Annotations == nil {
			m.Annotations = map[string]string{}
		}
		m.Annotations[corev1.LastAppliedConfigAnnotation] = waste
	}
	svc := lbService("shop", corev1.ServiceExternalTrafficPolicyLocal, "192.0.2.100")
	svc.Labels = map[string]string{"tier": "gold"}
	svc.Spec.Selector = map[string]string{"app": waste}
	svc.Spec.Ports = []corev1.ServicePort{{Name: waste}}
	meta(&svc.ObjectMeta)
	endpoints := slice("shop-1", "shop", endpoint("n1", &yes, &yes), endpoint("", &yes, nil))
	endpoints.Endpoints[0].Addresses = []string{waste}
	endpoints.Endpoints[0].TargetRef = &corev1.ObjectReference{Name: waste}
	endpoints.Ports = []discoveryv1.EndpointPort{{Name: &waste}}
	meta(&endpoints.ObjectMeta)
	n := readyNode("n1", "192.0.2.11")
	n.Annotations = map[string]string{AnnotationDrain: ""}
	n.Spec.Unschedulable = true
	n.Spec.ProviderID = waste
	n.Status.Images = []corev1.ContainerImage{{Names: []string{waste}}}
	meta(&n.ObjectMeta)

	wantService := contributionOf(svc.DeepCopy(), []*discoveryv1.EndpointSlice{endpoints.DeepCopy()}, false)
	wantNode := nodeOf(n.DeepCopy())
	for _, o := range []any{svc, endpoints, n} {
		if _, err := trim(o); err != nil {
			t.Fatal(err)
		}
		if b, err := json.Marshal(o); err != nil || strings.Contains(string(b), waste) {
			t.Errorf("there is waste in %s (%v)", b, err)
		}
	}
	if got := contributionOf(svc, []*discoveryv1.EndpointSlice{endpoints}, false); !got.equal(wantService) || len(got.held) != 1 || len(got.nodes) != 1 {
		t.Errorf("the Service adds %+v, want %+v", got, wantService)
	}
	if got := nodeOf(n); !got.equal(wantNode) || !got.draining || !got.cordoned {
		t.Errorf("the Node is %+v, want %+v", got, wantNode)
	}
	if serviceOf(endpoints) != key("shop") {
		t.Errorf("the endpoints are of %s", serviceOf(endpoints))
	}
	if _, err := trim("what is none of these"); err != nil {
		t.Error(err)
	}
}
