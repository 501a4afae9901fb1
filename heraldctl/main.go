// Heraldctl is Herald's command line for people: it says who announces what and why, checks configuration before it is
// applied, and moves addresses by hand. It is also kubectl's plugin, as kubectl-herald.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"heraldlb.io/herald/internal/ctl"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(ctl.Run(ctx, ctl.Env{Args: os.Args, In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Color: colours(os.Stdout), Now: time.Now}))
}

// colours tells whether f is a terminal whose user has nothing against colours (no-color.org).
func colours(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
