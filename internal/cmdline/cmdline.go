// Package cmdline is what the main packages share: flags that are environment variables too, the version, the
// common flags, and a context that ends with the process's signals.
//
// It holds no logic of Herald's own and no state beyond what the process was started with.
package cmdline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// version and commit are set at build time with -ldflags -X.
var version, commit string

// Version is the version of this build; "devel" when the build did not say.
func Version() string {
	if version != "" {
		return version
	}
	return "devel"
}

// Commit is the git commit of this build; "unknown" when neither the build nor Go's own stamp says.
func Commit() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// Set is the flags of one program. A flag --node-name can also be given as HERALD_NODE_NAME; the command line wins.
type Set struct {
	program, about string
	flags          *flag.FlagSet
}

// New makes an empty set. about is one sentence that says what the program is for.
func New(program, about string) *Set {
	s := &Set{program: program, about: about, flags: flag.NewFlagSet(program, flag.ContinueOnError)}
	s.flags.SetOutput(io.Discard) // Parse's error says it
	s.flags.Usage = func() {}
	return s
}

// String adds a flag.
func (s *Set) String(name, value, help string) *string { return s.flags.String(name, value, help) }

// Int adds a flag.
func (s *Set) Int(name string, value int, help string) *int { return s.flags.Int(name, value, help) }

// Bool adds a flag.
func (s *Set) Bool(name string, value bool, help string) *bool {
	return s.flags.Bool(name, value, help)
}

// Duration adds a flag, written as 300ms, 10s or 1h30m.
func (s *Set) Duration(name string, value time.Duration, help string) *time.Duration {
	return s.flags.Duration(name, value, help)
}

// Strings adds a flag that holds a comma-separated list.
func (s *Set) Strings(name string, value []string, help string) *[]string {
	l := list(value)
	s.flags.Var(&l, name, help)
	return (*[]string)(&l)
}

type list []string

func (l *list) String() string { return strings.Join(*l, ",") }
func (l *list) Set(s string) error {
	*l = nil
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			*l = append(*l, item)
		}
	}
	return nil
}

// Parse reads the environment, then the arguments. It prints the help or the version and exits with 0 when asked
// to. An error names the flag or the variable at fault.
func (s *Set) Parse(args []string) error {
	showVersion := s.flags.Bool("version", false, "print version, commit and Go version, and exit")
	var errs []error
	s.flags.VisitAll(func(f *flag.Flag) {
		if value, ok := os.LookupEnv(envName(f.Name)); ok {
			if err := s.flags.Set(f.Name, value); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s=%q: %w", envName(f.Name), value, err))
			}
		}
	})
	if err := s.flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		s.help(os.Stdout)
		os.Exit(0)
	} else if err != nil {
		errs = append(errs, fmt.Errorf("%w (see --help)", err))
	}
	if rest := s.flags.Args(); len(rest) > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q (see --help)", rest[0]))
	}
	if *showVersion {
		fmt.Printf("%s %s commit %s %s %s/%s\n", s.program, Version(), Commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		os.Exit(0)
	}
	return errors.Join(errs...)
}

func (s *Set) help(w io.Writer) {
	fmt.Fprintf(w, "%s\n\nUsage: %s [flags]\n\nEach flag can also be given as the environment variable beside it; the command line wins.\n", s.about, s.program)
	s.flags.VisitAll(func(f *flag.Flag) {
		fmt.Fprintf(w, "\n  --%s  (%s", f.Name, envName(f.Name))
		if f.DefValue != "" {
			fmt.Fprintf(w, ", default %s", f.DefValue)
		}
		fmt.Fprintf(w, ")\n      %s\n", f.Usage)
	})
}

func envName(name string) string {
	return "HERALD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Run calls main with a context that ends on SIGTERM or SIGINT, and exits with 1 when it fails. A second signal
// ends the process at once. It keeps little garbage, and heeds the container's memory limit.
func Run(main func(context.Context) error) {
	keepLittleGarbage()
	heedMemoryLimit()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	if err := main(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
