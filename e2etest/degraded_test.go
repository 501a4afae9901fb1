package e2etest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
)

// fetch gets a page that a node's speaker serves, whatever its status.
func fetch(ctx context.Context, node, path string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	url := "http://" + netip.AddrPortFrom(cluster.Host(node).IPv4, 7481).String() + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: cluster.Dialer("client"), DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// says waits until a node's speaker is not ready for a reason and a line of its metrics, a regular expression, says so
// too.
func says(t *testing.T, node, reason, metric string) {
	t.Helper()
	line := regexp.MustCompile("(?m)^" + metric + "$")
	within(t, time.Minute, func(ctx context.Context) error {
		status, why, err := fetch(ctx, node, "/readyz")
		if err != nil {
			return err
		}
		_, metrics, err := fetch(ctx, node, "/metrics")
		if err != nil {
			return err
		}
		if status != http.StatusServiceUnavailable || !strings.Contains(why, reason) || !line.MatchString(metrics) {
			return fmt.Errorf("speaker of %s: readiness %d %q, want 503 with %q, and metric %s", node, status, why, reason, metric)
		}
		return nil
	})
}

func TestASpeakerWithoutItsSecretSaysSoAndRecoversWhenItIsThere(t *testing.T) {
	secrets := kube.CoreV1().Secrets(install.Namespace)
	secret, err := secrets.Get(t.Context(), "herald-gossip", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := secrets.Delete(t.Context(), secret.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	putBack := func() {
		_, err := secrets.Create(context.Background(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: secret.Name, Labels: secret.Labels}, Data: secret.Data}, metav1.CreateOptions{})
		if err != nil {
			t.Error(err)
		}
	}
	old, err := speakerPod(t.Context(), "n1")
	if err == nil {
		err = kube.CoreV1().Pods(install.Namespace).Delete(t.Context(), old.Name, metav1.DeleteOptions{})
	}
	if err != nil {
		putBack()
		t.Fatal(err)
	}
	says(t, "n1", "secret herald-gossip is not there", "herald_gossip_ready 0")
	svc := service(t, app.Service{Name: "two-speakers", Selects: "testapp"})
	for _, a := range addresses(svc) {
		reachable(t, "client", a)
		owner(t, a)
	}
	putBack()
	within(t, 20*time.Second, func(ctx context.Context) error { return install.Ready(ctx, kube, nodes) })
}

func TestASpeakerWithoutNetRawSaysSoAndLeavesTheAddressesToOthers(t *testing.T) {
	patch := func(capabilities string) {
		t.Helper()
		_, err := kube.AppsV1().DaemonSets(install.Namespace).Patch(context.Background(), install.Speaker, types.StrategicMergePatchType, fmt.Appendf(nil,
			`{"spec":{"template":{"spec":{"containers":[{"name":"speaker","securityContext":{"capabilities":{"add":%s}}}]}}}}`, capabilities), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	before, err := kube.AppsV1().DaemonSets(install.Namespace).Get(t.Context(), install.Speaker, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patch("[]")
	t.Cleanup(func() {
		patch(`["NET_RAW"]`)
		within(t, time.Minute, func(ctx context.Context) error { return install.Ready(ctx, kube, nodes) })
	})
	// The update goes on only once the first node's new speaker is ready, which it never is.
	var node string
	within(t, time.Minute, func(ctx context.Context) error {
		pods, err := kube.CoreV1().Pods(install.Namespace).List(ctx, metav1.ListOptions{
			LabelSelector: fmt.Sprintf("app.kubernetes.io/component=speaker,pod-template-generation=%d", before.Generation+1)})
		if err != nil {
			return err
		}
		for _, p := range pods.Items {
			if p.Status.Phase == corev1.PodRunning {
				node = p.Spec.NodeName
				return nil
			}
		}
		return fmt.Errorf("no new speaker runs among %d", len(pods.Items))
	})
	says(t, node, "add it to the container's securityContext", `herald_layer2_sockets_failed{protocol="arp"} [1-9]`)
	svc := service(t, app.Service{Name: "no-net-raw", Selects: "testapp"})
	for _, a := range addresses(svc) {
		reachable(t, "client", a)
		// Its peers answer in its place for as long as a restart may take, 30 s.
		within(t, time.Minute, func(context.Context) error {
			if owner(t, a) == node {
				return fmt.Errorf("%s is answered for with the MAC address of %s, which has no socket to answer with", a, node)
			}
			return nil
		})
	}
}
