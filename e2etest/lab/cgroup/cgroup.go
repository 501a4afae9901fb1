// Package cgroup makes and removes the control groups of a lab.
//
// A lab owns one group named after it in every hierarchy that the machine has mounted (one per controller with
// cgroup v1, a single one with v2), and everything below. The package never changes any other group, except that
// with v2 it lets the root hand its controllers down, without which no group below could have any.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Root is where Linux systems mount their control groups.
const Root = "/sys/fs/cgroup"

// Hierarchies are the directories at which the cgroup hierarchies of a machine begin.
type Hierarchies struct {
	dirs    []string
	unified bool
	// others takes part in removal only: on a hybrid machine the container runtime makes groups in the v2
	// hierarchy too, which has no controllers to give there.
	others []string
}

// Find looks at what is mounted below root.
func Find(root string) (Hierarchies, error) {
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return Hierarchies{dirs: []string{root}, unified: true}, nil
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return Hierarchies{}, fmt.Errorf("cgroup hierarchies: %w", err)
	}
	var h Hierarchies
	for _, e := range entries {
		// Symbolic links stand for controllers that share a hierarchy.
		dir := filepath.Join(root, e.Name())
		if !e.IsDir() {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			h.others = append(h.others, dir)
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			h.dirs = append(h.dirs, dir)
		}
	}
	if len(h.dirs) == 0 {
		return Hierarchies{}, fmt.Errorf("cgroup hierarchies: none mounted below %s; mount cgroup2 there", root)
	}
	return h, nil
}

func (h Hierarchies) all() []string { return slices.Concat(h.dirs, h.others) }

// Make creates the group, a path such as lab/n1, in every hierarchy, ready to hold groups that hold processes.
func (h Hierarchies) Make(group string) error {
	for _, root := range h.dirs {
		dir := root
		for part := range strings.SplitSeq(group, "/") {
			parent := dir
			dir = filepath.Join(dir, part)
			if h.unified {
				if err := delegate(parent); err != nil {
					return fmt.Errorf("cgroup %s: %w", group, err)
				}
			}
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("cgroup %s: %w", group, err)
			}
			if !h.unified {
				if err := inheritCPUSet(parent, dir); err != nil {
					return fmt.Errorf("cgroup %s: %w", group, err)
				}
			}
		}
	}
	return nil
}

// delegate lets the children of a v2 group use all the controllers that the group has.
func delegate(dir string) error {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var add []string
	for c := range strings.FieldsSeq(string(controllers)) {
		add = append(add, "+"+c)
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(add, " ")), 0)
}

// inheritCPUSet fills in what a new v1 cpuset group leaves empty: no process may enter it before that.
func inheritCPUSet(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // another controller's hierarchy
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0); err != nil {
			return err
		}
	}
	return nil
}

// Remove deletes the group and all below it from every hierarchy. The kernel keeps a group busy for a moment
// after its last process has died, so Remove tries again until the deadline has passed.
func (h Hierarchies) Remove(group string, within time.Duration) error {
	deadline := time.Now().Add(within)
	for _, root := range h.all() {
		for {
			err := removeTree(filepath.Join(root, group))
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
				return fmt.Errorf("remove cgroup %s: %w; end the processes listed in its cgroup.procs", group, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// removeTree removes directories only: the files of a cgroup vanish with it and cannot be removed.
func removeTree(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := syscall.Rmdir(dir); err != nil && err != syscall.ENOENT {
			return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
		}
	}
	return nil
}

// Exists tells in which hierarchies, by their directories, the group still is.
func (h Hierarchies) Exists(group string) []string {
	var found []string
	for _, root := range h.all() {
		dir := filepath.Join(root, group)
		if _, err := os.Stat(dir); err == nil {
			found = append(found, dir)
		}
	}
	return found
}
