package ctl

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"heraldlb.io/herald/internal/report"
)

func (a *app) observe() *cobra.Command {
	w := want{needed: []part{configuration, services, namespaces}, useful: []part{speakers, announcementSlices}}
	cmd := a.listing("observe", "Compare what Services have with what Herald would give them", "heraldctl observe", w, func(s *report.Snapshot) error {
		all := report.Observations(s)
		err := a.print(all, func(w io.Writer) {
			a.observing(w, report.Announcements(s, report.Filter{}))
			if len(all) == 0 {
				fmt.Fprintln(w, "There is no Service for Herald.")
				return
			}
			a.table(w, report.ObservationHead, report.ObservationRows(all))
			fmt.Fprintln(w)
			kept := 0
			for _, o := range all {
				if o.Keeps() {
					kept++
				} else if o.Why != "" {
					fmt.Fprintf(w, "%s: %s\n", o.Service, o.Why)
				}
			}
			fmt.Fprintf(w, "%d of %s would keep what they have, or get what they ask for.\n", kept, report.Count(len(all), "Service"))
		})
		return cmp.Or(err, attention(slices.ContainsFunc(all, func(o report.Observation) bool { return !o.Keeps() })))
	})
	cmd.Long = `Compare what each Service has, from whoever gave it, with what Herald would have it hold under the configuration in the
cluster, and tell by whom that would be announced, as far as speakers run. Nothing is changed. Exits with 3 when a Service
would lose an address or lack one.`
	return cmd
}

// observing says, where it is so, that what follows is not done.
func (a *app) observing(w io.Writer, all []report.Announcement) {
	if nodes := report.Observing(all); len(nodes) > 0 {
		fmt.Fprintf(w, "%s\n\n", a.paint(fmt.Sprintf("Only observed: the speakers of %s announce nothing.", report.Count(len(nodes), "node")), report.Warn))
	}
}
