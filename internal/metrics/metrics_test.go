package metrics

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestProbesAndMetrics(t *testing.T) {
	var notReady error
	h := handler(NewRegistry(), func() error { return notReady })
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
