package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"heraldlb.io/herald/internal/cmdline"
)

// The exit codes of every command.
const (
	ExitOK        = 0 // done, and nothing to complain about
	ExitFailed    = 1 // the command could not do what it was asked
	ExitUsage     = 2 // the command line is wrong
	ExitAttention = 3 // done, and what it found needs a person
)

// Env is what the commands work with.
type Env struct {
	Args     []string // with the program's name first
	In       io.Reader
	Out, Err io.Writer
	Color    bool // Out is a terminal that shows colours
	Now      func() time.Time
}

// errAttention ends a command that has said already what needs a person.
var errAttention = errors.New("something needs attention")

// usageError is a mistake on the command line.
type usageError struct{ error }

// Run runs the command that the arguments name and returns the exit code.
func Run(ctx context.Context, env Env) int {
	root := newRoot(env)
	switch err := root.ExecuteContext(ctx); {
	case err == nil:
		return ExitOK
	case errors.Is(err, errAttention):
		return ExitAttention
	case errors.As(err, &usageError{}):
		fmt.Fprintf(env.Err, "error: %v\nsee %s --help\n", err, root.CommandPath())
		return ExitUsage
	default:
		fmt.Fprintln(env.Err, "error:", err)
		return ExitFailed
	}
}

// app is what the commands of one run share.
type app struct {
	Env
	connection
	format string // of -o
}

func newRoot(env Env) *cobra.Command {
	a := &app{Env: env}
	root := &cobra.Command{
		Use:   "heraldctl",
		Short: "See and operate Herald, the load balancer of clusters without a cloud",
		Long: `See and operate Herald, the load balancer of clusters without a cloud.

Exit codes: 0 nothing to complain about, 1 the command failed, 2 the command line is wrong, 3 something needs a person.`,
		Version:       cmdline.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("%s: no such command", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	program, args := filepath.Base(env.Args[0]), env.Args[1:]
	if strings.HasPrefix(program, "kubectl") {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl herald"}
	}
	if strings.HasPrefix(program, "kubectl_complete") { // what kubectl calls to complete a plugin's arguments
		args = append([]string{cobra.ShellCompRequestCmd}, args...)
	}
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	a.connection.flags(root.PersistentFlags())
	root.AddCommand(a.status(), a.explain(), a.pools(), a.speakers(), a.peers(), a.announcements(), a.events(), a.validate(), a.migrate(), a.observe(), a.simulate(), a.drain(), a.move(), a.doctor(), a.bundle(), a.cleanup())
	return root
}

// takes has a command refuse any other number of arguments than it takes.
func takes(what string, least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			if what == "" {
				return usageError{fmt.Errorf("%s takes no arguments", cmd.CommandPath())}
			}
			return usageError{fmt.Errorf("%s takes %s", cmd.CommandPath(), what)}
		}
		return nil
	}
}
