package cmdline

import (
	"io/fs"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitFiles say how many bytes a container may have, seen from inside it: with version 2 of control groups, and with 1.
var limitFiles = []string{"memory.max", "memory/memory.limit_in_bytes"}

// gcPercent is how much the heap grows, in percent of what is in use, before garbage is collected. Herald's programs keep much and
// make little garbage: Go's own 100 has a speaker with 2,000 Services hold a third more for nothing. Who sets GOGC knows better.
const gcPercent = 50

func keepLittleGarbage() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// heedMemoryLimit has Go collect garbage more and more eagerly as the process comes near to its container's memory limit. Left alone
// Go lets the heap grow to twice what is in use, whatever the limit, and a burst ends with the process killed. Who sets GOMEMLIMIT
// knows better.
func heedMemoryLimit() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit := memoryLimit(os.DirFS("/sys/fs/cgroup")); limit > 0 {
		debug.SetMemoryLimit(limit - limit/10) // a tenth is for what Go does not count, as the kernel's buffers for sockets
	}
}

// memoryLimit is a container's, in bytes; 0 when it has none.
func memoryLimit(cgroups fs.FS) int64 {
	for _, name := range limitFiles {
		text, err := fs.ReadFile(cgroups, name)
		if err != nil {
			continue
		}
		// Without a limit version 2 says "max", and version 1 the largest number of whole pages.
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 && n < math.MaxInt64>>1 {
			return n
		}
	}
	return 0
}
