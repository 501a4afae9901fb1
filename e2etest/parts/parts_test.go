package parts

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestKubernetesVersions(t *testing.T) {
	for in, want := range map[string]string{
		"": "v1.37.2", "1.37": "v1.37.2", "v1.37": "v1.37.2", "1.37.2": "v1.37.2", "1.36": "v1.36.3",
		"1.35": "", "1": "", "1.3": "", "x": "",
	} {
		got, err := KubernetesVersion(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
}

func TestEveryModuleIsPinnedToTheVersionThatItNames(t *testing.T) {
	modules := []Module{Etcd(), Containerd(), Promtool(), Helm(), MetalLB()}
	for _, v := range kubernetesVersions {
		modules = append(modules, Kubernetes(v))
	}
	for _, m := range modules {
		files, err := m.contents()
		if err != nil {
			t.Error(err)
			continue
		}
		if mod := string(files["go.mod"]); !strings.Contains(mod, " "+m.Version+"\n") && !strings.Contains(mod, " "+m.Version+" // indirect\n") {
			t.Errorf("%s: its go.mod does not require %s", m.Name, m.Version)
		}
		if len(files["go.sum"]) == 0 {
			t.Errorf("%s: no checksums", m.Name)
		}
	}
}

func TestTheKeyChangesWithWhatIsBuilt(t *testing.T) {
	base := key("a", "v1", map[string][]byte{"go.mod": []byte("x"), "go.sum": []byte("y")}, []string{"-s"})
	same := key("a", "v1", map[string][]byte{"go.sum": []byte("y"), "go.mod": []byte("x")}, []string{"-s"})
	if base != same {
		t.Error("the same build has two keys")
	}
	for story, other := range map[string]string{
		"version":  key("a", "v2", map[string][]byte{"go.mod": []byte("x"), "go.sum": []byte("y")}, []string{"-s"}),
		"content":  key("a", "v1", map[string][]byte{"go.mod": []byte("x"), "go.sum": []byte("z")}, []string{"-s"}),
		"boundary": key("a", "v1", map[string][]byte{"go.mod": []byte("xy"), "go.sum": nil}, []string{"-s"}),
		"flags":    key("a", "v1", map[string][]byte{"go.mod": []byte("x"), "go.sum": []byte("y")}, []string{"-w"}),
	} {
		if other == base {
			t.Errorf("another %s has the same key", story)
		}
	}
}

func TestOfManyThatNeedAPartOneBuildsIt(t *testing.T) {
	c := Cache{Dir: filepath.Join(t.TempDir(), "cache"), Progress: func(string) {}}
	var builds atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			dir, err := c.once(t.Context(), "part", "part-v1", func(dir string) error {
				builds.Add(1)
				return os.WriteFile(filepath.Join(dir, "program"), []byte("x"), 0o755)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(dir, "program")); err != nil {
				t.Error("returned before it was built:", err)
			}
		})
	}
	all.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

func TestAFailedBuildLeavesNothingInTheCache(t *testing.T) {
	c := Cache{Dir: t.TempDir(), Progress: func(string) {}}
	broken := errors.New("broken")
	_, err := c.once(t.Context(), "part", "part-v1", func(dir string) error {
		os.WriteFile(filepath.Join(dir, "half"), nil, 0o644)
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "part-v1")); err == nil {
		t.Error("the failed build is in the cache")
	}
	dir, err := c.once(t.Context(), "part", "part-v1", func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "half")); err == nil {
		t.Error("the next build began with what the failed one left")
	}
}

func TestWaitingForAnothersBuildEndsWithTheContext(t *testing.T) {
	c := Cache{Dir: t.TempDir(), Progress: func(string) {}}
	unlock, err := c.lock(t.Context(), "part", filepath.Join(c.Dir, "part-v1.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.once(ctx, "part", "part-v1", func(string) error { return errors.New("built in spite of the lock") })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestASourceFileIsBuiltIntoAProgram(t *testing.T) {
	var lines []string
	c := Cache{Dir: t.TempDir(), Progress: func(l string) { lines = append(lines, l) }}
	dir, err := c.BuildSource(t.Context(), "tiny", []byte("package main\n\nfunc main() {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, "tiny")); err != nil || st.Mode()&0o111 == 0 {
		t.Errorf("program: %v, %v", st, err)
	}
	if len(lines) == 0 {
		t.Error("nothing was said about the build")
	}
	_, err = c.BuildSource(t.Context(), "faulty", []byte("package main\n\nfunc main() { nonsense }\n"))
	if err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("the compiler's words are not in the error: %v", err)
	}
}

func TestPlannedPackages(t *testing.T) {
	out := `Reading package lists...
The following NEW packages will be installed:
  bird2 libssh-gcrypt-4
Inst libssh-gcrypt-4 (0.10.6-0+deb12u1 Debian:12.8/stable [amd64])
Inst bird2 (2.0.12-7 Debian:12.8/stable [amd64])
Conf libssh-gcrypt-4 (0.10.6-0+deb12u1 Debian:12.8/stable [amd64])
`
	if got := plannedPackages(out, "bird2"); !slices.Equal(got, []string{"bird2", "libssh-gcrypt-4"}) {
		t.Errorf("got %v", got)
	}
	if got := plannedPackages("bird2 is already the newest version (2.0.12-7).\n", "bird2"); !slices.Equal(got, []string{"bird2"}) {
		t.Errorf("when it is installed already: got %v", got)
	}
}
