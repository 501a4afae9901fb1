package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/internal/announce"
	"heraldlb.io/herald/internal/service"
)

// Whatever goes first, after heraldctl cleanup the cluster is as it was before Herald came. Services of type LoadBalancer
// have been there before and stay.
func TestUninstallingInAnyOrderLeavesNothing(t *testing.T) {
	manifest := filepath.Join(root, "manifests", "herald.yaml")
	without(t)
	program, err := suite.Program(t.Context(), "./heraldctl")
	if err != nil {
		t.Fatal(err)
	}
	ctl := func(s *transcript, args ...string) {
		s.t.Helper()
		s.run(func(ctx context.Context) *exec.Cmd {
			return cluster.Command(ctx, lab.CP, program, append([]string{"--kubeconfig=" + cluster.Kubeconfig()}, args...)...)
		})
	}
	crds := []string{"delete", "crd"}
	for _, kind := range []string{"announcementslices", "bfdprofiles", "bgpadvertisements", "bgppeers", "communities", "ipaddresspools", "l2advertisements", "speakers"} {
		crds = append(crds, kind+".heraldlb.io")
	}

	services := filepath.Join(t.TempDir(), "services.yaml")
	local := app.Service{Name: "local", Selects: "testapp", Type: "LoadBalancer", ExternalTrafficPolicy: "Local"}
	classed := app.Service{Name: "classed", Selects: "testapp", Type: "LoadBalancer", LoadBalancerClass: service.Class,
		Annotations: map[string]string{service.AnnotationAddressPool: "lan"}}
	pending := app.Service{Name: "pending", Selects: "testapp", Type: "LoadBalancer", Annotations: map[string]string{service.AnnotationAddressPool: "none"}}
	if err := os.WriteFile(services, slices.Concat(local.Manifest(), classed.Manifest(), pending.Manifest()), 0o644); err != nil {
		t.Fatal(err)
	}
	begin(t).kubectl("apply", "-f", services)
	t.Cleanup(func() { begin(t).kubectl("delete", "--wait", "-f", services) })
	ctl(begin(t), "cleanup") // events of earlier tests
	var before map[string]string
	begin(t).wait(func(ctx context.Context) (err error) { // until two looks show the same
		last := before
		before, err = everything(ctx)
		if err == nil && !maps.Equal(last, before) {
			err = errors.New("the cluster is still changing")
		}
		return err
	})
	t.Logf("%d objects before the first install", len(before))

	for _, order := range []struct {
		name  string
		first func(s *transcript)
	}{
		{"the manifest at once", func(s *transcript) {}},
		{"the kinds first", func(s *transcript) {
			s.kubectl(crds...)
			s.wait(func(ctx context.Context) error { // a controller without any pool takes its addresses back
				list, err := kube.CoreV1().Services("default").List(ctx, metav1.ListOptions{})
				for _, svc := range list.Items {
					if len(svc.Status.LoadBalancer.Ingress) > 0 {
						return fmt.Errorf("service %s has %v without any pool", svc.Name, svc.Status.LoadBalancer.Ingress)
					}
				}
				return err
			})
		}},
		{"the namespace first", func(s *transcript) { s.kubectl("delete", "namespace", install.Namespace) }},
	} {
		t.Run(order.name, func(t *testing.T) {
			s := begin(t)
			t.Cleanup(func() { // also when the test fails in the middle
				begin(t).kubectl("delete", "--ignore-not-found", "-f", manifest)
				without(t)
			})
			s.kubectl("apply", "--server-side", "-f", manifest)
			s.kubectl("apply", "-f", filepath.Join(root, "config", "samples", "pool.yaml"))
			s.addresses("local")
			s.addresses("classed")
			ctl(s, "drain", "n1")
			s.wait(func(ctx context.Context) error { return marked(ctx) })

			s.say("and away with it")
			order.first(s)
			s.kubectl("delete", "--ignore-not-found", "-f", manifest)
			ctl(s, "cleanup")
			s.same(before)
			s.say("nothing is left")
		})
	}
}

// marked waits for all that Herald writes on objects that are not its own.
func marked(ctx context.Context) error {
	for name, status := range map[string]metav1.ConditionStatus{"local": "True", "classed": "True", "pending": "False"} {
		svc, err := kube.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if c := service.Condition(svc); c == nil || c.Status != status {
			return fmt.Errorf("service %s is %+v, want %s %s", name, c, service.ConditionAllocated, status)
		}
		if c := service.Announced(svc); status == "True" && c == nil {
			return fmt.Errorf("service %s has no condition %s", name, service.ConditionAnnounced)
		}
	}
	n, err := kube.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
	if err == nil && n.Annotations[announce.AnnotationDrain] == "" {
		err = errors.New("node n1 is not marked for a drain")
	}
	return err
}

// same waits until everything is as it was.
func (s *transcript) same(before map[string]string) {
	s.t.Helper()
	s.wait(func(ctx context.Context) error {
		after, err := everything(ctx)
		if err != nil {
			return err
		}
		if d := differences(before, after); len(d) > 0 {
			return fmt.Errorf("%d differences to the cluster without Herald: %q", len(d), d)
		}
		return nil
	})
}
