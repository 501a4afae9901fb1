package e2etest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/probe"
)

// within fails the test unless f returns nil before d is over, and says what f lacked last.
func within(t *testing.T, d time.Duration, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d) // t.Context is over when clean-up begins
	defer cancel()
	if err := install.Until(ctx, func() error { return f(ctx) }); err != nil {
		t.Fatal(err)
	}
}

// apply applies manifests and deletes what is in them when the test is over.
func apply(t *testing.T, manifest []byte) {
	t.Helper()
	t.Cleanup(func() { remove(t, manifest) })
	if err := cluster.Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
}

// stopAPIServer stops the API server until the function that it returns is called, or else until the test is over. One that
// starts refuses everything before it has read the roles.
func stopAPIServer(t *testing.T) (startAgain func()) {
	t.Helper()
	over := withholding(everyGroup)
	if err := cluster.StopAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	startAgain = sync.OnceFunc(func() {
		if err := cluster.StartAPIServer(context.Background()); err != nil {
			t.Error(err)
		}
		over()
	})
	t.Cleanup(startAgain)
	return startAgain
}

// remove deletes what is in a manifest and waits until it is gone. A pool may be refused at first: until its status
// shows that nobody has its addresses any more.
func remove(t *testing.T, manifest []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := install.Until(ctx, func() error {
		cmd := cluster.KubectlCommand(ctx, "delete", "--ignore-not-found", "--wait", "-f", "-")
		cmd.Stdin = bytes.NewReader(manifest)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%v: %w: %s", cmd, err, out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// service makes a Service of type LoadBalancer in front of the test application and returns it once it has an
// address for each of its families.
func service(t *testing.T, s app.Service) *corev1.Service {
	t.Helper()
	s.Type = "LoadBalancer"
	apply(t, s.Manifest())
	return addressed(t, s.Name)
}

// addressed waits until a Service in namespace default has an address for each of its families.
func addressed(t *testing.T, name string) *corev1.Service {
	t.Helper()
	var svc *corev1.Service
	within(t, 10*time.Second, func(ctx context.Context) (err error) {
		svc, err = kube.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
		if err == nil && len(addresses(svc)) != len(svc.Spec.IPFamilies) {
			err = fmt.Errorf("service %s wants %v and has %v; conditions %v", name, svc.Spec.IPFamilies, addresses(svc), svc.Status.Conditions)
		}
		return err
	})
	return svc
}

// addresses are the external addresses of a Service, IPv4 first.
func addresses(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// target is address:port.
func target(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// get asks the application for its answer over a new connection.
func get(ctx context.Context, from string, addr string) (app.Answer, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: cluster.Dialer(from), DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return app.Answer{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return app.Answer{}, err
	}
	defer resp.Body.Close()
	var a app.Answer
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(body, &a)
}

// reachable waits until the application answers at an address.
func reachable(t *testing.T, from string, a netip.Addr) app.Answer {
	t.Helper()
	var answer app.Answer
	within(t, 10*time.Second, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		answer, err = get(ctx, from, target(a, 80))
		return err
	})
	return answer
}

// answering asks n times on the LAN, from the client, whose address this is, and returns the nodes that answered and
// how often.
func answering(ctx context.Context, a netip.Addr, n int) (map[string]int, error) {
	ask := probe.ARP
	if a.Is6() {
		ask = probe.NDP
	}
	var macs map[string]int
	err := cluster.InNet("client", func() (err error) {
		macs, err = ask(ctx, "eth0", a, n)
		return err
	})
	out := map[string]int{}
	for mac, count := range macs {
		out[hostOf(mac)] += count
	}
	return out, err
}

// hostOf names the host that has a MAC address.
func hostOf(mac string) string {
	for _, n := range append(cluster.Nodes(), "router") {
		if cluster.Host(n).MAC.String() == mac {
			return n
		}
	}
	return mac
}

// owner waits until exactly one node answers for an address, and returns it.
func owner(t *testing.T, a netip.Addr) string {
	t.Helper()
	var who string
	within(t, 10*time.Second, func(ctx context.Context) error {
		got, err := answering(ctx, a, 5)
		if err != nil {
			return err
		}
		if len(got) != 1 {
			return fmt.Errorf("%s is answered for by %v, want one node", a, got)
		}
		for who = range maps.Keys(got) {
		}
		return nil
	})
	return who
}

// silent waits until nobody answers for an address.
func silent(t *testing.T, a netip.Addr) {
	t.Helper()
	within(t, 10*time.Second, func(ctx context.Context) error {
		got, err := answering(ctx, a, 5)
		if err == nil && len(got) > 0 {
			err = fmt.Errorf("%s is answered for by %v, want nobody", a, got)
		}
		return err
	})
}

// condition returns a Service's condition heraldlb.io/Allocated.
func condition(svc *corev1.Service) metav1.Condition {
	for _, c := range svc.Status.Conditions {
		if c.Type == "heraldlb.io/Allocated" {
			return c
		}
	}
	return metav1.Condition{}
}

// event waits for an event on an object and returns its text.
func event(t *testing.T, kind, name, reason string) string {
	t.Helper()
	var text string
	within(t, 10*time.Second, func(ctx context.Context) error {
		list, err := kube.EventsV1().Events("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Regarding.Kind == kind && e.Regarding.Name == name && e.Reason == reason {
				text = e.Note
				return nil
			}
		}
		return fmt.Errorf("no event %s on %s %s", reason, kind, name)
	})
	return text
}

// speakerPod returns the ready speaker's pod on a node.
func speakerPod(ctx context.Context, node string) (*corev1.Pod, error) {
	pods, err := kube.CoreV1().Pods(install.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=speaker", FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, err
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
				return p, nil
			}
		}
	}
	return nil, fmt.Errorf("no ready speaker on %s", node)
}
