package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"heraldlb.io/herald/e2etest/lab"
)

// nameEnv gives the lab's name to every command.
const nameEnv = "HERALD_LAB"

func root() *cobra.Command {
	name := os.Getenv(nameEnv)
	if name == "" {
		name = lab.DefaultName
	}
	cmd := &cobra.Command{
		Use:           "lab",
		Short:         "Run a real Kubernetes cluster on this machine, in namespaces of its own",
		SilenceUsage:  true,
		SilenceErrors: true,
		// So that flags before kubectl are lab's although all those after it are kubectl's.
		TraverseChildren: true,
		Args:             cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%s: no such command; lab --help lists them", args[0])
			}
			return cmd.Help()
		},
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.PersistentFlags().StringVar(&name, "name", name, "which lab (environment: "+nameEnv+")")
	cmd.AddCommand(
		up(&name), down(&name), status(&name), kubectl(&name), execIn(&name), logs(&name),
		onHost(&name, "cut HOST", "Pull a host's cable out of the switch", (*lab.Lab).Cut),
		onHost(&name, "heal [NODE]", "Plug a cut host in again, or lift the partition when none is named", heal),
		onHost(&name, "kill NODE", "Power a node off at once", (*lab.Lab).Kill),
		onHost(&name, "start NODE", "Power a killed node on and wait until it is Ready", (*lab.Lab).Start),
		partition(&name),
		onHost(&name, "freeze PROCESS", "Stop a process (SIGSTOP): apiserver, n1/kubelet, or a container such as n1/speaker", (*lab.Lab).Freeze),
		onHost(&name, "thaw PROCESS", "Let a frozen process go on", (*lab.Lab).Thaw),
		apiserver(&name), image(&name),
	)
	return cmd
}

func up(name *string) *cobra.Command {
	o := lab.Options{Out: os.Stdout}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a lab and wait until its nodes are Ready",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Name = *name
			start := time.Now()
			l, err := lab.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Printf("lab %s is up: Kubernetes %s, nodes %s, in %.1f s\n", l.Name(), l.Kubernetes(),
				strings.Join(l.Nodes(), " "), time.Since(start).Seconds())
			fmt.Println("try: lab kubectl get nodes -o wide; lab exec client -- ping -c1 192.0.2.11; remove it with: lab down")
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", 3, fmt.Sprintf("how many nodes, at most %d", lab.MaxNodes))
	f.StringVar(&o.Kubernetes, "kubernetes", "", "Kubernetes version, 1.37 or 1.36 (default 1.37)")
	f.StringSliceVar(&o.Images, "image", nil, "image archive to load into every node; may be repeated")
	f.BoolVar(&o.KeepOnFailure, "keep-on-failure", false, "leave a lab that does not come up as it is, for a look")
	return cmd
}

func down(name *string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End a lab and remove everything of it, also after a crash",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !all {
				return lab.Down(cmd.Context(), *name)
			}
			names, err := lab.DownAll(cmd.Context())
			if err == nil && len(names) > 0 {
				fmt.Println("removed:", strings.Join(names, " "))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every lab on this machine, and what crashed ones have left")
	return cmd
}

func status(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show a lab's hosts and processes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			s, err := l.Status(cmd.Context())
			if err != nil {
				return err
			}
			return printStatus(os.Stdout, s)
		},
	}
}

