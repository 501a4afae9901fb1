package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// request asks the supervisor to do what only it can.
type request struct {
	Op     string
	Target string     `json:",omitempty"` // a host or a process
	Groups [][]string `json:",omitempty"`
	Paths  []string   `json:",omitempty"`
}

// The operations of a request.
const (
	opStatus        = "status"
	opDown          = "down"
	opCut           = "cut"
	opHeal          = "heal"
	opKill          = "kill"
	opStart         = "start"
	opPartition     = "partition"
	opHealPartition = "heal-partition"
	opFreeze        = "freeze"
	opThaw          = "thaw"
	opStopAPI       = "stop-apiserver"
	opStartAPI      = "start-apiserver"
	opLoadImages    = "load-images"
)

type response struct {
	Error  string  `json:",omitempty"`
	Status *Status `json:",omitempty"`
}

// Status is what a lab is doing.
type Status struct {
	Name       string
	Kubernetes string
	Created    time.Time
	Owned      bool
	Hosts      []HostStatus
	Processes  []ProcessStatus
	Partition  [][]string
}

// HostStatus is a host as it is now.
type HostStatus struct {
	Host
	On  bool // it has a first process
	Cut bool // its cable is pulled
}

// ProcessStatus is one of the lab's own long-running programs.
type ProcessStatus struct {
	Name    string
	PID     int // as the machine sees it
	State   string
	Started time.Time
}

// serve answers requests on the lab's socket, one at a time, until the supervisor ends. A request to go down
// is passed on to down.
func (s *supervisor) serve(down chan<- struct{}) error {
	listener, err := net.Listen("unix", s.place.socket())
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(s.place.socket(), 0o600); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	var busy = make(chan struct{}, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				var req request
				if json.NewDecoder(conn).Decode(&req) != nil {
					return
				}
				// Who asks may lose patience; what was begun is then cut short too.
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				go func() {
					conn.Read(make([]byte, 1))
					cancel()
				}()
				if req.Op != opStatus && req.Op != opDown {
					busy <- struct{}{}
					defer func() { <-busy }()
				}
				json.NewEncoder(conn).Encode(s.answer(ctx, req))
				if req.Op == opDown {
					select {
					case down <- struct{}{}:
					default: // somebody has asked before
					}
				}
			}()
		}
	}()
	return nil
}

func (s *supervisor) answer(ctx context.Context, req request) response {
	var err error
	switch req.Op {
	case opStatus:
		return response{Status: s.status()}
	case opDown: // its answer comes first, what it asks for after
	case opCut:
		err = s.setCut(req.Target, true)
	case opHeal:
		err = s.setCut(req.Target, false)
	case opKill:
		err = s.killNode(req.Target)
	case opStart:
		err = s.restartNode(ctx, req.Target)
	case opPartition:
		if err = checkGroups(req.Groups, s.hosts); err == nil {
			err = s.setPartition(ctx, req.Groups)
		}
	case opHealPartition:
		err = s.setPartition(ctx, nil)
	case opFreeze:
		err = s.setFrozen(ctx, req.Target, true)
	case opThaw:
		err = s.setFrozen(ctx, req.Target, false)
	case opStopAPI:
		err = s.stopAPIServer()
	case opStartAPI:
		err = s.startAPIServer(ctx)
	case opLoadImages:
		err = s.loadImages(ctx, req.Paths)
	default:
		err = fmt.Errorf("operation %q: not known to this lab; it was started by another version of the command", req.Op)
	}
	if err != nil {
		return response{Error: err.Error()}
	}
	return response{}
}

func (s *supervisor) status() *Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &Status{Name: s.Name, Kubernetes: s.Kubernetes, Created: s.started, Owned: s.Owned, Partition: s.partition}
	for _, h := range s.hosts {
		if h.Name != Switch {
			st.Hosts = append(st.Hosts, HostStatus{Host: h, On: s.rec.Hosts[h.Name].Init.alive(), Cut: s.cut[h.Name]})
		}
	}
	for _, d := range s.daemons {
		st.Processes = append(st.Processes, ProcessStatus{d.name, d.process.PID, d.state(), d.started})
	}
	slices.SortFunc(st.Processes, func(a, b ProcessStatus) int { return strings.Compare(a.Name, b.Name) })
	return st
}

// call sends a request to the supervisor and waits for its answer.
func (p place) call(ctx context.Context, req request) (response, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.socket())
	if err != nil {
		return response{}, fmt.Errorf("lab %s does not answer: %w; see lab status, or remove it with lab down", p.name, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var resp response
	if err = json.NewEncoder(conn).Encode(req); err == nil {
		err = json.NewDecoder(conn).Decode(&resp)
	}
	switch {
	case ctx.Err() != nil:
		return response{}, fmt.Errorf("lab %s: %s: %w", p.name, req.Op, ctx.Err())
	case err != nil:
		return response{}, fmt.Errorf("lab %s: %s: no answer: %w; it has died meanwhile, or is going down", p.name, req.Op, err)
	case resp.Error != "":
		return resp, fmt.Errorf("lab %s: %w", p.name, errors.New(resp.Error))
	}
	return resp, nil
}
