package e2etest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
)

const configMap = "herald-config"

// configure writes the ConfigMap that Herald's configuration is read from.
func configure(t *testing.T, data map[string]string) {
	t.Helper()
	maps := kube.CoreV1().ConfigMaps(install.Namespace)
	next := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: configMap}, Data: data}
	_, err := maps.Update(t.Context(), next, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = maps.Create(t.Context(), next, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// whole waits until the ConfigMap of the status says of the documents as a whole whether they are accepted, in words
// that hold these parts.
func whole(t *testing.T, status metav1.ConditionStatus, parts ...string) {
	t.Helper()
	within(t, 10*time.Second, func(ctx context.Context) error {
		cm, err := kube.CoreV1().ConfigMaps(install.Namespace).Get(ctx, configMap+"-status", metav1.GetOptions{})
		if err != nil {
			return err
		}
		var said struct {
			ConfigMap struct {
				Status v1beta1.ConfigurationStatus `json:"status"`
			} `json:"configMap"`
		}
		if err := yaml.Unmarshal([]byte(cm.Data["status.yaml"]), &said); err != nil {
			return err
		}
		conditions := said.ConfigMap.Status.Conditions
		if len(conditions) != 1 || conditions[0].Type != "Accepted" || conditions[0].Status != status {
			return fmt.Errorf("conditions are %+v, want Accepted %s", conditions, status)
		}
		for _, part := range parts {
			if !strings.Contains(conditions[0].Message, part) {
				return fmt.Errorf("message %q lacks %q", conditions[0].Message, part)
			}
		}
		return nil
	})
}

// manifest is one of the rendered manifests.
func manifest(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "manifests", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// fromCRDsAgain installs Herald as the other tests expect it.
func fromCRDsAgain(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// The roles of the other install go with it. What both installs have is applied anew.
	if err := install.Herald(ctx, cluster, kube, root); err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{
		{"delete", "role,rolebinding", "--ignore-not-found", "herald-controller-configmap", "herald-speaker-configmap"},
		{"delete", "configmap", "--ignore-not-found", configMap, configMap + "-accepted", configMap + "-status"},
	} {
		if _, err := cluster.Kubectl(ctx, append(args, "--namespace", install.Namespace)...); err != nil {
			t.Error(err)
		}
	}
	sample, err := os.ReadFile(filepath.Join(root, "config", "samples", "pool.yaml"))
	if err == nil {
		err = cluster.Apply(ctx, sample)
	}
	if err != nil {
		t.Error(err)
	}
}

// A cluster's configuration moves from custom resources to a ConfigMap of the same documents, the CRDs go, and the
// ConfigMap is edited, badly and well. The Service that was there from the beginning notices nothing.
func TestAConfigMapServesWithoutAnyCRD(t *testing.T) {
	sample, err := os.ReadFile(filepath.Join(root, "config", "samples", "pool.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	old := service(t, app.Service{Name: "from-crd", Selects: "testapp"})
	held := fmt.Sprint(addresses(old))
	answers := func(name string) {
		t.Helper()
		for _, a := range addresses(addressed(t, name)) {
			reachable(t, "client", a)
			owner(t, a)
		}
	}
	answers(old.Name)

	// While the pods are replaced, those that read objects may read them no more.
	over := withholding(v1beta1.GroupVersion.Group)
	t.Cleanup(func() {
		fromCRDsAgain(t)
		over()
	})
	start := time.Now()
	configure(t, map[string]string{"lan.yaml": string(sample)})
	if err := cluster.Apply(t.Context(), manifest(t, "herald-configmap.yaml")); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, func(ctx context.Context) error { return install.Ready(ctx, kube, nodes) })
	whole(t, metav1.ConditionTrue)
	// The pool's status counts addresses in use for ever now. It keeps nobody from deleting the CRDs.
	var crds []string
	for _, resource := range resources {
		crds = append(crds, resource+"."+v1beta1.GroupVersion.Group)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := cluster.Kubectl(ctx, append([]string{"delete", "--wait", "crd"}, crds...)...); err != nil {
		t.Fatal(err)
	}
	t.Logf("moved to a ConfigMap and removed the CRDs in %v", time.Since(start))
	service(t, app.Service{Name: "from-configmap", Selects: "testapp"})
	answers("from-configmap")
	ctl := heraldctl(t)
	ctl.says(t, 0, "pools", "lan ", "Available")
	ctl.says(t, 0, "explain service from-configmap", "Address: Holds 192.0.2.", "Nothing is found against it, and not all could be seen.")
	ctl.says(t, 1, "announcements", "where the configuration is a ConfigMap speakers write none")

	// A broken edit changes nothing, also for a controller that starts then.
	configure(t, map[string]string{"lan.yaml": strings.Replace(string(sample), "addresses:", "adresses:", 1)})
	whole(t, metav1.ConditionFalse, `data["lan.yaml"] line `, "no field spec.adresses", "accepted before stay in force")
	ctl.says(t, 3, "status", "ConfigMap/"+install.Namespace+"/"+configMap, "no field spec.adresses")
	if text := event(t, "ConfigMap", configMap, "ConfigurationRejected"); !strings.Contains(text, "spec.adresses") {
		t.Errorf("event %q does not name the field", text)
	}
	restartController(t)
	service(t, app.Service{Name: "despite-edit", Selects: "testapp"})
	answers("despite-edit")

	// A good one applies.
	configure(t, map[string]string{"lan.yaml": string(sample), "more.yaml": string(poolWith("more", `addresses: ["192.0.2.50/32"]`))})
	whole(t, metav1.ConditionTrue)
	event(t, "ConfigMap", configMap, "ConfigurationAccepted")
	more := balanced("from-edit", annotated("heraldlb.io/address-pool", "more"))
	create(t, more)
	has(t, more, assigned, "192.0.2.50")

	answers(old.Name)
	if now := fmt.Sprint(addresses(addressed(t, old.Name))); now != held {
		t.Errorf("%s had %s and has %s", old.Name, held, now)
	}
}
