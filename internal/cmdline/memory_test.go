package cmdline

import (
	"testing"
	"testing/fstest"
)

func TestTheMemoryLimitIsTheContainers(t *testing.T) {
	for _, c := range []struct {
		name, file, text string
		want             int64
	}{
		{"version 2", "memory.max", "536870912\n", 512 << 20},
		{"version 2 without a limit", "memory.max", "max\n", 0},
		{"version 1", "memory/memory.limit_in_bytes", "268435456\n", 256 << 20},
		{"version 1 without a limit", "memory/memory.limit_in_bytes", "9223372036854771712\n", 0},
		{"nonsense", "memory.max", "-1\n", 0},
		{"no control groups", "other", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := memoryLimit(fstest.MapFS{c.file: {Data: []byte(c.text)}}); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}
