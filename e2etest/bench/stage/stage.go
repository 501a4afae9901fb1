// Package stage is what benches on a real cluster have in common: a lab with Herald in it, one application behind all its
// Services, what the speakers count, busy cores, and the table of figures.
//
// It measures nothing and decides nothing about figures: the benches do the one, people the other.
package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

// Stage is a lab with Herald in it. The application runs once, on a machine that is no node: what breaks when a node dies is
// then the way to it and not its endpoints.
type Stage struct {
	*lab.Lab
	Kube kubernetes.Interface
	Root string // of the checkout
	Dir  string // for files, until Down

	backend *exec.Cmd
}

// Up brings a lab up, named by HERALD_LAB if that is set. What it returns is to be taken down also when there is an error.
func Up(ctx context.Context, nodes int) (*Stage, error) {
	root, err := install.Root()
	if err != nil {
		return nil, err
	}
	images, err := install.Images(root)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "herald-bench-")
	if err != nil {
		return nil, err
	}
	s := &Stage{Root: root, Dir: dir}
	s.Lab, err = lab.Up(ctx, lab.Options{Name: install.LabName("bench"), Nodes: nodes, Owned: true, Images: images, Out: os.Stderr})
	if err != nil {
		return s, err
	}
	cfg, err := s.RESTConfig()
	if err != nil {
		return s, err
	}
	cfg.WarningHandler = rest.NoWarnings{} // external addresses are deprecated, and what Herald's rivals are given
	if s.Kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return s, err
	}
	if err := install.Herald(ctx, s.Lab, s.Kube, root); err != nil {
		return s, err
	}
	if err := s.current(ctx); err != nil {
		return s, err
	}
	return s, s.startBackend(ctx)
}

// current fails when the images are not of the commit that is checked out: what they do would be held for what this one does.
func (s *Stage) current(ctx context.Context) error {
	git := exec.CommandContext(ctx, "git", "rev-parse", "HEAD")
	git.Dir = s.Root
	head, err := git.Output()
	if err != nil {
		return fmt.Errorf("which commit is checked out in %s: %w", s.Root, err)
	}
	m, err := s.Metrics(ctx, s.Nodes()[0])
	if err != nil {
		return err
	}
	want := fmt.Sprintf("commit=%q", strings.TrimSpace(string(head)))
	for line := range m {
		if strings.HasPrefix(line, "herald_build_info{") && !strings.Contains(line, want) {
			return fmt.Errorf("the images in dist/images are of another commit than %s (%s): run make images-host", want, line)
		}
	}
	return nil
}

// startBackend runs the test application on the control plane host.
func (s *Stage) startBackend(ctx context.Context) error {
	program := filepath.Join(s.Dir, "testapp")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./e2etest/app/testapp")
	build.Dir = s.Root
	if err := Run(build); err != nil {
		return err
	}
	s.backend = s.Command(context.Background(), lab.CP, program)
	s.backend.Env = append(s.backend.Env, "NODE_NAME="+lab.CP, "POD_NAME="+lab.CP)
	if err := s.backend.Start(); err != nil {
		return fmt.Errorf("test application: %w", err)
	}
	return nil
}

// Run runs a command to its end.
func Run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// Down ends everything of the stage.
func (s *Stage) Down(ctx context.Context) error {
	var errs []error
	if s.backend != nil && s.backend.Process != nil {
		errs = append(errs, s.backend.Process.Kill())
		_ = s.backend.Wait() // it was killed
	}
	if s.Lab != nil {
		errs = append(errs, s.Lab.Down(ctx))
	}
	return errors.Join(append(errs, os.RemoveAll(s.Dir))...)
}

// Metrics reads what a node's speaker counts, by name with its labels.
func (s *Stage) Metrics(ctx context.Context, node string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	url := "http://" + netip.AddrPortFrom(s.Host(node).IPv4, 7481).String() + "/metrics"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: s.Dialer(lab.Client), DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("speaker of %s: %w", node, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("speaker of %s: %w", node, err)
	}
	return parseMetrics(string(body)), nil
}

// parseMetrics reads Prometheus' text format as far as it is needed: lines of a name and a number.
func parseMetrics(text string) map[string]float64 {
	m := map[string]float64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			m[line[:i]] = v
		}
	}
	return m
}

// Sum adds a counter up over all speakers and all its labels.
func (s *Stage) Sum(ctx context.Context, name string) (total float64, err error) {
	for _, n := range s.Nodes() {
		m, err := s.Metrics(ctx, n)
		if err != nil {
			return 0, err
		}
		for line, v := range m {
			if line == name || strings.HasPrefix(line, name+"{") {
				total += v
			}
		}
	}
	return total, nil
}
