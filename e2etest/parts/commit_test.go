package parts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnEarlierHeraldIsBuiltByItsOwnMeansOnce(t *testing.T) {
	repo := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", repo, "-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	write := func(name, content string) {
		path := filepath.Join(repo, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "-q")
	write("go.mod", "module heraldlb.io/herald\n\ngo 1.26\n")
	write("manifests/herald.yaml", "image: localhost/herald-controller:dev\nimage: localhost/herald-speaker:dev\n")
	write("internal/oci/mkimages/main.go", `package main

import (
	"os"
	"slices"
	"strings"
)

func main() {
	out := os.Args[slices.Index(os.Args, "-out")+1]
	if err := os.WriteFile(out+"/herald-speaker.tar", []byte(strings.Join(os.Args[1:], " ")), 0o644); err != nil {
		panic(err)
	}
}
`)
	git("add", ".")
	git("commit", "-q", "-m", "first")
	first := git("rev-parse", "HEAD")
	write("internal/oci/mkimages/main.go", "package main\n\nfunc main() { panic(\"a later one\") }\n")
	git("commit", "-q", "-a", "-m", "second")

	builds := 0
	cache := Cache{Dir: t.TempDir(), Progress: func(line string) {
		if strings.HasPrefix(line, "building") {
			builds++
		}
	}}
	for range 2 {
		e, err := cache.Earlier(t.Context(), repo, first)
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Images) != 1 {
			t.Fatalf("images %v", e.Images)
		}
		made, err := os.ReadFile(e.Images[0])
		if err != nil || !strings.Contains(string(made), "-tag previous ") || !strings.Contains(string(made), "-commit "+first) {
			t.Errorf("made with %s, %v", made, err)
		}
		if text, err := os.ReadFile(e.Manifest); string(text) != "image: localhost/herald-controller:previous\nimage: localhost/herald-speaker:previous\n" {
			t.Errorf("the manifest is %s, %v", text, err)
		}
	}
	if builds != 1 {
		t.Errorf("built %d times", builds)
	}
	if _, err := cache.Earlier(t.Context(), repo, strings.Repeat("ab", 20)); !errors.Is(err, ErrNoCommit) {
		t.Errorf("a commit that is not there: %v", err)
	}
}
