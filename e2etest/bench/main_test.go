package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	clientset "k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/internal/kube"
)

// The cluster of this run, which has Herald's CRDs and nothing else of it.
var (
	cluster    *lab.Lab
	client     *kube.Client
	kubernetes clientset.Interface
	controller string // the binary
)

func TestMain(m *testing.M) {
	lab.Main()
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		os.Exit(m.Run())
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	root, err := install.Root()
	if err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "herald-bench-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	controller = filepath.Join(dir, "controller")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", controller, "./controller")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the controller: %w: %s", err, out)
	}

	cluster, err = lab.Up(ctx, lab.Options{Name: install.LabName("bench"), Nodes: 1, Owned: true, Out: os.Stderr})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, cluster.Down(context.WithoutCancel(ctx))) }()
	cfg, err := cluster.RESTConfig()
	if err != nil {
		return 1, err
	}
	if client, err = kube.NewClient(cfg, "herald-bench"); err != nil {
		return 1, err
	}
	if kubernetes, err = clientset.NewForConfig(cfg); err != nil {
		return 1, err
	}
	if _, err := cluster.Kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(root, "config", "crd")); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
