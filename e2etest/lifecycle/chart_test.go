package lifecycle

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/parts"
)

// The chart alone, packed, puts Herald into a cluster. An upgrade changes what its values change: not the gossip key, nor the
// addresses. An uninstall leaves the kinds, and with them the pools, to be deleted by who means it.
func TestTheChartServesWithinAMinuteAndIsUpgraded(t *testing.T) {
	without(t)
	helm := helm(t)
	dir := t.TempDir()
	pack := exec.Command(helm, "package", "--destination", dir, filepath.Join(root, "charts", "herald"))
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", pack, err, out)
	}
	packed, err := filepath.Glob(filepath.Join(dir, "herald-*.tgz"))
	if err != nil || len(packed) != 1 {
		t.Fatalf("packed %v, %v", packed, err)
	}
	run := func(s *transcript, args ...string) {
		t.Helper()
		s.run(func(ctx context.Context) *exec.Cmd {
			cmd := cluster.Command(ctx, lab.CP, helm, append([]string{"--kubeconfig=" + cluster.Kubeconfig()}, append(args, "--namespace", install.Namespace)...)...)
			cmd.Env = append(cmd.Env, "HELM_CONFIG_HOME="+dir, "HELM_CACHE_HOME="+dir, "HELM_DATA_HOME="+dir)
			return cmd
		})
	}
	t.Cleanup(func() {
		s := begin(t)
		run(s, "uninstall", "herald", "--ignore-not-found")
		s.kubectl("delete", "--ignore-not-found", "--wait", "crd", "--selector", "app.kubernetes.io/part-of=herald")
		s.kubectl("delete", "--ignore-not-found", "--wait", "namespace", install.Namespace)
		without(t)
	})
	s := begin(t)
	run(s, "install", "herald", packed[0], "--create-namespace")
	s.firstService()

	before, addrs := gossipKey(t), s.addresses("web")
	run(s, "upgrade", "herald", packed[0], "--set", "log.format=json")
	s.wait(func(ctx context.Context) error { return install.Ready(ctx, kube, nodes) })
	s.say("upgraded")
	if after := gossipKey(t); after != before {
		t.Error("the upgrade changed the gossip key")
	}
	again := s.addresses("web")
	for i, a := range addrs {
		if again[i] != a {
			t.Errorf("the upgrade changed %s to %s", a, again[i])
		}
		s.answers(a)
	}

	run(s, "uninstall", "herald")
	s.kubectl("get", "ipaddresspool", "lan")
}

// helm returns the program, which is built when it is first needed.
func helm(t *testing.T) string {
	t.Helper()
	cache, err := parts.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	programs, err := parts.Cache{Dir: cache, Progress: func(line string) { t.Log(line) }}.Build(t.Context(), parts.Helm())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(programs, "helm")
}

// gossipKey is the secret that the speakers share.
func gossipKey(t *testing.T) string {
	t.Helper()
	secret, err := kube.CoreV1().Secrets(install.Namespace).Get(t.Context(), "herald-gossip", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return string(secret.Data["key"])
}
