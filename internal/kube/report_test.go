package kube_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heraldlb.io/herald/api/v1beta1"
	"heraldlb.io/herald/internal/kube"
	"heraldlb.io/herald/internal/kube/kubetest"
)

const nodeUID = types.UID("uid-of-n1")

// ready is the status of a speaker that is or is not.
func ready(status metav1.ConditionStatus) v1beta1.SpeakerStatus {
	return v1beta1.SpeakerStatus{Version: "v1", Conditions: []metav1.Condition{{Type: v1beta1.SpeakerReady, Status: status, Reason: "Joined", Message: "m"}}}
}

// announced are n addresses from the first-th on, of one Service each.
func announced(first, n int) map[netip.Addr][]v1beta1.Announcement {
	out := map[netip.Addr][]v1beta1.Announcement{}
	for i := first; i < first+n; i++ {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		out[addr] = []v1beta1.Announcement{{
			Namespace: "web", Name: fmt.Sprint("s", i), Address: addr.String(), Role: v1beta1.RoleOwner, Protocol: v1beta1.ProtocolL2,
		}}
	}
	return out
}

// withdrawn are the same addresses, of which there is nothing to tell any more.
func withdrawn(first, n int) map[netip.Addr][]v1beta1.Announcement {
	out := announced(first, n)
	for addr := range out {
		out[addr] = nil
	}
	return out
}

// report runs a reporter of node n1 until stop is called.
func report(t *testing.T, api *kubetest.API) (r *kube.Reporter, stop func()) {
	r = kube.NewReporter(api.Client(), "n1", log.NewNopLogger(), prometheus.NewRegistry()).Fast()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return r, stop
}

// shows tells whether the slices hold exactly these addresses, each once, for the Node of this UID.
func shows(api *kubetest.API, uid types.UID, want map[netip.Addr][]v1beta1.Announcement) bool {
	n := 0
	for _, s := range api.AnnouncementSlices() {
		if s.NodeName != "n1" || len(s.Announcements) == 0 || len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != uid {
			return false
		}
		for _, a := range s.Announcements {
			n++
			if addr, err := netip.ParseAddr(a.Address); err != nil || len(want[addr]) == 0 || want[addr][0].Role != a.Role {
				return false
			}
		}
	}
	return n == len(want)
}

// since returns when an address came to its role.
func since(api *kubetest.API, address string) time.Time {
	for _, s := range api.AnnouncementSlices() {
		for _, a := range s.Announcements {
			if a.Address == address {
				return a.Since.Time
			}
		}
	}
	return time.Time{}
}

func writes(api *kubetest.API) int { return len(api.Writes()) }

func TestWhatASpeakerSaysIsWrittenOnceAndNeverAgain(t *testing.T) {
	api := kubetest.New(t)
	r, _ := report(t, api)
	r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
	r.SetAnnouncements(announced(0, 1100))
	kubetest.Eventually(t, "all is shown", func() bool { return shows(api, nodeUID, announced(0, 1100)) })
	s := api.Speaker("n1")
	if s == nil || s.Status.Version != "v1" || len(s.Status.Conditions) != 1 || s.Status.Conditions[0].LastTransitionTime.IsZero() || s.OwnerReferences[0].Kind != "Node" {
		t.Fatalf("the Speaker is %+v", s)
	}
	before := api.Writes()
	if len(before) != 2+3 {
		t.Errorf("1,100 addresses were written as %q, want the Speaker, its status and 3 slices", before)
	}
	for range 50 {
		r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
		r.SetAnnouncements(announced(0, 1100))
	}
	r.SetAnnouncements(announced(1100, 1)) // whatever else there was to write is written by then
	kubetest.Eventually(t, "one more is shown", func() bool { return shows(api, nodeUID, announced(0, 1101)) })
	if after := api.Writes(); len(after) != len(before)+1 {
		t.Errorf("one address more, and 50 times nothing new, cost %q", after[len(before):])
	}
}

