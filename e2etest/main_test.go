// Package e2etest runs Herald on a real Kubernetes cluster, as pods from the manifest and images that users get, and
// asserts only on what a client, the wire or the API shows.
//
// The tests of this package share one cluster and run one after the other, in the order of the files; each leaves
// it as it was. They need root, and are skipped with the reason otherwise.
package e2etest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

const nodes = 3

// The cluster of this run, with Herald, a pool of LAN addresses and three pods of the test application in it.
var (
	cluster *lab.Lab
	kube    kubernetes.Interface
	root    string
)

func TestMain(m *testing.M) {
	lab.Main()
	flag.Parse()
	if testing.Short() || os.Getuid() != 0 {
		fmt.Println("skipped: end-to-end tests run a cluster in namespaces, which needs root and no -short")
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
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if root, err = install.Root(); err != nil {
		return 1, err
	}
	images, err := install.Images(root)
	if err != nil {
		return 1, err
	}
	name := os.Getenv("HERALD_LAB")
	if name == "" {
		name = fmt.Sprintf("e2e-%06x", rand.Uint32N(1<<24))
	}
	cluster, err = lab.Up(ctx, lab.Options{Name: name, Nodes: nodes, Owned: true, Images: images, Out: os.Stdout})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, cluster.Down(context.WithoutCancel(ctx))) }()

	cfg, err := cluster.RESTConfig()
	if err != nil {
		return 1, err
	}
	if kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return 1, err
	}
	if err := install.Herald(ctx, cluster, kube, root); err != nil {
		return 1, err
	}
	sample, err := os.ReadFile(filepath.Join(root, "config", "samples", "pool.yaml"))
	if err != nil {
		return 1, err
	}
	if err := cluster.Apply(ctx, append(sample, app.Deployment{Replicas: nodes}.Manifest()...)); err != nil {
		return 1, err
	}
	if err := install.Until(ctx, func() error { return install.DeploymentReady(ctx, kube, "default", "testapp") }); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
