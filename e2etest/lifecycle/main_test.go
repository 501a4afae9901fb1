// Package lifecycle puts Herald into a cluster that has none and takes it out again, in the ways that users do, and asserts
// on what a client, the wire or the API shows.
//
// The tests of this package share one cluster, without Herald and with the test application in it, and run one after the
// other. Each leaves it as it was. They need root, and are skipped with the reason otherwise.
package lifecycle

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

const nodes = 3

var existing = flag.String("lab", "", "`name` of a lab without Herald that is up, to be used in place of a new one")

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
	if *existing != "" {
		cluster, err = lab.Open(*existing)
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
	if err := cluster.Apply(ctx, app.Deployment{Replicas: nodes}.Manifest()); err != nil {
		return 1, err
	}
	if err := install.Until(ctx, func() error { return install.DeploymentReady(ctx, kube, "default", "testapp") }); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// fresh brings up a cluster.
func fresh(ctx context.Context) (*lab.Lab, error) {
	images, err := install.Images(root)
	if err != nil {
		return nil, err
	}
	name := os.Getenv("HERALD_LAB")
	if name == "" {
		name = fmt.Sprintf("life-%06x", rand.Uint32N(1<<24))
	}
	return lab.Up(ctx, lab.Options{Name: name, Nodes: nodes, Owned: true, Images: images, Out: os.Stdout})
}
