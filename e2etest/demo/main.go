// Command demo shows Herald's main job on a real cluster that it brings up on this machine: three kinds of Service,
// reached by real requests, and what a client notices when the node dies that owns the external address, or one of those
// that a router spreads connections over. Every line of its output is something that just happened; it exits with 1
// when one of them did not happen as it should.
//
// The cluster stays up, for the reader to play with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
)

const nodes = 3

func main() {
	lab.Main()
	name := flag.String("name", "demo", "name of the lab to bring up; one that is left from an earlier demo is removed first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *name); err != nil {
		fmt.Fprintln(os.Stderr, "\nerror:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string) error {
	root, err := install.Root()
	if err != nil {
		return err
	}
	images, err := install.Images(root)
	if err != nil {
		return err
	}
	if old, err := lab.Open(name); err == nil {
		fmt.Printf("A lab named %s is up from an earlier demo: removing it.\n", name)
		if err := old.Down(ctx); err != nil {
			return err
		}
	}
	title("A Kubernetes cluster on this machine: %d nodes, a client on their network, a remote client behind a router", nodes)
	l, err := lab.Up(ctx, lab.Options{Name: name, Nodes: nodes, Images: images, Out: os.Stdout})
	if err != nil {
		return err
	}
	show := &show{lab: l, root: root}
	for _, part := range []func(context.Context) error{
		show.install, show.clusterIP, show.nodePort, show.loadBalancer, show.failover, show.routers,
	} {
		if err := part(ctx); err != nil {
			if ctx.Err() != nil { // Ctrl-C: leave nothing behind
				return errors.Join(errors.New("interrupted"), l.Down(context.WithoutCancel(ctx)))
			}
			return fmt.Errorf("%w\nThe lab is still up, to look into it: bin/lab --name %s kubectl get pods -A; remove it with bin/lab down --name %s", err, name, name)
		}
	}
	show.next(name)
	return nil
}

// title opens a part of the transcript.
func title(format string, args ...any) {
	fmt.Printf("\n== %s\n", fmt.Sprintf(format, args...))
}

// say prints one line of a part.
func say(format string, args ...any) {
	fmt.Printf("   %s\n", fmt.Sprintf(format, args...))
}

// wait waits until f returns nil, for two minutes at most, and from the second second on says every 2 s what is still
// missing.
func wait(ctx context.Context, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	start := time.Now()
	said := start
	err := install.Until(ctx, func() error {
		err := f(ctx)
		if now := time.Now(); err != nil && now.Sub(said) > 2*time.Second {
			said = now
			lacked, _, _ := strings.Cut(err.Error(), "\n")
			say("... %s (%.0f s): %s", what, now.Sub(start).Seconds(), lacked)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
