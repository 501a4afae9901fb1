// Command mkrelease gathers in one directory what a release consists of: manifests and a chart that name its images, heraldctl for
// the platforms that people sit at, what these are made of (SPDX), and the checksums of every file, the images that
// mkimages has put there included. It publishes nothing.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"heraldlb.io/herald/internal/oci/gobuild"
)

type options struct {
	release   gobuild.Release
	registry  string
	platforms []string // GOOS/GOARCH
	out       string
}

// checksums is the name of the file with the checksums of all others.
const checksums = "SHA256SUMS"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mkrelease:", err)
		os.Exit(1)
	}
}

var version = regexp.MustCompile(`^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$`)

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("mkrelease", flag.ContinueOnError)
	flags.StringVar(&o.release.Version, "version", "", "version to release, as v1.2.3")
	flags.StringVar(&o.release.Commit, "commit", "", "commit that is released")
	created := flags.Int64("created", 0, "time of the commit, in seconds since 1970")
	flags.StringVar(&o.registry, "registry", "localhost", "host and path of the images' names")
	platforms := flags.String("platforms", "linux/amd64,linux/arm64", "platforms of heraldctl, separated by commas; it asks the speakers' code, which builds for Linux alone")
	flags.StringVar(&o.out, "out", "", "directory of the release")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if !version.MatchString(o.release.Version) {
		return options{}, fmt.Errorf("version %q is none: write one such as v1.2.3 or v1.2.3-rc.1", o.release.Version)
	}
	if o.out == "" {
		return options{}, errors.New("name the directory of the release with -out")
	}
	o.release.Created = time.Unix(*created, 0).UTC()
	o.platforms = strings.Split(*platforms, ",")
	return o, nil
}

func run(ctx context.Context, o options) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	if err := errors.Join(manifests(o), chart(o)); err != nil {
		return err
	}
	for _, platform := range o.platforms {
		if err := commandLine(ctx, o, platform); err != nil {
			return err
		}
	}
	return sum(o.out)
}

var imageLine = regexp.MustCompile(`(?m)^(\s*image: )localhost/(herald-[a-z]+):dev$`)

// manifests writes the manifests with the names of the release's images.
func manifests(o options) error {
	files, err := filepath.Glob("manifests/*.yaml")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no manifests found in %s (%v): run in the module's root", "manifests", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !imageLine.Match(text) {
			return fmt.Errorf("%s names no image of tag dev: was it rendered by make manifests?", file)
		}
		text = imageLine.ReplaceAll(text, []byte("${1}"+o.registry+"/${2}:"+o.release.Version))
		if err := os.WriteFile(filepath.Join(o.out, filepath.Base(file)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// commandLine builds heraldctl for a platform and packs it.
func commandLine(ctx context.Context, o options, platform string) error {
	goos, arch, ok := strings.Cut(platform, "/")
	if !ok {
		return fmt.Errorf("platform %q is none: write one such as linux/amd64", platform)
	}
	dir, err := os.MkdirTemp("", "mkrelease-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := gobuild.Build(ctx, o.release, goos, arch, dir, "./heraldctl"); err != nil {
		return err
	}
	binary := filepath.Join(dir, "heraldctl")
	if goos == "windows" {
		binary += ".exe"
	}
	name := filepath.Join(o.out, fmt.Sprintf("heraldctl-%s-%s-%s", o.release.Version, goos, arch))
	if err := gobuild.WriteSBOM(name+".spdx.json", binary, "heraldctl", platform, false, o.release); err != nil {
		return err
	}
	files, err := read(binary, "LICENSE")
	if err != nil {
		return err
	}
	files[0].mode = 0o755
	packed, err := pack(o.release.Created, files...)
	if err != nil {
		return fmt.Errorf("pack heraldctl for %s: %w", platform, err)
	}
	fmt.Printf("%s.tar.gz: %.1f MiB\n", name, float64(len(packed))/(1<<20))
	return os.WriteFile(name+".tar.gz", packed, 0o644)
}

// file is one of an archive.
type file struct {
	name    string
	mode    int64
	content []byte
}

// read reads files, which go to the archive's root.
func read(paths ...string) ([]file, error) {
	var out []file
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		out = append(out, file{filepath.Base(path), 0o644, content})
	}
	return out, nil
}

// pack makes an archive of files, which tells nothing of who made it and when.
func pack(created time.Time, files ...file) ([]byte, error) {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	archive := tar.NewWriter(zip)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.content)), Mode: f.mode, ModTime: created, Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := archive.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := errors.Join(archive.Close(), zip.Close())
	return b.Bytes(), err
}

// sum writes the checksums of all files of a directory, as sha256sum -c reads them.
func sum(dir string) error {
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == checksums {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(content), filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return fmt.Errorf("sum up %s: %w", dir, err)
	}
	return os.WriteFile(filepath.Join(dir, checksums), []byte(list.String()), 0o644)
}
