package parts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// PreviousBuild is the commit of the build before this one: what clusters upgrade from and go back to, and what CRDs are compared
// with. There is no release yet: it is where main stood before the work on the present one began. From the first tag on it is the
// commit of the last release.
const PreviousBuild = "71835ed71dbf145108074e1a030a3d3cd2a5b1e2"

// ErrNoCommit says that a checkout's history does not reach back to a commit, as that of a shallow clone.
var ErrNoCommit = errors.New("the commit is not in this checkout's history")

// ImageTag is the tag of the images of an earlier commit, which tells them from this checkout's.
const ImageTag = "previous"

// Earlier is Herald as it was at an earlier commit.
type Earlier struct {
	Images   []string // archives of its controller and its speaker, with ImageTag
	Manifest string   // manifests/herald.yaml, with these images
}

// Earlier builds Herald as it was at a commit of the history of the checkout in root, with what that commit itself builds its
// images with, if this user has not had it yet.
func (c Cache) Earlier(ctx context.Context, root, commit string) (Earlier, error) {
	var e Earlier
	if err := reaches(ctx, root, commit); err != nil {
		return e, err
	}
	label := "Herald at " + commit[:12]
	dir, err := c.once(ctx, label, "herald-"+commit[:12]+"-"+runtime.GOARCH, func(dir string) error {
		src, err := os.MkdirTemp("", "herald-earlier-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(src)
		if err := checkOut(ctx, root, commit, src); err != nil {
			return err
		}
		manifest, err := os.ReadFile(filepath.Join(src, "manifests", "herald.yaml"))
		if err != nil {
			return err
		}
		retagged := strings.ReplaceAll(string(manifest), ":dev\n", ":"+ImageTag+"\n")
		if strings.Count(retagged, ":"+ImageTag+"\n") != 2 {
			return errors.New("manifests/herald.yaml does not name two images with the tag dev")
		}
		if err := os.WriteFile(filepath.Join(dir, "herald.yaml"), []byte(retagged), 0o644); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "go", "run", "./internal/oci/mkimages", "-arch", runtime.GOARCH, "-tag", ImageTag,
			"-version", commit[:12], "-commit", commit, "-out", dir, "controller", "speaker")
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
		return c.run(cmd, label)
	})
	if err != nil {
		return e, err
	}
	e.Manifest = filepath.Join(dir, "herald.yaml")
	e.Images, err = filepath.Glob(filepath.Join(dir, "*.tar"))
	return e, err
}

// FileAt returns a file of the checkout in root as it was at a commit of its history.
func FileAt(ctx context.Context, root, commit, path string) ([]byte, error) {
	if err := reaches(ctx, root, commit); err != nil {
		return nil, err
	}
	text, err := exec.CommandContext(ctx, "git", "-C", root, "show", commit+":"+path).Output()
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", path, commit, err)
	}
	return text, nil
}

// reaches returns ErrNoCommit unless a checkout's history has a commit.
func reaches(ctx context.Context, root, commit string) error {
	if err := exec.CommandContext(ctx, "git", "-C", root, "cat-file", "-e", commit+"^{commit}").Run(); err != nil {
		return fmt.Errorf("commit %s: %w; fetch all of it: git fetch --unshallow", commit, ErrNoCommit)
	}
	return nil
}

// checkOut writes the files of a commit to a directory.
func checkOut(ctx context.Context, root, commit, to string) error {
	var archiving, unpacking bytes.Buffer // what the two complain of
	archive := exec.CommandContext(ctx, "git", "-C", root, "archive", commit)
	unpack := exec.CommandContext(ctx, "tar", "-x", "-C", to)
	archive.Stderr, unpack.Stderr = &archiving, &unpacking
	files, err := archive.StdoutPipe()
	if err != nil {
		return err
	}
	unpack.Stdin = files
	if err := archive.Start(); err != nil {
		return err
	}
	err = unpack.Run()
	if err = errors.Join(err, archive.Wait()); err != nil {
		return fmt.Errorf("check out %s: %w: %s", commit, err, bytes.TrimSpace(append(archiving.Bytes(), unpacking.Bytes()...)))
	}
	return nil
}
