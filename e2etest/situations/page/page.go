// Package page reads the scripts that break a cluster on purpose, and renders docs/troubleshooting.md from them: what a user sees,
// why, what helps, and where Herald says so. What the page quotes is what the scripts assert.
package page

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Situation is what a script tells of itself.
type Situation struct {
	Name  string // of its file
	Title string
	Part  string // of the page
	See   string // what a user sees
	Why   string
	Do    string // what helps
	Alone string // why nothing else may run meanwhile, if so
	Uses  string // something that one script at a time may use, or nothing
	Told  []Telling
}

// The ways in which Herald tells.
const (
	Condition = "condition"
	Event     = "event"
	Metric    = "metric"
	Alert     = "alert"
	Says      = "says" // heraldctl
)

// Telling is one assertion of a script about what Herald tells: a command with its arguments.
type Telling struct {
	By   string
	Args []string
}

// The lines of a script before which the cluster is whole still, where that is asserted, and after which it is whole again.
const (
	broken = "# Broken:"
	mended = "# Mended:"
)

// parts of the page, in their order.
var parts = []string{"A Service gets no address", "An address is not announced", "Routers", "Layer 2 and the ring", "Configuration", "Herald and its cluster"}

var (
	key     = regexp.MustCompile(`^# (part|see|why|do|alone|uses): (.+)$`)
	further = regexp.MustCompile(`^#   (\S.*)$`)
)

// Read reads the scripts of a directory, in the order of the page.
func Read(dir string) ([]Situation, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no scripts in %s", dir)
	}
	if err != nil {
		return nil, err
	}
	var out []Situation
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		s, err := Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		s.Name = strings.TrimSuffix(filepath.Base(file), ".txtar")
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(x, y Situation) int {
		return cmp.Compare(slices.Index(parts, x.Part), slices.Index(parts, y.Part))
	})
	return out, nil
}

// Parse reads a script: its title, its header of "# key: words" with further lines indented, and its assertions from the
// line that says that the cluster is broken, if there is one, up to the one that says that it is mended.
func Parse(script string) (Situation, error) {
	script, _, _ = strings.Cut(script, "\n-- ")
	head, body, _ := strings.Cut(script, "\n\n")
	var s Situation
	fields := map[string]*string{"part": &s.Part, "see": &s.See, "why": &s.Why, "do": &s.Do, "alone": &s.Alone, "uses": &s.Uses}
	var last *string
	for i, line := range strings.Split(head, "\n") {
		pair, more := key.FindStringSubmatch(line), further.FindStringSubmatch(line)
		switch {
		case i == 0 && strings.HasPrefix(line, "# "):
			s.Title = strings.TrimPrefix(line, "# ")
		case pair != nil:
			last = fields[pair[1]]
			*last = pair[2]
		case more != nil && last != nil:
			*last += " " + more[1]
		default:
			return s, fmt.Errorf("line %d: %q is no part of a header", i+1, line)
		}
	}
	for _, name := range []string{"part", "see", "why", "do"} {
		if *fields[name] == "" {
			return s, fmt.Errorf("the header has no %s", name)
		}
	}
	if !slices.Contains(parts, s.Part) {
		return s, fmt.Errorf("the page has no part %q", s.Part)
	}
	body, _, _ = strings.Cut(body, mended)
	if _, after, found := strings.Cut(body, broken); found {
		body = after
	}
	for line := range strings.SplitSeq(body, "\n") {
		words := split(line)
		if len(words) < 2 || !slices.Contains([]string{Condition, Event, Metric, Alert, Says}, words[0]) {
			continue
		}
		if words[0] == Condition && len(words) < 5 {
			continue // without a reason it is what the script waits for
		}
		s.Told = append(s.Told, Telling{words[0], words[1:]})
	}
	return s, nil
}

// split splits a line as testscript does, of which it knows quotes and comments.
func split(line string) (words []string) {
	var word strings.Builder
	started, quoted := false, false
	end := func() {
		if started {
			words = append(words, word.String())
		}
		word.Reset()
		started = false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'' && quoted && i+1 < len(line) && line[i+1] == '\'':
			word.WriteByte(c)
			i++
		case c == '\'':
			quoted, started = !quoted, true
		case quoted:
			word.WriteByte(c)
		case c == '#':
			end()
			return words
		case c == ' ' || c == '\t':
			end()
		default:
			word.WriteByte(c)
			started = true
		}
	}
	end()
	return words
}

