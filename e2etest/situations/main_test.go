// Package situations breaks a real cluster in the ways in which users' clusters are broken, one script each, and asserts that
// Herald says what its user needs: in a condition, an event, a metric or alert, and a sentence of heraldctl. The scripts
// are testdata/*.txtar; package page renders docs/troubleshooting.md from them.
//
// All scripts share one cluster. Those that harm nobody else run at once, each with objects of its own name; the others after them,
// one by one. Each leaves the cluster as it was.
package situations

import (
	"context"
	"flag"
	"testing"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

const nodes = install.SuiteNodes

var existing = flag.String("lab", "", "`name` of a lab with Herald in it that is up, to be used in place of a new one")

// The cluster of this run, with Herald, a pool of LAN addresses and a pod of the test application on every node in it.
var (
	cluster   *lab.Lab
	kube      kubernetes.Interface
	objects   dynamic.Interface
	heraldctl string // the program
	root      string // of the checkout
)

func TestMain(m *testing.M) {
	install.Main(m, install.SuiteOptions{Name: "situations", Existing: existing, Prepare: func(ctx context.Context, s *install.Suite) (err error) {
		cluster, kube, root = s.Lab, s.Kube, s.Root
		cfg, err := cluster.RESTConfig()
		if err != nil {
			return err
		}
		if objects, err = dynamic.NewForConfig(cfg); err != nil {
			return err
		}
		if heraldctl, err = s.Program(ctx, "./heraldctl"); err != nil {
			return err
		}
		return s.Everything(ctx)
	}})
}
