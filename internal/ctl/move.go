package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/internal/announce"
	"heraldlb.io/herald/internal/report"
)

func (a *app) move() *cobra.Command {
	var to string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "move IP... --to NODE",
		Short: "Have a node take addresses over from those that announce them",
		Long: `Have a node take addresses over from those that announce them by ARP and NDP, each before the one that had it lets go. The
node is asked by its annotation ` + announce.AnnotationMove + `, which counts once and until --timeout, and is taken away again
here. What has moved stays, as after any other move. A node that could not keep the address is not asked.`,
		Example:           "heraldctl move 192.0.2.100 2001:db8:1::1:0 --to n2",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeAddresses,
		RunE: func(cmd *cobra.Command, args []string) error {
			addrs, err := addressesOf(args)
			if err != nil {
				return err
			}
			if to == "" {
				return usageError{errors.New("say which node is to have them, with --to")}
			}
			if timeout < time.Second || timeout > maxMove {
				return usageError{fmt.Errorf("--timeout=%s: write 1s to %s", timeout, maxMove)}
			}
			return a.relocate(cmd.Context(), addrs, to, timeout)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`node` that is to have the addresses")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "until when the node may take them; exits with 3 when it has not")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("to", func(cmd *cobra.Command, _ []string, so string) ([]string, cobra.ShellCompDirective) {
		return a.completeNodes(cmd, nil, so)
	}))
	return cmd
}

// maxMove is less than what a speaker takes for too far ahead: its clock may differ.
const maxMove = 5 * time.Minute

func addressesOf(args []string) (addrs []netip.Addr, err error) {
	if len(args) == 0 {
		return nil, usageError{errors.New("heraldctl move takes the IP addresses that are to move")}
	}
	for _, arg := range args {
		addr, err := netip.ParseAddr(arg)
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: write an IP address", arg)}
		}
		addrs = append(addrs, addr.Unmap())
	}
	return addrs, nil
}

// relocate has a node take addresses over, and waits until it has.
func (a *app) relocate(ctx context.Context, addrs []netip.Addr, to string, timeout time.Duration) error {
	s, client, err := a.snapshot(ctx, forecasting)
	if err != nil {
		return err
	}
	if err := known(s.Nodes, []string{to}); err != nil {
		return err
	}
	way := report.Relocations(s, addrs, to)
	for _, r := range way {
		switch {
		case len(r.Services) == 0:
			return fmt.Errorf("no Service has %s: heraldctl announcements tells what there is", r.Address)
		case r.Against != "":
			return fmt.Errorf("node %s cannot take %s of %s: %s; heraldctl explain service %s tells more", to, r.Address, strings.Join(r.Services, ", "), r.Against, r.Services[0])
		case r.From == "":
			return fmt.Errorf("nobody announces %s of %s by ARP and NDP, so that there is nothing to move: heraldctl explain service %s", r.Address, strings.Join(r.Services, ", "), r.Services[0])
		}
	}
	missing := slices.DeleteFunc(slices.Clone(way), report.Relocation.Done)
	if len(missing) > 0 {
		if missing, err = a.ask(ctx, client, s, missing, to, timeout); err != nil {
			return err
		}
	}
	for _, r := range way {
		switch {
		case slices.ContainsFunc(missing, func(m report.Relocation) bool { return m.Address == r.Address }):
			continue
		case r.Done():
			fmt.Fprintf(a.Out, "%s is announced from node %s already\n", r.Address, to)
		default:
			fmt.Fprintf(a.Out, "%s is announced from node %s, and from %s no more\n", r.Address, to, r.From)
		}
	}
	for _, m := range missing {
		why := "its speaker did not take it: see heraldctl speakers, whether it is as new as this heraldctl, and whether the node's clock is right"
		if m.Against != "" {
			why = m.Against
		}
		fmt.Fprintf(a.Out, "%s is not announced from node %s after %s, and from %s as before: %s\n", m.Address, to, timeout, m.From, why)
	}
	return attention(len(missing) > 0)
}

// ask asks a node to take addresses over, and returns those that it did not take.
func (a *app) ask(ctx context.Context, client *apiClient, s *report.Snapshot, way []report.Relocation, to string, timeout time.Duration) ([]report.Relocation, error) {
	m := announce.Move{Until: a.Now().Add(timeout)}
	for _, r := range way {
		m.Addrs = append(m.Addrs, r.Address)
	}
	if err := underWay(s.Nodes, to, a.Now()); err != nil {
		return nil, err
	}
	if err := annotate(ctx, client, to, announce.AnnotationMove, m.String()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	left, err := a.taken(ctx, way, to)
	if err := takeBack(context.WithoutCancel(ctx), client, to, m.String()); err != nil {
		fmt.Fprintf(a.Err, "the annotation %s of Node %s is left, and counts no more from %s on: %v\n", announce.AnnotationMove, to, m.Until.Format(time.TimeOnly), err)
	}
	return left, err
}

// underWay refuses to overwrite what somebody else has asked of a node.
func underWay(nodes []corev1.Node, to string, now time.Time) error {
	at := slices.IndexFunc(nodes, func(n corev1.Node) bool { return n.Name == to })
	m, err := announce.ParseMove(nodes[at].Annotations[announce.AnnotationMove])
	if err != nil || !now.Before(m.Until) {
		return nil
	}
	return fmt.Errorf("somebody else moves addresses to node %s now: try again after %s, or take that back with kubectl annotate node %[1]s %s-",
		to, m.Until.Local().Format(time.TimeOnly), announce.AnnotationMove)
}

// taken waits until a node announces addresses, and returns those that it does not when ctx is done.
func (a *app) taken(ctx context.Context, way []report.Relocation, to string) ([]report.Relocation, error) {
	for {
		s, _, err := a.snapshot(context.WithoutCancel(ctx), forecasting)
		if err != nil {
			return nil, err
		}
		var left []report.Relocation
		for _, r := range way {
			if report.At(s, r.Address) != to {
				left = append(left, r)
			}
		}
		if len(left) == 0 {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			var addrs []netip.Addr
			for _, r := range left {
				addrs = append(addrs, r.Address)
			}
			return report.Relocations(s, addrs, to), nil
		case <-time.After(movePoll):
		}
	}
}

// movePoll is how often is looked at what a speaker writes, which takes it up to a second.
const movePoll = 250 * time.Millisecond

// annotate sets an annotation of a Node, or removes it when the value is nil.
func annotate(ctx context.Context, client *apiClient, node, annotation string, value any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotation: value}}})
	if err == nil {
		_, err = client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "heraldctl"})
	}
	if err != nil {
		return clarify("mark Node "+node, err)
	}
	return nil
}

// takeBack removes a Move from a Node, unless there is another one in its place.
func takeBack(ctx context.Context, client *apiClient, node, value string) error {
	n, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return clarify("read Node "+node, err)
	}
	if n.Annotations[announce.AnnotationMove] != value {
		return nil
	}
	return annotate(ctx, client, node, announce.AnnotationMove, nil)
}

// completeAddresses completes the addresses that are announced.
func (a *app) completeAddresses(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd.Context(), nil, announcementSlices, func(s *report.Snapshot) (addrs []string) {
		for _, one := range report.Announcements(s, report.Filter{}) {
			if !slices.Contains(args, one.Address) && !slices.Contains(addrs, one.Address) {
				addrs = append(addrs, one.Address)
			}
		}
		return addrs
	})
}
