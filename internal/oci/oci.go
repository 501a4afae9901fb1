// Package oci writes container images from static binaries, so that Herald's images come from nothing but the Go
// toolchain: no registry, no container engine, no base image.
//
// It owns the file system inside an image (one layer: the given files, the directories above them, /etc/passwd,
// /etc/group and /tmp), its configuration, and the archive around it: an OCI image layout in a tar, which containerd
// imports under the reference it carries; a reference of one architecture can be loaded by Docker's classic image store
// too. The same inputs give the same bytes: nothing is taken from the clock, from the user who builds, or from the order
// in which files were named.
//
// It must never fetch anything, run anything, or compile anything: building binaries is the command's, mkimages.
package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// NonRoot is the user an image runs as when it names none: the id that distroless images made customary, numeric, because
// the kubelet can prove runAsNonRoot of a number only.
const NonRoot = "65532:65532"

// File is one file of an image. A Mode with fs.ModeDir makes an empty directory.
type File struct {
	Path         string      // absolute, in the image
	Mode         fs.FileMode // permission bits, and setuid, setgid, sticky or directory
	Source       string      // the file on disk to copy; empty: Content
	Content      []byte
	Capabilities []string // file capabilities, permitted and not yet effective, as in CAP_NET_RAW or cap_net_raw
}

// Image is what becomes one image manifest. Everything in it belongs to uid 0: what runs as another user can change
// nothing of it but what it writes under /tmp.
type Image struct {
	Ref          string // where it is found, with its tag, as in localhost/herald-speaker:dev
	Entrypoint   []string
	User         string // uid:gid; empty: NonRoot
	Env          []string
	Files        []File
	Architecture string            // GOARCH
	Labels       map[string]string // also the manifest's annotations
}

// Write makes the archive at path from images; those of one Ref become one index, one manifest for each architecture, in
// the order of the architectures' names. It replaces the file only when the whole archive has been written.
func Write(path string, images ...Image) error {
	refs, err := assemble(images)
	if err != nil {
		return fmt.Errorf("image archive %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("image archive %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // a no-op once renamed
	err = errors.Join(writeArchive(f, refs), f.Chmod(0o644), f.Close())
	if err != nil {
		return fmt.Errorf("image archive %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("image archive %s: %w", path, err)
	}
	return nil
}

// Manifest is what an archive holds for one image, for those who print or pin it.
type Manifest struct {
	Ref, Platform, Digest string
	Size                  int64 // of the manifest, its configuration and its layer, bytes
}

// Manifests computes, without writing anything, what Write would put into an archive.
func Manifests(images ...Image) ([]Manifest, error) {
	refs, err := assemble(images)
	if err != nil {
		return nil, err
	}
	var list []Manifest
	for _, r := range refs {
		for _, i := range r.images {
			m, err := describe(r.name, i)
			if err != nil {
				return nil, err
			}
			list = append(list, m)
		}
	}
	return list, nil
}

func describe(ref string, b built) (Manifest, error) {
	manifest, err := b.Manifest()
	if err != nil {
		return Manifest{}, err
	}
	raw, err := b.RawManifest()
	if err != nil {
		return Manifest{}, err
	}
	digest, err := b.Digest()
	if err != nil {
		return Manifest{}, err
	}
	size := int64(len(raw)) + manifest.Config.Size
	for _, l := range manifest.Layers {
		size += l.Size
	}
	return Manifest{Ref: ref, Platform: b.platform.String(), Digest: digest.String(), Size: size}, nil
}

// reference is all that one name stands for, sorted by architecture.
type reference struct {
	name   string
	images []built
}

type built struct {
	v1.Image
	platform v1.Platform
}

// assemble builds every image and gathers them by reference, both in a fixed order.
func assemble(images []Image) ([]reference, error) {
	if len(images) == 0 {
		return nil, errors.New("no image was given")
	}
	sorted := slices.Clone(images)
	slices.SortStableFunc(sorted, func(a, b Image) int {
		if c := strings.Compare(a.Ref, b.Ref); c != 0 {
			return c
		}
		return strings.Compare(a.Architecture, b.Architecture)
	})
	var refs []reference
	for n, i := range sorted {
		if err := check(i); err != nil {
			return nil, fmt.Errorf("image %q: %w", i.Ref, err)
		}
		newRef := n == 0 || sorted[n-1].Ref != i.Ref
		if !newRef && sorted[n-1].Architecture == i.Architecture {
			return nil, fmt.Errorf("image %q: architecture %s is given twice", i.Ref, i.Architecture)
		}
		b, err := build(i)
		if err != nil {
			return nil, fmt.Errorf("image %q: %w", i.Ref, err)
		}
		if newRef {
			refs = append(refs, reference{name: i.Ref})
		}
		last := &refs[len(refs)-1]
		last.images = append(last.images, b)
	}
	return refs, nil
}

func check(i Image) error {
	repository, tag := splitRef(i.Ref)
	switch {
	case repository == "" || tag == "":
		return errors.New("the reference needs a tag, as in localhost/name:tag")
	case !strings.Contains(repository, "/"):
		return errors.New("the reference needs a host, as in localhost/name:tag: without one a runtime completes it to a public registry")
	case i.Architecture == "":
		return errors.New("no architecture is given")
	case len(i.Entrypoint) == 0:
		return errors.New("no entrypoint is given")
	}
	return nil
}

// splitRef cuts repository:tag; a colon before the last slash belongs to the host's port.
func splitRef(ref string) (repository, tag string) {
	at := strings.LastIndexByte(ref, ':')
	if at <= strings.LastIndexByte(ref, '/') {
		return ref, ""
	}
	return ref[:at], ref[at+1:]
}

func build(i Image) (built, error) {
	content, err := layer(i)
	if err != nil {
		return built{}, err
	}
	// Uncompressed: an import is then a plain copy, which three nodes on two cores feel, and the digest does not depend
	// on the compressor of the Go release that built it.
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.AppendLayers(img, static.NewLayer(content, types.OCIUncompressedLayer))
	if err != nil {
		return built{}, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return built{}, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", i.Architecture
	config.Created, config.History = v1.Time{Time: epoch}, []v1.History{{Created: v1.Time{Time: epoch}}}
	config.Config = v1.Config{
		User:       i.User,
		Env:        append([]string{"PATH=/"}, i.Env...),
		Entrypoint: i.Entrypoint,
		WorkingDir: "/",
		Labels:     i.Labels,
	}
	if config.Config.User == "" {
		config.Config.User = NonRoot
	}
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return built{}, err
	}
	if len(i.Labels) > 0 {
		img = mutate.Annotations(img, i.Labels).(v1.Image)
	}
	return built{Image: img, platform: v1.Platform{OS: "linux", Architecture: i.Architecture}}, nil
}
