package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
)

// most is how long it may take from a cluster without Herald to a Service that answers a client outside, with the images on
// the nodes.
const most = time.Minute

func TestTheManifestServesWithinAMinute(t *testing.T) {
	manifest := filepath.Join(root, "manifests", "herald.yaml")
	without(t)
	t.Cleanup(func() {
		begin(t).kubectl("delete", "--ignore-not-found", "--wait", "-f", manifest)
		without(t)
	})
	s := begin(t)
	s.kubectl("apply", "--server-side", "-f", manifest)
	s.firstService()
}

// firstService goes on after an install: a pool, a Service, and an answer from it at each of its addresses. What it made is
// deleted with the test, before what the test made earlier.
func (s *transcript) firstService() {
	s.t.Helper()
	pool := filepath.Join(root, "config", "samples", "pool.yaml")
	service := filepath.Join(s.t.TempDir(), "web.yaml")
	if err := os.WriteFile(service, app.Service{Name: "web", Selects: "testapp", Type: "LoadBalancer"}.Manifest(), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { begin(s.t).kubectl("delete", "--ignore-not-found", "--wait", "-f", service, "-f", pool) })
	s.kubectl("apply", "-f", pool) // refused until the API server knows the kind
	s.kubectl("apply", "-f", service)
	for _, a := range s.addresses("web") {
		s.answers(a)
	}
	took := time.Since(s.start)
	if took > most {
		s.t.Errorf("took %v, want at most %v", took, most)
	}
	s.wait(func(ctx context.Context) error { return install.Ready(ctx, kube, nodes) })
	s.say("two controllers and %d speakers are ready", nodes)
}

// addresses waits until a Service has an address of each of its families.
func (s *transcript) addresses(name string) (out []netip.Addr) {
	s.t.Helper()
	var svc *corev1.Service
	s.wait(func(ctx context.Context) (err error) {
		svc, err = kube.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
		if err == nil && len(svc.Status.LoadBalancer.Ingress) != len(svc.Spec.IPFamilies) {
			err = fmt.Errorf("service %s wants %v and has %v; conditions %v", name, svc.Spec.IPFamilies, svc.Status.LoadBalancer.Ingress, svc.Status.Conditions)
		}
		return err
	})
	var shown []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		a, err := netip.ParseAddr(in.IP)
		if err != nil {
			s.t.Fatal(err)
		}
		out, shown = append(out, a), append(shown, in.IP)
	}
	s.say("service %s has %s", name, strings.Join(shown, " and "))
	return out
}

// answers waits until the application answers the client on the nodes' network at an address.
func (s *transcript) answers(a netip.Addr) {
	s.t.Helper()
	answer := s.answersFrom("client", a)
	s.say("client: GET %s is answered by pod %s on %s", a, answer.Pod, answer.Node)
}

// answersFrom waits until the application answers a host at an address.
func (s *transcript) answersFrom(host string, a netip.Addr) (answer app.Answer) {
	s.t.Helper()
	url := "http://" + netip.AddrPortFrom(a, 80).String() + "/"
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: cluster.Dialer(host), DisableKeepAlives: true}}
	s.wait(func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return json.NewDecoder(resp.Body).Decode(&answer)
	})
	return answer
}

// without waits until nothing of Herald is in the cluster.
func without(t *testing.T) {
	t.Helper()
	begin(t).wait(func(ctx context.Context) error {
		if _, err := kube.CoreV1().Namespaces().Get(ctx, install.Namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("namespace %s is still there (%v)", install.Namespace, err)
		}
		out, err := cluster.Kubectl(ctx, "get", "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding",
			"--selector", "app.kubernetes.io/part-of=herald", "--output", "name")
		if err == nil && len(out) > 0 {
			err = fmt.Errorf("still there: %s", out)
		}
		return err
	})
}
