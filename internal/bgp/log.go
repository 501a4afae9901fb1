package bgp

import (
	"context"
	"log/slog"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// library takes in GoBGP's own log. What matters of it this package says itself, with the peer's name; the rest is for
// debugging. One thing only GoBGP's log tells: why a router could not be connected to.
type library struct {
	logger   log.Logger
	sessions *sessions
	peer     string // the neighbor's address, of lines about one
}

// connectFailed is what GoBGP says when it could not connect.
const connectFailed = "failed to connect"

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
	why := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "Error" {
			why = a.Value.String()
		}
		kv = append(kv, a.Key, a.Value.String())
		return true
	})
	if r.Message == connectFailed {
		go l.sessions.blame(l.peer, why) // whoever logs may hold locks of GoBGP
	}
	return level.Debug(l.logger).Log(kv...)
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
