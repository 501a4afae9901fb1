// Package docs runs what the documentation tells its readers to run: the blocks of README.md and docs/ that are marked so, page by
// page and in their order, on a real cluster. The first page installs Herald; each page begins on a cluster with Herald and
// nothing else. What can be judged without a cluster is package static's.
package docs

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/docs/page"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/internal/oci"
	"heraldlb.io/herald/internal/oci/gobuild"
)

// patience is how long a reader would wait for what a page shows, on a busy machine.
const patience = 4 * time.Minute

var (
	only     = flag.String("page", "", "run only the pages whose path this regular expression matches")
	existing = flag.String("lab", "", "`name` of a lab that is up, with Herald's images, to be used in place of a new one")
)

func TestMain(m *testing.M) {
	lab.Main()
	os.Exit(m.Run())
}

func TestPages(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("runs a cluster in namespaces, which needs root and no -short")
	}
	root, err := install.Root()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := page.All(root)
	if err != nil {
		t.Fatal(err)
	}
	chosen, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, root)
	ran, commands := 0, 0
	for _, p := range pages {
		steps := stepsOf(p)
		if len(steps) == 0 || !chosen.MatchString(p.Path) {
			continue
		}
		ran++
		for _, s := range steps {
			commands += s.commands()
		}
		t.Run(p.Path, func(t *testing.T) { d.run(t, p.Path, steps) })
	}
	t.Logf("%d pages, %d commands and manifests", ran, commands)
	if ran == 0 {
		t.Errorf("no page matches %q", *only)
	}
}

// step is a block that is run, with the output that the page shows of it.
type step struct {
	page.Block
	shown  string
	isTold bool
}

func stepsOf(p page.Page) []step {
	var steps []step
	for i, b := range p.Blocks {
		if !b.Runs() {
			continue
		}
		s := step{Block: b}
		if i+1 < len(p.Blocks) {
			if _, is := p.Blocks[i+1].Mark("output"); is {
				s.shown, s.isTold = p.Blocks[i+1].Text, true
			}
		}
		steps = append(steps, s)
	}
	return steps
}

// commands counts the command lines of a step; a manifest counts as one, and what is given is none.
func (s step) commands() int {
	switch s.Language {
	case page.Given:
		return 0
	case "yaml":
		return 1
	}
	n := 0
	for line := range strings.Lines(strings.ReplaceAll(s.Text, "\\\n", "")) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

// desk is where a reader sits: the lab, a checkout, and the programs that the pages use.
type desk struct {
	root     string
	lab      *lab.Lab
	programs string // a directory for PATH
	clean    *baseline
}

func newDesk(t *testing.T, root string) *desk {
	t.Helper()
	ctx := t.Context()
	d := &desk{root: root, programs: t.TempDir()}
	const module = "heraldlb.io/herald/"
	err := gobuild.Build(ctx, gobuild.Release{Version: "dev"}, "linux", runtime.GOARCH, d.programs, module+"heraldctl", module+"e2etest/app/testapp", module+"e2etest/lab/cmd/lab")
	if err != nil {
		t.Fatal(err)
	}
	if *existing != "" {
		if d.lab, err = lab.Open(*existing); err == nil {
			err = d.lab.LoadImages(ctx, d.standIn(t))
		}
	} else {
		d.lab, err = fresh(t, root, d.standIn(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	kubectl := d.lab.KubectlCommand(ctx).Args[1]
	for link, to := range map[string]string{"kubectl": kubectl, "kubectl-herald": "heraldctl"} {
		if err := os.Symlink(to, filepath.Join(d.programs, link)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// fresh brings up a lab that ends with the test.
func fresh(t *testing.T, root string, more ...string) (*lab.Lab, error) {
	l, err := install.Up(t.Context(), root, "docs", more...)
	if err == nil {
		t.Cleanup(func() {
			if err := l.Down(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	return l, err
}

// standIn makes the image that the pages' Deployments name, since the lab reaches no registry: the test application, which
// answers HTTP at port 80 as a web server does.
func (d *desk) standIn(t *testing.T) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "web.tar")
	err := oci.Write(archive, oci.Image{
		Ref:          "docker.io/library/nginx:1.29",
		Entrypoint:   []string{"/testapp"},
		Env:          []string{"HTTP_ADDRESS=:80"},
		Architecture: runtime.GOARCH,
		Files:        []oci.File{{Path: "/testapp", Mode: 0o755, Source: filepath.Join(d.programs, "testapp")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// run runs the steps of a page in a directory like a fresh checkout after make build.
func (d *desk) run(t *testing.T, name string, steps []step) {
	dir := t.TempDir()
	entries, err := os.ReadDir(d.root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "bin" {
			continue
		}
		if err := os.Symlink(filepath.Join(d.root, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(d.programs, filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	if name != "README.md" {
		d.tidy(t)
	}
	for _, s := range steps {
		start := time.Now()
		if err := d.do(t.Context(), dir, s); err != nil {
			status, _ := d.shell(t.Context(), dir, lab.CP, "heraldctl status; kubectl get pods -A")
			t.Fatalf("%s:%d: %v\n--- the block\n%s\n--- the cluster\n%s", name, s.Line, err, s.Text, status)
		}
		t.Logf("%s:%d: %d commands in %.1f s", name, s.Line, s.commands(), time.Since(start).Seconds())
	}
}

// do runs one step.
func (d *desk) do(ctx context.Context, dir string, s step) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if s.Language == page.Given {
		manifest, err := os.ReadFile(filepath.Join(d.root, "e2etest", "docs", "given", s.Text+".yaml"))
		if err != nil {
			return err
		}
		return d.lab.Apply(ctx, manifest)
	}
	if file, has := s.Mark("file"); has {
		return os.WriteFile(filepath.Join(dir, file), []byte(s.Text), 0o644)
	}
	if _, has := s.Mark("apply"); has {
		return d.lab.Apply(ctx, []byte(s.Text))
	}
	host := lab.CP
	if on, has := s.Mark("on"); has {
		host = on
	}
	try := func() error {
		out, err := d.shell(ctx, dir, host, s.Text)
		if err == nil && s.isTold {
			err = page.Matches(s.shown, out)
		}
		if err != nil {
			return fmt.Errorf("%w\n--- it printed\n%s", err, out)
		}
		return nil
	}
	if _, waits := s.Mark("wait"); waits {
		return install.UntilEvery(ctx, 200*time.Millisecond, try)
	}
	return try()
}

// shell runs a script on a host and returns what it printed, errors last.
func (d *desk) shell(ctx context.Context, dir, host, script string) (string, error) {
	bash := []string{"bash", "-euo", "pipefail", "-c", script}
	cmd := exec.CommandContext(ctx, bash[0], bash[1:]...)
	cmd.Env = os.Environ()
	if host != page.Machine {
		cmd = d.lab.Command(ctx, host, bash[0], bash[1:]...)
	}
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "PATH="+d.programs+":"+os.Getenv("PATH"), "HOME="+dir, "KUBECONFIG="+d.lab.Kubeconfig(), "HERALD_LAB="+d.lab.Name())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return out.String() + errs.String(), err
}
