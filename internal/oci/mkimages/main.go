// Command mkimages cross-builds Herald's programs and writes them as container images, one archive each, with nothing
// but the Go toolchain. It owns the list of images and how their binaries are built; what an image is made of is package
// oci's. It pushes nothing anywhere.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"heraldlb.io/herald/internal/oci"
)

// program is one image: a static binary and what the kernel must grant it.
type program struct {
	name         string // the image is localhost/herald-NAME
	pkg          string // its main package, below the module's root
	capabilities []string
}

var programs = []program{
	{name: "controller", pkg: "./controller"},
	// Packet sockets need NET_RAW, and passive BGP peers NET_BIND_SERVICE. A non-root process in a container may raise them
	// only if its file says so, and the container gives them.
	{name: "speaker", pkg: "./speaker", capabilities: []string{"CAP_NET_RAW", "CAP_NET_BIND_SERVICE"}},
	{name: "testapp", pkg: "./e2etest/app/testapp"},
	{name: "pause", pkg: "./e2etest/lab/pause"},
}

type options struct {
	architectures []string
	tag           string
	version       string
	commit        string
	out           string
	programs      []program
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mkimages:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("mkimages", flag.ContinueOnError)
	architectures := flags.String("arch", runtime.GOARCH, "architectures to build for, separated by commas; several make one archive with an index")
	flags.StringVar(&o.tag, "tag", "dev", "tag of the images")
	flags.StringVar(&o.version, "version", "dev", "version that the binaries and the labels tell")
	flags.StringVar(&o.commit, "commit", "", "commit that the binaries and the labels tell")
	flags.StringVar(&o.out, "out", "dist/images", "directory of the archives")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: mkimages [flags] [%s ...]\n\nRun in the module's root. Without names, every image is made.\n\n", strings.Join(names(), "|"))
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	o.architectures = strings.Split(*architectures, ",")
	slices.Sort(o.architectures)
	o.architectures = slices.Compact(o.architectures)
	if flags.NArg() == 0 {
		o.programs = programs
	}
	for _, name := range flags.Args() {
		at := slices.IndexFunc(programs, func(p program) bool { return p.name == name })
		if at < 0 {
			return options{}, fmt.Errorf("image %q is unknown: choose from %s", name, strings.Join(names(), ", "))
		}
		o.programs = append(o.programs, programs[at])
	}
	return o, nil
}

func names() []string {
	var list []string
	for _, p := range programs {
		list = append(list, p.name)
	}
	return list
}

func run(ctx context.Context, o options, out io.Writer) error {
	binaries, err := os.MkdirTemp("", "mkimages-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(binaries)
	for _, arch := range o.architectures {
		if err := compile(ctx, o, arch, filepath.Join(binaries, arch)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tPLATFORM\tSIZE\tDIGEST\tARCHIVE")
	for _, p := range o.programs {
		var images []oci.Image
		for _, arch := range o.architectures {
			images = append(images, image(o, p, arch, binaries))
		}
		archive := filepath.Join(o.out, archiveName(p, o.architectures))
		if err := oci.Write(archive, images...); err != nil {
			return err
		}
		manifests, err := oci.Manifests(images...)
		if err != nil {
			return err
		}
		for _, m := range manifests {
			fmt.Fprintf(table, "%s\t%s\t%.1f MiB\t%s\t%s\n", m.Ref, m.Platform, float64(m.Size)/(1<<20), m.Digest, archive)
		}
	}
	return table.Flush()
}

// compile builds all programs for one architecture in one run of the toolchain, so that what they share is loaded once.
func compile(ctx context.Context, o options, arch, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const cmdline = "heraldlb.io/herald/internal/cmdline"
	ldflags := fmt.Sprintf("-s -w -X %s.version=%s -X %[1]s.commit=%[3]s", cmdline, o.version, o.commit)
	args := []string{"build", "-trimpath", "-ldflags", ldflags, "-o", dir}
	for _, p := range o.programs {
		args = append(args, p.pkg)
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	done := make(chan struct{})
	defer close(done)
	go progress("building for linux/"+arch, done)
	if err := build.Run(); err != nil {
		return fmt.Errorf("build for linux/%s: go %s: %w", arch, strings.Join(args, " "), err)
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

func image(o options, p program, arch, binaries string) oci.Image {
	command := path.Base(p.pkg)
	labels := map[string]string{
		"org.opencontainers.image.title":    "herald-" + p.name,
		"org.opencontainers.image.version":  o.version,
		"org.opencontainers.image.source":   "https://heraldlb.io/herald",
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
	if o.commit != "" {
		labels["org.opencontainers.image.revision"] = o.commit
	}
	return oci.Image{
		Ref:          "localhost/herald-" + p.name + ":" + o.tag,
		Entrypoint:   []string{"/" + command},
		Architecture: arch,
		Labels:       labels,
		Files: []oci.File{{
			Path:         "/" + command,
			Mode:         0o755,
			Source:       filepath.Join(binaries, arch, command),
			Capabilities: p.capabilities,
		}},
	}
}

// archiveName tells an archive for one architecture, as a lab on this machine loads it, from one for a release.
func archiveName(p program, architectures []string) string {
	if len(architectures) == 1 {
		return fmt.Sprintf("herald-%s-%s.tar", p.name, architectures[0])
	}
	return fmt.Sprintf("herald-%s.tar", p.name)
}
