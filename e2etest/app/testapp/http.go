package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"heraldlb.io/herald/e2etest/app"
)

// streamInterval is between two lines of /stream: often enough to see a stall of a few hundred milliseconds.
const streamInterval = 100 * time.Millisecond

func (a *application) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.answer)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("POST /ready", a.setReady)
	mux.HandleFunc("GET /stream", a.httpStream)
	mux.HandleFunc("GET /ws", a.webSocket)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(app.NodeHeader, a.node)
		w.Header().Set(app.PodHeader, a.pod)
		mux.ServeHTTP(w, r)
	})
}

func (a *application) answer(w http.ResponseWriter, r *http.Request) {
	answer := app.Answer{Node: a.node, Pod: a.pod, ClientAddress: r.RemoteAddr, Protocol: r.Proto}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		answer.ServerAddress = local.String()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(answer.Line())
}

func (a *application) readyz(w http.ResponseWriter, _ *http.Request) {
	if !a.ready() {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ok\n")
}

// setReady lets a test take this pod out of its Services, or back in. A terminating pod stays out.
func (a *application) setReady(w http.ResponseWriter, r *http.Request) {
	state, err := strconv.ParseBool(r.FormValue("state"))
	if err != nil {
		http.Error(w, "state must be true or false, as in POST /ready?state=false", http.StatusBadRequest)
		return
	}
	a.wanted.Store(state)
	a.publishReadiness()
	json.NewEncoder(w).Encode(map[string]bool{"ready": a.ready()})
}

// httpStream never ends by itself: a chunk with a numbered line at every interval, until either side goes.
func (a *application) httpStream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	tick := time.NewTicker(streamInterval)
	defer tick.Stop()
	for n := 1; ; n++ {
		if _, err := fmt.Fprintf(w, "%d %s %s\n", n, a.node, a.pod); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// webSocket echoes messages, of either kind, from any origin.
func (a *application) webSocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	defer c.CloseNow()
	for {
		kind, message, err := c.Read(r.Context())
		if err == nil {
			err = c.Write(r.Context(), kind, message)
		}
		if err != nil {
			if closed := (websocket.CloseError{}); !errors.As(err, &closed) {
				c.Close(websocket.StatusGoingAway, "the pod is going")
			}
			return
		}
	}
}
