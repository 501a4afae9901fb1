package ctl

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const docs = "../../docs/heraldctl.md"

// example is the mark of an example and, once it has been written, the example.
var example = regexp.MustCompile("<!-- golden: ([a-z-]+) -->\n(?:```text\n(?s:.*?)```\n)?")

func TestTheDocsShowWhatTheCommandsPrint(t *testing.T) {
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	fresh := example.ReplaceAllStringFunc(string(text), func(found string) string {
		name := example.FindStringSubmatch(found)[1]
		golden, err := os.ReadFile(filepath.Join("testdata", "golden", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		shown := strings.Replace(string(golden), "testdata/", "", -1)
		return fmt.Sprintf("<!-- golden: %s -->\n```text\n%s```\n", name, shown)
	})
	if *update {
		if err := os.WriteFile(docs, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if fresh != string(text) {
		t.Errorf("%s shows something else than testdata/golden (go test ./internal/ctl -update, when it is meant)", docs)
	}
}

func TestTheDocsNameEveryCommandAndFlag(t *testing.T) {
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			look(c)
		}
		if !cmd.Runnable() || !cmd.HasParent() {
			return
		}
		seen++
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		_, section, found := strings.Cut(string(text), "\n## "+cmd.CommandPath()+"\n")
		if !found {
			t.Errorf("no section ## %s", cmd.CommandPath())
			return
		}
		section, _, _ = strings.Cut(section, "\n## ")
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			short := f.Shorthand != "" && strings.Contains(section, "-"+f.Shorthand)
			if f.Name != "output" && !short && !strings.Contains(section, "--"+f.Name) {
				t.Errorf("%s does not name --%s", cmd.CommandPath(), f.Name)
			}
		})
	}
	look(newRoot(Env{Args: []string{"heraldctl"}}))
	if seen < 12 {
		t.Errorf("only %d commands were looked at", seen)
	}
	for code, words := range map[int]string{ExitOK: "nothing to complain", ExitFailed: "could not do", ExitUsage: "command line is wrong", ExitAttention: "needs a person"} {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d \|.*%s`, code, words)).Match(text) {
			t.Errorf("exit code %d is not documented", code)
		}
	}
}
