package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"heraldlb.io/herald/internal/cmdline"
)

// bearers is a Reviewer that knows some tokens: their bearers, who may read when their name begins with "reader".
type bearers struct {
	names map[string]string
	err   error
	asked int
}

func (b *bearers) Review(_ context.Context, token, path string) (string, bool, error) {
	b.asked++
	name := b.names[token]
	return name, strings.HasPrefix(name, "reader") && path == "/metrics", b.err
}

func TestOnlyThoseWhoMayReadTheMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &bearers{names: map[string]string{"good": "reader-1", "other": "somebody"}}
		s := Server{
			Options: cmdline.Metrics{Bind: ":7480", Auth: "token"}, Registry: NewRegistry(), Ready: func() error { return nil },
			Reviewer: api, Logger: log.NewNopLogger(),
		}
		h, err := s.handler()
		if err != nil {
			t.Fatal(err)
		}
		get := func(path, authorization string) string {
			r := httptest.NewRequest("GET", path, nil)
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			body := strings.TrimSpace(w.Body.String())
			if w.Code == http.StatusOK {
				body = ""
			}
			return strings.TrimSpace(fmt.Sprint(w.Code, " ", body))
		}
		expect := func(what, got, want string, asked int) {
			t.Helper()
			if got != want || api.asked != asked {
				t.Errorf("%s: %q after %d questions to the API server, want %q after %d", what, got, api.asked, want, asked)
			}
		}
		expect("probes are for everybody", get("/readyz", ""), "200", 0)
		expect("without a token", get("/metrics", ""), "401 a bearer token is needed", 0)
		expect("with a password", get("/metrics", "Basic Z29vZA=="), "401 a bearer token is needed", 0)
		expect("who may", get("/metrics", "Bearer good"), "200", 1)
		expect("who may is not asked about again", get("/metrics", "bearer good"), "200", 1)
		expect("nobody's token", get("/metrics", "Bearer guess"), "401 the token is not valid", 2)
		forbidden := "403 somebody may not get /metrics: a ClusterRole with this nonResourceURL allows it"
		expect("who may not", get("/metrics", "Bearer other"), forbidden, 3)

		time.Sleep(refused)
		api.names["other"] = "reader-2"
		expect("who may now", get("/metrics", "Bearer other"), "200", 4)

		time.Sleep(believed)
		delete(api.names, "good")
		expect("a token that was taken back", get("/metrics", "Bearer good"), "401 the token is not valid", 5)

		api.err = errors.New("no API server")
		expect("without an API server, who is not known", get("/metrics", "Bearer new"), "503 the API server does not say whose token this is", 6)
		expect("without an API server, who was refused a moment ago", get("/metrics", "Bearer good"), "401 the token is not valid", 6)
		api.err = nil
		expect("what nobody knew is not remembered", get("/metrics", "Bearer new"), "401 the token is not valid", 7)
	})
}

// slow is a Reviewer that takes its time, and knows how many ask at once.
type slow struct{ now, most atomic.Int64 }

func (s *slow) Review(context.Context, string, string) (string, bool, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	time.Sleep(time.Second)
	return "", false, nil
}

func TestAFloodOfTokensIsNoFloodAtTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &slow{}
		g := newGuard(api, log.NewNopLogger())
		var inTime atomic.Int64
		for i := range 100 {
			go func() {
				if _, err := g.ask(t.Context(), fmt.Sprint("guess", i), "/metrics"); err == nil {
					inTime.Add(1)
				}
			}()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if most := api.most.Load(); most != asking {
			t.Errorf("%d questions at once, want %d", most, asking)
		}
		if n := inTime.Load(); n < asking || n > asking*int64(answerTime/time.Second+1) {
			t.Errorf("%d of 100 got an answer, want no more than there is time for", n)
		}
		for i := range 2 * remembered {
			g.keep([32]byte{byte(i), byte(i >> 8)}, answer{})
			if len(g.known) > remembered {
				t.Fatalf("%d tokens are remembered, want at most %d", len(g.known), remembered)
			}
		}
	})
}