func printStatus(out io.Writer, s *lab.Status) error {
	life := "stays up until lab down"
	if s.Owned {
		life = "ends with the process that started it"
	}
	fmt.Fprintf(out, "lab %s: Kubernetes %s, up for %s, %s\n", s.Name, s.Kubernetes, time.Since(s.Created).Round(time.Second), life)
	if len(s.Partition) > 0 {
		var groups []string
		for _, g := range s.Partition {
			groups = append(groups, strings.Join(g, ","))
		}
		fmt.Fprintf(out, "partition: %s\n", strings.Join(groups, " | "))
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\nHOST\tIPV4\tIPV6\tMAC\tSTATE")
	for _, h := range s.Hosts {
		state := "on"
		switch {
		case !h.On:
			state = "off"
		case h.Cut:
			state = "on, cut"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", h.Name, h.IPv4, h.IPv6, h.MAC, state)
	}
	fmt.Fprintln(w, "\nPROCESS\tPID\tSTATE\tSINCE")
	for _, p := range s.Processes {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", p.Name, p.PID, p.State, p.Started.Format(time.TimeOnly))
	}
	return w.Flush()
}

func kubectl(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl ARGS...",
		Short: "Run kubectl with an administrator's access",
		Long: "Run kubectl on the control plane host with an administrator's access. All that follows is kubectl's;\n" +
			"lab's own flags and " + nameEnv + " go before.",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			return passThrough(l.KubectlCommand(context.WithoutCancel(cmd.Context()), args...))
		},
	}
}

func execIn(name *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec HOST -- CMD...",
		Short: "Run a command on a host: a node, client, router, remote, cp or the switch sw",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 || len(args) == 2 && args[1] == "--" {
				return errors.New("exec: needs a host and a command, as in lab exec client -- ip neighbour")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			host, command := args[0], args[1:]
			if command[0] == "--" {
				command = command[1:]
			}
			return passThrough(l.Command(context.WithoutCancel(cmd.Context()), host, command[0], command[1:]...))
		},
	}
	cmd.Flags().SetInterspersed(false) // so that the flags of CMD are its own even without --
	return cmd
}

// passThrough runs a command on this terminal. Signals reach it themselves and decide how it ends.
func passThrough(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

func logs(name *string) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [PROCESS]",
		Short: "Print what a process has written, or list the logs",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				files, err := filepath.Glob(filepath.Join(filepath.Dir(l.Logs("supervisor")), "*.log"))
				for _, f := range files {
					fmt.Println(f)
				}
				return err
			}
			return printLog(cmd.Context(), l.Logs(args[0]), args[0], follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing what is added")
	return cmd
}

func printLog(ctx context.Context, path, process string, follow bool) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("process %s: has no log: %w; see lab status for the processes", process, err)
	}
	defer f.Close()
	for {
		if _, err := io.Copy(os.Stdout, f); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// onHost makes a command that does something to one host or process.
func onHost(name *string, use, short string, do func(*lab.Lab, context.Context, string) error) *cobra.Command {
	args := cobra.ExactArgs(1)
	if strings.HasSuffix(use, "]") {
		args = cobra.MaximumNArgs(1)
	}
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  args,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			return do(l, cmd.Context(), strings.Join(args, ""))
		},
	}
}

func heal(l *lab.Lab, ctx context.Context, host string) error {
	if host == "" {
		return l.HealPartition(ctx)
	}
	return l.Heal(ctx, host)
}

func partition(name *string) *cobra.Command {
	return &cobra.Command{
		Use:     "partition A,B|C,D",
		Short:   "Keep groups of hosts from reaching each other over the LAN; lift it with heal",
		Example: "  lab partition 'n1,n2|n3'\n  lab partition 'n1|cp'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var groups [][]string
			for group := range strings.SplitSeq(args[0], "|") {
				groups = append(groups, strings.FieldsFunc(group, func(r rune) bool { return r == ',' || r == ' ' }))
			}
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			return l.Partition(cmd.Context(), groups...)
		},
	}
}

func apiserver(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "apiserver stop|start",
		Short: "Kill the API server, or start it again and wait until it answers",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != "stop" && args[0] != "start" {
				return fmt.Errorf("apiserver: %q is nothing it can do; say stop or start", strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			if args[0] == "stop" {
				return l.StopAPIServer(cmd.Context())
			}
			return l.StartAPIServer(cmd.Context())
		},
	}
}

func image(name *string) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Container images of the nodes"}
	cmd.AddCommand(&cobra.Command{
		Use:   "load FILE.tar...",
		Short: "Load image archives into every node",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			return l.LoadImages(cmd.Context(), args...)
		},
	})
	return cmd
}
