package page

import (
	"reflect"
	"testing"
)

func TestWhatIsReadOfAPage(t *testing.T) {
	got, err := Parse("docs/x.md", "# A `title`, twice\n\n"+
		"See [there](y.md#z) and `--flag`; `[no](link)`.\n\n"+
		"<!-- given: web -->\n```sh run on=client\ncurl x\n```\n\n"+
		"1. in a list\n   ```yaml skip: for a reason\n   a: 1\n     b\n   ```\n"+
		"## A title twice\n## A title twice\n")
	if err != nil {
		t.Fatal(err)
	}
	want := Page{
		Path: "docs/x.md",
		Blocks: []Block{
			{Line: 5, Language: Given, Text: "web"},
			{Line: 6, Language: "sh", Marks: []Mark{{"run", ""}, {"on", "client"}}, Text: "curl x\n"},
			{Line: 11, Language: "yaml", Marks: []Mark{{"skip", "for a reason"}}, Text: "a: 1\n  b\n"},
		},
		Links:   []Link{{3, "y.md#z"}},
		Spans:   []Span{{1, "title"}, {3, "--flag"}, {3, "[no](link)"}},
		Anchors: []string{"a-title-twice", "a-title-twice-1", "a-title-twice-2"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, err := Parse("x", "```sh\n"); err == nil {
		t.Error("a block without an end was taken")
	}
}

func TestWhatAnOutputMayBe(t *testing.T) {
	for _, c := range []struct {
		name, shown, output string
		same                bool
	}{
		{"blanks do not count", "NAME  AGE\nweb   5s\n", "NAME   AGE   \nweb    5s", true},
		{"another word", "web ready", "web waiting", false},
		{"anything in a line", "web ... 80:.../TCP", "web  10.96.0.7 80:31234/TCP", true},
		{"a dot is a dot", "192.0.2.1", "192a0.2.1", false},
		{"any lines", "first\n...\nlast", "first\na\nb\nlast", true},
		{"no lines", "first\n...\nlast", "first\nlast", true},
		{"a line that is missing after any", "first\n...\nlast", "first\na", false},
		{"more than is shown", "first", "first\nsecond", false},
		{"less than is shown", "first\nsecond", "first", false},
		{"nothing", "", "", true},
	} {
		if err := Matches(c.shown, c.output); (err == nil) != c.same {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
