// Package app is what the test application and those who test with it agree on: its ports, what it answers, and the
// manifests that run it. Suites, benches and the demo share it, so that an answer is read in one way everywhere.
//
// It opens no socket: the servers are the command's, testapp, and the clients are package probe's.
package app

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Ports on which the application listens, over IPv4 and IPv6.
const (
	HTTPPort   = 8080 // GET / answers an Answer; /stream, /ws, /healthz, /readyz, /ready
	EchoPort   = 7000 // TCP: an Answer's line, then echo; UDP: an Answer's line and the payload
	StreamPort = 7001 // TCP: an Answer's line, then a counter line every 20 ms
	GRPCPort   = 9000 // grpc.health.v1.Health
)

// Headers of every HTTP response, the WebSocket handshake's included.
const (
	NodeHeader = "Herald-Node"
	PodHeader  = "Herald-Pod"
)

// Answer tells who answered and what it saw of the client. On HTTP it is the body; on the other ports it is the first line.
type Answer struct {
	Node          string `json:"node"`
	Pod           string `json:"pod"`
	ClientAddress string `json:"clientAddress"` // address:port, as the pod saw it
	ServerAddress string `json:"serverAddress"` // address:port that the connection came to; of UDP, the one listened on
	Protocol      string `json:"protocol"`      // HTTP/1.1, TCP, UDP
}

// Line is the answer as one line of JSON.
func (a Answer) Line() []byte {
	line, err := json.Marshal(a)
	if err != nil {
		panic(err) // strings always marshal
	}
	return append(line, '\n')
}

// ParseAnswer reads an answer's first line; what follows it is the rest.
func ParseAnswer(b []byte) (a Answer, rest []byte, err error) {
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	if err := json.Unmarshal(line, &a); err != nil {
		return Answer{}, nil, fmt.Errorf("answer %.60q is not the test application's: %w", line, err)
	}
	return a, rest, nil
}