func TestATakeoverCostsAHandfulOfWrites(t *testing.T) {
	api := kubetest.New(t)
	r, _ := report(t, api)
	r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
	r.SetAnnouncements(announced(0, 2000))
	kubetest.Eventually(t, "all is shown", func() bool { return shows(api, nodeUID, announced(0, 2000)) })
	before := writes(api)
	for i := range 1000 { // one by one, as claims come
		r.SetAnnouncements(announced(2000+i, 1))
	}
	kubetest.Eventually(t, "1,000 more are shown", func() bool { return shows(api, nodeUID, announced(0, 3000)) })
	if n := writes(api) - before; n > 6 {
		t.Errorf("1,000 addresses that come one by one cost %d writes", n)
	}
}

func TestAFreshSpeakerTakesOverWhatIsThereAndCorrectsIt(t *testing.T) {
	api := kubetest.New(t)
	r, stop := report(t, api)
	r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
	r.SetAnnouncements(announced(0, 3))
	kubetest.Eventually(t, "three are shown", func() bool { return shows(api, nodeUID, announced(0, 3)) })
	kept, other := since(api, "10.0.0.1"), since(api, "10.0.0.2")
	stop()

	r, stop = report(t, api)
	r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
	second := announced(1, 3) // without the first, and with one more
	second[netip.MustParseAddr("10.0.0.2")][0].Role = v1beta1.RoleStandIn
	before := writes(api)
	r.SetAnnouncements(second)
	kubetest.Eventually(t, "what the new process announces is shown", func() bool { return shows(api, nodeUID, second) })
	if n := writes(api) - before; n != 1 {
		t.Errorf("it took %d writes, want 1", n)
	}
	if !since(api, "10.0.0.1").Equal(kept) || since(api, "10.0.0.2").Equal(other) {
		t.Errorf("what goes on is from %v, was from %v; what has another role is from %v, was from %v", since(api, "10.0.0.1"), kept, since(api, "10.0.0.2"), other)
	}
	stop()

	before = writes(api)
	r, _ = report(t, api)
	r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
	r.SetAnnouncements(nil)
	kubetest.Eventually(t, "a speaker without addresses has no slices", func() bool { return len(api.AnnouncementSlices()) == 0 })
	if n := writes(api) - before; n != 1 {
		t.Errorf("it took %d writes, want 1", n)
	}
}

func TestNothingIsWrittenBeforeAllIsKnown(t *testing.T) {
	api := kubetest.New(t)
	r, stop := report(t, api)
	r.SetStatus("", ready(metav1.ConditionTrue)) // no Node
	r.SetAnnouncements(announced(0, 1))
	stop() // writes what there is
	if w := api.Writes(); len(w) > 0 {
		t.Errorf("without a Node: %q", w)
	}
	r, stop = report(t, api)
	r.SetStatus(nodeUID, ready(metav1.ConditionFalse)) // has not joined: announcements are not known
	kubetest.Eventually(t, "the Speaker says that it is not ready", func() bool {
		s := api.Speaker("n1")
		return s != nil && len(s.Status.Conditions) == 1
	})
	stop()
	if s := api.AnnouncementSlices(); len(s) > 0 {
		t.Errorf("slices %v", s)
	}
}

func TestWhatAProcessSaysLastIsWrittenWhenItEnds(t *testing.T) {
	api := kubetest.New(t)
	r, stop := report(t, api)
	r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
	r.SetAnnouncements(announced(0, 2))
	kubetest.Eventually(t, "two are shown", func() bool { return shows(api, nodeUID, announced(0, 2)) })
	r.SetStatus(nodeUID, ready(metav1.ConditionFalse))
	r.SetAnnouncements(withdrawn(0, 2))
	stop()
	if s := api.Speaker("n1"); s.Status.Conditions[0].Status != metav1.ConditionFalse || len(api.AnnouncementSlices()) != 0 {
		t.Errorf("after the end: %v, %v", s.Status, api.AnnouncementSlices())
	}
}

