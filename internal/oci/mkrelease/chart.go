package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
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
	ignored, err := os.ReadFile(filepath.Join(chartDir, ".helmignore"))
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	out, err := gather(chartDir, "herald", patterns(string(ignored)))
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

// patterns are those of a .helmignore, of which the chart's has names alone.
func patterns(text string) (out []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// gather returns the files of a directory, and of those in it or linked to, sorted, under the name that it has in the archive.
func gather(dir, name string, ignored []string) (out []file, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if slices.ContainsFunc(ignored, func(p string) bool { ok, _ := path.Match(p, e.Name()); return ok }) {
			continue
		}
		from, to := filepath.Join(dir, e.Name()), path.Join(name, e.Name())
		info, err := os.Stat(from)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			inner, err := gather(from, to, ignored)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
			continue
		}
		content, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		out = append(out, file{to, 0o644, content})
	}
	return out, nil
}
