// Package situations breaks a real cluster in the ways in which users' clusters are broken, one script each, and asserts that
// Herald says what its user needs: in a condition, an event, a metric or alert, and a sentence of heraldctl. The scripts
// are testdata/*.txtar; package page renders docs/troubleshooting.md from them.
//
// All scripts share one cluster. Those that harm nobody else run at once, each with objects of its own name; the others after them,
// one by one. Each leaves the cluster as it was.
package situations

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

const nodes = 3

var named = flag.String("lab", "", "`name` of a lab with Herald in it that is up, to be used in place of a new one")

// The cluster of this run, with Herald, a pool of LAN addresses and a pod of the test application on every node in it.
var (
	cluster   *lab.Lab
	kube      kubernetes.Interface
	objects   dynamic.Interface
	heraldctl string // the program
	root      string // of the checkout
)

func TestMain(m *testing.M) {
	lab.Main()
	flag.Parse()
	if testing.Short() || os.Getuid() != 0 {
		fmt.Println("skipped: situations are made on a cluster in namespaces, which needs root and no -short")
		return
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if root, err = install.Root(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "herald-situations-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	heraldctl = filepath.Join(dir, "heraldctl")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", heraldctl, "./heraldctl")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("%v: %w: %s", build, err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if *named != "" {
		cluster, err = lab.Open(*named)
	} else {
		cluster, err = fresh(ctx)
		defer func() {
			if cluster != nil {
				err = errors.Join(err, cluster.Down(context.WithoutCancel(ctx)))
			}
		}()
	}
	if err != nil {
		return 1, err
	}
	cfg, err := cluster.RESTConfig()
	if err != nil {
		return 1, err
	}
	if kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return 1, err
	}
	if objects, err = dynamic.NewForConfig(cfg); err != nil {
		return 1, err
	}
	if err := prepare(ctx); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func fresh(ctx context.Context) (*lab.Lab, error) {
	images, err := install.Images(root)
	if err != nil {
		return nil, err
	}
	name := os.Getenv("HERALD_LAB")
	if name == "" {
		name = fmt.Sprintf("situations-%06x", rand.Uint32N(1<<24))
	}
	return lab.Up(ctx, lab.Options{Name: name, Nodes: nodes, Owned: true, Images: images, Out: os.Stdout})
}

// prepare installs what all scripts expect, where it is not yet.
func prepare(ctx context.Context) error {
	if err := install.Herald(ctx, cluster, kube, root); err != nil {
		return err
	}
	sample, err := os.ReadFile(filepath.Join(root, "config", "samples", "pool.yaml"))
	if err != nil {
		return err
	}
	if err := cluster.Apply(ctx, append(sample, app.Deployment{Replicas: nodes}.Manifest()...)); err != nil {
		return err
	}
	return install.Until(ctx, func() error { return install.DeploymentReady(ctx, kube, "default", "testapp") })
}
