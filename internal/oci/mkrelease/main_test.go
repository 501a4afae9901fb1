package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/internal/oci/gobuild"
)

// module makes a small module with what a release needs, and goes there.
func module(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":                      "module heraldlb.io/herald\n\ngo 1.26\n",
		"internal/cmdline/version.go": "package cmdline\n\nvar version, commit string\n\nfunc Version() string { return version + commit }\n",
		"heraldctl/main.go":           "package main\n\nimport \"heraldlb.io/herald/internal/cmdline\"\n\nfunc main() { println(cmdline.Version()) }\n",
		"LICENSE":                     "do as you like\n",
		"charts/herald/Chart.yaml":    "name: herald\nversion: 0.0.0-dev\nappVersion: dev\n",
		"charts/herald/values.yaml":   "image:\n  # Where.\n  registry: localhost\n",
		"charts/herald/.helmignore":   "# Not these.\n.*\n*.go\ntestdata\n",
		"config/crd/pools.yaml":       "kind: CustomResourceDefinition\n",
		"config/crd/pools_test.go":    "package crd\n",
		"config/crd/testdata/x.yaml":  "kind: Nothing\n",
		"manifests/herald.yaml":       "    image: localhost/herald-controller:dev\n    image: localhost/herald-speaker:dev\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	if err := errors.Join(os.Mkdir("charts/herald/files", 0o755), os.Symlink("../../../config/crd", "charts/herald/files/crd")); err != nil {
		t.Fatal(err)
	}
}

func release() options {
	return options{release: gobuild.Release{Version: "v1.2.3", Commit: "0123abcd", Created: time.Unix(1_700_000_000, 0).UTC()},
		registry: "registry.example.com/herald", platforms: []string{"linux/amd64", "windows/amd64"}, out: "out"}
}

func TestAReleaseHasAllAndSumsItUp(t *testing.T) {
	module(t)
	if err := errors.Join(os.MkdirAll("out/images", 0o755), os.WriteFile("out/images/herald-speaker.tar", []byte("an image"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), release()); err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("out/herald.yaml")
	if err != nil || string(manifest) != "    image: registry.example.com/herald/herald-controller:v1.2.3\n    image: registry.example.com/herald/herald-speaker:v1.2.3\n" {
		t.Errorf("manifest %q, %v", manifest, err)
	}
	if got := unpacked(t, "out/heraldctl-v1.2.3-linux-amd64.tar.gz"); !slices.Equal(got, []string{"heraldctl 755", "LICENSE 644"}) {
		t.Errorf("the archive has %v", got)
	}
	if got := unpacked(t, "out/heraldctl-v1.2.3-windows-amd64.tar.gz"); !slices.Equal(got, []string{"heraldctl.exe 755", "LICENSE 644"}) {
		t.Errorf("the archive for Windows has %v", got)
	}
	if got, want := unpacked(t, "out/herald-1.2.3.tgz"), []string{"herald/Chart.yaml 644", "herald/files/crd/pools.yaml 644", "herald/values.yaml 644"}; !slices.Equal(got, want) {
		t.Errorf("the chart has %v, want %v", got, want)
	}
	sums, err := os.ReadFile("out/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	var summed []string
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		content, err := os.ReadFile(filepath.Join("out", name))
		if err != nil || fmt.Sprintf("%x", sha256.Sum256(content)) != sum {
			t.Errorf("%s: sum %s, %v", name, sum, err)
		}
		summed = append(summed, name)
	}
	if want := []string{"herald-1.2.3.tgz", "herald.yaml", "heraldctl-v1.2.3-linux-amd64.spdx.json", "heraldctl-v1.2.3-linux-amd64.tar.gz",
		"heraldctl-v1.2.3-windows-amd64.spdx.json", "heraldctl-v1.2.3-windows-amd64.tar.gz", "images/herald-speaker.tar"}; !slices.Equal(summed, want) {
		t.Errorf("summed up %v, want %v", summed, want)
	}

	t.Run("and again, elsewhere, it is the same", func(t *testing.T) {
		module(t)
		if err := errors.Join(os.MkdirAll("out/images", 0o755), os.WriteFile("out/images/herald-speaker.tar", []byte("an image"), 0o644), run(t.Context(), release())); err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile("out/SHA256SUMS")
		if err != nil || string(again) != string(sums) {
			t.Errorf("the second time %v\n%s\nthe first\n%s", err, again, sums)
		}
	})
}

func unpacked(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s %o", h.Name, h.Mode))
	}
}

func TestTheChartIsTheReleases(t *testing.T) {
	module(t)
	files, err := chartFiles(release())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range files {
		got[f.name] = string(f.content)
	}
	if want := map[string]string{
		"herald/Chart.yaml":           "name: herald\nversion: 1.2.3\nappVersion: v1.2.3\n",
		"herald/values.yaml":          "image:\n  # Where.\n  registry: registry.example.com/herald\n",
		"herald/files/crd/pools.yaml": "kind: CustomResourceDefinition\n",
	}; !maps.Equal(got, want) {
		t.Errorf("the chart holds %q, want %q", got, want)
	}
	if err := os.WriteFile("charts/herald/values.yaml", []byte("image: {registry: localhost}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := chartFiles(release()); err == nil || !strings.Contains(err.Error(), "charts/herald/values.yaml") {
		t.Errorf("values without a line for the registry gave %v", err)
	}
}

func TestAManifestWithoutImagesIsNoRelease(t *testing.T) {
	module(t)
	if err := os.WriteFile("manifests/herald.yaml", []byte("image: elsewhere/herald-speaker:v1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), release()); err == nil || !strings.Contains(err.Error(), "manifests/herald.yaml names no image") {
		t.Errorf("error %v", err)
	}
}

func TestAVersionIsASemanticOne(t *testing.T) {
	for version, good := range map[string]bool{"v1.2.3": true, "v0.1.0-rc.1": true, "1.2.3": false, "v1.2": false, "v01.2.3": false, "latest": false, "": false} {
		_, err := parse([]string{"-version", version, "-out", "x"})
		if (err == nil) != good {
			t.Errorf("%q: error %v", version, err)
		}
	}
}
