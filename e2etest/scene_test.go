package e2etest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/e2etest/app"
	"heraldlb.io/herald/e2etest/probe"
)

// announced is the manifest of an L2Advertisement of the pool of the same name.
func announced(name, spec string) []byte {
	return fmt.Appendf(nil, "---\napiVersion: heraldlb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: %s}\nspec: {ipAddressPools: [%[1]s], %s}\n", name, spec)
}

// prefers is the part of an L2Advertisement's spec that sends new addresses to a node.
func prefers(node string) string {
	return fmt.Sprintf(`preferredNodeSelectors: [{weight: 10, preference: {matchLabels: {kubernetes.io/hostname: %s}}}]`, node)
}

// couple is a pool of one address of each family, both with the same number on the LAN, beside those of the pool of the
// samples.
func couple(name string, number int) []byte {
	return poolWith(name, fmt.Sprintf(`addresses: ["192.0.2.%d/32", "2001:db8:1::%[1]d/128"]`, number))
}

// placed makes a Service whose two addresses go to a node, because that is preferred when they are claimed. No other
// preference of Herald's moves them from there.
func placed(t *testing.T, name string, number int, node string) []netip.Addr {
	t.Helper()
	apply(t, append(couple(name, number), announced(name, prefers(node))...))
	svc := service(t, app.Service{Name: name, Selects: "testapp", Annotations: map[string]string{"heraldlb.io/address-pool": name}})
	addrs := addresses(svc)
	for i, who := range owners(t, addrs) {
		if who != node {
			t.Fatalf("%s is announced from %s, want %s, which is preferred", addrs[i], who, node)
		}
	}
	return addrs
}

