package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/internal/oci/gobuild"
)

// module makes a module with one small main package, to be built as if it were one of Herald's.
func module(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module heraldlb.io/herald\n\ngo 1.26\n")
	write("internal/cmdline/version.go", "package cmdline\n\nvar version, commit string\n\nfunc Version() string { return version + commit }\n")
	write("tool/main.go", "package main\n\nimport \"heraldlb.io/herald/internal/cmdline\"\n\nfunc main() { println(cmdline.Version()) }\n")
	t.Chdir(dir)
}

func tarNames(t *testing.T, archive string) []string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h.Name)
	}
}

func TestRunBuildsTheProgramIntoAnArchive(t *testing.T) {
	module(t)
	o := options{registry: "localhost", tag: "t1", out: "out", architectures: []string{"amd64", "arm64"},
		release:  gobuild.Release{Version: "v1.2.3-test", Commit: "0123abcd", Created: time.Unix(1_700_000_000, 0).UTC()},
		programs: []program{{name: "tool", pkg: "./tool", capabilities: []string{"CAP_NET_RAW"}}}}
	var printed bytes.Buffer
	if err := run(t.Context(), o, &printed); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"localhost/herald-tool:t1", "linux/amd64", "linux/arm64", "sha256:", "MiB"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("printed\n%s\nwithout %s", &printed, want)
		}
	}
	names := tarNames(t, "out/herald-tool.tar")
	if !slices.Contains(names, "index.json") || !slices.Contains(names, "oci-layout") {
		t.Errorf("archive has %v", names)
	}
	content, err := os.ReadFile("out/herald-tool.tar")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"org.opencontainers.image.version":"v1.2.3-test"`, `"org.opencontainers.image.revision":"0123abcd"`,
		`"org.opencontainers.image.created":"2023-11-14T22:13:20Z"`} {
		if !bytes.Contains(content, []byte(want)) {
			t.Errorf("no label %s", want)
		}
	}
	told := bytes.ReplaceAll(content, []byte(`:"v1.2.3-test"`), nil)
	if !bytes.Contains(told, []byte("v1.2.3-test")) {
		t.Error("the version reached the label but no binary")
	}

	sbom, err := os.ReadFile("out/herald-tool-arm64.spdx.json")
	if err != nil || !bytes.Contains(sbom, []byte("herald-tool-v1.2.3-test-linux-arm64")) || !bytes.Contains(sbom, []byte("pkg:golang/std@")) {
		t.Errorf("SBOM %s, %v", sbom, err)
	}

	t.Run("and again, elsewhere, gives the same bytes", func(t *testing.T) {
		first, err := filepath.Abs("out")
		if err != nil {
			t.Fatal(err)
		}
		module(t)
		if err := run(t.Context(), o, io.Discard); err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile("out/herald-tool.tar")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content, again) {
			t.Error("the second archive differs")
		}
		for _, name := range []string{"herald-tool-amd64.spdx.json", "herald-tool-arm64.spdx.json"} {
			before, err := os.ReadFile(filepath.Join(first, name))
			after, again := os.ReadFile(filepath.Join("out", name))
			if errors.Join(err, again) != nil || !bytes.Equal(before, after) {
				t.Errorf("the second %s differs: %v", name, errors.Join(err, again))
			}
		}
	})
}

func TestRunSaysWhatDidNotBuild(t *testing.T) {
	module(t)
	o := options{registry: "localhost", tag: "t1", out: "out", architectures: []string{"amd64"}, programs: []program{{name: "none", pkg: "./none"}}}
	err := run(t.Context(), o, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "build for linux/amd64") || !strings.Contains(err.Error(), "./none") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat("out"); !errors.Is(err, os.ErrNotExist) {
		t.Error("a failed build left an output directory")
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-arch", "arm64,amd64,arm64", "-tag", "x", "speaker"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.architectures, []string{"amd64", "arm64"}) || len(o.programs) != 1 || o.programs[0].name != "speaker" {
		t.Errorf("parsed %+v", o)
	}
	if name := archiveName(o.programs[0], o.architectures); name != "herald-speaker.tar" {
		t.Errorf("several architectures go to %s", name)
	}
	if name := archiveName(o.programs[0], []string{"amd64"}); name != "herald-speaker-amd64.tar" {
		t.Errorf("one architecture goes to %s", name)
	}
	all, err := parse(nil)
	if err != nil || len(all.programs) != len(programs) {
		t.Errorf("without names: %+v, %v; want every image", all, err)
	}
	if _, err := parse([]string{"speeker"}); err == nil || !strings.Contains(err.Error(), "choose from") {
		t.Errorf("an unknown name gave %v", err)
	}
}
