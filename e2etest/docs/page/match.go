package page

import (
	"fmt"
	"regexp"
	"strings"
)

// Matches tells in its error where an output differs from what a page shows. Blanks count as one however many there are, and
// not at all at the ends of lines. In a line of the page ... stands for anything, and a line that is ... for any lines.
func Matches(shown, output string) error {
	want, got := lines(shown), lines(output)
	line, ok := match(want, got, 0)
	if ok {
		return nil
	}
	if line < len(want) {
		return fmt.Errorf("line %d of what the page shows is not there: %q", line+1, want[line])
	}
	return fmt.Errorf("there is more than the page shows")
}

// match returns the farthest line of want that nothing was found for.
func match(want, got []string, at int) (farthest int, ok bool) {
	if at == len(want) {
		return at, len(got) == 0
	}
	if want[at] != "..." {
		if len(got) == 0 || !sameLine(want[at], got[0]) {
			return at, false
		}
		return match(want, got[1:], at+1)
	}
	farthest = at + 1
	for skip := range len(got) + 1 {
		line, ok := match(want, got[skip:], at+1)
		if ok {
			return line, true
		}
		farthest = max(farthest, line)
	}
	return farthest, false
}

func lines(s string) []string {
	var out []string
	for line := range strings.Lines(strings.TrimSpace(s)) {
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	return out
}

func sameLine(want, got string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), `\.\.\.`, ".*")
	return regexp.MustCompile("^" + pattern + "$").MatchString(got)
}
