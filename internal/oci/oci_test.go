package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

func speaker(arch string) Image {
	return Image{
		Ref:          "localhost/herald-speaker:dev",
		Entrypoint:   []string{"/speaker", "--log-format=json"},
		Architecture: arch,
		Labels:       map[string]string{"org.opencontainers.image.title": "herald-speaker", "org.opencontainers.image.version": "dev"},
		Files: []File{
			{Path: "/speaker", Mode: 0o755, Content: []byte("binary for " + arch), Capabilities: []string{"cap_net_raw"}},
			{Path: "/usr/share/herald/LICENSE", Mode: 0o644, Content: []byte("licence")},
		},
	}
}

// unpack writes an archive's files into a directory.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, h.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, images ...Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := Write(path, images...); err != nil {
		t.Fatal(err)
	}
	return path
}

// readIndex opens the archive as the image layout it must be: every blob is under its own digest.
func readIndex(t *testing.T, archive string) (v1.ImageIndex, string) {
	t.Helper()
	dir := unpack(t, archive)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		content, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", b.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != b.Name() {
			t.Errorf("blob %s has digest %x", b.Name(), sum)
		}
	}
	return index, dir
}

// checkImage follows an image's descriptors to its blobs.
func checkImage(t *testing.T, image v1.Image, dir string) {
	t.Helper()
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Layers) != 1 || len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("layers %+v, diff ids %v: want one uncompressed layer under one digest", manifest.Layers, config.RootFS.DiffIDs)
	}
	for _, d := range append(manifest.Layers, manifest.Config) {
		info, err := os.Stat(filepath.Join(dir, blobPath(d.Digest)))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() != d.Size {
			t.Errorf("%s of %d bytes is described with %d", d.MediaType, info.Size(), d.Size)
		}
	}
}

func TestSingleArchitectureIsOneNamedManifest(t *testing.T) {
	index, dir := readIndex(t, write(t, speaker("amd64")))
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("%d manifests, want 1", len(manifest.Manifests))
	}
	d := manifest.Manifests[0]
	if !d.MediaType.IsImage() || d.Platform.String() != "linux/amd64" {
		t.Errorf("media type %s for %s, want an image for linux/amd64", d.MediaType, d.Platform)
	}
	if got := d.Annotations["io.containerd.image.name"]; got != "localhost/herald-speaker:dev" {
		t.Errorf("imported as %q", got)
	}
	if got := d.Annotations["org.opencontainers.image.ref.name"]; got != "dev" {
		t.Errorf("tag %q, want dev", got)
	}

	image, err := index.Image(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, image, dir)
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/speaker", "--log-format=json"}) {
		t.Errorf("runs %q as %q", config.Config.Entrypoint, config.Config.User)
	}
	if config.Config.Labels["org.opencontainers.image.title"] != "herald-speaker" {
		t.Errorf("labels %v", config.Config.Labels)
	}
	if config.OS != "linux" || config.Architecture != "amd64" || !config.Created.Time.Equal(epoch) {
		t.Errorf("config %s/%s of %s", config.OS, config.Architecture, config.Created)
	}

	t.Run("and Docker's table of contents names blobs that exist", func(t *testing.T) {
		raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		var list []dockerImage
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || !slices.Equal(list[0].RepoTags, []string{"localhost/herald-speaker:dev"}) {
			t.Fatalf("manifest.json: %+v", list)
		}
		for _, name := range append(list[0].Layers, list[0].Config) {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestArchitecturesOfOneReferenceBecomeOneIndex(t *testing.T) {
	index, dir := readIndex(t, write(t, speaker("arm64"), speaker("amd64")))
	top, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Manifests) != 1 || !top.Manifests[0].MediaType.IsIndex() {
		t.Fatalf("index.json has %+v, want one index", top.Manifests)
	}
	if got := top.Manifests[0].Annotations["io.containerd.image.name"]; got != "localhost/herald-speaker:dev" {
		t.Errorf("imported as %q", got)
	}
	inner, err := index.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, d := range manifest.Manifests {
		platforms = append(platforms, d.Platform.String())
		image, err := inner.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, image, dir)
	}
	if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("platforms %v", platforms)
	}
	if _, err := os.Stat(filepath.Join(dir, "manifest.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Docker's table of contents cannot express two architectures of one name and must not try")
	}
}

