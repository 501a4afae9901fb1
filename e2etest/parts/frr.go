package parts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// FRR is FRRouting, unpacked.
type FRR struct {
	// Daemons is the directory of zebra, bgpd and bfdd.
	Daemons string
	// LibraryPath is what LD_LIBRARY_PATH must be when any of them runs.
	LibraryPath string
}

// FRR returns FRRouting, unpacked like the Router, for the same reason. Its daemons keep their sockets in /run/frr unless
// they run with --vty_socket and -z, and become the user frr unless they run with -u root -g root; even then root must
// be a member of a group frrvty, which /etc/group in a private mount namespace can say. They are asked on their vty
// sockets: vtysh wants a PAM service that only an installed package has.
func (c Cache) FRR(ctx context.Context) (FRR, error) {
	dir, err := c.once(ctx, "frr", "frr-v1", func(dir string) error { return c.unpack(ctx, "frr", dir) })
	if err != nil {
		return FRR{}, err
	}
	f := FRR{Daemons: filepath.Join(dir, "usr/lib/frr")}
	if _, err := os.Stat(filepath.Join(f.Daemons, "bfdd")); err != nil {
		return FRR{}, fmt.Errorf("package frr: %w; remove %s and try again", err, dir)
	}
	f.LibraryPath, err = libraryPath(dir)
	return f, err
}

// FetchRouters has BIRD and FRR ready for tests that are to run them in a namespace from which nothing can be fetched. What it
// is doing, and why it cannot, it says to out: tests that need neither go on without.
func FetchRouters(out io.Writer) {
	dir, err := CacheDir()
	if err == nil {
		c := Cache{Dir: dir, Progress: func(s string) { fmt.Fprintln(out, s) }}
		_, errFRR := c.FRR(context.Background())
		_, errBIRD := c.Router(context.Background())
		err = errors.Join(errFRR, errBIRD)
	}
	if err != nil {
		fmt.Fprintln(out, "the tests against other makes will fail:", err)
	}
}
