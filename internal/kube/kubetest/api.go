// Package kubetest is an API server in memory for tests: real HTTP, resource versions with conflicts, the status
// subresource, watches with field selectors, finalizers, and faults on demand. It exists because what is worth
// testing about a controller is what happens between it and the API server, and client-go's fake clientset has
// neither conflicts nor subresources.
//
// It knows only the resources Herald uses and checks nothing that Herald does not rely on. What the real API server
// does is shown in the lab.
package kubetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"

	"heraldlb.io/herald/internal/kube"
)

// API is the server. All its methods are safe for concurrent use.
type API struct {
	t   testing.TB
	srv *httptest.Server
	// memory: connections are pipes.
	memory *memory

	mu       sync.Mutex
	version  int64
	objects  map[string]map[string]object // by resource, then by namespace/name
	history  []change
	changed  chan struct{} // closed and replaced at every change
	requests []string
	lists    map[string]int
	fault    func(*http.Request) int
	written  func(*http.Request)
	denied   map[string]bool
}

// object is the JSON of an API object.
type object = map[string]any

// change is one write, with the object before and after; nil for none.
type change struct {
	resource      string
	version       int64
	before, after object
}

// New starts a server that ends with the test.
func New(t testing.TB) *API {
	a := unstarted(t)
	a.srv.Start()
	return a
}

// InMemory starts a server that only its own clients reach, by pipes: time passes in a bubble of testing/synctest while they wait for
// one another.
func InMemory(t testing.TB) *API {
	a := unstarted(t)
	a.memory = &memory{dialled: make(chan net.Conn), closed: make(chan struct{})}
	a.srv.Listener.Close()
	a.srv.Listener = a.memory
	a.srv.Start()
	return a
}

func unstarted(t testing.TB) *API {
	a := &API{t: t, objects: map[string]map[string]object{}, lists: map[string]int{}, changed: make(chan struct{})}
	for resource := range kinds {
		a.objects[resource] = map[string]object{}
	}
	done := make(chan struct{})
	a.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, done) }))
	t.Cleanup(func() {
		close(done)
		a.srv.Close()
	})
	return a
}

// memory is a listener whose connections reach no socket.
type memory struct {
	dialled chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.dialled:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case m.dialled <- server:
		return client, nil
	case <-m.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Client returns a client of the server.
func (a *API) Client() *kube.Client {
	cfg := &rest.Config{Host: a.srv.URL}
	if a.memory != nil {
		cfg.Dial = a.memory.dial
	}
	c, err := kube.NewClient(cfg, "kubetest")
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// URL is where the server answers.
func (a *API) URL() string { return a.srv.URL }

// Fault makes the server ask f about every request from now on: a status other than 0 is its answer, and the request
// has no effect. Nil for no faults.
func (a *API) Fault(f func(*http.Request) int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = f
}

// Written makes the server call f when a request that would change something has had its effect, before it is answered. Nil for
// nothing.
func (a *API) Written(f func(*http.Request)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.written = f
}

// Version is that of the last change.
func (a *API) Version() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strconv.FormatInt(a.version, 10)
}

// Vanish ends all connections, watches too, and answers none until back is called.
func (a *API) Vanish() (back func()) {
	a.Fault(func(*http.Request) int { panic(http.ErrAbortHandler) })
	a.srv.CloseClientConnections()
	return func() { a.Fault(nil) }
}

// Writes returns the requests so far that would change something, as "PATCH services/status web/shop".
func (a *API) Writes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.requests...)
}

// request is what the path and the query of a request say.
type request struct {
	resource, namespace, name, subresource string
}

func (r request) key() string { return r.namespace + "/" + r.name }

// parse reads /api/v1/... and /apis/GROUP/VERSION/...
func parse(path string) (request, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return request{}, false
	}
	var r request
	if len(parts) >= 3 && parts[0] == "namespaces" {
		r.namespace, parts = parts[1], parts[2:]
	}
	for i, to := range []*string{&r.resource, &r.name, &r.subresource} {
		if i < len(parts) {
			*to = parts[i]
		}
	}
	_, known := kinds[r.resource]
	return r, known
}

func (a *API) serve(w http.ResponseWriter, r *http.Request, done <-chan struct{}) {
	if r.URL.Path == "/version" {
		answer(w, http.StatusOK, object{"major": "1", "minor": "37", "gitVersion": "v1.37.1"})
		return
	}
	req, ok := parse(r.URL.Path)
	if !ok {
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, "no such resource: "+r.URL.Path)
		return
	}
	a.mu.Lock()
	if r.Method != http.MethodGet {
		resource := strings.TrimSuffix(req.resource+"/"+req.subresource, "/")
		a.requests = append(a.requests, r.Method+" "+resource+" "+strings.Trim(req.key(), "/"))
	}
	fault := a.fault
	a.mu.Unlock()
	if fault != nil {
		if code := fault(r); code != 0 {
			fail(w, code, reasons[code], "refused by the test")
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch {
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") != "":
		a.watch(w, r, req, done)
	case r.Method == http.MethodGet && req.name == "":
		a.list(w, r, req)
	case r.Method == http.MethodGet:
		a.mu.Lock()
		obj := a.objects[req.resource][req.key()]
		a.mu.Unlock()
		if obj == nil {
			fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, req.key()+" not found")
			return
		}
		answer(w, http.StatusOK, obj)
	default:
		code, result := a.write(r, req, body)
		a.mu.Lock()
		written := a.written
		a.mu.Unlock()
		if written != nil {
			written(r)
		}
		answer(w, code, result)
	}
}