func TestLayerHoldsWhatANonRootProgramNeeds(t *testing.T) {
	image := speaker("amd64")
	slices.Reverse(image.Files)
	raw, err := layer(image)
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		name string
		mode int64
	}
	var got []entry
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, entry{h.Name, h.Mode})
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !h.ModTime.Equal(epoch) {
			t.Errorf("%s: owner %d:%d %q, modified %s", h.Name, h.Uid, h.Gid, h.Uname, h.ModTime)
		}
		if _, ok := h.PAXRecords["SCHILY.xattr.security.capability"]; ok != (h.Name == "speaker") {
			t.Errorf("%s: carries a capability: %v", h.Name, ok)
		}
	}
	want := []entry{
		{"etc/", 0o755}, {"etc/group", 0o644}, {"etc/passwd", 0o644}, {"speaker", 0o755}, {"tmp/", 0o1777},
		{"usr/", 0o755}, {"usr/share/", 0o755}, {"usr/share/herald/", 0o755}, {"usr/share/herald/LICENSE", 0o644},
	}
	if !slices.Equal(got, want) {
		t.Errorf("layer has\n%v, want\n%v", got, want)
	}
}

func TestSameInputsGiveTheSameBytes(t *testing.T) {
	a, err := os.ReadFile(write(t, speaker("amd64"), speaker("arm64")))
	if err != nil {
		t.Fatal(err)
	}
	reordered := speaker("amd64")
	slices.Reverse(reordered.Files)
	b, err := os.ReadFile(write(t, speaker("arm64"), reordered))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the order of files and architectures changed the archive")
	}
	other := speaker("amd64")
	other.Files[0].Content = []byte("another binary")
	c, err := os.ReadFile(write(t, speaker("arm64"), other))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a, c) {
		t.Error("another binary gave the same archive")
	}
}

func TestRefusals(t *testing.T) {
	with := func(change func(*Image)) Image {
		i := speaker("amd64")
		change(&i)
		return i
	}
	for name, c := range map[string]struct {
		images []Image
		reason string
	}{
		"nothing at all":                {nil, "no image was given"},
		"a reference without a tag":     {[]Image{with(func(i *Image) { i.Ref = "localhost:5000/herald" })}, "needs a tag"},
		"a reference without a host":    {[]Image{with(func(i *Image) { i.Ref = "herald:dev" })}, "needs a host"},
		"no architecture":               {[]Image{speaker("")}, "no architecture"},
		"an architecture twice":         {[]Image{speaker("amd64"), speaker("amd64")}, "given twice"},
		"no entrypoint":                 {[]Image{with(func(i *Image) { i.Entrypoint = nil })}, "no entrypoint"},
		"an entrypoint that is missing": {[]Image{with(func(i *Image) { i.Entrypoint = []string{"/nothing"} })}, "entrypoint /nothing is not"},
		"an entrypoint not executable":  {[]Image{with(func(i *Image) { i.Files[0].Mode = 0o644 })}, "entrypoint /speaker is not"},
		"a relative path":               {[]Image{with(func(i *Image) { i.Files[1].Path = "etc/x" })}, "must be absolute"},
		"a path twice":                  {[]Image{with(func(i *Image) { i.Files[1].Path = "//speaker" })}, "/speaker is given twice"},
		"a file in a file":              {[]Image{with(func(i *Image) { i.Files[1].Path = "/speaker/x" })}, "is a file, not a directory"},
		"an unknown capability":         {[]Image{with(func(i *Image) { i.Files[0].Capabilities = []string{"net_raw"} })}, `capability "net_raw" is unknown`},
		"a source that does not exist":  {[]Image{with(func(i *Image) { i.Files[0].Content, i.Files[0].Source = nil, "/nonexistent/x" })}, "no such file"},
		"a source that is a directory":  {[]Image{with(func(i *Image) { i.Files[0].Content, i.Files[0].Source = nil, "/" })}, "not a regular file"},
		"a symbolic link":               {[]Image{with(func(i *Image) { i.Files[1].Mode = fs.ModeSymlink })}, "only regular files"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image.tar")
			err := Write(path, c.images...)
			if err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("error %v, want one that says %q", err, c.reason)
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
				t.Errorf("left %v behind", left)
			}
		})
	}
}

func TestManifestsTellsWhatWriteWrites(t *testing.T) {
	index, _ := readIndex(t, write(t, speaker("amd64")))
	written, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	told, err := Manifests(speaker("amd64"))
	if err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0].Digest != written.Manifests[0].Digest.String() || told[0].Platform != "linux/amd64" ||
		told[0].Ref != "localhost/herald-speaker:dev" || told[0].Size <= written.Manifests[0].Size {
		t.Errorf("told %+v, wrote %+v", told, written.Manifests)
	}
}
