package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"heraldlb.io/herald/internal/report"
)

// forecasting is what a forecast is made from.
var forecasting = want{needed: []part{configuration, services, endpointSlices, nodes, namespaces, speakers, announcementSlices}}

func (a *app) simulate() *cobra.Command {
	var c report.Change
	var files []string
	cmd := &cobra.Command{
		Use:   "simulate --without NODE[,NODE] | --drain NODE | -f FILE",
		Short: "Say what would come of a change, without making it",
		Long: `Say what would come of a change, without making it: which addresses would move where, and what would lose its
announcement. The answer is computed from the live state by the code of the controller and the speakers. Exits with 3 when
something would be lost.`,
		Example: "heraldctl simulate --without n2",
		Args:    takes("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(c.Without)+len(c.Drain)+len(files) == 0 {
				return usageError{errors.New("say what would change, with --without, --drain or -f")}
			}
			if len(files) > 0 {
				resources, err := a.parse(files)
				if err != nil {
					return err
				}
				c.Apply = &resources
			}
			s, _, err := a.snapshot(cmd.Context(), forecasting)
			if err != nil {
				return err
			}
			if err := known(s.Nodes, slices.Concat(c.Without, c.Drain)); err != nil {
				return err
			}
			sim := report.Simulate(s, c)
			err = a.print(sim, func(w io.Writer) { a.simulation(w, sim) })
			return cmp.Or(err, attention(sim.Harmful()))
		},
	}
	cmd.Flags().StringSliceVar(&c.Without, "without", nil, "`nodes` that would be gone, with the pods on them")
	cmd.Flags().StringSliceVar(&c.Drain, "drain", nil, "`nodes` that would be drained as by heraldctl drain")
	cmd.Flags().StringSliceVarP(&files, "filename", "f", nil, "`file` or directory that would be applied; - is standard input")
	for _, flag := range []string{"without", "drain"} {
		cobra.CheckErr(cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, so string) ([]string, cobra.ShellCompDirective) {
			return a.completeNodes(cmd, nil, so)
		}))
	}
	return a.printable(cmd)
}

// known refuses names that are no Node's.
func known(nodes []corev1.Node, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(nodes, func(n corev1.Node) bool { return n.Name == name }) {
			return fmt.Errorf("there is no Node %s: kubectl get nodes tells the names", name)
		}
	}
	return nil
}

// simulation prints what would be.
func (a *app) simulation(w io.Writer, s report.Simulation) {
	for _, f := range s.Refused {
		fmt.Fprintf(w, "%s  %s would not be accepted in full: %s (%s)\n", a.paint(f.Severity, f.Tone()), f.Object, f.Message, f.Reason)
	}
	for _, r := range s.Services {
		if len(r.Lost) > 0 {
			fmt.Fprintf(w, "%s  Service %s would lose %s. %s\n", a.paint("lost", report.Bad), r.Service, strings.Join(r.Lost, " and "), r.Why)
		}
		if len(r.Gained) > 0 {
			fmt.Fprintf(w, "%s  Service %s would get %s\n", a.paint("new", report.Good), r.Service, strings.Join(r.Gained, " and "))
		}
	}
	for _, l := range s.Lost {
		fmt.Fprintf(w, "%s  %s of %s would be announced by nobody\n", a.paint("lost", report.Bad), l.Address, strings.Join(l.Services, ", "))
		for _, why := range l.Why {
			fmt.Fprintf(w, "        - %s\n", why)
		}
	}
	for _, m := range s.Gained {
		fmt.Fprintf(w, "%s  %s of %s would be announced\n", a.paint("new", report.Good), m.Address, strings.Join(m.Services, ", "))
	}
	if len(s.Moves) > 0 {
		a.table(w, report.MoveHead, report.MoveRows(s.Moves))
	}
	for _, r := range s.Routers {
		fmt.Fprintf(w, "%s: told to routers by %s", r.Address, report.Count(r.Nodes, "node"))
		for _, part := range []struct {
			word  string
			nodes []string
		}{{"no more by", r.Removed}, {"now also by", r.Added}} {
			if len(part.nodes) > 0 {
				fmt.Fprintf(w, ", %s %s", part.word, strings.Join(part.nodes, ", "))
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "Addresses that stay as they are: %d; move: %d; are lost: %d; are announced anew: %d.\n", s.Kept, len(s.Moves), len(s.Lost), len(s.Gained))
}
