// Command mkimages cross-builds Herald's programs and writes them as container images, one archive each, with nothing
// but the Go toolchain, and beside it for each architecture what is in it (SPDX). It owns the list of images; what an
// image is made of is package oci's, how its binary is built package gobuild's. It pushes nothing anywhere.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
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
	"heraldlb.io/herald/internal/oci/gobuild"
)

// program is one image: a static binary and what the kernel must grant it.
type program struct {
	name         string // the image is herald-NAME
	pkg          string // its main package, below the module's root
	describes    string // for those who find the image and wonder
	capabilities []string
}

var programs = []program{
	{name: "controller", pkg: "./controller", describes: "Herald's controller gives Services of type LoadBalancer their addresses"},
	// Packet sockets need NET_RAW, and passive BGP peers NET_BIND_SERVICE. A non-root process in a container may raise them
	// only if its file says so, and the container gives them.
	{name: "speaker", pkg: "./speaker", describes: "Herald's speaker announces the addresses of Services with ARP, NDP and BGP", capabilities: []string{"CAP_NET_RAW", "CAP_NET_BIND_SERVICE"}},
	{name: "testapp", pkg: "./e2etest/app/testapp", describes: "what Herald's end-to-end tests talk to"},
	{name: "pause", pkg: "./e2etest/lab/pause", describes: "what holds a pod's namespaces in Herald's lab"},
}

type options struct {
	architectures []string
	registry      string
	tag           string
	release       gobuild.Release
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
	flags.StringVar(&o.registry, "registry", "localhost", "host and path of the images' names")
	flags.StringVar(&o.tag, "tag", "dev", "tag of the images")
	flags.StringVar(&o.release.Version, "version", "dev", "version that the binaries and the labels tell")
	flags.StringVar(&o.release.Commit, "commit", "", "commit that the binaries and the labels tell")
	created := flags.Int64("created", 0, "time of the commit, in seconds since 1970")
	flags.StringVar(&o.out, "out", "dist/images", "directory of the archives")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: mkimages [flags] [%s ...]\n\nRun in the module's root. Without names, every image is made.\n\n", strings.Join(names(), "|"))
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	o.release.Created = time.Unix(*created, 0).UTC()
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
	var packages []string
	for _, p := range o.programs {
		packages = append(packages, p.pkg)
	}
	for _, arch := range o.architectures {
		if err := gobuild.Build(ctx, o.release, "linux", arch, filepath.Join(binaries, arch), packages...); err != nil {
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
			sbom := filepath.Join(o.out, fmt.Sprintf("herald-%s-%s.spdx.json", p.name, arch))
			if err := gobuild.WriteSBOM(sbom, binary(p, arch, binaries), "herald-"+p.name, "linux/"+arch, true, o.release); err != nil {
				return err
			}
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

// binary is where a program was built.
func binary(p program, arch, binaries string) string {
	return filepath.Join(binaries, arch, path.Base(p.pkg))
}

func image(o options, p program, arch, binaries string) oci.Image {
	command := path.Base(p.pkg)
	labels := map[string]string{
		"org.opencontainers.image.title":       "herald-" + p.name,
		"org.opencontainers.image.description": p.describes,
		"org.opencontainers.image.version":     o.release.Version,
		"org.opencontainers.image.source":      "https://heraldlb.io/herald",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.created":     o.release.Created.Format(time.RFC3339),
	}
	if o.release.Commit != "" {
		labels["org.opencontainers.image.revision"] = o.release.Commit
	}
	return oci.Image{
		Ref:          o.registry + "/herald-" + p.name + ":" + o.tag,
		Entrypoint:   []string{"/" + command},
		Architecture: arch,
		Labels:       labels,
		Files: []oci.File{{
			Path:         "/" + command,
			Mode:         0o755,
			Source:       binary(p, arch, binaries),
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
