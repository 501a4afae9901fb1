// Package lifecycle puts Herald into a cluster that has none and takes it out again, in the ways that users do, and asserts
// on what a client, the wire or the API shows.
//
// The tests of this package share one cluster, without Herald and with the test application in it, and run one after the
// other. Each leaves it as it was. They need root, and are skipped with the reason otherwise.
package lifecycle

import (
	"context"
	"flag"
	"testing"

	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

const nodes = install.SuiteNodes

var existing = flag.String("lab", "", "`name` of a lab without Herald that is up, to be used in place of a new one")

var (
	suite   *install.Suite
	cluster *lab.Lab
	kube    kubernetes.Interface
	root    string // of the checkout
)

func TestMain(m *testing.M) {
	install.Main(m, install.SuiteOptions{Name: "life", Existing: existing, Prepare: func(ctx context.Context, s *install.Suite) error {
		suite, cluster, kube, root = s, s.Lab, s.Kube, s.Root
		return s.App(ctx)
	}})
}