func TestWhatOthersWriteIsUndone(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(api *kubetest.API)
	}{
		{"a slice that is edited", func(api *kubetest.API) {
			api.EditAnnouncementSlice("n1-0", func(s *v1beta1.AnnouncementSlice) { s.Announcements[0].Address = "192.0.2.1" })
		}},
		{"a slice that is deleted", func(api *kubetest.API) { api.Delete("announcementslices", "", "n1-0") }},
		{"a Speaker that is deleted", func(api *kubetest.API) { api.Delete("speakers", "", "n1") }},
		{"a slice too many", func(api *kubetest.API) {
			s := &v1beta1.AnnouncementSlice{NodeName: "n1"}
			s.Name = "n1-007"
			api.Create("announcementslices", s)
		}},
		{"a slice that belongs to nobody", func(api *kubetest.API) {
			s := &v1beta1.AnnouncementSlice{NodeName: "n1", Announcements: announced(9, 1)[netip.MustParseAddr("10.0.0.9")]}
			s.Name = "n1-5"
			api.Create("announcementslices", s)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := kubetest.New(t)
			r, _ := report(t, api)
			r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
			r.SetAnnouncements(announced(0, 2))
			whole := func() bool {
				s := api.Speaker("n1")
				return s != nil && s.Status.Version == "v1" && shows(api, nodeUID, announced(0, 2))
			}
			kubetest.Eventually(t, "all is shown", whole)
			tc.do(api)
			kubetest.Eventually(t, "all is shown again", whole)
		})
	}
}

// The news of a slice that comes and goes can be there before the answer to the write that made it.
func TestASliceThatIsDeletedBeforeItsWriterIsAnsweredIsMadeAgain(t *testing.T) {
	api := kubetest.New(t)
	r, _ := report(t, api)
	var once sync.Once
	api.Written(func(req *http.Request) {
		if req.Method != http.MethodPost || !strings.HasSuffix(req.URL.Path, "/announcementslices") {
			return
		}
		once.Do(func() {
			api.Delete("announcementslices", "", "n1-0")
			kubetest.Eventually(t, "the deletion is seen", func() bool { return r.Reached() == api.Version() })
		})
	})
	r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
	r.SetAnnouncements(announced(0, 2))
	kubetest.Eventually(t, "all is shown", func() bool { return shows(api, nodeUID, announced(0, 2)) })
}

func TestANodeOfTheSameNameIsAnotherOne(t *testing.T) {
	api := kubetest.New(t)
	r, _ := report(t, api)
	r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
	r.SetAnnouncements(announced(0, 2))
	kubetest.Eventually(t, "all is shown", func() bool { return shows(api, nodeUID, announced(0, 2)) })
	r.SetStatus("another", ready(metav1.ConditionTrue))
	kubetest.Eventually(t, "all is of the new Node", func() bool {
		s := api.Speaker("n1")
		return shows(api, "another", announced(0, 2)) && s != nil && s.OwnerReferences[0].UID == "another" && s.Status.Version == "v1"
	})
}

func TestFaultsAreTriedAgain(t *testing.T) {
	for _, tc := range []struct {
		name  string
		code  int
		times int
	}{
		{"a conflict", http.StatusConflict, 2}, {"no rights", http.StatusForbidden, 3}, {"trouble", http.StatusInternalServerError, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := kubetest.New(t)
			var mu sync.Mutex
			left := tc.times
			api.Fault(func(r *http.Request) int {
				mu.Lock()
				defer mu.Unlock()
				if r.Method == http.MethodGet || left == 0 {
					return 0
				}
				left--
				return tc.code
			})
			r, _ := report(t, api)
			r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
			r.SetAnnouncements(announced(0, 600))
			kubetest.Eventually(t, "all is shown", func() bool { return shows(api, nodeUID, announced(0, 600)) })
		})
	}
	t.Run("an API server that was away", func(t *testing.T) {
		api := kubetest.New(t)
		r, _ := report(t, api)
		r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
		r.SetAnnouncements(announced(0, 2))
		kubetest.Eventually(t, "all is shown", func() bool { return shows(api, nodeUID, announced(0, 2)) })
		back := api.Vanish()
		r.SetAnnouncements(announced(2, 2))
		r.SetAnnouncements(withdrawn(0, 1))
		back()
		kubetest.Eventually(t, "what changed meanwhile is shown", func() bool { return shows(api, nodeUID, announced(1, 3)) })
	})
}

