package parts

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// systemPrograms are what the lab runs from the machine itself, and the Debian packages that have them.
var systemPrograms = []struct{ program, pkg string }{
	{"nft", "nftables"},
	{"runc", "runc"},
	{"mount", "mount"},
	{"ip", "iproute2"},
}

// Install sees to it that the machine has the programs that the lab takes from it. Where it cannot install what
// is missing it says which command would.
func Install(ctx context.Context, progress Progress) error {
	var missing []string
	for _, p := range systemPrograms {
		if !hasProgram(p.program) {
			missing = append(missing, p.pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	command := "apt-get update && apt-get install -y --no-install-recommends " + strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("the lab needs %s, and this is no Debian-like system: install them with its package manager (on Debian: %s)",
			strings.Join(missing, ", "), command)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the lab needs %s: run as root: %s", strings.Join(missing, ", "), command)
	}
	progress("installing Debian packages: " + strings.Join(missing, " "))
	if err := apt(ctx, "", "update"); err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(missing, ", "), err)
	}
	if err := apt(ctx, "", append([]string{"install", "-y", "--no-install-recommends"}, missing...)...); err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(missing, ", "), err)
	}
	return nil
}

// hasProgram looks where root's programs are too: the PATH of an ordinary user often lacks sbin.
func hasProgram(name string) bool {
	if _, err := exec.LookPath(name); err == nil {
		return true
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// Router is BIRD, unpacked.
type Router struct {
	Program string
	// LibraryPath is what LD_LIBRARY_PATH must be when Program runs.
	LibraryPath string
}

// Router returns BIRD 2. The package is unpacked into the cache instead of installed, because installing it
// would start a routing daemon on the machine itself.
func (c Cache) Router(ctx context.Context) (Router, error) {
	dir, err := c.once(ctx, "bird2", "bird2-v1", func(dir string) error { return c.unpack(ctx, "bird2", dir) })
	if err != nil {
		return Router{}, err
	}
	r := Router{Program: filepath.Join(dir, "usr/sbin/bird")}
	if _, err := os.Stat(r.Program); err != nil {
		return Router{}, fmt.Errorf("package bird2: %w; remove %s and try again", err, dir)
	}
	r.LibraryPath, err = libraryPath(dir)
	return r, err
}

// libraryPath lists the directories of an unpacked package that hold shared libraries.
func libraryPath(dir string) (string, error) {
	var dirs []string
	for _, pattern := range []string{"*/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib/*-linux-gnu*/frr"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return "", err
		}
		dirs = append(dirs, found...)
	}
	return strings.Join(dirs, ":"), nil
}

// unpack fetches a Debian package with all that it depends on and this machine lacks, and unpacks it into dir.
func (c Cache) unpack(ctx context.Context, pkg, dir string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("package %s: this is no Debian-like system; unpack the package into %s by hand", pkg, dir)
	}
	c.Progress("fetching " + pkg)
	plan, err := simulate(ctx, pkg)
	if err != nil {
		// A machine whose package lists were never fetched knows no package.
		if err := apt(ctx, "", "update"); err != nil {
			return fmt.Errorf("package %s: %w; run as root: apt-get update", pkg, err)
		}
		if plan, err = simulate(ctx, pkg); err != nil {
			return fmt.Errorf("package %s: %w", pkg, err)
		}
	}
	debs := filepath.Join(dir, "debs")
	if err := os.Mkdir(debs, 0o755); err != nil {
		return err
	}
	if err := apt(ctx, debs, append([]string{"download"}, plan...)...); err != nil {
		return fmt.Errorf("package %s: %w", pkg, err)
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if out, err := exec.CommandContext(ctx, "dpkg", "-x", f, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", filepath.Base(f), err, bytes.TrimSpace(out))
		}
	}
	return os.RemoveAll(debs)
}

// simulate asks which packages an installation would bring; the package itself is among them even when the
// machine has it already.
func simulate(ctx context.Context, pkg string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "apt-get", "--simulate", "--no-install-recommends", "install", pkg)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return plannedPackages(string(out), pkg), nil
}

// plannedPackages reads the "Inst NAME (VERSION ...)" lines of a simulated installation.
func plannedPackages(output, pkg string) []string {
	names := []string{pkg}
	for line := range strings.SplitSeq(output, "\n") {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "Inst" && !slices.Contains(names, f[1]) {
			names = append(names, f[1])
		}
	}
	return names
}

func apt(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		return fmt.Errorf("apt-get %s: %w: %s", args[0], err, bytes.Join(lines[max(0, len(lines)-5):], []byte("; ")))
	}
	return nil
}
