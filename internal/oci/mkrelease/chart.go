package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// chartDir is where the chart is, in the module.
const chartDir = "charts/herald"

// chart packs the chart as helm reads it. helm's own packing would write the time of day into it.
func chart(o options) error {
	files, err := chartFiles(o)
	if err != nil {
		return err
	}
	packed, err := pack(o.release.Created, files...)
	if err != nil {
		return fmt.Errorf("pack the chart: %w", err)
	}
	return os.WriteFile(filepath.Join(o.out, "herald-"+chartVersion(o)+".tgz"), packed, 0o644)
}

// chartVersion is the release's version as a chart has it.
func chartVersion(o options) string { return strings.TrimPrefix(o.release.Version, "v") }

// chartFiles are those of the chart, with the release's version and registry in them. Links to config/ are followed: a packed
// chart stands alone.
func chartFiles(o options) ([]file, error) {
	var out []file
	err := filepath.WalkDir(chartDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(filepath.Dir(chartDir), path)
		out = append(out, file{filepath.ToSlash(name), 0o644, content})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	for _, change := range []struct{ name, line, to string }{
		{"herald/Chart.yaml", `version: .*`, "version: " + chartVersion(o)},
		{"herald/Chart.yaml", `appVersion: .*`, "appVersion: " + o.release.Version},
		{"herald/values.yaml", `  registry: localhost`, "  registry: " + o.registry},
	} {
		changed := 0
		for i := range out {
			if out[i].name != change.name {
				continue
			}
			out[i].content = regexp.MustCompile(`(?m)^`+change.line+`$`).ReplaceAllFunc(out[i].content, func([]byte) []byte {
				changed++
				return []byte(change.to)
			})
		}
		if changed != 1 {
			return nil, fmt.Errorf("%s/%s has %d lines %q: want one", filepath.Dir(chartDir), change.name, changed, change.line)
		}
	}
	return out, nil
}
