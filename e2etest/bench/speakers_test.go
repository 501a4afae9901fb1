package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/service"
)

// quiet is for how long a cluster in which nothing happens is watched.
const quiet = 30 * time.Second

// BenchmarkSpeakers has as many speakers as users of one rack have tell of Services: each owns its share by L2, and tells
// routers of all by BGP. It counts what is written: while nothing happens, and when a node dies whose addresses others
// take.
func BenchmarkSpeakers(b *testing.B) {
	const n, nodes = 2000, 7
	s := populate(b, n, alone)
	c := count(b)
	var all []*simulated
	for i := range nodes {
		all = append(all, simulate(b, fmt.Sprintf("sim-%d", i+1)))
	}
	start(b)
	s.await(b, n)
	owned := make([][]*corev1.Service, nodes)
	for i, svc := range s.list() {
		owned[i%nodes] = append(owned[i%nodes], svc)
	}
	began := time.Now()
	for i, one := range all {
		one.tell(owned[i], s.list())
	}
	s.told(b, owned)
	b.Logf("%d Services say who announces them %.0f s after the speakers", n, time.Since(began).Seconds())
	size, entries := largest(b)

	time.Sleep(10 * time.Second) // the last round of writes has ended
	c.take()
	time.Sleep(quiet)
	steady := c.take()

	var reports, conditions float64
	var took time.Duration
	last := all[nodes-1]
	for b.Loop() {
		began = time.Now()
		last.stop()
		after := slices.Clone(owned)
		after[nodes-1] = nil
		for j, svc := range owned[nodes-1] {
			i := j % (nodes - 1)
			after[i] = append(slices.Clip(after[i]), svc)
		}
		for i, one := range all[:nodes-1] {
			one.tell(after[i], s.list())
		}
		s.told(b, after)
		took += time.Since(began)
		w := c.take()
		reports, conditions = reports+float64(w.reports), conditions+float64(w.services)

		b.StopTimer() // back to what it was
		for i, one := range all[:nodes-1] {
			one.tell(owned[i], s.list())
		}
		last.start(b)
		last.tell(owned[nodes-1], s.list())
		s.told(b, owned)
		time.Sleep(10 * time.Second)
		c.take()
		b.StartTimer()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(steady.reports+steady.services)/quiet.Seconds(), "steady-writes/s")
	b.ReportMetric(reports/float64(b.N), "failover-speaker-writes")
	b.ReportMetric(conditions/float64(b.N), "failover-service-writes")
	b.ReportMetric(took.Seconds()/float64(b.N), "failover-s")
	b.ReportMetric(size, "slice-KiB")
	b.ReportMetric(entries, "slice-entries")
}

// simulated is a speaker that tells what a benchmark says.
type simulated struct {
	node     *corev1.Node
	reporter *kube.Reporter
	stop     func()
	before   map[netip.Addr]bool
}

func simulate(b *testing.B, name string) *simulated {
	b.Helper()
	node, err := kubernetes.CoreV1().Nodes().Create(b.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	s := &simulated{node: node}
	b.Cleanup(func() {
		s.stop()
		if err := kubernetes.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			b.Error(err)
		}
	})
	s.start(b)
	return s
}

func (s *simulated) start(b *testing.B) {
	b.Helper()
	s.before = map[netip.Addr]bool{}
	s.reporter = kube.NewReporter(client, s.node.Name, log.NewNopLogger(), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.reporter.Run(ctx) })
	s.stop = func() {
		cancel()
		running.Wait()
	}
}

// tell says what the speaker owns, and that it tells routers of all.
func (s *simulated) tell(owned, all []*corev1.Service) {
	now := map[netip.Addr][]v1beta1.Announcement{}
	add := func(svc *corev1.Service, a v1beta1.Announcement) {
		for _, h := range service.HeldBy(svc) {
			a.Namespace, a.Name, a.Address, a.Role = svc.Namespace, svc.Name, h.Addr.String(), v1beta1.RoleOwner
			now[h.Addr] = append(now[h.Addr], a)
		}
	}
	for _, svc := range owned {
		add(svc, v1beta1.Announcement{Protocol: v1beta1.ProtocolL2, Interfaces: []string{"eth0"}})
	}
	for _, svc := range all {
		add(svc, v1beta1.Announcement{Protocol: v1beta1.ProtocolBGP, Peers: []string{"tor-a", "tor-b"}})
	}
	s.reporter.SetStatus(s.node.UID, v1beta1.SpeakerStatus{Version: "simulated"})
	s.reporter.SetAnnouncements(now)
}

// told waits until each Service says that its owner announces it.
func (s *services) told(b *testing.B, owned [][]*corev1.Service) {
	b.Helper()
	want := map[string]string{}
	for i, list := range owned {
		for _, svc := range list {
			want[svc.Name] = fmt.Sprintf("by L2 from node sim-%d", i+1)
		}
	}
	s.until(b, func() bool {
		for _, obj := range s.informer.GetStore().List() {
			svc := obj.(*corev1.Service)
			c := service.Announced(svc)
			if c == nil || c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, want[svc.Name]) {
				return false
			}
		}
		return true
	})
}

// writes are how many objects of Herald's and how many Services were written.
type writes struct{ reports, services int64 }

// counter counts what the API server shows of writes.
type counter struct{ reports, services atomic.Int64 }

func count(b *testing.B) *counter {
	b.Helper()
	c := &counter{}
	ctx, stop := context.WithCancel(context.Background())
	b.Cleanup(stop)
	follow := func(i cache.SharedIndexInformer, n *atomic.Int64) {
		one := func() { n.Add(1) }
		if _, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { one() }, UpdateFunc: func(any, any) { one() }, DeleteFunc: func(any) { one() },
		}); err != nil {
			b.Fatal(err)
		}
		if err := kube.Run(ctx, i); err != nil {
			b.Fatal(err)
		}
	}
	follow(client.Services(), &c.services)
	follow(client.Speakers(), &c.reports)
	follow(client.AnnouncementSlices(), &c.reports)
	return c
}

// take returns the writes since it was last called.
func (c *counter) take() writes { return writes{c.reports.Swap(0), c.services.Swap(0)} }

// largest returns the size in KiB of the largest slice, as JSON, and how many announcements it has.
func largest(b *testing.B) (size, entries float64) {
	b.Helper()
	list := &v1beta1.AnnouncementSliceList{}
	if err := client.Herald.Get().Resource(kube.ResourceAnnouncementSlices).Do(b.Context()).Into(list); err != nil {
		b.Fatal(err)
	}
	for _, s := range list.Items {
		data, err := json.Marshal(s)
		if err != nil {
			b.Fatal(err)
		}
		if kib := float64(len(data)) / 1024; kib > size {
			size, entries = kib, float64(len(s.Announcements))
		}
	}
	return size, entries
}
