package e2etest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
)

// pool is the manifest of a pool.
func pool(name string, addresses ...string) []byte {
	return fmt.Appendf(nil, "apiVersion: heraldlb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s}\nspec: {addresses: [\"%s\"]}\n",
		name, strings.Join(addresses, `", "`))
}

// withoutSharedPool removes the pool that the tests share, and puts it back when the test is over.
func withoutSharedPool(t *testing.T) {
	t.Helper()
	sample, err := os.ReadFile(filepath.Join(root, "config", "samples", "pool.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Apply(context.Background(), sample); err != nil {
			t.Error(err)
		}
	})
	remove(t, sample)
}

func TestAFullPoolSaysSoAndADeletedServiceFreesItsAddressForTheNext(t *testing.T) {
	withoutSharedPool(t)
	apply(t, pool("one", "192.0.2.250/32"))
	v4 := func(name string) app.Service {
		return app.Service{Name: name, Selects: "testapp", Type: "LoadBalancer", IPFamilyPolicy: "SingleStack", IPFamilies: []string{"IPv4"}}
	}
	first := service(t, v4("first"))
	want := netip.MustParseAddr("192.0.2.250")
	if got := addresses(first); len(got) != 1 || got[0] != want {
		t.Fatalf("the first Service has %v, want %s", got, want)
	}

	apply(t, v4("second").Manifest())
	within(t, 10*time.Second, func(ctx context.Context) error {
		svc, err := kube.CoreV1().Services("default").Get(ctx, "second", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if c := condition(svc); c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "one") {
			return fmt.Errorf("condition %+v, want False with a message that names pool one", c)
		}
		return nil
	})
	if text := event(t, "Service", "second", "AllocationFailed"); !strings.Contains(text, "one") {
		t.Errorf("event %q does not name pool one", text)
	}
	within(t, 10*time.Second, func(ctx context.Context) error {
		return poolCondition(ctx, "one", "Available", "False", "")
	})

	if err := kube.CoreV1().Services("default").Delete(t.Context(), "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := addresses(addressed(t, "second")); len(got) != 1 || got[0] != want {
		t.Errorf("after the first Service went, the second has %v, want %s", got, want)
	}
}

func TestABadPoolSaysSoAndHarmsNoOther(t *testing.T) {
	apply(t, pool("bad", "192.0.2.50-192.0.2.40"))
	within(t, 10*time.Second, func(ctx context.Context) error {
		return poolCondition(ctx, "bad", "Accepted", "False", "192.0.2.40-192.0.2.50")
	})
	if text := event(t, "IPAddressPool", "bad", "ConfigurationRejected"); !strings.Contains(text, "spec.addresses[0]") {
		t.Errorf("event %q does not name the field", text)
	}
	svc := service(t, app.Service{Name: "beside-bad", Selects: "testapp"})
	for _, a := range addresses(svc) {
		reachable(t, "client", a)
	}
}

func TestARestartOfTheControllerChangesNoAddress(t *testing.T) {
	const n = 10
	before := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("kept-%d", i)
		before[name] = fmt.Sprint(addresses(service(t, app.Service{Name: name, Selects: "testapp"})))
	}
	// Freed addresses below the others would tempt an allocator that forgot.
	for _, name := range []string{"kept-0", "kept-3"} {
		if err := kube.CoreV1().Services("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		delete(before, name)
	}
	restartController(t)
	// A new Service gets its address only after the controller has seated all the others.
	fresh := fmt.Sprint(addresses(service(t, app.Service{Name: "kept-new", Selects: "testapp"})))
	for name, was := range before {
		if is := fmt.Sprint(addresses(addressed(t, name))); is != was {
			t.Errorf("%s had %s and has %s", name, was, is)
		}
		if was == fresh {
			t.Errorf("kept-new was given %s, which %s has", fresh, name)
		}
	}
}

// restartController deletes the controller's pod and waits for its successor.
func restartController(t *testing.T) {
	t.Helper()
	pods := kube.CoreV1().Pods(install.Namespace)
	selector := metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"}
	old, err := pods.List(t.Context(), selector)
	if err != nil {
		t.Fatal(err)
	}
	if err := pods.DeleteCollection(t.Context(), metav1.DeleteOptions{}, selector); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, func(ctx context.Context) error {
		now, err := pods.List(ctx, selector)
		if err != nil {
			return err
		}
		for _, p := range now.Items {
			for _, o := range old.Items {
				if p.UID == o.UID {
					return fmt.Errorf("controller %s is still there", p.Name)
				}
			}
		}
		return install.DeploymentReady(ctx, kube, install.Namespace, install.Controller)
	})
}

func TestAHundredServicesAtOnceGetDistinctAddressesAndAreAllAnnounced(t *testing.T) {
	const n = 100
	var manifests []byte
	for i := range n {
		manifests = append(manifests, app.Service{Name: fmt.Sprintf("many-%d", i), Selects: "testapp", Type: "LoadBalancer"}.Manifest()...)
	}
	start := time.Now()
	apply(t, manifests)
	applied := time.Since(start)
	holder := map[netip.Addr]string{}
	within(t, 30*time.Second, func(ctx context.Context) error {
		list, err := kube.CoreV1().Services("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		clear(holder)
		for i := range list.Items {
			svc := &list.Items[i]
			if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
				continue
			}
			for _, a := range addresses(svc) {
				if other, taken := holder[a]; taken {
					t.Errorf("%s is held by %s and %s", a, other, svc.Name)
				}
				holder[a] = svc.Name
			}
		}
		if len(holder) != 2*n {
			return fmt.Errorf("%d addresses given, want %d", len(holder), 2*n)
		}
		return nil
	})
	assigned := time.Since(start)
	within(t, 30*time.Second, func(ctx context.Context) error {
		asking, ctx := errgroup.WithContext(ctx)
		asking.SetLimit(20)
		for a, name := range holder {
			asking.Go(func() error {
				got, err := answering(ctx, a, 1)
				if err == nil && len(got) != 1 {
					err = fmt.Errorf("%s of %s is answered for by %v, want one node", a, name, got)
				}
				return err
			})
		}
		return asking.Wait()
	})
	t.Logf("%d Services: applied in %v, all had addresses after %v, all %d announced by %v", n, applied, assigned, 2*n, time.Since(start))
}

// poolCondition tells in its error how a pool's condition differs from what is wanted.
func poolCondition(ctx context.Context, name, kind, status, part string) error {
	out, err := cluster.Kubectl(ctx, "get", "ipaddresspool", name, "-o",
		fmt.Sprintf(`jsonpath={.status.conditions[?(@.type=="%s")].status} {.status.conditions[?(@.type=="%s")].message}`, kind, kind))
	if err != nil {
		return err
	}
	gotStatus, message, _ := strings.Cut(string(out), " ")
	if gotStatus != status || !strings.Contains(message, part) {
		return fmt.Errorf("pool %s: condition %s is %q, %q; want %s with %q", name, kind, gotStatus, message, status, part)
	}
	return nil
}
