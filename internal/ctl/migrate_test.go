package ctl

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"

	"heraldlb.io/herald/internal/migrate"
)

// migrated runs heraldctl migrate with a text on standard input.
func migrated(text string, args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = Run(context.Background(), Env{Args: append([]string{"heraldctl", "migrate"}, args...), In: strings.NewReader(text), Out: &o, Err: &e, Now: time.Now})
	return code, o.String(), e.String()
}

const fromMetalLB = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [192.0.2.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: metallb-system}
spec: {interfaces: [eth0]}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: one, annotations: {metallb.io/allow-shared-ip: "it's"}}
spec: {type: LoadBalancer, ipFamilies: [IPv4], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: two, annotations: {metallb.io/allow-shared-ip: "it's"}}
spec: {type: LoadBalancer, ipFamilies: [IPv4], ports: [{port: 81}]}
`

func TestMigrateWritesWhatIsAppliedOneAfterTheOther(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "herald")
	code, out, errOut := migrated(fromMetalLB, "metallb", "-f", "-", "--dir", dir)
	if code != ExitOK || out != "" || errOut != "2 objects made, 2 Services to annotate, 0 lines to read above\n" {
		t.Errorf("code %d, output %q, errors %q", code, out, errOut)
	}
	for name, want := range map[string]string{
		"pools.yaml":  "kind: IPAddressPool",
		"layer2.yaml": "kind: L2Advertisement",
		"annotate.sh": "kubectl annotate --overwrite service -n 'one' 'a' 'heraldlb.io/allow-shared-namespaces=two'\nkubectl annotate --overwrite service -n 'two' 'b' 'heraldlb.io/allow-shared-namespaces=one'\n",
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(text), want) || strings.Count(string(text), "kind:") > 1 {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	t.Run("and overwrites nothing", func(t *testing.T) {
		code, _, errOut := migrated(fromMetalLB, "metallb", "-f", "-", "--dir", dir)
		if code != ExitFailed || !strings.Contains(errOut, "pools.yaml is there already") {
			t.Errorf("code %d, errors %q", code, errOut)
		}
	})
}

func TestMigrateSaysInItsExitCodeThatSomethingWasRefused(t *testing.T) {
	code, out, errOut := migrated(fromMetalLB+"---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: none}\n", "metallb", "-f", "-")
	if code != ExitAttention || !strings.Contains(errOut, "refused: stdin:22: IPAddressPool none") {
		t.Errorf("code %d, errors %q", code, errOut)
	}
	if !strings.Contains(out, "name: lan") || strings.Contains(out, "none") {
		t.Errorf("output\n%s", out)
	}
}

// foreign has the kinds of all products, and these objects.
func foreign(objects ...runtime.Object) *dynamicfake.FakeDynamicClient {
	kinds := map[schema.GroupVersionResource]string{}
	for _, p := range migrate.Products() {
		for _, r := range p.Resources {
			kinds[r.GroupVersionResource] = "AnyList"
		}
	}
	return dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds, objects...)
}

func product(t *testing.T, name string) migrate.Product {
	t.Helper()
	for _, p := range migrate.Products() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no product %s", name)
	return migrate.Product{}
}

func object(t *testing.T, o any) *unstructured.Unstructured {
	t.Helper()
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: m}
}

func TestMigrateReadsAClusterOnceForEachResource(t *testing.T) {
	pools := object(t, &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: "kubevip", Namespace: "kube-system"}, Data: map[string]string{"range-global": "192.0.2.1-192.0.2.9"}})
	web := object(t, &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}})
	inputs, err := inputsOf(t.Context(), foreign(pools, web), product(t, "kube-vip-cloud-provider"))
	if err != nil || len(inputs) != 2 {
		t.Fatalf("%d inputs, %v; want the ConfigMap and the Service", len(inputs), err)
	}
	peer := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": map[string]any{"name": "tor", "namespace": "metallb-system"}}}
	older := peer.DeepCopy()
	older.SetAPIVersion("metallb.io/v1beta1")
	inputs, err = inputsOf(t.Context(), foreign(peer, older), product(t, "metallb"))
	if err != nil || len(inputs) != 1 {
		t.Errorf("%d inputs, %v; want the peer in its newer version alone", len(inputs), err)
	}
}

func TestMigrateReadsFromTheAPIServer(t *testing.T) {
	api := cluster(t)
	api.Create("configmaps", &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: "kubevip", Namespace: "kube-system"}, Data: map[string]string{"range-global": "192.0.2.1-192.0.2.9", "search-order": "desc"}})
	got := run(t, api, "migrate", "kube-vip-cloud-provider")
	if got.code != ExitOK || !strings.Contains(got.out, "- 192.0.2.1-192.0.2.9") || !strings.Contains(got.err, "no equal: cluster: ConfigMap kube-system/kubevip data.search-order") {
		t.Errorf("code %d, output\n%s\nerrors\n%s", got.code, got.out, got.err)
	}
}
