package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// epoch stands wherever a format wants a time, so that the bytes tell nothing of when they were made.
var epoch = time.Unix(0, 0).UTC()

// xattrRecord is the PAX key under which tar carries an extended attribute; containerd and Docker restore it on unpacking.
const xattrRecord = "SCHILY.xattr."

// base is in every image: the names behind NonRoot, and a place for temporary files.
func base() []File {
	return []File{
		{Path: "/etc/group", Mode: 0o644, Content: []byte("root:x:0:\nnonroot:x:65532:\n")},
		{Path: "/etc/passwd", Mode: 0o644, Content: []byte("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")},
		{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	}
}

// layer returns the image's file system as an uncompressed tar, sorted by path, so that a directory precedes what is in it.
func layer(i Image) ([]byte, error) {
	files := map[string]File{}
	for _, f := range base() {
		files[f.Path] = f
	}
	given := map[string]bool{}
	for _, f := range i.Files {
		clean := path.Clean(f.Path)
		switch {
		case !path.IsAbs(f.Path) || clean == "/":
			return nil, fmt.Errorf("file %q: its path in the image must be absolute and not the root", f.Path)
		case given[clean]:
			return nil, fmt.Errorf("file %s is given twice", clean)
		}
		given[clean] = true
		f.Path = clean
		files[clean] = f
	}
	if err := addParents(files); err != nil {
		return nil, err
	}
	if command := i.Entrypoint[0]; path.IsAbs(command) {
		if f, ok := files[path.Clean(command)]; !ok || f.Mode&0o111 == 0 || f.Mode.IsDir() {
			return nil, fmt.Errorf("entrypoint %s is not an executable file of the image", command)
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := addFile(w, files[name]); err != nil {
			return nil, fmt.Errorf("file %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// addParents adds the directories that files need and nobody named.
func addParents(files map[string]File) error {
	for _, name := range slices.Collect(maps.Keys(files)) {
		for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
			parent, ok := files[dir]
			if ok && !parent.Mode.IsDir() {
				return fmt.Errorf("file %s: %s above it is a file, not a directory", name, dir)
			}
			if !ok {
				files[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			}
		}
	}
	return nil
}

func addFile(w *tar.Writer, f File) error {
	h := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: tarMode(f.Mode), ModTime: epoch, Format: tar.FormatPAX}
	if len(f.Capabilities) > 0 {
		attribute, err := fileCapability(f.Capabilities)
		if err != nil {
			return err
		}
		h.PAXRecords = map[string]string{xattrRecord + "security.capability": string(attribute)}
	}
	switch f.Mode.Type() {
	case fs.ModeDir:
		if f.Source != "" || len(f.Content) > 0 || len(f.Capabilities) > 0 {
			return errors.New("a directory has no content and no capabilities")
		}
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return w.WriteHeader(h)
	case 0:
		return addRegular(w, h, f)
	default:
		return fmt.Errorf("mode %v: only regular files and directories can be in an image", f.Mode)
	}
}

func addRegular(w *tar.Writer, h *tar.Header, f File) error {
	h.Typeflag = tar.TypeReg
	if f.Source == "" {
		h.Size = int64(len(f.Content))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := w.Write(f.Content)
		return err
	}
	if len(f.Content) > 0 {
		return errors.New("has both a source and a content")
	}
	source, err := os.Open(f.Source)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("its source %s is not a regular file", f.Source)
	}
	h.Size = info.Size()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(w, source)
	return err
}

// tarMode translates Go's mode bits to those of stat(2), which tar carries.
func tarMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for bit, value := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= value
		}
	}
	return mode
}
