package lifecycle

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"heraldlb.io/herald/e2etest/install"
)

// What docs/install.md says of Pod Security is what the API server says.
func TestPodSecurityAllowsAllButTheSpeakersNetwork(t *testing.T) {
	templates := map[string]corev1.PodTemplateSpec{}
	for _, o := range manifest(t, "herald.yaml") {
		switch o := o.(type) {
		case *appsv1.Deployment:
			templates[o.Name] = o.Spec.Template
		case *appsv1.DaemonSet:
			templates[o.Name] = o.Spec.Template
		}
	}
	if err := admitted(t, "restricted", templates[install.Controller]); err != nil {
		t.Errorf("the controller is refused at level restricted: %v", err)
	}
	err := admitted(t, "baseline", templates[install.Speaker])
	if !apierrors.IsForbidden(err) {
		t.Fatalf("the speaker at level baseline gave %v, want that it is forbidden", err)
	}
	_, why, _ := strings.Cut(err.Error(), `violates PodSecurity "baseline:latest": `)
	reasons := strings.Split(strings.TrimSuffix(why, ")"), "), ")
	slices.Sort(reasons)
	if want := []string{
		"host namespaces (hostNetwork=true",
		`hostPort (container "speaker" uses hostPorts 7481, 7947`,
		`non-default capabilities (container "speaker" must not include "NET_RAW" in securityContext.capabilities.add`,
	}; !slices.Equal(reasons, want) {
		t.Errorf("the speaker is refused at level baseline for\n%s\nwant\n%s", strings.Join(reasons, "\n"), strings.Join(want, "\n"))
	}
}

// admitted asks the API server whether a pod may run in a namespace of a Pod Security level.
func admitted(t *testing.T, level string, template corev1.PodTemplateSpec) error {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "level-" + level, Labels: map[string]string{"pod-security.kubernetes.io/enforce": level}}}
	if _, err := kube.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kube.CoreV1().Namespaces().Delete(context.Background(), namespace.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	begin(t).wait(func(ctx context.Context) error { // pods need it
		_, err := kube.CoreV1().ServiceAccounts(namespace.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "herald"}, Spec: template.Spec}
	pod.Spec.ServiceAccountName = ""
	_, err := kube.CoreV1().Pods(namespace.Name).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// manifest returns those objects of a rendered manifest that client-go knows.
func manifest(t *testing.T, name string) (out []any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "manifests", name))
	if err != nil {
		t.Fatal(err)
	}
	docs := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := docs.Read()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if o, _, err := scheme.Codecs.UniversalDeserializer().Decode(doc, nil, nil); err == nil {
			out = append(out, o)
		}
	}
}
