package lifecycle

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/parts"
)

// The chart alone, packed, puts Herald into a cluster.
func TestTheChartServesWithinAMinute(t *testing.T) {
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
