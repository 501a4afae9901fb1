package probe

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestAnAttemptTimesOutInMoreThanOneWay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	over, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, dialed := (&net.Dialer{}).DialContext(over, "tcp", l.Addr().String())
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	_, read := conn.Read(make([]byte, 1))
	for _, err := range []error{dialed, read} {
		if s := (Sample{Err: err}); !s.TimedOut() {
			t.Errorf("%v is no timeout", err)
		}
	}
	l.Close()
	_, refused := net.Dial("tcp", l.Addr().String())
	for _, err := range []error{refused, nil} {
		if s := (Sample{Err: err}); s.TimedOut() {
			t.Errorf("%v is a timeout", err)
		}
	}
}

func TestReportOfAKnownStory(t *testing.T) {
	start := time.Date(2026, 1, 2, 15, 4, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	lost := errors.New("lost")
	ok := func(from, to int, node string) Sample { return Sample{Start: at(from), End: at(to), Node: node} }
	bad := func(from, to int) Sample { return Sample{Start: at(from), End: at(to), Err: lost} }
	for _, c := range []struct {
		name              string
		samples           []Sample // by completion, in a life of 1000 ms
		completion, start [2]int
		fail              *[2]int // nil: nothing fails
	}{
		{"nobody ever answers: the gap is the whole life",
			[]Sample{bad(0, 900)}, [2]int{0, 1000}, [2]int{0, 1000}, &[2]int{0, 0}},
		{"an outage in the middle: a slow first success lengthens the completion gap only",
			[]Sample{ok(0, 1, "a"), ok(200, 201, "a"), bad(205, 220), bad(400, 410), ok(500, 590, "b"), ok(990, 999, "b")},
			[2]int{590, 999}, [2]int{500, 990}, &[2]int{205, 400}},
		{"an outage without end counts to the end",
			[]Sample{ok(0, 1, "a"), ok(300, 301, "a")}, [2]int{301, 1000}, [2]int{300, 1000}, nil},
		{"an answer that was long under way fills no gap between starts",
			[]Sample{ok(100, 101, "a"), ok(900, 905, "a"), ok(110, 950, "b")}, [2]int{101, 905}, [2]int{110, 900}, nil},
		{"a failure that began first is told first",
			[]Sample{bad(20, 30), bad(10, 40), ok(500, 501, "a")}, [2]int{0, 501}, [2]int{0, 500}, &[2]int{10, 20}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newReport(start, at(1000), c.samples)
			for what, pair := range map[string][2]any{
				"completion gap": {r.CompletionGap, Gap{at(c.completion[0]), at(c.completion[1])}},
				"start gap":      {r.StartGap, Gap{at(c.start[0]), at(c.start[1])}},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s %v, want %v", what, pair[0], pair[1])
				}
			}
			want := Gap{}
			if c.fail != nil {
				want = Gap{at(c.fail[0]), at(c.fail[1])}
			}
			if got := r.FailureWindow(); got != want {
				t.Errorf("failure window %v, want %v", got, want)
			}
		})
	}
	r := newReport(start, at(1000), []Sample{ok(0, 5, "b"), ok(4, 6, "a"), bad(5, 7), ok(8, 9, "b")})
	if r.Attempts != 4 || r.Successes != 3 || len(r.Failures) != 1 {
		t.Errorf("%d attempts, %d successes, %d failures", r.Attempts, r.Successes, len(r.Failures))
	}
	if len(r.Nodes) != 2 || r.Nodes[0] != (NodeAnswers{"b", 2, at(5), at(9)}) || r.Nodes[1] != (NodeAnswers{"a", 1, at(6), at(6)}) {
		t.Errorf("nodes %+v", r.Nodes)
	}
	for _, want := range []string{"4 new connections", "1 failed", "longest gap 991ms (15:04:00.009 to 15:04:01.000)", "b answered 2"} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("%q does not say %q", r, want)
		}
	}
}
