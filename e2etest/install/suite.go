package install

import (
	"cmp"
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

	"k8s.io/client-go/kubernetes"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/lab"
)

// SuiteNodes is how many nodes the cluster of a suite has.
const SuiteNodes = 3

// Suite is one cluster that the tests of a package share.
type Suite struct {
	Root string // of the checkout
	Dir  string // for files, until the tests are over
	Lab  *lab.Lab
	Kube kubernetes.Interface
}

// SuiteOptions say what cluster a suite has.
type SuiteOptions struct {
	// Name is what the lab's name begins with. HERALD_LAB in the environment is the whole of it.
	Name string
	// Existing is a lab that is up, and stays up, to be used in place of a new one. Nil and "" are none.
	Existing *string
	// Images returns archives that the nodes are to have beside Herald's; nil for none.
	Images func(context.Context, *Suite) ([]string, error)
	// Prepare makes what all tests expect in the cluster.
	Prepare func(context.Context, *Suite) error
	// Timeout bounds all that is done before the tests; 10 minutes unless it is set.
	Timeout time.Duration
}

// Main is all that a suite's TestMain does: it brings the cluster up, runs the tests and takes it down, or skips them with the reason.
func Main(m *testing.M, o SuiteOptions) {
	lab.Main()
	flag.Parse()
	if testing.Short() || os.Getuid() != 0 {
		fmt.Println("skipped: these tests run a cluster in namespaces, which needs root and no -short")
		return
	}
	code, err := o.run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		code = 1
	}
	os.Exit(code)
}

func (o SuiteOptions) run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(o.Timeout, 10*time.Minute))
	defer cancel()
	s := &Suite{}
	if s.Root, err = Root(); err != nil {
		return 1, err
	}
	if s.Dir, err = os.MkdirTemp("", "herald-"+o.Name+"-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(s.Dir)
	var more []string
	if o.Images != nil {
		if more, err = o.Images(ctx, s); err != nil {
			return 1, err
		}
	}
	if o.Existing != nil && *o.Existing != "" {
		s.Lab, err = lab.Open(*o.Existing)
	} else if s.Lab, err = Up(ctx, s.Root, o.Name, more...); err == nil {
		defer func() { err = errors.Join(err, s.Lab.Down(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return 1, err
	}
	cfg, err := s.Lab.RESTConfig()
	if err != nil {
		return 1, err
	}
	if s.Kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return 1, err
	}
	if err := o.Prepare(ctx, s); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// Up brings up a lab that ends with this process, with Herald's images and others on its nodes.
func Up(ctx context.Context, root, name string, more ...string) (*lab.Lab, error) {
	images, err := Images(root)
	if err != nil {
		return nil, err
	}
	return lab.Up(ctx, lab.Options{Name: LabName(name), Nodes: SuiteNodes, Owned: true, Images: append(images, more...), Out: os.Stdout})
}

// LabName is the name that HERALD_LAB gives a lab, or else one that no other run has.
func LabName(prefix string) string {
	if name := os.Getenv("HERALD_LAB"); name != "" {
		return name
	}
	return fmt.Sprintf("%s-%06x", prefix, rand.Uint32N(1<<24))
}

// Program builds a program of the checkout for this machine, into Dir, and returns its path.
func (s *Suite) Program(ctx context.Context, pkg string) (string, error) {
	path := filepath.Join(s.Dir, filepath.Base(pkg))
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", path, pkg)
	build.Dir = s.Root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w: %s", build, err, out)
	}
	return path, nil
}

// Everything installs Herald, the pool of LAN addresses of the samples, and the test application.
func (s *Suite) Everything(ctx context.Context) error {
	if err := Herald(ctx, s.Lab, s.Kube, s.Root); err != nil {
		return err
	}
	sample, err := os.ReadFile(filepath.Join(s.Root, "config", "samples", "pool.yaml"))
	if err != nil {
		return err
	}
	if err := s.Lab.Apply(ctx, sample); err != nil {
		return err
	}
	return s.App(ctx)
}

// App has a pod of the test application on every node.
func (s *Suite) App(ctx context.Context) error {
	if err := s.Lab.Apply(ctx, app.Deployment{Replicas: SuiteNodes}.Manifest()); err != nil {
		return err
	}
	return Until(ctx, func() error { return DeploymentReady(ctx, s.Kube, "default", "testapp") })
}
