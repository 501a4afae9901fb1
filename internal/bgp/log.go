package bgp

import (
	"context"
	"log/slog"
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// library takes in GoBGP's own log. What matters of it this package says itself, with the peer's name; the rest is for
// debugging. Some things only GoBGP's log tells: why a router could not be connected to, and what a notification said.
type library struct {
	logger   log.Logger
	sessions *sessions
	peer     string // the neighbor's address, of lines about one
}

// What GoBGP says when there is something to learn from it.
const (
	connectFailed        = "failed to connect"
	notificationSent     = "sent notification"
	notificationReceived = "received notification"
)

// Enabled implements slog.Handler.
func (l library) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l library) Handle(_ context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo && r.Message != connectFailed {
		return nil // of each message sent and received
	}
	kv := []any{"msg", r.Message, "from", "gobgp"}
	if l.peer != "" {
		kv = append(kv, "address", l.peer)
	}
	said := map[string]slog.Value{}
	r.Attrs(func(a slog.Attr) bool {
		said[a.Key] = a.Value
		kv = append(kv, a.Key, a.Value.String())
		return true
	})
	switch r.Message {
	case connectFailed:
		l.sessions.unreachable(l.peer, "the router cannot be connected to: "+unconnected(said["Error"].String()))
	case notificationSent:
		if code, subcode, text := notification(said); code != wire.BGP_ERROR_FSM_ERROR { // that only says that the router said something else than OPEN
			l.sessions.blame(l.peer, "the router was told: "+words(code, subcode, text), always)
		}
	case notificationReceived:
		l.sessions.blame(l.peer, "the router said: "+words(notification(said)), always)
	}
	return level.Debug(l.logger).Log(kv...)
}

// unconnected says more of an error of connect where there is more to say. A side that wants a password, or another one, drops what it gets
// without a word.
func unconnected(err string) string {
	if strings.HasSuffix(err, "timeout") {
		return "no answer: packets are dropped on the way, or the passwords of the two sides differ (" + err + ")"
	}
	return err
}

// notification reads what a NOTIFICATION said.
func notification(said map[string]slog.Value) (code, subcode uint8, text string) {
	number := func(key string) uint8 {
		if v := said[key]; v.Kind() == slog.KindInt64 {
			return uint8(v.Int64())
		}
		return 0
	}
	if v := said["Communicated-Reason"]; v.Kind() == slog.KindString {
		text = v.String()
	}
	return number("Code"), number("Subcode"), text
}

// WithAttrs implements slog.Handler.
func (l library) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "Key" {
			l.peer = a.Value.String()
		}
	}
	return l
}

// WithGroup implements slog.Handler.
func (l library) WithGroup(string) slog.Handler { return l }