var reasons = map[int]metav1.StatusReason{
	http.StatusConflict:            metav1.StatusReasonConflict,
	http.StatusForbidden:           metav1.StatusReasonForbidden,
	http.StatusUnauthorized:        metav1.StatusReasonUnauthorized,
	http.StatusNotFound:            metav1.StatusReasonNotFound,
	http.StatusInternalServerError: metav1.StatusReasonInternalError,
	http.StatusServiceUnavailable:  metav1.StatusReasonServiceUnavailable,
}

func status(code int, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	}
}

func fail(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	answer(w, code, status(code, reason, message))
}

func answer(w http.ResponseWriter, code int, obj any) {
	data, err := json.Marshal(obj)
	if err != nil {
		code, data = http.StatusInternalServerError, []byte(err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(data)
}

// selects tells whether a list or watch request is about an object.
func selects(r *http.Request, req request) (func(object) bool, error) {
	selector, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		return nil, err
	}
	return func(obj object) bool {
		if obj == nil || req.namespace != "" && field(obj, "metadata", "namespace") != req.namespace {
			return false
		}
		return selector.Matches(fields.Set{
			"spec.type":     field(obj, "spec", "type"),
			"metadata.name": field(obj, "metadata", "name"),
			"nodeName":      field(obj, "nodeName"),
		})
	}, nil
}

func (a *API) list(w http.ResponseWriter, r *http.Request, req request) {
	wanted, err := selects(r, req)
	if err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	a.mu.Lock()
	items := []object{}
	for _, obj := range a.objects[req.resource] {
		if wanted(obj) {
			items = append(items, obj)
		}
	}
	version := a.version
	a.mu.Unlock()
	answer(w, http.StatusOK, object{
		"kind": kinds[req.resource].kind + "List", "apiVersion": kinds[req.resource].version,
		"metadata": object{"resourceVersion": strconv.FormatInt(max(version, 1), 10)}, "items": items,
	})
	a.mu.Lock()
	a.lists[req.resource]++
	a.mu.Unlock()
}

// Lists returns how many lists of a resource, not watches, have been answered.
func (a *API) Lists(resource string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lists[resource]
}

// watch streams changes, from the version asked for or, with sendInitialEvents, from the present state.
func (a *API) watch(w http.ResponseWriter, r *http.Request, req request, done <-chan struct{}) {
	wanted, err := selects(r, req)
	if err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	send := func(kind string, obj object) bool {
		data, err := json.Marshal(object{"type": kind, "object": obj})
		if err != nil {
			return false
		}
		_, err = w.Write(append(data, '\n'))
		return err == nil
	}

	a.mu.Lock()
	from, err := strconv.ParseInt(r.URL.Query().Get("resourceVersion"), 10, 64)
	if err != nil || r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, obj := range a.objects[req.resource] {
			if wanted(obj) {
				send("ADDED", obj)
			}
		}
		from = a.version
		send("BOOKMARK", object{"kind": kinds[req.resource].kind, "apiVersion": kinds[req.resource].version, "metadata": object{
			"resourceVersion": strconv.FormatInt(max(from, 1), 10),
			"annotations":     object{metav1.InitialEventsAnnotationKey: "true"},
		}})
	}
	a.mu.Unlock()
	flusher := w.(http.Flusher)
	for next := 0; ; {
		a.mu.Lock()
		pending, changed := a.history[next:], a.changed
		next = len(a.history)
		a.mu.Unlock()
		for _, c := range pending {
			if c.resource != req.resource || c.version <= from {
				continue
			}
			was, is := wanted(c.before), wanted(c.after)
			switch {
			case !was && is:
				send("ADDED", c.after)
			case was && is:
				send("MODIFIED", c.after)
			case was:
				// The API server shows the last state that matched, at the version of the change.
				send("DELETED", at(c.before, c.version))
			}
		}
		flusher.Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-done:
			return
		}
	}
}

// Eventually waits until condition holds; it says what it waited for when it does not within half a minute,
// which is for busy machines.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	const limit, every = 30 * time.Second, 2 * time.Millisecond
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(every) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still waiting for this: %s", limit, what)
		}
	}
}

func field(obj object, path ...string) string {
	for _, p := range path[:len(path)-1] {
		obj, _ = obj[p].(object)
	}
	s, _ := obj[path[len(path)-1]].(string)
	return s
}

func clone(obj object) object {
	data, err := json.Marshal(obj)
	if err != nil {
		panic(fmt.Sprintf("JSON that was decoded does not encode: %v", err))
	}
	var out object
	if err := json.Unmarshal(data, &out); err != nil {
		panic(fmt.Sprintf("JSON that was encoded does not decode: %v", err))
	}
	return out
}

// at is an object with another resource version.
func at(obj object, version int64) object {
	out := clone(obj)
	out["metadata"].(object)["resourceVersion"] = strconv.FormatInt(version, 10)
	return out
}
