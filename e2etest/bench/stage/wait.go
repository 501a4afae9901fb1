package stage

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/install"
)

// patience bounds every wait for the cluster.
const patience = 3 * time.Minute

// Until waits for something, with patience, and fails the benchmark with what it lacked last.
func Until(b *testing.B, f func(ctx context.Context) error) {
	b.Helper()
	UntilEvery(b, 50*time.Millisecond, f)
}

// UntilEvery is Until for what is work for the cluster.
func UntilEvery(b *testing.B, every time.Duration, f func(ctx context.Context) error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := install.UntilEvery(ctx, every, func() error { return f(ctx) }); err != nil {
		b.Fatal(err)
	}
}

// Busy keeps so many processes busy until it is told to stop, or the test is over.
func Busy(t testing.TB, n int) (stop func()) {
	t.Helper()
	var loops []*exec.Cmd
	stop = sync.OnceFunc(func() {
		for _, c := range loops {
			_ = c.Process.Kill()
			_ = c.Wait() // it was killed
		}
	})
	t.Cleanup(stop)
	for range n {
		c := exec.Command("sh", "-c", `while kill -0 "$1"; do :; done`, "sh", strconv.Itoa(os.Getpid())) // no longer than this process
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		loops = append(loops, c)
	}
	return stop
}
