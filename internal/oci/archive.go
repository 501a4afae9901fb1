package oci

import (
	"archive/tar"
	"encoding/json"
	"io"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations by which importers name an image: containerd, and Docker on containerd's store, read the first; tools that
// know only the OCI layout read the second, whose value is the tag.
const (
	containerdName = "io.containerd.image.name"
	layoutRefName  = "org.opencontainers.image.ref.name"
)

const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// archive writes an image layout into a tar, each blob once.
type archive struct {
	tar     *tar.Writer
	written map[v1.Hash]bool
}

func writeArchive(out io.Writer, refs []reference) error {
	a := archive{tar: tar.NewWriter(out), written: map[v1.Hash]bool{}}
	if err := a.file("oci-layout", []byte(layoutVersion)); err != nil {
		return err
	}
	top := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var docker []dockerImage
	for _, r := range refs {
		add, err := a.reference(r)
		if err != nil {
			return err
		}
		top = mutate.AppendManifests(top, add)
		if len(r.images) == 1 {
			entry, err := dockerEntry(r)
			if err != nil {
				return err
			}
			docker = append(docker, entry)
		}
	}
	raw, err := top.RawManifest()
	if err != nil {
		return err
	}
	if err := a.file("index.json", raw); err != nil {
		return err
	}
	if len(docker) > 0 {
		list, err := json.Marshal(docker)
		if err != nil {
			return err
		}
		if err := a.file("manifest.json", list); err != nil {
			return err
		}
	}
	return a.tar.Close()
}

// reference writes all that r needs and returns how index.json names it: the image itself, or an index of its images.
func (a archive) reference(r reference) (mutate.IndexAddendum, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range r.images {
		if err := a.image(b); err != nil {
			return mutate.IndexAddendum{}, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: b, Descriptor: v1.Descriptor{Platform: &b.platform}})
	}
	_, tag := splitRef(r.name)
	named := v1.Descriptor{Annotations: map[string]string{containerdName: r.name, layoutRefName: tag}}
	if len(r.images) == 1 {
		named.Platform = &r.images[0].platform
		return mutate.IndexAddendum{Add: r.images[0], Descriptor: named}, nil
	}
	raw, err := index.RawManifest()
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	digest, err := index.Digest()
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	return mutate.IndexAddendum{Add: index, Descriptor: named}, a.blob(digest, raw)
}

func (a archive) image(b built) error {
	layers, err := b.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return err
		}
		content, err := l.Compressed()
		if err != nil {
			return err
		}
		raw, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		if err := a.blob(digest, raw); err != nil {
			return err
		}
	}
	config, err := b.RawConfigFile()
	if err != nil {
		return err
	}
	configDigest, err := b.ConfigName()
	if err != nil {
		return err
	}
	if err := a.blob(configDigest, config); err != nil {
		return err
	}
	manifest, err := b.RawManifest()
	if err != nil {
		return err
	}
	digest, err := b.Digest()
	if err != nil {
		return err
	}
	return a.blob(digest, manifest)
}

func (a archive) blob(digest v1.Hash, content []byte) error {
	if a.written[digest] {
		return nil
	}
	a.written[digest] = true
	return a.file(blobPath(digest), content)
}

func (a archive) file(name string, content []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644, ModTime: epoch, Format: tar.FormatUSTAR}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := a.tar.Write(content)
	return err
}

func blobPath(digest v1.Hash) string { return path.Join("blobs", digest.Algorithm, digest.Hex) }

// dockerImage is an entry of manifest.json, the table of contents of "docker save". It cannot express several
// architectures of one name.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func dockerEntry(r reference) (dockerImage, error) {
	config, err := r.images[0].ConfigName()
	if err != nil {
		return dockerImage{}, err
	}
	layers, err := r.images[0].Layers()
	if err != nil {
		return dockerImage{}, err
	}
	entry := dockerImage{Config: blobPath(config), RepoTags: []string{r.name}}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return dockerImage{}, err
		}
		entry.Layers = append(entry.Layers, blobPath(digest))
	}
	return entry, nil
}
