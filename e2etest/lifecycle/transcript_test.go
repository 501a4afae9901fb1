package lifecycle

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/install"
)

// transcript is what a person does and sees, with the seconds since the start.
type transcript struct {
	t     *testing.T
	start time.Time
}

func begin(t *testing.T) *transcript { return &transcript{t: t, start: time.Now()} }

// say writes a line.
func (s *transcript) say(format string, args ...any) {
	s.t.Helper()
	s.t.Logf("%5.1f s  %s", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

// run runs a command, and again until it succeeds or patience is over, and writes it down with its last output.
func (s *transcript) run(cmd func(ctx context.Context) *exec.Cmd) {
	s.t.Helper()
	shown := false
	s.wait(func(ctx context.Context) error {
		cmd := cmd(ctx)
		if !shown {
			s.say("$ %s", shell(cmd))
			shown = true
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", shell(cmd), err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if len(lines) > 4 {
			lines = append(lines[:3], fmt.Sprintf("... and %d more lines", len(lines)-3))
		}
		for _, line := range lines {
			s.say("%s", line)
		}
		return nil
	})
}

// patience is for a machine that is busy. What may take how long is for the tests to say.
const patience = 8 * time.Minute

// wait waits until f returns nil, and fails the test when it has not when patience is over.
func (s *transcript) wait(f func(ctx context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // t.Context is over when clean-up begins
	defer cancel()
	if err := install.Until(ctx, func() error { return f(ctx) }); err != nil {
		s.t.Fatal(err)
	}
}

// kubectl runs kubectl.
func (s *transcript) kubectl(args ...string) {
	s.t.Helper()
	s.run(func(ctx context.Context) *exec.Cmd { return cluster.KubectlCommand(ctx, args...) })
}

// shell is a command as one would type it: without the paths of this checkout and of the lab.
func shell(cmd *exec.Cmd) string {
	args := []string{filepath.Base(cmd.Args[1])} // 0 is the lab's
	for _, arg := range cmd.Args[2:] {
		if !strings.HasPrefix(arg, "--kubeconfig=") {
			args = append(args, strings.TrimPrefix(arg, root+"/"))
		}
	}
	return strings.Join(args, " ")
}
