package ctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heraldlb.io/herald/internal/report"
)

func (a *app) explain() *cobra.Command {
	cmd := &cobra.Command{Use: "explain", Short: "Say why something is as it is"}
	cmd.AddCommand(a.explainService())
	return cmd
}

func (a *app) explainService() *cobra.Command {
	w := want{
		needed: []part{configuration, services, endpointSlices},
		useful: []part{speakers, announcementSlices, nodes, namespaces},
	}
	return a.printable(&cobra.Command{
		Use:     "service [NAMESPACE/]NAME",
		Aliases: []string{"svc", "services"},
		Short:   "Go a Service's whole way, from its class to the node that answers, and say what to do",
		Long: `Go a Service's whole way, step by step and each with its evidence: class, request, pools, address, endpoints,
advertisements, nodes, routers, what is announced now and what the node does with it. It ends with what to do. Exits with 3
when the Service is not announced as it should be.`,
		Example:           "heraldctl explain service default/web",
		Args:              takes("the name of one Service", 1, 1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := a.qualified(args[0])
			if err != nil {
				return err
			}
			s, client, err := a.snapshot(cmd.Context(), w)
			if err != nil {
				return err
			}
			namespace, name, _ := strings.Cut(name, "/")
			svc, err := client.CoreV1().Services(namespace).Get(cmd.Context(), name, metav1.GetOptions{})
			if err != nil {
				return clarify("read Service "+namespace+"/"+name, err)
			}
			return a.printExplanation(report.Explain(s, svc), s.Unread)
		},
	})
}

func (a *app) printExplanation(e report.Explanation, unread []report.Unread) error {
	tones := map[string]report.Tone{report.VerdictOK: report.Good, report.VerdictWarning: report.Warn, report.VerdictFailed: report.Bad, report.VerdictUnknown: report.Warn}
	err := a.print(e, func(w io.Writer) {
		fmt.Fprintf(w, "Service %s\n\n", e.Service)
		for _, step := range e.Steps {
			title := step.Title
			if step.Address != "" {
				title += " of " + step.Address
			}
			fmt.Fprintf(w, "%s%s  %s: %s\n", a.paint(step.Verdict, tones[step.Verdict]), strings.Repeat(" ", len(report.VerdictWarning)-len(step.Verdict)), title, step.Text)
			for _, line := range step.Evidence {
				fmt.Fprintf(w, "           - %s\n", line)
			}
		}
		for _, u := range unread {
			fmt.Fprintf(w, "%s: not known: %s\n", u.What, u.Why)
		}
		fmt.Fprintf(w, "\n%s\n", a.paint(strings.ToUpper(e.Summary[:1])+e.Summary[1:]+".", tones[e.Verdict]))
		for _, advice := range e.Advice {
			fmt.Fprintf(w, "  -> %s\n", advice)
		}
	})
	return cmp.Or(err, attention(e.Verdict == report.VerdictFailed))
}

// completeServices completes the names of Services.
func (a *app) completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd.Context(), args, services, func(s *report.Snapshot) (names []string) {
		for _, svc := range s.Services {
			names = append(names, svc.Namespace+"/"+svc.Name)
		}
		return names
	})
}

// completeNodes completes the names of nodes.
func (a *app) completeNodes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd.Context(), args, nodes, func(s *report.Snapshot) (names []string) {
		for _, n := range s.Nodes {
			names = append(names, n.Name)
		}
		return names
	})
}

func (a *app) complete(ctx context.Context, args []string, p part, names func(*report.Snapshot) []string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, _, err := a.snapshot(ctx, want{needed: []part{p}})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names(s), cobra.ShellCompDirectiveNoFileComp
}