// Whatever is told in whatever order, what is shown is what was told last, in as few slices as needed or twice as many.
func TestSlicesShowWhatWasToldLast(t *testing.T) {
	api := kubetest.New(t)
	r, _ := report(t, api)
	r.SetStatus(nodeUID, ready(metav1.ConditionTrue))
	want := map[netip.Addr][]v1beta1.Announcement{}
	for round := range 12 {
		change := announced(round*173%2000, 400)
		if round%3 == 2 {
			change = withdrawn(round*97%2000, 700)
		}
		for addr, a := range change {
			if a == nil {
				delete(want, addr)
			} else {
				want[addr] = a
			}
		}
		r.SetAnnouncements(change)
		kubetest.Eventually(t, fmt.Sprint("round ", round, " is shown"), func() bool { return shows(api, nodeUID, want) })
	}
	if n := len(api.AnnouncementSlices()); n > 2*(len(want)/v1beta1.MaxAnnouncements+1) {
		t.Errorf("%d addresses are in %d slices", len(want), n)
	}
	if !slices.ContainsFunc(api.Writes(), func(w string) bool { return strings.HasPrefix(w, "PUT announcementslices") }) {
		t.Error("no slice was ever changed")
	}
}

// However often there is something new to tell, what is shown is soon that, also when the API server takes its time and when it has been
// away.
func TestWhatIsShownIsNeverOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.InMemory(t)
		r := kube.NewReporter(api.Client(), "n1", log.NewNopLogger(), prometheus.NewRegistry())
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		defer running.Wait()
		defer cancel()
		api.Written(func(*http.Request) { time.Sleep(300 * time.Millisecond) })

		const every, oldest = 100 * time.Millisecond, 10 * time.Second
		var told []time.Time // by what was told: the number of the round
		address := netip.MustParseAddr("192.0.2.1")
		// age is for how long something else has been true than what is shown.
		age := func(shown string) time.Duration {
			n, err := strconv.Atoi(shown)
			if err != nil {
				n = -1 // nothing yet
			}
			if n+1 >= len(told) {
				return 0
			}
			return time.Since(told[n+1])
		}
		check := func(since time.Duration) {
			shown := map[string]string{"the Speaker": "", "the slice": ""}
			if sp := api.Speaker("n1"); sp != nil {
				shown["the Speaker"] = sp.Status.Version
			}
			for _, s := range api.AnnouncementSlices() {
				for _, a := range s.Announcements {
					shown["the slice"] = a.Name
				}
			}
			for what, n := range shown {
				if old := min(age(n), since); old > oldest {
					t.Fatalf("%s shows %q, which has not been so for %v", what, n, old)
				}
			}
		}
		tell := func() {
			n := strconv.Itoa(len(told))
			status := ready(metav1.ConditionTrue)
			status.Version = n
			r.SetStatus(nodeUID, status)
			r.SetAnnouncements(map[netip.Addr][]v1beta1.Announcement{address: {{
				Namespace: "web", Name: n, Address: address.String(), Role: v1beta1.RoleOwner, Protocol: v1beta1.ProtocolL2,
			}}})
			told = append(told, time.Now())
			time.Sleep(every)
		}
		for range 2 * time.Minute / every {
			tell()
			check(time.Hour)
		}
		calm := len(api.Writes())
		if most := 60; calm > most {
			t.Errorf("%d writes in two minutes, want no more than %d", calm, most)
		}
		back := api.Vanish()
		for range time.Minute / every {
			tell()
		}
		back()
		reached := time.Now()
		for range time.Minute / every {
			tell()
			check(time.Since(reached))
		}
	})
}
