// Package gobuild cross-builds Herald's programs with the Go toolchain, and says what is in the binaries. It owns how a
// program that is delivered is built: static, without paths of the machine or what Git would say, so that the same sources,
// version and Go release give the same bytes in every directory and on every day.
package gobuild

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"heraldlb.io/herald/internal/oci/spdx"
)

// Release is what the programs tell of themselves.
type Release struct {
	Version string
	Commit  string
	Created time.Time // of the commit
}

// tags leave out gRPC's tracing page. It brings html/template, which calls methods by names that the linker cannot know, so
// that no method of any type could be left out: the speaker is a third smaller without it.
const tags = "grpcnotrace"

// Build builds packages for one platform into a directory, in one run of the toolchain, so that what they share is loaded
// once. It says what takes its time on standard error.
func Build(ctx context.Context, r Release, goos, arch, dir string, packages ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const cmdline = "heraldlb.io/herald/internal/cmdline"
	ldflags := fmt.Sprintf("-s -w -X %s.version=%s -X %[1]s.commit=%[3]s", cmdline, r.Version, r.Commit)
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", ldflags, "-o", dir + string(filepath.Separator)}, packages...)
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	done := make(chan struct{})
	defer close(done)
	go progress("building for "+goos+"/"+arch, done)
	if err := build.Run(); err != nil {
		return fmt.Errorf("build for %s/%s: go %s: %w", goos, arch, strings.Join(args, " "), err)
	}
	return nil
}

// progress says what takes its time, at once and then every 10 s, until done.
func progress(what string, done <-chan struct{}) {
	start := time.Now()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		fmt.Fprintf(os.Stderr, "%s (%.0f s)\n", what, time.Since(start).Seconds())
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// WriteSBOM writes down what a binary that is delivered in an artifact is made of.
func WriteSBOM(file, binary, artifact, platform string, image bool, r Release) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read what %s is made of: %w", binary, err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	text, err := spdx.Document(spdx.Program{
		Artifact: artifact, Version: r.Version, Platform: platform, Created: r.Created, Image: image, Digest: sha256.Sum256(content), Info: info,
	})
	if err != nil {
		return fmt.Errorf("write down what %s is made of: %w", binary, err)
	}
	return os.WriteFile(file, text, 0o644)
}
