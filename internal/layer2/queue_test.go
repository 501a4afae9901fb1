package layer2

import (
	"maps"
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
		if s.silent {
			continue
		}
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

func TestAMemberThatComesBackHasAllAddressesAnnouncedOnceMore(t *testing.T) {
	start := time.Unix(0, 0)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	q := newQueue(Config{}, exact)
	q.add(a, start, false)
	drain(q, start, 0, 30*time.Second)
	q.remind(start.Add(30 * time.Second))
	q.remind(start.Add(30500 * time.Millisecond))
	q.add(b, start.Add(30500*time.Millisecond), false)
	q.remind(start.Add(30600 * time.Millisecond)) // what has just arrived is announced all the same
	got := drain(q, start, 30600*time.Millisecond, 35*time.Second)
	at := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
	want := []sent{{at(30600), b, 0}, {at(30700), b, 1}, {at(31000), a, 5}, {at(31100), b, 2}, {at(31600), b, 3}, {at(32600), b, 4}}
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

func TestANewAddressIsAskedForThreeTimesBeforeItIsAnnounced(t *testing.T) {
	start := time.Unix(0, 0)
	a := netip.MustParseAddr("192.0.2.1")
	q := newQueue(Config{}, exact)
	q.add(a, start, true)
	got := drain(q, start, 0, 500*time.Millisecond)
	want := []sent{
		{0, a, -3}, {100 * time.Millisecond, a, -2}, {200 * time.Millisecond, a, -1}, {300 * time.Millisecond, a, 0}, {400 * time.Millisecond, a, 1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Each is asked for once at least, and has all the time of three questions to be answered for.
func TestManyNewAddressesAreInUseBeforeTheyAreAnnounced(t *testing.T) {
	start := time.Unix(0, 0)
	q := newQueue(Config{}, exact)
	addr := netip.MustParseAddr("2001:db8::1")
	for range 1000 {
		q.add(addr, start, true)
		addr = addr.Next()
	}
	asked, used, announced := map[netip.Addr]time.Duration{}, map[netip.Addr]time.Duration{}, map[netip.Addr]time.Duration{}
	packets := 0
	for now := time.Duration(0); len(announced) < 1000 && now < time.Minute; {
		s, wait := q.next(start.Add(now))
		switch _, before := asked[s.addr]; {
		case !s.addr.IsValid():
			now += wait
			continue
		case s.silent:
			used[s.addr] = now
			if least := asked[s.addr] + probes*probeInterval; now < least {
				t.Fatalf("%s is in use after %v, and was asked for at %v", s.addr, now, asked[s.addr])
			}
			continue
		case s.n == 0:
			announced[s.addr] = now
		case s.n < 0 && !before:
			asked[s.addr] = now
		}
		packets++
		if most := int(now/(2*time.Millisecond)) + 1 + paceCredit; packets > most {
			t.Fatalf("%d packets after %v", packets, now)
		}
	}
	last := func(of map[netip.Addr]time.Duration) time.Duration {
		return slices.Max(slices.Collect(maps.Values(of)))
	}
	if len(used) != 1000 || last(used) > 2500*time.Millisecond {
		t.Errorf("%d addresses are in use, the last after %v", len(used), last(used))
	}
	if len(announced) != 1000 || last(announced) > 4500*time.Millisecond {
		t.Errorf("%d addresses are announced, the last after %v", len(announced), last(announced))
	}
}

func TestAnAddressThatIsHeldIsAskedForAgainLater(t *testing.T) {
	start := time.Unix(0, 0)
	a := netip.MustParseAddr("192.0.2.1")
	q := newQueue(Config{}, exact)
	q.add(a, start, true)
	drain(q, start, 0, 200*time.Millisecond) // the last probe, which is answered
	q.hold(a, start.Add(201*time.Millisecond))
	got := drain(q, start, 201*time.Millisecond, 11*time.Second)
	at := 201*time.Millisecond + holdInterval
	want := []sent{
		{at, a, -3}, {at + 100*time.Millisecond, a, -2}, {at + 200*time.Millisecond, a, -1}, {at + 300*time.Millisecond, a, 0}, {at + 400*time.Millisecond, a, 1},
	}
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("got %v, want %v", got, want)
	}
	q.hold(a, start.Add(11*time.Second)) // too late: it is in use
	if got := drain(q, start, 11*time.Second, 12*time.Second); len(got) == 0 {
		t.Error("an address in use was held")
	}
}

func TestTakeoversComeBeforeProbesAndProbesBeforeRepeats(t *testing.T) {
	start := time.Unix(0, 0)
	old, fresh, taken := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	q := newQueue(Config{}, exact)
	q.add(old, start, false)
	drain(q, start, 0, 0)
	later := 100 * time.Millisecond // the repeat of the first is due
	q.add(fresh, start.Add(later), true)
	q.add(taken, start.Add(later), false)
	var got []netip.Addr
	for _, s := range drain(q, start, later, later) {
		got = append(got, s.addr)
	}
	if want := []netip.Addr{taken, fresh, old}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// probedAt returns when a probe goes with an announcement.
func probedAt(q *queue, start time.Time, from, to time.Duration) (announced, probed []time.Duration) {
	for now := from; now <= to; {
		s, wait := q.next(start.Add(now))
		if s.addr.IsValid() {
			announced = append(announced, now)
			if s.probe {
				probed = append(probed, now)
			}
			continue
		}
		now += wait
	}
	return announced, probed
}

func TestAnAddressThatWasTakenOverIsAskedForOnceAfterwards(t *testing.T) {
	start := time.Unix(0, 0)
	a := netip.MustParseAddr("192.0.2.1")
	for _, tc := range []struct {
		name   string
		config Config
		probe  bool
		want   []time.Duration
	}{
		{"after its fifth announcement", Config{}, false, []time.Duration{2 * time.Second}},
		{"not when it was asked for before", Config{}, true, nil},
		{"not when nothing shall be", Config{NoProbes: true}, false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := newQueue(tc.config, exact)
			q.add(a, start, tc.probe)
			drain(q, start, 0, time.Second)
			if _, got := probedAt(q, start, time.Second, 5*time.Minute); !slices.Equal(got, tc.want) {
				t.Errorf("asked for at %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAContestedAddressIsDefendedAtOnceThenEvery10To12Seconds(t *testing.T) {
	start := time.Unix(0, 0)
	a := netip.MustParseAddr("192.0.2.1")
	q := newQueue(Config{}, exact)
	q.add(a, start, false)
	drain(q, start, 0, 5*time.Second)
	const begin, end = 20 * time.Second, 60 * time.Second
	for range 3 { // however often the other says so
		q.contest(a, start.Add(begin))
	}
	announced, probed := probedAt(q, start, begin, end-1)
	want := []time.Duration{begin, begin + 12*time.Second, begin + 24*time.Second, begin + 36*time.Second}
	if !slices.Equal(announced, want) || !slices.Equal(probed, want) {
		t.Errorf("defended at %v, asked at %v, want %v", announced, probed, want)
	}
	q.settle(a)
	announced, probed = probedAt(q, start, end, end+3*time.Minute)
	if len(announced) > 5 || len(probed) > 0 {
		t.Errorf("after it was settled: announced at %v, asked for at %v", announced, probed)
	}
}

func TestThePaceAndTheRefreshAreConfigured(t *testing.T) {
	start := time.Unix(0, 0)
	q := newQueue(Config{PacketsPerSecond: 50, Refresh: 10 * time.Second}, exact)
	for i, a := 0, netip.MustParseAddr("192.0.2.0"); i < 100; i, a = i+1, a.Next() {
		q.add(a, start, false)
	}
	if got := len(drain(q, start, 0, time.Second)); got < 50 || got > 51+paceCredit {
		t.Errorf("%d packets in a second, want 50", got)
	}
	if got := q.waiting(start.Add(time.Second)); got < 45 {
		t.Errorf("%d wait, want the other half", got)
	}
	q = newQueue(Config{Refresh: 10 * time.Second}, exact)
	q.add(netip.MustParseAddr("192.0.2.1"), start, false)
	if got := drain(q, start, 0, 23*time.Second); len(got) != 7 || got[6].at != 22*time.Second {
		t.Errorf("announced %v, want the sixth and seventh after 12 and 22 s", got)
	}
}
