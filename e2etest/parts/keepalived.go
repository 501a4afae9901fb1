package parts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Keepalived is keepalived, unpacked.
type Keepalived struct {
	Program string
	// LibraryPath is what LD_LIBRARY_PATH must be when Program runs.
	LibraryPath string
}

// Keepalived returns keepalived, which benches measure Herald against. It is unpacked like the Router, for the same
// reason.
func (c Cache) Keepalived(ctx context.Context) (Keepalived, error) {
	dir, err := c.once(ctx, "keepalived", "keepalived-v1", func(dir string) error { return c.unpack(ctx, "keepalived", dir) })
	if err != nil {
		return Keepalived{}, err
	}
	k := Keepalived{Program: filepath.Join(dir, "usr/sbin/keepalived")}
	if _, err := os.Stat(k.Program); err != nil {
		return Keepalived{}, fmt.Errorf("package keepalived: %w; remove %s and try again", err, dir)
	}
	k.LibraryPath, err = libraryPath(dir)
	return k, err
}
