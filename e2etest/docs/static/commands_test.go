package static

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"heraldlb.io/herald/internal/ctl"
)

// line is a command line of a page, without what a shell does around it.
type line struct {
	at    string
	words []string
}

var (
	comment   = regexp.MustCompile(`(^|\s+)#.*$`)
	separator = regexp.MustCompile(`\s*(\|\||&&|[|;])\s*`)
	quoted    = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	redirect  = regexp.MustCompile(`\s*\d?[<>]+\s*\S+`)
)

// lines returns the command lines of a text of a shell. What is quoted becomes one word without meaning.
func lines(at, script string) []line {
	script = strings.ReplaceAll(script, "\\\n", " ")
	script = quoted.ReplaceAllString(script, "quoted")
	var out []line
	for text := range strings.Lines(script) {
		text = redirect.ReplaceAllString(comment.ReplaceAllString(strings.TrimSpace(text), ""), "")
		for _, one := range separator.Split(text, -1) {
			if words := strings.Fields(one); len(words) > 0 {
				out = append(out, line{at, words})
			}
		}
	}
	return out
}

// commands returns what the pages tell their readers to run: in blocks of sh, after a $ in examples, and between backticks.
func commands(t *testing.T) []line {
	t.Helper()
	_, pages := documentation(t)
	var out []line
	for _, p := range pages {
		for _, s := range p.Spans {
			out = append(out, lines(fmt.Sprintf("%s:%d", p.Path, s.Line), s.Text)...)
		}
		for _, b := range p.Blocks {
			at := fmt.Sprintf("%s:%d", p.Path, b.Line)
			switch b.Language {
			case "sh":
				out = append(out, lines(at, b.Text)...)
			case "text":
				for text := range strings.Lines(b.Text) {
					if command, is := strings.CutPrefix(text, "$ "); is {
						out = append(out, lines(at, command)...)
					}
				}
			}
		}
	}
	return out
}

var program = regexp.MustCompile(`^(\S*/)?(heraldctl|kubectl-herald)$`)

func TestCommandsOfHeraldctlExist(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range commands(t) {
		args := l.words[1:]
		switch {
		case program.MatchString(l.words[0]):
		case len(l.words) > 1 && l.words[0] == "kubectl" && l.words[1] == "herald":
			args = args[1:]
		default:
			continue
		}
		if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, "...") }) || slices.Contains(args, "completion") {
			continue // an abbreviation; cobra's own
		}
		var out, errs bytes.Buffer
		// Flags are read, and their values, before the help is printed.
		code := ctl.Run(t.Context(), ctl.Env{Args: append(append([]string{"heraldctl"}, args...), "--help"), Out: &out, Err: &errs})
		_, usage, _ := strings.Cut(out.String(), "Usage:\n")
		usage, _, _ = strings.Cut(strings.TrimSpace(usage), "\n")
		named := "heraldctl"
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			named += " " + args[0]
		}
		if code != ctl.ExitOK || !strings.HasPrefix(usage, named) {
			t.Errorf("%s: %s: exit %d, usage %q %s", l.at, strings.Join(l.words, " "), code, usage, errs.String())
		}
		seen[named] = true
	}
	if len(seen) < 12 {
		t.Errorf("only these were looked at: %v", slices.Sorted(maps.Keys(seen)))
	}
}

func TestTargetsOfMakeExist(t *testing.T) {
	root, _ := documentation(t)
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, l := range commands(t) {
		if l.words[0] != "make" {
			continue
		}
		for _, target := range l.words[1:] {
			if seen++; !strings.Contains(target, "=") && !strings.Contains(string(makefile), "\n"+target+":") {
				t.Errorf("%s: make has no target %s", l.at, target)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d targets were looked at", seen)
	}
}

// flagsIn finds the flags that a program's source adds.
func flagsIn(t *testing.T, root string, files ...string) map[string]bool {
	t.Helper()
	added := regexp.MustCompile(`(?:flags|\bf|Flags\(\))\.(?:String|Int|Bool|Duration|Strings|StringSlice|StringArray)(?:Var|VarP)?\((?:&[\w.]+, )?"([a-z0-9-]+)"`)
	out := map[string]bool{"version": true, "help": true}
	for _, pattern := range files {
		found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range added.FindAllStringSubmatch(string(text), -1) {
				out[m[1]] = true
			}
		}
	}
	return out
}

var aFlag = regexp.MustCompile(`^--([a-z0-9][a-z0-9-]*)(=.*)?$`)

func TestFlagsThatAreNamedExist(t *testing.T) {
	root, _ := documentation(t)
	ours := map[string]map[string]bool{
		"controller": flagsIn(t, root, "controller/main.go", "internal/cmdline/common.go"),
		"speaker":    flagsIn(t, root, "speaker/main.go", "internal/cmdline/common.go"),
	}
	for name, flags := range ours {
		if len(flags) < 14 {
			t.Fatalf("the source of %s adds only %v", name, flags)
		}
	}
	// What stands alone between backticks is a flag of one of Herald's programs, of the lab, or of what they are used with.
	any := flagsIn(t, root, "internal/ctl/*.go", "e2etest/lab/cmd/lab/*.go")
	for _, flags := range ours {
		maps.Copy(any, flags)
	}
	for _, other := range []string{
		"kubeconfig", "context", "namespace", "as", "server-side", "ignore-not-found", // kubectl
		"ignore-exclude-lb", // MetalLB
	} {
		any[other] = true
	}
	seen := 0
	for _, l := range commands(t) {
		name := filepath.Base(l.words[0])
		flags, known := ours[name]
		words := l.words[1:]
		if strings.HasPrefix(l.words[0], "--") {
			flags, known, words = any, true, l.words
		}
		for _, w := range words {
			m := aFlag.FindStringSubmatch(w)
			if !known || m == nil {
				continue
			}
			if seen++; !flags[m[1]] {
				t.Errorf("%s: %s: there is no flag --%s", l.at, strings.Join(l.words, " "), m[1])
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d flags were looked at", seen)
	}
}

func TestCommandsOfTheLabExist(t *testing.T) {
	root, _ := documentation(t)
	source, err := os.ReadFile(filepath.Join(root, "e2etest/lab/cmd/lab/commands.go"))
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?:Use:\s+|onHost\(&name, )"([a-z]+)`).FindAllStringSubmatch(string(source), -1) {
		uses[m[1]] = true
	}
	seen := 0
	for _, l := range commands(t) {
		if l.words[0] != "bin/lab" {
			continue
		}
		words := l.words[1:]
		if len(words) > 1 && words[0] == "--name" {
			words = words[2:]
		}
		if len(words) == 0 {
			continue
		}
		if seen++; !uses[words[0]] {
			t.Errorf("%s: bin/lab has no command %s", l.at, words[0])
		}
	}
	if seen < 5 {
		t.Errorf("only %d commands were looked at", seen)
	}
}
