// Package internal_test holds the check that keeps the house in order: who may import whom (docs/architecture.md).
package internal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "heraldlb.io/herald/"

// floors lists the packages of each floor, the highest first. An import only ever goes down; within a floor it is
// refused too.
var floors = [][]string{
	{"controller", "speaker", "heraldctl"},
	{"internal/ctl"},
	{"internal/report"},
	{"internal/assign", "internal/announce"},
	{"internal/ipam", "internal/election", "internal/gossip", "internal/layer2", "internal/bgp", "internal/kube", "internal/lead", "internal/servicepath", "internal/migrate"},
	{"internal/bfd", "internal/unnumbered", "internal/config", "internal/service"},
	{"api/v1beta1"},
}

// anywhere are the packages that know nothing of Herald's work and may be imported from every floor that is not
// pure.
var anywhere = []string{"internal/cmdline", "internal/logging", "internal/metrics", "internal/privilege"}

// pure are the packages that decide: no API client, no socket, no network library, in their own code or below it.
var pure = []string{"internal/config", "internal/service", "internal/ipam", "internal/election", "internal/migrate", "api/v1beta1"}

// impure are the import paths, with all below them, that no pure package may reach.
var impure = []string{
	"k8s.io/client-go", "github.com/hashicorp/memberlist", "github.com/osrg/gobgp", "github.com/mdlayher",
	"github.com/vishvananda", "golang.org/x/sys/unix", "google.golang.org/grpc", "github.com/go-kit",
	"github.com/prometheus",
}

// impureDirect are the packages that a pure package's own code must not import; apimachinery's types pull some of
// them in.
var impureDirect = []string{"net", "net/http", "os", "os/exec", "syscall", "log", "log/slog", "sync", "context"}

// tools are the directories whose packages are not part of the running system: they may import what they need.
var tools = []string{"e2etest", "internal/oci", "internal/kube/kubetest", "internal/metrics/reference", "config/crd/fields", "charts/values"}

type pkg struct {
	ImportPath string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// allTypes brings every type of Kubernetes' API, each with its code: there are many speakers, and that is a third of one.
const allTypes = "k8s.io/client-go/kubernetes/scheme"

func TestTheSpeakerHasNoTypesThatItDoesNotNeed(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath == module+"speaker" && slices.Contains(p.Deps, allTypes) {
			t.Errorf("the speaker reaches %s: `go list -deps -f '{{.ImportPath}} {{.Imports}}' ./speaker` tells by whom", allTypes)
		}
	}
}

func TestImportsOnlyGoDown(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) == 0 || within(name, tools) || slices.Contains(anywhere, name) {
			continue
		}
		from, ok := floorOf(name)
		if !ok {
			t.Errorf("%s has no floor: give it one in this test and in docs/architecture.md", name)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			if !ours || slices.Contains(anywhere, to) && !slices.Contains(pure, name) {
				continue
			}
			if floor, ok := floorOf(to); !ok || floor <= from {
				t.Errorf("%s imports %s, which is not on a lower floor", name, to)
			}
		}
	}
}

func TestPurePackagesTouchNothing(t *testing.T) {
	seen := 0
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if !slices.Contains(pure, name) {
			continue
		}
		seen++
		for _, dep := range p.Deps {
			if within(dep, impure) {
				t.Errorf("%s is pure and reaches %s", name, dep)
			}
		}
		for _, imported := range p.Imports {
			if slices.Contains(impureDirect, imported) {
				t.Errorf("%s is pure and imports %s", name, imported)
			}
		}
	}
	if seen != len(pure) {
		t.Errorf("found %d of the %d pure packages: has one moved?", seen, len(pure))
	}
}

// packages lists the module's packages without their tests.
func packages(t *testing.T) []pkg {
	t.Helper()
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var listed = sync.OnceValues(func() (all []pkg, err error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,GoFiles,Imports,Deps", module+"...")
	out, err := cmd.Output()
	for dec := json.NewDecoder(bytes.NewReader(out)); err == nil && dec.More(); {
		var p pkg
		err = dec.Decode(&p)
		all = append(all, p)
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", cmd, err)
	}
	return all, nil
})

func floorOf(name string) (int, bool) {
	i := slices.IndexFunc(floors, func(f []string) bool { return slices.Contains(f, name) })
	return i, i >= 0
}

func within(name string, roots []string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return name == r || strings.HasPrefix(name, r+"/") })
}
