package layer2

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/lab"
)

var (
	rounds    = flag.Int("rounds", 20, "how often each fault happens; what takes a minute or more happens a quarter as often")
	nodes     = flag.String("nodes", "3", "how many nodes there are when one dies: `numbers`, separated by commas; each has a lab of its own")
	addresses = flag.String("addresses", "1,100,1000", "how many addresses there are when all speakers restart: `numbers`, separated by commas")
	pause     = flag.Duration("pause", 3*time.Second, "how long the nodes are left alone before one of them dies")
	busy      = flag.Duration("busy", 2*time.Minute, "how long every core is kept busy twice over")
	many      = flag.Int("services", 2000, "how many Services a speaker's memory is measured with")
)

func TestMain(m *testing.M) {
	lab.Main()
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "error: the benches run a cluster in namespaces: run them as root")
		os.Exit(1)
	}
	code := m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	if err := bench.down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		code = 1
	}
	cancel()
	bench.write(os.Stdout)
	os.Exit(code)
}

// seldom is how many rounds there are of what takes long.
func seldom() int { return max(1, *rounds/4) }

// numbers reads a flag with a list of numbers.
func numbers(b *testing.B, flag, list string) []int {
	b.Helper()
	var all []int
	var errs []error
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 {
			errs = append(errs, fmt.Errorf("-%s=%s: %q is no number above 0", flag, list, s))
		}
		all = append(all, n)
	}
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	return all
}
