package metrics

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-kit/log"

	"heraldlb.io/herald/internal/cmdline"
)

func TestProbesAndMetrics(t *testing.T) {
	var notReady error
	s := Server{Options: cmdline.Metrics{Auth: "none"}, Registry: NewRegistry(), Ready: func() error { return notReady }}
	h, err := s.handler()
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, "herald_build_info{") {
		t.Errorf("/metrics: %d %s", code, body)
	}
	if code, _ := get("/readyz"); code != 200 {
		t.Errorf("/readyz when ready: %d", code)
	}
	notReady = errors.New("gossip: no key yet")
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "no key yet") {
		t.Errorf("/readyz when not ready: %d %s", code, body)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
}

func TestWhatIsAskedOfReaders(t *testing.T) {
	for _, c := range []struct {
		name             string
		options          cmdline.Metrics
		guarded, tls     bool
		refusedBecauseOf string
	}{
		{"nothing by default", cmdline.Metrics{Bind: ":7480", Auth: "none"}, false, false, ""},
		{"a token, and then never in the clear", cmdline.Metrics{Bind: ":7480", Auth: "token"}, true, true, ""},
		{"no token on loopback", cmdline.Metrics{Bind: "127.0.0.1:7480", Auth: "token"}, false, false, ""},
		{"no token on loopback of IPv6", cmdline.Metrics{Bind: "[::1]:7480", Auth: "token"}, false, false, ""},
		{"no token on loopback by name", cmdline.Metrics{Bind: "localhost:7480", Auth: "token"}, false, false, ""},
		{"TLS alone", cmdline.Metrics{Bind: ":7480", Auth: "none", TLSCertFile: "c", TLSKeyFile: "k"}, false, true, ""},
		{"a key without its certificate is a mistake", cmdline.Metrics{Auth: "none", TLSKeyFile: "k"}, false, false, "--metrics-tls-cert-file"},
		{"an unknown way is a mistake", cmdline.Metrics{Auth: "basic"}, false, false, "--metrics-auth=basic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Server{Options: c.options, Registry: NewRegistry(), Logger: log.NewNopLogger()}
			_, err := s.handler()
			if c.refusedBecauseOf != "" {
				if err == nil || !strings.Contains(err.Error(), c.refusedBecauseOf) {
					t.Errorf("handler says %v, want an error about %s", err, c.refusedBecauseOf)
				}
				return
			}
			if err != nil || s.guarded() != c.guarded || s.encrypted() != c.tls {
				t.Errorf("guarded %v, encrypted %v, error %v; want %v, %v", s.guarded(), s.encrypted(), err, c.guarded, c.tls)
			}
		})
	}
}
