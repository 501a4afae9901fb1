package layer2

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// sent is one announcement as a queue ordered it.
type sent struct {
	at   time.Duration
	addr netip.Addr
	n    int
}

// drain asks the queue as the sender does, for a span of driven time.
func drain(q *queue, start time.Time, from, to time.Duration) []sent {
	var out []sent
	for now := from; now <= to; {
		s, wait := q.next(start.Add(now))
		if s.addr.IsValid() {
			out = append(out, sent{now, s.addr, s.n})
			continue
		}
		now += wait
	}
	return out
}

func exact(d time.Duration) time.Duration { return d }

func TestAnAddressThatArrivesIsAnnouncedFiveTimesThenRefreshed(t *testing.T) {
	start := time.Unix(0, 0)
	a := netip.MustParseAddr("192.0.2.1")
	q := newQueue(Config{}, exact)
	q.add(a, start, false)
	got := drain(q, start, 0, 130*time.Second)
	want := []sent{
		{0, a, 0}, {100 * time.Millisecond, a, 1}, {500 * time.Millisecond, a, 2}, {time.Second, a, 3}, {2 * time.Second, a, 4},
		{62 * time.Second, a, 5}, {122 * time.Second, a, 6},
	}
	if !slices.Equal(got, want) {
		t.Errorf("announced %v, want %v", got, want)
	}
}

func TestAnEmptyQueueWaitsForever(t *testing.T) {
	q := newQueue(Config{}, exact)
	if s, wait := q.next(time.Unix(0, 0)); s.addr.IsValid() || wait != forever {
		t.Errorf("got %v and a wait of %v", s.addr, wait)
	}
}

func TestARemovedAddressIsNotAnnounced(t *testing.T) {
	start := time.Unix(0, 0)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	q := newQueue(Config{}, exact)
	q.add(a, start, false)
	q.add(b, start, false)
	drain(q, start, 0, 200*time.Millisecond)
	q.remove(a)
	q.remove(a)
	for _, s := range drain(q, start, 200*time.Millisecond, 3*time.Minute) {
		if s.addr == a {
			t.Fatalf("announced %v at %v", s.addr, s.at)
		}
	}
}

func TestAnAddressThatArrivesAgainStartsOver(t *testing.T) {
	start := time.Unix(0, 0)
	a := netip.MustParseAddr("192.0.2.1")
	q := newQueue(Config{}, exact)
	q.add(a, start, false)
	drain(q, start, 0, 10*time.Second)
	q.add(a, start.Add(10*time.Second), false)
	got := drain(q, start, 10*time.Second, 10*time.Second+150*time.Millisecond)
	if want := []sent{{10 * time.Second, a, 0}, {10*time.Second + 100*time.Millisecond, a, 1}}; !slices.Equal(got, want) {
		t.Errorf("announced %v, want %v", got, want)
	}
}

func TestAThousandAddressesKeepThePaceAndNewOnesOvertake(t *testing.T) {
	start := time.Unix(0, 0)
	q := newQueue(Config{}, tenth)
	late := netip.MustParseAddr("2001:db8::1")
	for i, a := 0, netip.MustParseAddr("192.0.2.0"); i < 1000; i, a = i+1, a.Next() {
		q.add(a, start, false)
	}
	got := drain(q, start, 0, time.Second)
	q.add(late, start.Add(time.Second), false)
	got = append(got, drain(q, start, time.Second, 20*time.Second)...)

	first := map[netip.Addr]time.Duration{}
	inWindow := 0
	for i, s := range got {
		if _, ok := first[s.addr]; !ok {
			first[s.addr] = s.at
		}
		for s.at-got[i-inWindow].at > time.Second {
			inWindow--
		}
		inWindow++
		if inWindow > 501+paceCredit {
			t.Fatalf("%d announcements in the second before %v", inWindow, s.at)
		}
	}
	if len(first) != 1001 {
		t.Fatalf("%d addresses were announced, want 1001", len(first))
	}
	for a, at := range first {
		// Repeats wait until every first announcement is out.
		if at > 2*time.Second+100*time.Millisecond {
			t.Errorf("%v was first announced after %v", a, at)
		}
	}
}