// Render renders the page.
func Render(all []Situation) []byte {
	var b bytes.Buffer
	b.WriteString(`# Troubleshooting

What goes wrong, what is seen of it, and where Herald says so. ` + "`heraldctl status`" + ` finds most of it, ` + "`heraldctl explain service NAME`" + ` goes the whole
way of one Service, and ` + "`heraldctl doctor`" + ` looks at Herald itself. Each of these situations is made on a real cluster by a script of its name in
` + "`e2etest/situations/testdata`" + `, which asserts what is quoted here; this page is rendered from them. Two are not to be had in a lab, an old Kubernetes and a clock that jumps: of these
the traces are made that they leave in the API.

| what is wrong | what is seen |
|---|---|
`)
	for _, s := range all {
		fmt.Fprintf(&b, "| [%s](#%s) | %s |\n", s.Title, anchor(s.Title), s.See)
	}
	part := ""
	for _, s := range all {
		if s.Part != part {
			part = s.Part
			fmt.Fprintf(&b, "\n## %s\n", part)
		}
		fmt.Fprintf(&b, "\n### %s\n\n**Seen:** %s\n\n**Why:** %s\n\n**What to do:** %s\n", s.Title, s.See, s.Why, s.Do)
		if len(s.Told) > 0 {
			fmt.Fprintf(&b, "\n| told by | what it says (`%s`) |\n|---|---|\n", s.Name)
		}
		for _, t := range s.Told {
			where, what := t.row()
			fmt.Fprintf(&b, "| %s | %s |\n", where, strings.ReplaceAll(what, "|", `\|`))
		}
	}
	return b.Bytes()
}

// row is a line of a situation's table.
func (t Telling) row() (where, what string) {
	quoted := func(texts []string) string {
		out := make([]string, len(texts))
		for i, text := range texts {
			out[i] = "“" + text + "”"
		}
		return strings.Join(out, ", ")
	}
	a := append(slices.Clone(t.Args), "", "", "", "")
	switch t.By {
	case Condition:
		kind, _, _ := strings.Cut(a[0], "/")
		return fmt.Sprintf("condition `%s` of the %s", a[1], kinds[kind]), strings.TrimSpace(fmt.Sprintf("%s, `%s` %s", a[2], a[3], quoted(t.Args[min(4, len(t.Args)):])))
	case Event:
		kind, _, _ := strings.Cut(a[0], "/")
		return "event at the " + kinds[kind], strings.TrimSpace(fmt.Sprintf("`%s` %s", a[1], quoted(t.Args[min(2, len(t.Args)):])))
	case Metric:
		of := "the speaker"
		if program, _, _ := strings.Cut(a[0], "@"); program == Controller {
			of = "the controller"
		}
		return "metric of " + of, fmt.Sprintf("`%s` %s %s", a[1], a[2], a[3])
	case Alert:
		return "alert", fmt.Sprintf("[%s](alerts.md#%s)", a[0], anchor(a[0]))
	}
	texts := t.Args[1:]
	if strings.HasPrefix(a[0], "-exit=") {
		a, texts = a[1:], texts[1:]
	}
	return fmt.Sprintf("`heraldctl %s`", elsewhere.ReplaceAllString(a[0], "")), quoted(texts)
}

// elsewhere says where a script has a Herald of its own, which no reader has.
var elsewhere = regexp.MustCompile(`^--herald-namespace=\S+ `)

// Controller is who metrics are asked of when it is not the speaker of a node.
const Controller = "controller"

// kinds are the kinds of objects, as a script writes them and as they are called.
var kinds = map[string]string{
	"service": "Service", "configmap": "ConfigMap", "node": "Node", "ipaddresspool": "IPAddressPool", "l2advertisement": "L2Advertisement",
	"bgpadvertisement": "BGPAdvertisement", "bgppeer": "BGPPeer", "bfdprofile": "BFDProfile", "speaker": "Speaker",
}

// Kind is the kind of the objects that a script calls so.
func Kind(name string) (kind string, ok bool) {
	kind, ok = kinds[name]
	return kind, ok
}

// anchor is how GitHub calls a heading in links.
func anchor(heading string) string {
	out := strings.ToLower(heading)
	out = regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(out, "")
	return strings.ReplaceAll(out, " ", "-")
}
