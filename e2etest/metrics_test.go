package e2etest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/internal/metrics/reference"
)

// scrape gets the metrics of every process of a program, over TLS when there is a scheme for it, by a token when there is
// one. It returns all that they say, and the status if it is the same for all.
func scrape(ctx context.Context, program, port, scheme, token string) (status int, body string, err error) {
	pods, err := kube.CoreV1().Pods(install.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=" + program})
	if err != nil {
		return 0, "", err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: cluster.Dialer("n1"), DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it is of the process's own making
	}}
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(p.Status.PodIP, port)+"/metrics", nil)
		if err != nil {
			return 0, "", err
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return 0, "", err
		}
		if status != 0 && status != resp.StatusCode {
			return 0, "", fmt.Errorf("%s %s answers %d, another one %d", program, p.Name, resp.StatusCode, status)
		}
		status, body = resp.StatusCode, body+string(text)
	}
	return status, body, nil
}

var ports = map[string]string{reference.Controller: "7480", reference.Speaker: "7481"}

func TestEveryMetricOfTheProgramsIsInTheReference(t *testing.T) {
	sample := regexp.MustCompile(`(?m)^(herald_\w+?)(_bucket|_sum|_count)?(?:\{(.*)\})? \S+$`)
	label := regexp.MustCompile(`(\w+)="`)
	for program, port := range ports {
		all, err := reference.Of(program)
		if err != nil {
			t.Fatal(err)
		}
		_, body, err := scrape(t.Context(), program, port, "http", "")
		if err != nil {
			t.Fatal(err)
		}
		seen := sample.FindAllStringSubmatch(body, -1)
		if len(seen) < len(all) {
			t.Errorf("the %s has only %d series", program, len(seen))
		}
		for _, s := range seen {
			var labels []string
			for _, l := range label.FindAllStringSubmatch(s[3], -1) {
				if l[1] != "le" {
					labels = append(labels, l[1])
				}
			}
			slices.Sort(labels)
			if !slices.ContainsFunc(all, func(m reference.Metric) bool {
				whole := m.Name == s[1]+s[2] && m.Type != "histogram"
				part := m.Name == s[1] && m.Type == "histogram" && s[2] != ""
				return (whole || part) && slices.Equal(m.Labels, labels) && strings.Contains(body, "# TYPE "+m.Name+" "+m.Type+"\n")
			}) {
				t.Errorf("the reference lacks this series of the %s, or says other labels or another type: %s", program, s[0])
			}
		}
	}
}

func TestMetricsAreForThoseWhoMayReadThem(t *testing.T) {
	guarded, err := exec.CommandContext(t.Context(), "go", "tool", "kustomize", "build", filepath.Join(root, "config", "metrics-auth")).Output()
	if err != nil {
		t.Fatal(err)
	}
	rights, err := os.ReadFile(filepath.Join(root, "config", "metrics-auth", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := install.Herald(ctx, cluster, kube, root); err != nil {
			t.Fatal(err)
		}
		remove(t, rights)
		ringed(t)
	})
	// Ready is more than a beginning here: the kubelet's probes come over TLS now, and without a token.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := cluster.Apply(ctx, guarded); err != nil {
		t.Fatal(err)
	}
	if err := install.Ready(ctx, kube, nodes); err != nil {
		t.Fatal(err)
	}
	tokenOf := func(name string) string {
		accounts := kube.CoreV1().ServiceAccounts("default")
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := accounts.Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { accounts.Delete(context.Background(), name, metav1.DeleteOptions{}) })
		r, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status.Token
	}
	reader, somebody := tokenOf("prometheus"), tokenOf("somebody")
	apply(t, []byte(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: prometheus-reads-herald}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: herald-metrics-reader}
subjects: [{kind: ServiceAccount, name: prometheus, namespace: default}]
`))
	for program, port := range ports {
		for _, c := range []struct {
			who, token string
			status     int
			says       string
		}{
			{"nobody", "", http.StatusUnauthorized, "a bearer token is needed"},
			{"a guess", "guess", http.StatusUnauthorized, "the token is not valid"},
			{"somebody", somebody, http.StatusForbidden, "system:serviceaccount:default:somebody may not get /metrics"},
			{"who may", reader, http.StatusOK, "herald_build_info{"},
		} {
			within(t, 30*time.Second, func(ctx context.Context) error { // the binding takes a moment, and a refusal holds for some
				status, body, err := scrape(ctx, program, port, "https", c.token)
				if err == nil && (status != c.status || !strings.Contains(body, c.says)) {
					err = fmt.Errorf("%s of the %s: %d %.200s, want %d %q", c.who, program, status, body, c.status, c.says)
				}
				return err
			})
		}
	}
}
