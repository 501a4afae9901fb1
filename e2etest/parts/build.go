package parts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// reportEvery is how often a build that takes long says so. People take a silence of more than ten seconds for
// a hang.
const reportEvery = 8 * time.Second

// Progress receives one line at a time, without its newline, about work that takes long.
type Progress func(line string)

// Cache is the directory of built parts.
type Cache struct {
	Dir      string
	Progress Progress
}

// Build returns the directory with the module's programs, and makes it first if this user has not had it yet.
// Of several labs that start at once one builds and the others wait.
func (c Cache) Build(ctx context.Context, m Module) (string, error) {
	files, err := m.contents()
	if err != nil {
		return "", err
	}
	label := m.Name + " " + m.Version
	return c.once(ctx, label, key(m.Name, m.Version, files, m.flags()), func(dir string) error {
		return c.goBuild(ctx, label, files, m.flags(), "tool", dir, func(src, out string) error {
			for name, built := range m.rename {
				if err := os.Rename(filepath.Join(out, built), filepath.Join(out, name)); err != nil {
					return err
				}
			}
			return m.keepFiles(ctx, src, out)
		})
	})
}

// keepFiles copies to out what is kept of a module that the one in src requires.
func (m Module) keepFiles(ctx context.Context, src, out string) error {
	if len(m.keep) == 0 {
		return nil
	}
	list := goCommand(ctx, src, "list", "-m", "-f", "{{.Dir}}", m.from)
	dir, err := list.Output()
	if err != nil {
		return fmt.Errorf("find module %s: %w", m.from, err)
	}
	for path, name := range m.keep {
		data, err := os.ReadFile(filepath.Join(string(bytes.TrimSpace(dir)), path))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// goCommand is the go command in a directory, for this machine and untouched by what the caller has set.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GO111MODULE=on", "GOOS=", "GOARCH=")
	return cmd
}

// BuildSource returns the directory with one program called name, built from a single source file that needs
// nothing but the standard library.
func (c Cache) BuildSource(ctx context.Context, name string, source []byte) (string, error) {
	files := map[string][]byte{
		"go.mod":  []byte("module " + name + "\n\ngo 1.26\n"),
		"main.go": source,
	}
	flags := []string{"-trimpath", "-ldflags", "-s -w"}
	return c.once(ctx, name, key(name, "v0", files, flags), func(dir string) error {
		return c.goBuild(ctx, name, files, flags, ".", dir, nil)
	})
}

// goBuild writes the files to a directory of their own, builds pkg there into out, and lets fix finish out.
func (c Cache) goBuild(ctx context.Context, label string, files map[string][]byte, flags []string, pkg, out string, fix func(src, out string) error) error {
	src, err := os.MkdirTemp("", "herald-lab-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(src)
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(src, name), data, 0o644); err != nil {
			return err
		}
	}
	args := append([]string{"build", "-v", "-o", out + "/"}, flags...)
	cmd := goCommand(ctx, src, append(args, pkg)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := c.run(cmd, label); err != nil {
		return err
	}
	if fix != nil {
		return fix(src, out)
	}
	return nil
}

// run runs a build and reports how far it is: go build -v prints one line per package that it compiles.
func (c Cache) run(cmd *exec.Cmd, label string) error {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	start := time.Now()
	c.Progress(fmt.Sprintf("building %s (only the first time; minutes)", label))
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w; install Go 1.26 or newer and put it on PATH", err)
	}
	var lines atomic.Int64
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				// The last minute of a build, linking, adds no line.
				c.Progress(fmt.Sprintf("building %s: %s, %d modules fetched and packages compiled",
					label, time.Since(start).Round(time.Second), lines.Load()))
			}
		}
	}()
	tail := tailBuffer{limit: 4 << 10}
	scan := bufio.NewScanner(io.TeeReader(stderr, &tail))
	for scan.Scan() {
		lines.Add(1)
	}
	io.Copy(io.Discard, stderr) // a line too long for the scanner must not block the build
	err = cmd.Wait()
	close(done)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace(tail.data))
	}
	c.Progress(fmt.Sprintf("built %s in %s", label, time.Since(start).Round(time.Second)))
	return nil
}

// once returns the directory of that key, and calls fill on a fresh one when there is none yet. A directory
// appears under its key only when fill has succeeded.
func (c Cache) once(ctx context.Context, label, key string, fill func(dir string) error) (string, error) {
	final := filepath.Join(c.Dir, key)
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", fmt.Errorf("cache of %s: %w", label, err)
	}
	unlock, err := c.lock(ctx, label, final+".lock")
	if err != nil {
		return "", fmt.Errorf("cache of %s: %w", label, err)
	}
	defer unlock()
	if _, err := os.Stat(final); err == nil {
		return final, nil // somebody else has just built it
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cache of %s: %w", label, err)
	}
	tmp := final + ".partial" // ours alone under the lock; one that a crash left is started over
	if err := os.RemoveAll(tmp); err != nil {
		return "", fmt.Errorf("cache of %s: %w", label, err)
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return "", fmt.Errorf("cache of %s: %w", label, err)
	}
	defer os.RemoveAll(tmp)
	if err := fill(tmp); err != nil {
		return "", fmt.Errorf("build %s: %w", label, err)
	}
	if err := os.Rename(tmp, final); err != nil {
		return "", fmt.Errorf("cache of %s: %w", label, err)
	}
	return final, nil
}

// lock takes an exclusive lock that ends with the process if not before.
func (c Cache) lock(ctx context.Context, label, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	next := time.Now()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != syscall.EWOULDBLOCK {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if now := time.Now(); !now.Before(next) {
			c.Progress(fmt.Sprintf("waiting for %s, which another lab is building", label))
			next = now.Add(reportEvery)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tailBuffer keeps the last bytes written to it.
type tailBuffer struct {
	limit int
	data  []byte
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.data = append(b.data, p...)
	if over := len(b.data) - b.limit; over > 0 {
		b.data = append(b.data[:0], b.data[over:]...)
	}
	return len(p), nil
}
