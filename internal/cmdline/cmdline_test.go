package cmdline

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAFlagIsAnEnvironmentVariableToo(t *testing.T) {
	t.Setenv("HERALD_NODE_NAME", "from-env")
	t.Setenv("HERALD_REJOIN_INTERVAL", "3s")
	s := New("test", "For tests.")
	name := s.String("node-name", "default", "the node")
	every := s.Duration("rejoin-interval", time.Second, "how often")
	peers := s.Strings("peers", []string{"a"}, "who")
	if err := s.Parse([]string{"--node-name=from-args", "--peers", "x, y,"}); err != nil {
		t.Fatal(err)
	}
	if *name != "from-args" {
		t.Errorf("node-name %q: the command line must win", *name)
	}
	if *every != 3*time.Second {
		t.Errorf("rejoin-interval %v: the environment must win over the default", *every)
	}
	if want := []string{"x", "y"}; !slices.Equal(*peers, want) {
		t.Errorf("peers %q, want %q", *peers, want)
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	t.Setenv("HERALD_COUNT", "many")
	s := New("test", "For tests.")
	s.Int("count", 1, "how many")
	err := s.Parse([]string{"--cuont=3"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"HERALD_COUNT", "many", "-cuont", "--help"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %s", err, want)
		}
	}
	if err := New("test", "").Parse([]string{"stray"}); err == nil || !strings.Contains(err.Error(), "stray") {
		t.Errorf("a stray argument gives %v", err)
	}
}

func TestHelpNamesFlagVariableAndDefault(t *testing.T) {
	s := New("test", "For tests.")
	s.Common("127.0.0.1:1")
	var out bytes.Buffer
	s.help(&out)
	for _, want := range []string{"For tests.", "--metrics-bind", "HERALD_METRICS_BIND", "127.0.0.1:1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help lacks %q:\n%s", want, &out)
		}
	}
}
