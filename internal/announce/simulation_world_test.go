package announce

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/config"
)

const (
	simFaults = 20 * time.Second // for so long things go wrong
	simCalm   = 15 * time.Second // and for so long nothing does, at the end
	simOutage = 20 * time.Second // for so long the API server is gone in some histories, after that
)

// simService is a Service with one address, as it is in truth.
type simService struct {
	name    string
	addr    netip.Addr
	gone    bool
	local   bool
	on      map[string]bool // the nodes with an endpoint
	changed time.Duration
}

func (s *simService) contribution() contribution {
	switch {
	case s.gone:
		return contribution{}
	case s.local:
		nodes := map[string]struct{}{}
		for n := range s.on {
			nodes[n] = struct{}{}
		}
		return holds(contribution{nodes: nodes}, s.addr.String())
	default:
		return holds(contribution{anywhere: len(s.on) > 0}, s.addr.String())
	}
}

func (s *simService) servedBy(node string) bool {
	return !s.gone && (s.on[node] || !s.local && len(s.on) > 0)
}

// simConfigs are those of all histories: without a preference, with one, and with one that moves addresses.
var simConfigs = func() []*config.Config {
	var out []*config.Config
	for _, spec := range []v1beta1.L2AdvertisementSpec{
		{},
		{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{{Weight: 1, Preference: metav1.LabelSelector{MatchLabels: map[string]string{"fast": "yes"}}}}},
		{PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{{Weight: 1, Preference: metav1.LabelSelector{MatchLabels: map[string]string{"fast": "yes"}}}}, Rebalance: v1beta1.RebalanceOnPreference},
	} {
		c, problems := config.New(config.Resources{Pools: []*v1beta1.IPAddressPool{pool("lan", "192.0.2.0/24")}, L2Advertisements: []*v1beta1.L2Advertisement{advertisement("all", spec)}})
		if len(problems) > 0 {
			panic(problems)
		}
		out = append(out, c)
	}
	return out
}()

func newSimWorld(seed uint64, record bool) *simWorld {
	w := &simWorld{rng: rand.New(rand.NewPCG(seed, 1)), record: record, doubles: map[netip.Addr]*simSpan{}, gaps: map[netip.Addr]*simSpan{}}
	for i := range 2 + w.rng.IntN(5) {
		n := &simNode{w: w, name: fmt.Sprintf("n%d", i+1), up: true, carrier: true, api: true}
		n.facts = nodeOf(readyNode(n.name))
		n.facts.labels = labels.Set{corev1.LabelHostname: n.name}
		w.nodes = append(w.nodes, n)
	}
	addr := netip.MustParseAddr("192.0.2.100")
	for i := range 1 + w.rng.IntN(4) {
		s := &simService{name: fmt.Sprintf("s%d", i+1), addr: addr, local: w.chance(0.3), on: map[string]bool{}}
		w.endpoints(s)
		w.services = append(w.services, s)
		addr = addr.Next()
	}
	w.loss = []float64{0, 0, 0.02, 0.2}[w.rng.IntN(4)]
	w.regroup()
	w.say("%d nodes, %d Services, packets lost: %.0f %%", len(w.nodes), len(w.services), 100*w.loss)
	return w
}

