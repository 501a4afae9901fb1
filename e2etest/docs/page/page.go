// Package page reads Herald's documentation as its tests do: fenced blocks with the marks that say what becomes of them,
// links, and what stands between backticks. It knows as much of Markdown as these pages use, and runs nothing.
//
// The marks stand behind a block's language, where GitHub shows them to nobody. docs/developing.md says what there is.
package page

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Page is one file.
type Page struct {
	Path   string // below the root of the checkout, with slashes
	Blocks []Block
	Links  []Link
	Spans  []Span
	// Anchors are the names by which GitHub links to the page's headings.
	Anchors []string
}

// Given is the language of what a page takes for given: a comment <!-- given: web --> is a block whose text is web.
const Given = "given"

// Machine is where a block is run that is marked on=machine: on no host of the lab, but where the lab itself runs.
const Machine = "machine"

// Block is what stands between two fences, or a comment that says what is given.
type Block struct {
	Line     int // of the opening fence
	Language string
	Marks    []Mark
	Text     string // with a line's end at its end, unless it is empty
}

// Mark is one word behind a block's language, as in run or on=client. The word skip takes the rest of the line for its
// value: why the block is not run.
type Mark struct{ Name, Value string }

// Mark returns the value of a mark, and whether the block has it.
func (b Block) Mark(name string) (value string, has bool) {
	i := slices.IndexFunc(b.Marks, func(m Mark) bool { return m.Name == name })
	if i < 0 {
		return "", false
	}
	return b.Marks[i].Value, true
}

// Runs tells whether something becomes of a block on a cluster.
func (b Block) Runs() bool {
	return b.Language == Given || slices.ContainsFunc(b.Marks, func(m Mark) bool {
		return slices.Contains([]string{"run", "wait", "apply", "file"}, m.Name)
	})
}

// Link is a link of Markdown, of whatever kind.
type Link struct {
	Line   int
	Target string
}

// Span is text between backticks, outside of blocks.
type Span struct {
	Line int
	Text string
}

var (
	given   = regexp.MustCompile(`^<!-- given: ([a-z-]+) -->$`)
	fence   = regexp.MustCompile("^( *)(```+)(.*)$")
	heading = regexp.MustCompile(`^#+ +(.*)$`)
	span    = regexp.MustCompile("`([^`]+)`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// Parse reads a page from its text.
func Parse(name, text string) (Page, error) {
	p := Page{Path: name}
	var open *Block
	var closing, indent string
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open != nil && m != nil && m[2] == closing && strings.TrimSpace(m[3]) == "":
			p.Blocks = append(p.Blocks, *open)
			open = nil
		case open != nil:
			open.Text += strings.TrimPrefix(line, indent) + "\n"
		case m != nil:
			indent, closing = m[1], m[2]
			language, rest, _ := strings.Cut(strings.TrimSpace(m[3]), " ")
			open = &Block{Line: i + 1, Language: language, Marks: marks(rest)}
		case given.MatchString(line):
			p.Blocks = append(p.Blocks, Block{Line: i + 1, Language: Given, Text: given.FindStringSubmatch(line)[1]})
		default:
			p.prose(i+1, line)
		}
	}
	if open != nil {
		return Page{}, fmt.Errorf("%s:%d: the block has no end", name, open.Line)
	}
	return p, nil
}

func marks(s string) []Mark {
	var out []Mark
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if why, skipped := strings.CutPrefix(s, "skip:"); skipped {
			return append(out, Mark{"skip", strings.TrimSpace(why)})
		}
		var word string
		word, s, _ = strings.Cut(s, " ")
		name, value, _ := strings.Cut(word, "=")
		out = append(out, Mark{name, value})
	}
	return out
}

// prose takes in a line outside of blocks.
func (p *Page) prose(number int, line string) {
	if m := heading.FindStringSubmatch(line); m != nil {
		p.Anchors = append(p.Anchors, p.anchor(m[1]))
	}
	for _, m := range span.FindAllStringSubmatch(line, -1) {
		p.Spans = append(p.Spans, Span{number, m[1]})
	}
	for _, m := range link.FindAllStringSubmatch(span.ReplaceAllString(line, "x"), -1) {
		p.Links = append(p.Links, Link{number, m[1]})
	}
}

// anchor is the name that GitHub gives to a heading: in lower case, without punctuation, with hyphens for spaces, and
// counted where there are several.
func (p *Page) anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteRune('-')
		case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		}
	}
	name := b.String()
	for n := 1; slices.Contains(p.Anchors, name); n++ {
		name = fmt.Sprintf("%s-%d", b.String(), n)
	}
	return name
}

// Index is the page that lists the others.
const Index = "docs/README.md"

// All reads the pages of a checkout: README.md, CONTRIBUTING.md, the index, those of docs in the index's order, then what the
// index leaves out.
func All(root string) ([]Page, error) {
	names := []string{"README.md", "CONTRIBUTING.md", Index}
	index, err := read(root, Index)
	if err != nil {
		return nil, err
	}
	for _, l := range index.Links {
		file, _, _ := strings.Cut(l.Target, "#")
		if file = path.Join("docs", file); strings.HasSuffix(file, ".md") {
			names = append(names, file)
		}
	}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			if err != nil {
				return nil, err
			}
			names = append(names, filepath.ToSlash(rel))
		}
	}
	var pages []Page
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		p, err := read(root, name)
		if err != nil {
			return nil, err
		}
		pages = append(pages, p)
	}
	return pages, nil
}

func read(root, name string) (Page, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return Page{}, err
	}
	return Parse(name, string(text))
}
