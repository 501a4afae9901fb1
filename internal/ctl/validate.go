package ctl

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"heraldlb.io/herald/internal/config"
	"heraldlb.io/herald/internal/report"
)

// stdin is how a file's name says that the text comes from standard input.
const stdin = "-"

func (a *app) validate() *cobra.Command {
	var files []string
	var strict bool
	cmd := &cobra.Command{
		Use:   "validate -f FILE...",
		Short: "Check configuration files, without a cluster",
		Long: `Check configuration files, without a cluster, by the code with which controller and speakers judge them. All files are
one configuration: an object may name one of another file. What cannot apply is an error; a name that none of the files
has is a warning, since the object may be in the cluster already.`,
		Example: "heraldctl validate -f config/samples",
		Args: func(_ *cobra.Command, args []string) error {
			files = append(files, args...) // -f a b c, as a shell expands -f *.yaml
			if len(files) == 0 {
				return usageError{fmt.Errorf("name files to check with -f")}
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			data, err := a.readFiles(files)
			if err != nil {
				return err
			}
			return a.printFaults(report.Validate(data), len(data), strict)
		},
	}
	cmd.Flags().StringSliceVarP(&files, "filename", "f", nil, "`file` or directory to check, several times if need be; - is standard input")
	cmd.Flags().BoolVar(&strict, "strict", false, "take warnings for errors")
	return a.printable(cmd)
}

func (a *app) printFaults(faults []report.Fault, files int, strict bool) error {
	bad := slices.ContainsFunc(faults, func(f report.Fault) bool { return strict || f.Severity == report.SeverityError })
	err := a.print(faults, func(w io.Writer) {
		for _, f := range faults {
			tone := report.Bad
			if f.Severity == report.SeverityWarning {
				tone = report.Warn
			}
			where := f.File
			if f.Line > 0 {
				where = fmt.Sprintf("%s:%d", f.File, f.Line)
			}
			fmt.Fprintf(w, "%s: %s: %s (%s)\n", where, a.paint(f.Severity, tone), f.Message, f.Reason)
		}
		if len(faults) == 0 {
			fmt.Fprintf(w, "%s: %s\n", report.Count(files, "file"), a.paint("no fault found", report.Good))
		}
	})
	return cmp.Or(err, attention(bad))
}

// readFiles reads files, and of directories the YAML and JSON files in them.
func (a *app) readFiles(names []string) (map[string]string, error) {
	data := map[string]string{}
	for _, name := range names {
		if name == stdin {
			text, err := io.ReadAll(a.In)
			if err != nil {
				return nil, fmt.Errorf("read standard input: %w", err)
			}
			data["stdin"] = string(text)
			continue
		}
		paths := []string{name}
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			if paths, err = manifestsIn(name); err != nil {
				return nil, err
			}
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err // it names the file
			}
			data[path] = string(text)
		}
	}
	return data, nil
}

func manifestsIn(dir string) ([]string, error) {
	found := map[string]struct{}{}
	for _, pattern := range []string{"*.yaml", "*.yml", "*.json"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, fmt.Errorf("look for files in %s: %w", dir, err)
		}
		for _, p := range paths {
			found[p] = struct{}{}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no file that ends with .yaml, .yml or .json", dir)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// attention is the error of a command that found what needs a person.
func attention(needed bool) error {
	if needed {
		return errAttention
	}
	return nil
}

// parse reads configuration objects from files for commands that work with them; a fault is an error.
func (a *app) parse(names []string) (config.Resources, error) {
	data, err := a.readFiles(names)
	if err != nil {
		return config.Resources{}, err
	}
	resources, problems := config.Parse("files", data)
	if len(problems) > 0 {
		return resources, fmt.Errorf("the files cannot be read as configuration: %s; heraldctl validate -f tells all", problems[0].Text())
	}
	return resources, nil
}
