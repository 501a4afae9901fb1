package ctl

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"heraldlb.io/herald/internal/report"
)

func (a *app) status() *cobra.Command {
	w := want{needed: []part{services}, useful: []part{configuration, standing, announcementSlices, nodes, lease}}
	cmd := a.listing("status", "Show how Herald stands, and all that needs a person", "heraldctl status", w, func(s *report.Snapshot) error {
		st := report.StatusOf(s)
		err := a.print(st, func(w io.Writer) {
			a.columns(w, st.Summary())
			if len(st.Pools) > 0 {
				fmt.Fprintln(w)
				a.table(w, report.PoolHead, report.PoolRows(st.Pools))
			}
			for _, u := range st.Unread {
				fmt.Fprintf(w, "\n%s: not known: %s\n", u.What, u.Why)
			}
			a.findings(w, st.Findings, "Nothing needs attention.")
		})
		return cmp.Or(err, attention(len(st.Findings) > 0))
	})
	cmd.Long = "Show on one screen how Herald stands, and all that needs a person. Exits with 3 when something does."
	return cmd
}

// findings prints what needs a person.
func (a *app) findings(w io.Writer, all []report.Finding, none string) {
	if len(all) == 0 {
		fmt.Fprintf(w, "\n%s\n", a.paint(none, report.Good))
		return
	}
	fmt.Fprintf(w, "\n%s:\n", report.Count(len(all), "finding"))
	for _, f := range all {
		fmt.Fprintf(w, "  %s  %s  %s: %s\n", a.paint(f.Severity, f.Tone()), f.Object, f.Reason, f.Message)
		if f.Remedy != "" {
			fmt.Fprintf(w, "    -> %s\n", f.Remedy)
		}
	}
}
