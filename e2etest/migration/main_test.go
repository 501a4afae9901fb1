// Package migration runs a cluster that MetalLB serves, with Services of all kinds, and takes it over to Herald by the
// steps that docs/migration.md gives, while clients go on. It asserts on what clients, the wire and the API show.
package migration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/e2etest/parts"
	"heraldlb.io/herald/internal/oci"
)

const nodes = install.SuiteNodes

// The cluster of this run, which MetalLB serves, and what it is worked with.
var (
	cluster   *lab.Lab
	kube      kubernetes.Interface
	root      string // of the checkout
	heraldctl string // the program
)

func TestMain(m *testing.M) {
	var manifest []byte
	install.Main(m, install.SuiteOptions{
		Name:    "migration",
		Timeout: 40 * time.Minute, // MetalLB is built, when it has not been
		Images: func(ctx context.Context, s *install.Suite) (archives []string, err error) {
			archives, manifest, err = metalLB(ctx, s.Dir)
			return archives, err
		},
		Prepare: func(ctx context.Context, s *install.Suite) (err error) {
			cluster, kube, root = s.Lab, s.Kube, s.Root
			if heraldctl, err = s.Program(ctx, "./heraldctl"); err != nil {
				return err
			}
			for _, objects := range [][]byte{manifest, []byte(metalLBObjects)} {
				if err := cluster.Apply(ctx, objects); err != nil {
					return err
				}
			}
			if err := s.App(ctx); err != nil {
				return err
			}
			return install.Until(ctx, func() error { return install.DeploymentReady(ctx, kube, metalLBNamespace, "controller") })
		},
	})
}

const metalLBNamespace = "metallb-system"

// metalLB returns archives with MetalLB's images, under the names that its manifest asks for, and that manifest without
// what validates its objects: the lab's API server cannot reach the pod that would.
func metalLB(ctx context.Context, dir string) (archives []string, manifest []byte, err error) {
	cacheDir, err := parts.CacheDir()
	if err != nil {
		return nil, nil, err
	}
	module := parts.MetalLB()
	built, err := parts.Cache{Dir: cacheDir, Progress: func(line string) { fmt.Println(line) }}.Build(ctx, module)
	if err != nil {
		return nil, nil, err
	}
	for _, program := range module.Programs {
		archive := filepath.Join(dir, program+".tar")
		err := oci.Write(archive, oci.Image{
			Ref: "quay.io/metallb/" + program + ":" + module.Version, Entrypoint: []string{"/" + program}, User: "0:0", Architecture: runtime.GOARCH,
			Files: []oci.File{{Path: "/" + program, Mode: 0o755, Source: filepath.Join(built, program)}},
		})
		if err != nil {
			return nil, nil, err
		}
		archives = append(archives, archive)
	}
	text, err := os.ReadFile(filepath.Join(built, "metallb-native.yaml"))
	if err != nil {
		return nil, nil, err
	}
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var object map[string]any
		if err := yaml.Unmarshal(document, &object); err != nil {
			return nil, nil, fmt.Errorf("MetalLB's manifest: %w", err)
		}
		switch object["kind"] {
		case "ValidatingWebhookConfiguration":
			continue
		case "CustomResourceDefinition":
			unstructured.RemoveNestedField(object, "spec", "conversion")
		case "Deployment":
			containers, _, err := unstructured.NestedSlice(object, "spec", "template", "spec", "containers")
			if err != nil || len(containers) != 1 {
				return nil, nil, fmt.Errorf("MetalLB's manifest: its controller has %d containers: %w", len(containers), err)
			}
			container := containers[0].(map[string]any)
			args, _, _ := unstructured.NestedSlice(container, "args")
			container["args"] = append(args, "--webhook-mode=disabled")
			if err := unstructured.SetNestedSlice(object, containers, "spec", "template", "spec", "containers"); err != nil {
				return nil, nil, err
			}
		}
		out, err := yaml.Marshal(object)
		if err != nil {
			return nil, nil, err
		}
		manifest = append(append(manifest, "---\n"...), out...)
	}
	return archives, manifest, nil
}

// within fails the test unless f returns nil before d is over, and says what f lacked last.
func within(t *testing.T, d time.Duration, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := install.UntilEvery(ctx, 200*time.Millisecond, func() error { return f(ctx) }); err != nil {
		t.Fatal(err)
	}
}

// ctl runs heraldctl and returns its standard output, or fails the test unless it ends with this code.
func ctl(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := cluster.Command(t.Context(), lab.CP, heraldctl, append([]string{"--kubeconfig", cluster.Kubeconfig()}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) || cmd.ProcessState.ExitCode() != code {
		t.Fatalf("heraldctl %v: %v, want exit %d:\n%s%s", args, err, code, &out, &errs)
	}
	if len(args) > 0 && args[0] == "migrate" {
		t.Logf("heraldctl %v says:\n%s", args, &errs)
	}
	return out.String()
}

// kubectl runs kubectl or fails the test.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := cluster.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
