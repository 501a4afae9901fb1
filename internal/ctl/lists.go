package ctl

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

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
	return a.print(value, func(w io.Writer) { a.rowsTo(w, none, head, rows) })
}

func (a *app) rowsTo(w io.Writer, none string, head []string, rows [][]report.Cell) {
	if len(rows) == 0 {
		fmt.Fprintln(w, none)
		return
	}
	a.table(w, head, rows)
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

func (a *app) speakers() *cobra.Command {
	return a.listing("speakers", "Show how the speaker of each node stands", "heraldctl speakers", want{needed: []part{standing}, useful: []part{nodes, announcementSlices}},
		func(s *report.Snapshot) error {
			all := report.Speakers(s)
			return a.rows(all, "There is no speaker: nothing is announced.", report.SpeakerHead, report.SpeakerRows(all))
		})
}

func (a *app) peers() *cobra.Command {
	return a.listing("peers", "Show the BGP sessions of all nodes", "heraldctl peers", want{needed: []part{speakers}},
		func(s *report.Snapshot) error {
			all := report.Peers(s)
			return a.rows(all, "No speaker has a BGP session: is there a BGPPeer that selects its node?", report.PeerHead, report.PeerRows(s.Now, all))
		})
}

func (a *app) announcements() *cobra.Command {
	var node, service, ip string
	cmd := a.listing("announcements", "Show which node announces which address, and which nobody does", "heraldctl announcements --service default/web",
		want{needed: []part{announcementSlices}, useful: []part{speakers}},
		func(s *report.Snapshot) error {
			f := report.Filter{Node: node}
			var err error
			if service != "" {
				if f.Service, err = a.qualified(service); err != nil {
					return err
				}
			}
			if ip != "" {
				if f.IP, err = netip.ParseAddr(ip); err != nil {
					return usageError{fmt.Errorf("--ip=%s: write an IP address", ip)}
				}
			}
			all := report.Announcements(s, f)
			return a.print(all, func(w io.Writer) {
				a.observing(w, all)
				a.rowsTo(w, "No announcement.", report.AnnouncementHead, report.AnnouncementRows(s.Now, all))
			})
		})
	cmd.Flags().StringVar(&node, "node", "", "only those of this node")
	cmd.Flags().StringVar(&service, "service", "", "only those of this Service: NAME or NAMESPACE/NAME")
	cmd.Flags().StringVar(&ip, "ip", "", "only those of this address")
	return cmd
}

// qualified puts the user's namespace before a name that has none.
func (a *app) qualified(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	namespace, err := a.namespace()
	return namespace + "/" + name, err
}
