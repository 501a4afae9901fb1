package probe

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestWhoAnsweredWhenAndHowLongTwoDid(t *testing.T) {
	started := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const interval = 20 * time.Millisecond
	// Each letter is a station that answers in its turn, a dot is a question without an answer.
	for _, tc := range []struct {
		name, answers   string
		tenures         []string
		double, silence int // in questions
	}{
		{"one station", "AAAAA", []string{"A"}, 0, 1},
		{"nobody", "....", nil, 0, 4},
		{"a move in an instant", "AAABBB", []string{"A", "B"}, 0, 1},
		{"a move made before it is broken", "AAABABABBB", []string{"A", "B"}, 3, 1},
		{"a move with a pause", "AAA...BBB", []string{"A", "B"}, 0, 4},
		{"a station that pauses keeps its tenure", "AAA..........AAA", []string{"A"}, 0, 11},
		{"also when others answer in its pause, if that is short", "AAABBBBBBBBAAA", []string{"A", "B"}, 7, 1},
		{"a return is another tenure", "AAABBBBBBBBBBBBBBBBBBAAA", []string{"A", "B", "A"}, 0, 1},
		{"of two doubles the longer one counts", "AABABBBBBBBBBBBBBBBBBBABABAAA", []string{"A", "B", "A"}, 3, 1},
	} {
		var answers []answer
		for i, c := range tc.answers {
			if c != '.' {
				answers = append(answers, answer{started.Add(time.Duration(i) * interval), string(c)})
			}
		}
		r := newWatchReport(started, started.Add(time.Duration(len(tc.answers))*interval), interval, answers)
		var tenures []string
		for _, x := range r.Tenures {
			tenures = append(tenures, x.MAC)
		}
		if !slices.Equal(tenures, tc.tenures) || r.Double.Length() != time.Duration(tc.double)*interval || r.Silence.Length() != time.Duration(tc.silence)*interval {
			t.Errorf("%s: %s: %v, want %v, double %d and silence %d questions", tc.name, tc.answers, r, tc.tenures, tc.double, tc.silence)
		}
	}
}

func TestAWatcherSeesEveryStationThatAnswers(t *testing.T) {
	lan(t, map[string]net.HardwareAddr{"alice": aliceMAC, "bob": bobMAC}, "192.0.2.9/24", "192.0.2.100/24", "2001:db8:1::1:64/64")
	linkIsUsable(t)
	for _, target := range []netip.Addr{target4, target6} {
		w, err := Watch(t.Context(), "br0", target, 0)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "two stations answer for a while", func() bool {
			r, err := w.Report()
			if err != nil {
				t.Fatal(err)
			}
			return len(r.Stations()) == 2 && r.Double.Length() > 100*time.Millisecond
		})
		r, err := w.Stop()
		if want := []string{aliceMAC.String(), bobMAC.String()}; err != nil || !slices.Equal(slices.Sorted(slices.Values(r.Stations())), want) || len(r.Tenures) != 2 {
			t.Errorf("%s: %v, %v; want %v", target, r, err, want)
		}
	}
}