// owners waits until exactly one node answers for each of the addresses, and returns them.
func owners(t *testing.T, addrs []netip.Addr) []string {
	t.Helper()
	out := make([]string, len(addrs))
	faults := make([]error, len(addrs))
	within(t, 15*time.Second, func(ctx context.Context) error {
		var asking sync.WaitGroup
		for i, a := range addrs {
			if out[i] != "" {
				continue
			}
			asking.Go(func() { out[i], faults[i] = only(ctx, a) })
		}
		asking.Wait()
		for _, err := range faults {
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

// only returns the one station that answers for an address.
func only(ctx context.Context, a netip.Addr) (who string, err error) {
	got, err := answering(ctx, a, 5)
	if err == nil && len(got) != 1 {
		err = fmt.Errorf("%s is answered for by %v, want one node", a, got)
	}
	if err != nil {
		return "", err
	}
	for who = range got {
	}
	return who, nil
}

// traffic is what clients do with addresses while something happens: they open new connections, hold established ones, and
// ask who has the address.
type traffic struct {
	addrs    []netip.Addr
	news     []*probe.Connector
	held     []*probe.Holder
	watchers []*probe.Watcher
	woke     time.Time // when a speaker was woken that had hung for so long that it lost the addresses
}

// use begins to use addresses, with so many established connections each, and goes on until the test is over.
func use(t *testing.T, addrs []netip.Addr, established int) *traffic {
	t.Helper()
	u := &traffic{addrs: addrs}
	for _, a := range addrs {
		reachable(t, "client", a)
		reachable(t, "client", a) // a node that has just been given the address may still be without its rules
		u.watchers = append(u.watchers, watched(t, a))
		c := probe.Connect(t.Context(), probe.ConnectConfig{Dial: cluster.Dialer("client"), Address: target(a, 80), Interval: 10 * time.Millisecond})
		t.Cleanup(func() { c.Stop() })
		u.news = append(u.news, c)
		if established > 0 {
			h, err := probe.Hold(t.Context(), probe.HoldConfig{Dial: cluster.Dialer("client"), Address: target(a, app.StreamPort), Count: established})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.Stop() })
			u.held = append(u.held, h)
		}
	}
	u.goesOn(t, 20)
	return u
}

// watched asks from the client who has an address, until the test is over.
func watched(t *testing.T, a netip.Addr) *probe.Watcher {
	t.Helper()
	var w *probe.Watcher
	err := cluster.InNet("client", func() (err error) {
		w, err = probe.Watch(t.Context(), "eth0", a, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Stop() })
	return w
}

// goesOn waits until so many new connections to each address have succeeded from now on.
func (u *traffic) goesOn(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, c := range u.news {
		if err := c.Wait(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
}

// movesFrom waits until for each address another node answers than this one.
func (u *traffic) movesFrom(t *testing.T, node string) {
	t.Helper()
	within(t, 30*time.Second, func(context.Context) error {
		for i, w := range u.watchers {
			r, err := w.Report()
			if err != nil {
				return err
			}
			if last := r.Tenures[len(r.Tenures)-1]; hostOf(last.MAC) == node {
				return fmt.Errorf("%s is still answered for by %s", u.addrs[i], node)
			}
		}
		return nil
	})
}

// seen is what the users of an address saw.
type seen struct {
	addr  netip.Addr
	news  probe.Report
	watch probe.WatchReport
	nodes []string // that answered for it, in their order
	woke  time.Time
}

// stop stops the traffic and returns what was seen of each address. Established connections must not have broken.
func (u *traffic) stop(t *testing.T) (out []seen) {
	t.Helper()
	for i, a := range u.addrs {
		s := seen{addr: a, news: u.news[i].Stop(), woke: u.woke}
		s.watch, s.nodes = history(t, u.watchers[i])
		t.Logf("%s: %v; %v; %v", a, s.nodes, s.news, s.watch)
		out = append(out, s)
	}
	for _, h := range u.held {
		held := h.Stop()
		t.Log(held)
		unbroken(t, held)
	}
	return out
}

// history stops a watcher and returns what it saw, and which nodes answered, in their order.
func history(t *testing.T, w *probe.Watcher) (r probe.WatchReport, nodes []string) {
	t.Helper()
	r, err := w.Stop()
	if err != nil {
		t.Fatal(err)
	}
	for _, tenure := range r.Tenures {
		nodes = append(nodes, hostOf(tenure.MAC))
	}
	return r, nodes
}

// end stops the traffic and fails the test when a new connection failed or an established one broke, or two nodes answered
// at once for longer than a planned move may take. It returns which nodes answered for each address, in their order.
func (u *traffic) end(t *testing.T) (nodes [][]string) {
	t.Helper()
	for _, s := range u.stop(t) {
		s.failures(t)
		if double := s.watch.Double.Length(); double > time.Second {
			t.Errorf("two nodes answered for %s for %v", s.addr, double)
		}
		nodes = append(nodes, s.nodes)
	}
	return nodes
}

// astrayMost is how long a client may believe the answers of a speaker that woke: the ring takes it in again within two seconds,
// and a second or two later the owner announces the address once more.
const astrayMost = 5 * time.Second

// failures fails the test with the new connections that failed, but for three kinds. One that was being opened in the moment in
// which the address moved began with one node and went on with another, which does not know it: it counts as
// established. So does one that is reset after a speaker was woken whose node had lost the addresses: its late answers lead the client
// astray until the owner contradicts them. And when the machine stood still, timeouts tell of that alone.
func (s *seen) failures(t *testing.T) {
	t.Helper()
	stood := s.news.Pause > probe.DefaultTimeout/2
	if stood {
		t.Logf("the machine stood still for %v: timeouts do not count", s.news.Pause)
	}
	astray := func(f probe.Sample) bool {
		since := f.End.Sub(s.woke)
		return !s.woke.IsZero() && since > 0 && since < astrayMost && errors.Is(f.Err, syscall.ECONNRESET)
	}
	excused := func(f probe.Sample) bool {
		return s.moving(f) || astray(f) || stood && f.TimedOut()
	}
	left := slices.DeleteFunc(slices.Clone(s.news.Failures), excused)
	for i, f := range left {
		if i == 3 {
			t.Errorf("and %d more", len(left)-i)
			return
		}
		t.Errorf("a new connection to %s failed %v after the start: %v", s.addr, f.Start.Sub(s.news.Started), f.Err)
	}
}

// moving tells whether a connection was being opened when another node began to answer, or one ceased to. One that takes long
// on a busy machine is reset then; one that had been silent for long would not be.
func (s *seen) moving(f probe.Sample) bool {
	during := func(at time.Time) bool {
		return f.Start.Before(at.Add(probe.DefaultWatchInterval)) && f.End.After(at.Add(-2*probe.DefaultWatchInterval)) &&
			(at.Sub(f.Start) < 100*time.Millisecond || errors.Is(f.Err, syscall.ECONNRESET))
	}
	return len(s.watch.Tenures) > 1 && slices.ContainsFunc(s.watch.Tenures, func(x probe.Tenure) bool { return during(x.From) || during(x.To) })
}

// unbroken fails the test when a connection broke or fell silent for good.
func unbroken(t *testing.T, r probe.HoldReport) {
	t.Helper()
	if len(r.Breaks) > 0 {
		t.Errorf("%d of %d established connections broke, the first with %v", len(r.Breaks), len(r.Connections), r.Breaks[0].Err)
	}
	for _, s := range r.Stalls {
		if s.To.IsZero() {
			t.Errorf("an established connection to %s is silent since %v", s.Node, s.From)
		}
	}
}

// stays fails the test unless one node answered for each address all the time.
func stays(t *testing.T, nodes [][]string, node string) {
	t.Helper()
	for _, who := range nodes {
		if !slices.Equal(who, []string{node}) {
			t.Errorf("an address was answered for by %v, want %s only", who, node)
		}
	}
}

// moved fails the test unless each address moved once, from this node to another, and returns where they are.
func moved(t *testing.T, nodes [][]string, from string) (to []string) {
	t.Helper()
	for _, who := range nodes {
		if len(who) != 2 || who[0] != from || who[1] == from {
			t.Fatalf("an address was answered for by %v, want %s and then one other", who, from)
		}
		to = append(to, who[1])
	}
	return to
}

// told waits until a Service has had so many events of a reason, and returns their texts, the oldest first. Each of the
// Service's addresses has events of its own.
func told(t *testing.T, name, reason string, n int) []string {
	t.Helper()
	var notes []string
	within(t, 10*time.Second, func(ctx context.Context) error {
		list, err := kube.EventsV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		events := slices.DeleteFunc(list.Items, func(e eventsv1.Event) bool {
			return e.Regarding.Kind != "Service" || e.Regarding.Name != name || e.Reason != reason
		})
		slices.SortFunc(events, func(x, y eventsv1.Event) int { return x.EventTime.Compare(y.EventTime.Time) })
		notes = nil
		for _, e := range events {
			notes = append(notes, e.Note)
		}
		if len(notes) < n {
			return fmt.Errorf("service %s has %d events %s, want %d: %q", name, len(notes), reason, n, notes)
		}
		return nil
	})
	if len(notes) > n {
		t.Errorf("service %s has %d events %s, want %d: %q", name, len(notes), reason, n, notes)
	}
	return notes
}

// shows waits until a node's metrics have lines that match each of these regular expressions.
func shows(t *testing.T, node string, lines ...string) {
	t.Helper()
	within(t, time.Minute, func(ctx context.Context) error {
		_, metrics, err := fetch(ctx, node, "/metrics")
		if err != nil {
			return err
		}
		for _, line := range lines {
			if !regexp.MustCompile("(?m)^" + line + "$").MatchString(metrics) {
				name := regexp.MustCompile("^[a-z0-9_]+").FindString(line)
				return fmt.Errorf("metrics of %s have %q, want %s", node, regexp.MustCompile("(?m)^"+name+".*$").FindAllString(metrics, -1), line)
			}
		}
		return nil
	})
}

// ringed waits until every speaker sees all others, and none of them away.
func ringed(t *testing.T) {
	t.Helper()
	for _, n := range cluster.Nodes() {
		shows(t, n, fmt.Sprintf("herald_gossip_members %d", nodes), "herald_gossip_absences 0", "herald_gossip_ready 1")
	}
}

// nodeWith changes a Node with a merge patch.
func nodeWith(t *testing.T, node, patch string) {
	t.Helper()
	if _, err := kube.CoreV1().Nodes().Patch(context.Background(), node, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}
