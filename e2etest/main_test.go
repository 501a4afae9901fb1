// Package e2etest runs Herald on a real Kubernetes cluster, as pods from the manifest and images that users get, and
// asserts only on what a client, the wire or the API shows.
//
// The tests of this package share one cluster and run one after the other, in the order of the files; each leaves
// it as it was. They need root, and are skipped with the reason otherwise.
package e2etest

import (
	"context"
	"testing"

	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

const nodes = install.SuiteNodes

// The cluster of this run, with Herald, a pool of LAN addresses and three pods of the test application in it.
var (
	suite   *install.Suite
	cluster *lab.Lab
	kube    kubernetes.Interface
	root    string // of the checkout
)

func TestMain(m *testing.M) {
	install.Main(m, install.SuiteOptions{Name: "e2e", Prepare: func(ctx context.Context, s *install.Suite) error {
		suite, cluster, kube, root = s, s.Lab, s.Kube, s.Root
		return s.Everything(ctx)
	}})
}
