package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/announce"
	"heraldlb.io/herald/internal/report"
)

// drainPoll is how often --wait looks.
const drainPoll = 250 * time.Millisecond

func (a *app) drain() *cobra.Command {
	var undo, wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Have other nodes take over all addresses of a node, or end that",
		Long: `Have other nodes take over all addresses of a node, each before the node lets go of it. The node is marked with the
annotation ` + announce.AnnotationDrain + `, and is given no address while another node can have it. Its pods and its schedulability are
left alone: that is for kubectl drain. An address that no other node can announce stays. --undo takes the mark away; addresses
that have moved do not come back by themselves.`,
		Example:           "heraldctl drain n2 --wait",
		Args:              takes("the name of one Node", 1, 1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if undo && wait {
				return usageError{errors.New("--undo has nothing to --wait for: addresses that moved do not come back by themselves")}
			}
			client, _, err := a.client()
			if wait { // for what has to be seen
				_, _, err = a.snapshot(cmd.Context(), want{needed: []part{announcementSlices}})
			}
			if err != nil {
				return err
			}
			var value any = "true"
			if undo {
				value = nil
			}
			if err := annotate(cmd.Context(), client, args[0], announce.AnnotationDrain, value); err != nil {
				return err
			}
			if undo {
				_, err := fmt.Fprintf(a.Out, "node %s may have addresses again\n", args[0])
				return err
			}
			if !wait {
				_, err := fmt.Fprintf(a.Out, "node %s gives its addresses away: see heraldctl announcements --node %[1]s\n", args[0])
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return a.drained(ctx, args[0], timeout)
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "end the drain")
	cmd.Flags().BoolVar(&wait, "wait", false, "return when the node announces nothing by ARP and NDP any more; exits with 3 when something is left after --timeout")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long --wait waits")
	return cmd
}

// drained waits until a node announces nothing by ARP and NDP any more.
func (a *app) drained(ctx context.Context, node string, timeout time.Duration) error {
	for {
		s, _, err := a.snapshot(context.WithoutCancel(ctx), want{needed: []part{announcementSlices}, useful: []part{speakers}})
		if err != nil {
			return err
		}
		left := slices.DeleteFunc(report.Announcements(s, report.Filter{Node: node}), func(n report.Announcement) bool {
			return n.Protocol != v1beta1.ProtocolL2 || n.Role != v1beta1.RoleOwner
		})
		if len(left) == 0 {
			_, err := fmt.Fprintf(a.Out, "node %s announces nothing by ARP and NDP any more\n", node)
			return err
		}
		select {
		case <-ctx.Done():
			a.stuck(a.Out, node, timeout, left)
			return attention(true)
		case <-time.After(drainPoll):
		}
	}
}

// stuck tells which addresses a drain could not move.
func (a *app) stuck(w io.Writer, node string, timeout time.Duration, left []report.Announcement) {
	fmt.Fprintf(w, "after %s node %s still announces %s, which no other node can have:\n", timeout, node, report.Count(len(left), "address"))
	for _, l := range left {
		fmt.Fprintf(w, "  %s of %s: heraldctl explain service %s\n", l.Address, l.Service, l.Service)
	}
}