func (w *simWorld) node(name string) *simNode {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (w *simWorld) any() *simNode { return w.nodes[w.rng.IntN(len(w.nodes))] }

func (w *simWorld) config() *config.Config { return simConfigs[len(w.nodes)%len(simConfigs)] }

func (w *simWorld) nodeFacts() map[string]node {
	out := map[string]node{}
	for _, n := range w.nodes {
		f := n.facts
		f.labels = maps.Clone(f.labels)
		out[n.name] = f
	}
	return out
}

// endpoints places the endpoints of a Service anew.
func (w *simWorld) endpoints(s *simService) {
	w.fault = w.now
	clear(s.on)
	for range w.rng.IntN(4) {
		s.on[w.any().name] = true
	}
	s.changed = w.now
	w.say("Service %s (%s, local %t) has endpoints on [%s]", s.name, s.addr, s.local, strings.Join(slices.Sorted(maps.Keys(s.on)), " "))
}

// tell lets the API server tell all speakers that a Service or the Nodes changed.
func (w *simWorld) tell(s *simService) {
	w.fault = w.now
	for _, n := range w.nodes {
		if !n.api {
			n.missed = true
			continue
		}
		n.later(w.between(simWatchLeast, simWatchMost), func() {
			if !n.api {
				n.missed = true
				return
			}
			if s != nil {
				n.planner.setService(key(s.name), s.contribution())
			} else {
				n.planner.setNodes(w.nodeFacts())
			}
			n.plan()
		})
	}
}

// regroup notes who can talk to whom, and lets everybody notice.
func (w *simWorld) regroup() {
	w.fault = w.now
	if w.together == nil {
		w.together = make([][]time.Duration, len(w.nodes))
		for i := range w.together {
			w.together[i] = make([]time.Duration, len(w.nodes))
			for j := range w.together[i] {
				w.together[i][j] = -time.Hour
			}
		}
	}
	again := false
	for i, n := range w.nodes {
		for j, o := range w.nodes {
			switch was := w.together[i][j] != apart; {
			case !n.talks(o):
				w.together[i][j] = apart
				n.notice(o, simNoticeLeast, simNoticeMost)
			case !was:
				w.together[i][j] = w.now
				again = true
			}
		}
	}
	if again {
		w.meet()
	}
}

const apart = time.Duration(1<<63 - 1)

// meet lets parts of the ring that can talk to each other again find each other, after a while.
func (w *simWorld) meet() {
	w.after(w.between(0, simMeetMost), func() {
		for _, n := range w.nodes {
			for _, o := range w.nodes {
				if n == o || !n.speaking() || !o.speaking() || !n.talks(o) || !o.offers {
					continue
				}
				if _, sees := n.sees[o.name]; !sees {
					n.notice(o, simPacketLeast, 200*time.Millisecond)
					o.notice(n, simPacketLeast, 200*time.Millisecond)
				}
			}
		}
	})
}

// plot makes the speakers start, things go wrong and mend, and the end.
func (w *simWorld) plot() {
	for _, n := range w.nodes {
		w.after(w.between(0, 2*time.Second), n.start)
	}
	faults := []func(){w.crash, w.kill, w.restart, w.restart, w.drain, w.cordon, w.annotate, w.notReady, w.unplug, w.part, w.part, w.blind, w.slow, w.move, w.move, w.remove, w.prefer, w.ask, w.ask}
	for range 2 + w.rng.IntN(12) {
		w.after(3*time.Second+w.between(0, simFaults), faults[w.rng.IntN(len(faults))])
	}
	w.after(simFaults+3*time.Second, w.mend)
	w.after(simFaults+3*time.Second+simCalm/2, w.wish)
	if w.chance(0.2) {
		w.after(simFaults+3*time.Second+simCalm, w.outage)
		w.after(simFaults+3*time.Second+simCalm+simOutage, w.end)
	} else {
		w.after(simFaults+3*time.Second+simCalm, w.end)
	}
}

// mend makes everything good.
func (w *simWorld) mend() {
	w.fault = w.now
	w.say("everything is mended")
	w.loss = 0
	for _, n := range w.nodes {
		n.slow, n.api, n.carrier, n.island, n.up = 0, true, true, 0, true
		n.facts = nodeOf(readyNode(n.name))
		n.facts.labels = labels.Set{corev1.LabelHostname: n.name}
	}
	for _, n := range w.nodes {
		if !n.running || n.leaving {
			n.start()
			continue
		}
		n.read()
		if !n.offers { // it is being restarted, or has lost its link
			n.start()
			continue
		}
		n.tells()
	}
	w.regroup()
	w.tell(nil)
}

// end stops all that goes on for ever.
func (w *simWorld) end() {
	for _, e := range w.queue {
		e.do = func() {}
	}
	w.queue = nil
}

// outage takes the API server away, and then changes everything that it would have told.
func (w *simWorld) outage() {
	w.say("the API server is gone")
	for _, n := range w.nodes {
		n.api = false
	}
	w.frozen = map[netip.Addr]string{}
	for _, s := range w.services {
		w.frozen[s.addr] = w.answer(s.addr)
	}
	for range 6 {
		w.after(w.between(0, simOutage), []func(){w.move, w.remove, w.notReady, w.cordon, w.annotate, w.prefer}[w.rng.IntN(6)])
	}
}

// The faults.

func (w *simWorld) crash() {
	n := w.any()
	if !n.up {
		return
	}
	w.say("%s crashes", n.name)
	n.up, n.running, n.offers, n.joined = false, false, false, false
	w.regroup()
	w.after(w.between(time.Second, 12*time.Second), func() {
		if n.up {
			return
		}
		w.say("%s is up again", n.name)
		n.up = true
		w.regroup()
		n.start()
	})
}

func (w *simWorld) kill() {
	n := w.any()
	if !n.speaking() {
		return
	}
	w.say("the speaker of %s is killed", n.name)
	n.stop()
	n.backIn(w.between(300*time.Millisecond, 10*time.Second))
}

// stop ends the speaker, without a word.
func (n *simNode) stop() {
	n.w.fault = n.w.now
	n.life++
	n.running, n.offers, n.joined = false, false, false
	for _, o := range n.w.nodes {
		o.notice(n, simNoticeLeast, simNoticeMost)
	}
}

func (n *simNode) backIn(d time.Duration) {
	n.w.after(d, func() {
		if n.up && !n.running {
			n.w.say("the speaker of %s starts", n.name)
			n.start()
		}
	})
}

// restart stops a speaker as the kubelet does: it says that it goes, and answers a little longer.
func (w *simWorld) restart() {
	n := w.any()
	if !n.speaking() || !n.offers || n.leaving {
		return
	}
	if n.facts.cordoned || n.facts.draining || n.facts.notReady {
		w.relieve(n)
		return
	}
	w.say("the speaker of %s is restarted", n.name)
	w.fault = w.now
	n.life++ // what it hears from here on is for nobody
	n.offers, n.joined = false, false
	for _, o := range w.nodes {
		o.notice(n, 5*time.Millisecond, 100*time.Millisecond)
	}
	life := n.life
	w.after(standInTime, func() {
		if n.life == life && n.speaking() {
			n.stop()
			n.backIn(w.between(300*time.Millisecond, 8*time.Second))
		}
	})
}

// drain stops a speaker on a cordoned node.
func (w *simWorld) drain() {
	n := w.any()
	if !n.speaking() || !n.offers || n.leaving {
		return
	}
	n.facts.cordoned = true
	w.tell(nil)
	w.relieve(n)
}

// relieve lets a speaker hand over what it has, and go.
func (w *simWorld) relieve(n *simNode) {
	n.w.fault = n.w.now
	w.say("%s drains", n.name)
	n.leaving = true
	n.tells()
	n.plan()
	life := n.life
	w.after(handOver, func() {
		if n.life == life && n.speaking() {
			n.stop()
			w.say("%s has drained", n.name)
			n.backIn(w.between(time.Second, 10*time.Second))
		}
	})
}

func (w *simWorld) cordon() {
	w.mark("cordoned", func(f *node, on bool) { f.cordoned = on })
}

func (w *simWorld) annotate() {
	w.mark("annotated to drain", func(f *node, on bool) { f.draining = on })
}

func (w *simWorld) notReady() {
	w.mark("not Ready", func(f *node, on bool) { f.notReady = on })
}

func (w *simWorld) prefer() {
	w.mark("preferred", func(f *node, on bool) {
		f.labels = labels.Set{corev1.LabelHostname: f.labels[corev1.LabelHostname]}
		if on {
			f.labels["fast"] = "yes"
		}
	})
}

// mark changes a Node for a while.
func (w *simWorld) mark(what string, set func(f *node, on bool)) {
	n := w.any()
	w.say("%s is %s", n.name, what)
	set(&n.facts, true)
	w.tell(nil)
	w.after(w.between(500*time.Millisecond, 8*time.Second), func() {
		w.say("%s is no longer %s", n.name, what)
		set(&n.facts, false)
		w.tell(nil)
	})
}

// unplug takes a node's link away, which it notices itself.
func (w *simWorld) unplug() {
	n := w.any()
	if !n.up || !n.carrier {
		return
	}
	w.say("%s has no link", n.name)
	n.carrier = false
	w.regroup()
	if n.speaking() && n.offers {
		n.says.Interfaces = nil
		n.plan()
	}
	w.after(w.between(100*time.Millisecond, 6*time.Second), func() {
		if n.carrier {
			return
		}
		w.say("%s has its link again", n.name)
		n.carrier = true
		w.regroup()
		if n.speaking() && n.offers {
			n.joined = false // it looks for its peers before it believes to be alone
			n.join()
		}
	})
}

// part cuts the network in two, which nobody notices but by silence.
func (w *simWorld) part() {
	if len(w.nodes) < 2 {
		return
	}
	for _, n := range w.nodes {
		n.island = w.rng.IntN(2)
	}
	w.say("the network parts: %s", strings.Join(w.islands(), " | "))
	w.regroup()
	w.after(w.between(100*time.Millisecond, 10*time.Second), func() {
		w.say("the network heals")
		for _, n := range w.nodes {
			n.island = 0
		}
		w.regroup()
	})
}

func (w *simWorld) islands() []string {
	out := make([]string, 2)
	for _, n := range w.nodes {
		out[n.island] += n.name + " "
	}
	return out
}

// blind takes the API server from some speakers or from all.
func (w *simWorld) blind() {
	share := []float64{0.3, 1}[w.rng.IntN(2)]
	for _, n := range w.nodes {
		if !w.chance(share) {
			continue
		}
		w.say("%s cannot reach the API server", n.name)
		n.api = false
		w.after(w.between(500*time.Millisecond, 8*time.Second), func() {
			w.say("%s can reach the API server", n.name)
			n.api = true
			n.freshAt = w.now
			if n.missed {
				w.fault = w.now // what it has missed happens to it now
			}
			if n.speaking() {
				n.read()
			}
		})
	}
}

func (w *simWorld) slow() {
	w.fault = w.now
	n := w.any()
	w.say("%s is slow", n.name)
	n.slow = w.between(20*time.Millisecond, 200*time.Millisecond)
	w.after(w.between(time.Second, 5*time.Second), func() { n.slow = 0 })
}

// ask has a person want an address at a node, which may not be able to have it.
func (w *simWorld) ask() {
	s := w.services[w.rng.IntN(len(w.services))]
	w.any().isAsked(s.addr, w.between(2*time.Second, 15*time.Second))
}

// simWish is an address that a person wants at a node.
type simWish struct {
	addr netip.Addr
	node string
}

// wish has a person want an address at a node that can have it, while nothing goes wrong.
func (w *simWorld) wish() {
	s, n := w.services[w.rng.IntN(len(w.services))], w.any()
	if !s.servedBy(n.name) {
		return
	}
	w.wished = &simWish{s.addr, n.name}
	n.isAsked(s.addr, time.Minute)
}

// isAsked has the API server tell a node's speaker what a person wants.
func (n *simNode) isAsked(addr netip.Addr, lasts time.Duration) {
	n.move = Move{Addrs: []netip.Addr{addr}, Until: n.w.clock().Add(lasts)}.String()
	n.w.say("%s is asked to take %s", n.name, n.move)
	if !n.api {
		n.missed = true
		return
	}
	n.later(n.w.between(simWatchLeast, simWatchMost), func() {
		if !n.api {
			n.missed = true
			return
		}
		n.hearMove()
		n.plan()
	})
}

// hearMove reads what a person wants. When somebody has set the clock back since, its end may be too far ahead to count.
func (n *simNode) hearMove() {
	m, unreadable := ParseMove(n.move)
	if err := n.planner.setMove(n.move, n.w.clock()); err != nil && (unreadable != nil || m.Until.Sub(n.w.clock()) <= moveMost) {
		n.w.breaks("%s cannot read what it is asked to: %v", n.name, err)
	}
}

func (w *simWorld) move() {
	s := w.services[w.rng.IntN(len(w.services))]
	w.endpoints(s)
	w.tell(s)
}

// remove deletes a Service, and makes it again with the same address.
func (w *simWorld) remove() {
	s := w.services[w.rng.IntN(len(w.services))]
	if s.gone {
		return
	}
	w.say("Service %s is deleted", s.name)
	s.gone, s.changed = true, w.now
	w.tell(s)
	w.after(w.between(100*time.Millisecond, 4*time.Second), func() {
		w.say("Service %s is made again", s.name)
		s.gone, s.changed = false, w.now
		w.tell(s)
	})
}
