package bgp

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/bench/stage"
	"heraldlb.io/herald/e2etest/lab"
)

var (
	rounds  = flag.Int("rounds", 20, "how often each fault happens")
	busy    = flag.Duration("busy", 2*time.Minute, "how long every core is kept busy twice over")
	frrBusy = flag.Duration("frr-busy", 0, "the same with FRR in Herald's place; 0 is as long")
	many    = flag.Int("addresses", 10000, "how many addresses a router is told")
)

// bench is this run: the lab that is up, and the figures so far.
var bench struct {
	scene *scene
	stage.Table
}

func TestMain(m *testing.M) {
	lab.Main()
	if n := os.Getenv(tellerEnv); n != "" {
		peers, err := strconv.Atoi(n)
		if err == nil {
			err = tell(peers)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "error: the benches run a cluster in namespaces: run them as root")
		os.Exit(1)
	}
	code := m.Run()
	if err := down(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		code = 1
	}
	bench.Write(os.Stdout)
	os.Exit(code)
}

// set returns the lab that is up, or a new one. One in which a benchmark has failed, and left who knows what, serves no other.
func set(b *testing.B) *scene {
	b.Helper()
	b.Cleanup(func() {
		if b.Failed() {
			if err := down(); err != nil {
				b.Error(err)
			}
		}
	})
	if bench.scene == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		up, err := stage.Up(ctx, 3)
		bench.scene = &scene{Stage: up} // also one that is not complete is to be taken down
		if err == nil {
			err = bench.scene.prepare(ctx)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return bench.scene
}

func down() error {
	s := bench.scene
	bench.scene = nil
	if s == nil || s.Stage == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return s.Down(ctx)
}
