// Package parts supplies the programs that a lab's cluster is made of: etcd, Kubernetes, containerd with the CNI
// plugins, the pause image's program, and the router daemon; promtool, which judges what is made of its metrics; helm,
// which installs the chart; and MetalLB, which the way over to Herald is tested from.
//
// What can be built with Go is built from the modules that the *.mod and *.sum files beside this one pin, each
// kept apart from Herald's own go.mod, which none of it may reach. The rest comes from Debian. Results go into a
// cache that all labs of a user share; the package never writes anywhere else, except that Install adds Debian
// packages to the machine.
//
// The module files are not named go.mod and go.sum because go:embed cannot reach into another module, and a lab
// must find them wherever its command runs. To change one, copy the pair to an empty directory under the names
// go.mod and go.sum, let the go command edit them there, and copy them back.
package parts

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

//go:embed *.mod *.sum
var moduleFiles embed.FS

// Module is a set of programs that are built together from one pinned Go module.
type Module struct {
	Name    string
	Version string
	// Programs are the files that the build leaves behind, by the name they are run by.
	Programs []string

	file    string // base name of the embedded .mod and .sum
	tags    string
	ldflags string
	rename  map[string]string // what go build calls a program, if not its name
	keep    map[string]string // files to keep beside the programs, by where they are in module from
	from    string
}

// The versions of Kubernetes that a lab can run; the first is the default.
var kubernetesVersions = []string{"v1.37.2", "v1.36.3"}

// KubernetesVersion finds the full version for what a person types: "1.37", "v1.37" or "v1.37.2"; empty means
// the default.
func KubernetesVersion(s string) (string, error) {
	if s == "" {
		return kubernetesVersions[0], nil
	}
	want := "v" + strings.TrimPrefix(s, "v")
	for _, v := range kubernetesVersions {
		if v == want || minor(v) == want {
			return v, nil
		}
	}
	return "", fmt.Errorf("kubernetes version %q: not among the lab's %s; choose one of them", s, strings.Join(kubernetesVersions, ", "))
}

func minor(version string) string {
	return version[:strings.LastIndexByte(version, '.')]
}

// Kubernetes is the module of a version that KubernetesVersion returned.
func Kubernetes(version string) Module {
	const pkg = "k8s.io/component-base/version"
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	min, _, _ := strings.Cut(rest, ".")
	return Module{
		Name:    "kubernetes",
		Version: version,
		Programs: []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler",
			"kubelet", "kube-proxy", "kubectl"},
		file: "kubernetes-" + minor(version),
		// Without its version a kubelet reports v0.0.0 and the API server refuses to guess what it can do.
		ldflags: fmt.Sprintf("-X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s -X %s.gitTreeState=clean",
			pkg, version, pkg, major, pkg, min, pkg),
	}
}

// Etcd is the module of the key-value store.
func Etcd() Module {
	return Module{Name: "etcd", Version: "v3.6.7", Programs: []string{"etcd"}, file: "etcd",
		rename: map[string]string{"etcd": "server"}}
}

// Containerd is the module of the container runtime and the CNI plugins.
func Containerd() Module {
	return Module{
		Name:    "containerd",
		Version: "v2.2.2",
		Programs: []string{"containerd", "containerd-shim-runc-v2", "ctr",
			"bridge", "host-local", "loopback"},
		file:    "containerd",
		tags:    "no_btrfs no_zfs no_devmapper no_aufs no_tracing",
		ldflags: "-X github.com/containerd/containerd/v2/version.Version=v2.2.2",
	}
}

// Promtool is the module of Prometheus's checker of alerts and queries, without service discovery: most of Prometheus is
// clients of clouds.
func Promtool() Module {
	return Module{Name: "prometheus", Version: "v0.313.5", Programs: []string{"promtool"}, file: "prometheus", tags: "remove_all_sd"}
}

// Helm is the module of the package manager that puts the chart into a cluster.
func Helm() Module {
	return Module{Name: "helm", Version: "v4.3.2", Programs: []string{"helm"}, file: "helm"}
}

// MetalLB is the module of its two programs, with its manifest for the modes without FRR.
func MetalLB() Module {
	return Module{Name: "metallb", Version: "v0.16.1", Programs: []string{"controller", "speaker"}, file: "metallb",
		from: "go.universe.tf/metallb", keep: map[string]string{"config/manifests/metallb-native.yaml": "metallb-native.yaml"}}
}

// contents returns the files of the module's directory as the go command wants them.
func (m Module) contents() (map[string][]byte, error) {
	files := map[string][]byte{}
	for ext, name := range map[string]string{".mod": "go.mod", ".sum": "go.sum"} {
		data, err := moduleFiles.ReadFile(m.file + ext)
		if err != nil {
			return nil, fmt.Errorf("module files of %s: %w", m.Name, err)
		}
		files[name] = data
	}
	return files, nil
}

func (m Module) flags() []string {
	f := []string{"-trimpath", "-ldflags", strings.TrimSpace("-s -w " + m.ldflags)}
	if m.tags != "" {
		f = append(f, "-tags", m.tags)
	}
	return f
}

// key names what a build of these files with these flags gives: a change of either is another key. The Go
// version is not part of it; a cluster does not get better by being rebuilt.
func key(name, version string, files map[string][]byte, flags []string) string {
	h := sha256.New()
	for _, f := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%s %d\n%s", f, len(files[f]), files[f])
	}
	fmt.Fprintf(h, "%q %s/%s", flags, runtime.GOOS, runtime.GOARCH)
	return name + "-" + version + "-" + hex.EncodeToString(h.Sum(nil))[:12]
}

// CacheDir is where built parts are kept: $HERALD_LAB_CACHE, else the lab's directory in the user's cache.
func CacheDir() (string, error) {
	if dir := os.Getenv("HERALD_LAB_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache directory of the lab: %w; set HERALD_LAB_CACHE", err)
	}
	return filepath.Join(base, "herald", "lab"), nil
}
