// Package static holds what the documentation is judged by without a cluster: links lead somewhere, YAML is in force as it
// stands, and what is named exists: flags, commands, metrics, reasons, annotations, files. Package docs runs what can be run.
package static

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"

	"heraldlb.io/herald/e2etest/docs/page"
	"heraldlb.io/herald/e2etest/install"
	"heraldlb.io/herald/e2etest/lab"
	"heraldlb.io/herald/internal/metrics/reference"
	"heraldlb.io/herald/internal/report"
)

// documentation reads all pages. Tests that look at them begin with it.
func documentation(t *testing.T) (root string, pages []page.Page) {
	t.Helper()
	root, err := install.Root()
	if err != nil {
		t.Fatal(err)
	}
	if pages, err = page.All(root); err != nil {
		t.Fatal(err)
	}
	return root, pages
}

func TestTheIndexListsEveryPage(t *testing.T) {
	_, pages := documentation(t)
	var listed []string
	for _, p := range pages {
		if p.Path == page.Index {
			for _, l := range p.Links {
				listed = append(listed, path.Join("docs", l.Target))
			}
		}
	}
	for _, p := range pages {
		if ok, _ := path.Match("docs/*.md", p.Path); ok && p.Path != page.Index && !slices.Contains(listed, p.Path) {
			t.Errorf("%s does not list %s", page.Index, p.Path)
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	root, pages := documentation(t)
	anchors := map[string][]string{}
	for _, p := range pages {
		anchors[p.Path] = p.Anchors
	}
	seen := 0
	for _, p := range pages {
		for _, l := range p.Links {
			u, err := url.Parse(l.Target)
			if err != nil {
				t.Errorf("%s:%d: %v", p.Path, l.Line, err)
				continue
			}
			if u.IsAbs() {
				continue
			}
			seen++
			to := p.Path
			if u.Path != "" {
				to = path.Join(path.Dir(p.Path), u.Path)
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(to))); err != nil {
				t.Errorf("%s:%d: link to %s: %v", p.Path, l.Line, l.Target, err)
			} else if u.Fragment != "" && !slices.Contains(anchors[to], u.Fragment) {
				t.Errorf("%s:%d: link to %s: %s has no such heading: %q", p.Path, l.Line, l.Target, to, anchors[to])
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d links were looked at", seen)
	}
}

// What a block may be, and which marks it may have.
var languages = map[string][]string{
	"sh":       {"run", "wait", "on", "skip"},
	"yaml":     {"apply", "file", "on"},
	"text":     {"output"},
	page.Given: nil,
	"frr":      nil, // internal/bgp has FRR run them
	"bird":     nil, // and BIRD these
}

func TestEveryBlockSaysWhatBecomesOfIt(t *testing.T) {
	root, pages := documentation(t)
	for _, p := range pages {
		for i, b := range p.Blocks {
			at := fmt.Sprintf("%s:%d", p.Path, b.Line)
			allowed, known := languages[b.Language]
			if !known {
				t.Errorf("%s: language %q: use sh, yaml, text, frr or bird", at, b.Language)
			}
			for _, m := range b.Marks {
				if !slices.Contains(allowed, m.Name) {
					t.Errorf("%s: a %s block has no mark %s", at, b.Language, m.Name)
				}
			}
			if b.Language == "sh" {
				fates := 0
				for _, fate := range []string{"run", "wait", "skip"} {
					if value, has := b.Mark(fate); has {
						fates++
						if fate == "skip" && value == "" {
							t.Errorf("%s: say why the block is not run", at)
						}
					}
				}
				if fates != 1 {
					t.Errorf("%s: mark the block with one of run, wait and skip", at)
				}
			}
			if _, shown := b.Mark("output"); shown && (i == 0 || p.Blocks[i-1].Language != "sh" || !p.Blocks[i-1].Runs()) {
				t.Errorf("%s: it is the output of nothing that is run", at)
			}
			if on, has := b.Mark("on"); has && !slices.Contains([]string{lab.Client, lab.Router, lab.Remote, page.Machine, "n1", "n2", "n3"}, on) {
				t.Errorf("%s: the lab has no host %s", at, on)
			}
			if b.Language == page.Given {
				if _, err := os.Stat(filepath.Join(root, "e2etest", "docs", "given", b.Text+".yaml")); err != nil {
					t.Errorf("%s: %v", at, err)
				}
			}
		}
	}
}

func TestWhatIsConfiguredIsInForce(t *testing.T) {
	_, pages := documentation(t)
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	seen := 0
	for _, p := range pages {
		for _, b := range p.Blocks {
			if b.Language != "yaml" {
				continue
			}
			at := fmt.Sprintf("%s:%d", p.Path, b.Line)
			for _, doc := range strings.Split(b.Text, "\n---\n") {
				seen++
				if strings.Contains(doc, "apiVersion: heraldlb.io/") {
					for _, f := range report.Validate(map[string]string{at: doc}) {
						if f.Severity == report.SeverityError {
							t.Errorf("%s: line %d of it: %s", at, f.Line, f.Message)
						}
					}
				} else if _, _, err := strict.Decode([]byte(doc), nil, nil); err != nil {
					t.Errorf("%s: %v", at, err)
				}
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d documents were looked at", seen)
	}
}

// text is all that a page says, with the line of each part.
type text struct {
	at   string
	says string
}

func said(p page.Page) []text {
	var out []text
	for _, s := range p.Spans {
		out = append(out, text{fmt.Sprintf("%s:%d", p.Path, s.Line), s.Text})
	}
	for _, b := range p.Blocks {
		for i, line := range strings.Split(b.Text, "\n") {
			out = append(out, text{fmt.Sprintf("%s:%d", p.Path, b.Line+i+1), line})
		}
	}
	return out
}

func TestMetricsThatAreNamedExist(t *testing.T) {
	_, pages := documentation(t)
	known := map[string]bool{}
	for _, program := range []string{reference.Controller, reference.Speaker} {
		all, err := reference.Of(program)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			known[m.Name] = true
			if m.Type == "histogram" {
				known[m.Name+"_bucket"], known[m.Name+"_sum"], known[m.Name+"_count"] = true, true, true
			}
		}
	}
	metric := regexp.MustCompile(`\bherald_[a-z0-9_]*[a-z0-9]\b`)
	seen := 0
	for _, p := range pages {
		for _, s := range said(p) {
			for _, name := range metric.FindAllString(s.says, -1) {
				if seen++; !known[name] {
					t.Errorf("%s: there is no metric %s", s.at, name)
				}
			}
		}
	}
	if seen < 80 {
		t.Errorf("only %d names of metrics were looked at", seen)
	}
}

// sources is the text of all that runs in a cluster or is installed in one.
func sources(t *testing.T, root string) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"api", "controller", "speaker", "heraldctl", "internal", "config"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && d.Name() != "testdata" {
				return err
			}
			if d.IsDir() {
				return filepath.SkipDir
			}
			if ext := filepath.Ext(file); (ext != ".go" || strings.HasSuffix(file, "_test.go")) && ext != ".yaml" {
				return nil
			}
			b, err := os.ReadFile(file)
			all.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// Words of others that look like ours.
var others = []string{"Always"}

func TestReasonsAndKindsThatAreNamedExist(t *testing.T) {
	root, pages := documentation(t)
	known := map[string]bool{}
	for _, word := range regexp.MustCompile(`\w+`).FindAllString(sources(t, root), -1) {
		known[word] = true
	}
	named := regexp.MustCompile(`^[A-Z][a-z0-9]+([A-Z][A-Za-z0-9]*)*$`)
	seen := 0
	for _, p := range pages {
		for _, s := range p.Spans {
			if !named.MatchString(s.Text) || slices.Contains(others, s.Text) {
				continue
			}
			if seen++; !known[s.Text] {
				t.Errorf("%s:%d: nothing of Herald's says %s", p.Path, s.Line, s.Text)
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d words were looked at", seen)
	}
}

func TestKeysThatAreNamedExist(t *testing.T) {
	root, pages := documentation(t)
	source := sources(t, root)
	key := regexp.MustCompile(`(?:^|[^.\w])(heraldlb\.io/[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?)`)
	for _, p := range pages {
		for _, s := range said(p) {
			for _, m := range key.FindAllStringSubmatch(s.says, -1) {
				if !strings.Contains(source, m[1]) {
					t.Errorf("%s: nothing of Herald's reads or writes %s", s.at, m[1])
				}
			}
		}
	}
}

func TestFilesThatAreNamedExist(t *testing.T) {
	root, pages := documentation(t)
	file := regexp.MustCompile(`^(api|controller|speaker|heraldctl|internal|config|manifests|charts|e2etest|docs|\.ci)/[\w./-]*$`)
	for _, p := range pages {
		for _, s := range p.Spans {
			if !file.MatchString(s.Text) {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(s.Text))); err != nil {
				t.Errorf("%s:%d: %v", p.Path, s.Line, err)
			}
		}
	}
}
