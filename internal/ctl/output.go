package ctl

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"heraldlb.io/herald/internal/report"
)

// The values of -o.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// printable has a command take -o.
func (a *app) printable(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVarP(&a.format, "output", "o", formatTable, "how to print: table, json or yaml")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{formatTable, formatJSON, formatYAML}, cobra.ShellCompDirectiveNoFileComp)))
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch a.format {
		case formatTable, formatJSON, formatYAML:
			return run(cmd, args)
		}
		return usageError{fmt.Errorf("--output=%s: write table, json or yaml", a.format)}
	}
	return cmd
}

// print prints a value for programs, or has text print it for people.
func (a *app) print(value any, text func(w io.Writer)) error {
	var out []byte
	var err error
	switch a.format {
	case formatJSON:
		if out, err = json.MarshalIndent(value, "", "  "); err == nil {
			out = append(out, '\n')
		}
	case formatYAML:
		out, err = yaml.Marshal(value)
	default:
		var b strings.Builder
		text(&b)
		out = []byte(b.String())
	}
	if err == nil {
		_, err = a.Out.Write(out)
	}
	if err != nil {
		return fmt.Errorf("print the answer as %s: %w", a.format, err)
	}
	return nil
}

// columnGap parts the columns of a table.
const columnGap = "   "

// table prints rows below a head.
func (a *app) table(w io.Writer, head []string, rows [][]report.Cell) {
	lines := [][]report.Cell{make([]report.Cell, len(head))}
	for i, h := range head {
		lines[0][i].Text = h
	}
	a.columns(w, append(lines, rows...))
}

// columns prints lines of as many cells each. An empty cell is printed as a dash, so that columns can be counted.
func (a *app) columns(w io.Writer, lines [][]report.Cell) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i := range line {
			if line[i].Text == "" {
				line[i].Text = "-"
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i].Text))
		}
	}
	for _, line := range lines {
		var b strings.Builder
		for i, c := range line {
			if i > 0 {
				b.WriteString(columnGap)
			}
			b.WriteString(a.paint(c.Text, c.Tone))
			if i < len(line)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.Text)))
			}
		}
		fmt.Fprintln(w, b.String())
	}
}

// The colours of tones, as SGR codes of ECMA-48.
var colours = map[report.Tone]string{report.Good: "32", report.Warn: "33", report.Bad: "31"}

func (a *app) paint(text string, tone report.Tone) string {
	code := colours[tone]
	if !a.Color || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
