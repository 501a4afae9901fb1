package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"heraldlb.io/herald/internal/report"
)

// listing makes a command that reads and prints a list.
func (a *app) listing(use, short, example string, w want, run func(s *report.Snapshot) error) *cobra.Command {
	return a.printable(&cobra.Command{
		Use: use, Short: short, Example: example, Args: takes("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := a.snapshot(cmd.Context(), w)
			if err != nil {
				return err
			}
			return run(s)
		},
	})
}

// rows prints a list, or for people what there is none of.
func (a *app) rows(value any, none string, head []string, rows [][]report.Cell) error {
	return a.print(value, func(w io.Writer) {
		if len(rows) == 0 {
			fmt.Fprintln(w, none)
			return
		}
		a.table(w, head, rows)
	})
}

func (a *app) pools() *cobra.Command {
	return a.listing("pools", "Show the pools and how much of them is in use", "heraldctl pools -o yaml", want{needed: []part{configuration}},
		func(s *report.Snapshot) error {
			pools := report.Pools(s)
			return a.rows(pools, "There is no IPAddressPool: no Service gets an address.", report.PoolHead, report.PoolRows(pools))
		})
}

func (a *app) events() *cobra.Command {
	var about string
	var warnings bool
	cmd := a.listing("events", "Show what Herald told of Services, nodes and configuration, the newest last", "heraldctl events --for service/default/web", want{needed: []part{events}},
		func(s *report.Snapshot) error {
			all := report.Events(s, about, warnings)
			return a.rows(all, "Herald told nothing that is still kept.", report.EventHead, report.EventRows(s.Now, all))
		})
	cmd.Flags().StringVar(&about, "for", "", "only of this object: NAME, NAMESPACE/NAME, or KIND/ before either")
	cmd.Flags().BoolVar(&warnings, "warnings", false, "only what needs attention")
	return cmd
}
