// Write keeps the tables of docs/metrics.md in step with the metrics: `make metrics-doc`.
package main

import (
	"flag"
	"fmt"
	"os"

	"heraldlb.io/herald/internal/metrics/reference"
)

func main() {
	write := flag.Bool("w", false, "write the page in place of printing it")
	flag.Parse()
	if err := run(flag.Arg(0), *write); err != nil {
		fmt.Fprintln(os.Stderr, "metrics:", err)
		os.Exit(1)
	}
}

func run(page string, write bool) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	filled, err := reference.Fill(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	if !write {
		fmt.Print(filled)
		return nil
	}
	return os.WriteFile(page, []byte(filled), 0o644)
}
