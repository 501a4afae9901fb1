// Package logging makes the one logger of a process. What is logged is the caller's affair: one line for a change,
// none for a resync, with the keys msg, err, svc, ip, node, peer, pool and if.
package logging

import (
	"fmt"
	"io"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// New returns a logger that writes to w, one line at a time, in format "logfmt" or "json", and leaves out what is
// below min: "debug", "info", "warn" or "error".
func New(w io.Writer, format, min string) (log.Logger, error) {
	w = log.NewSyncWriter(w)
	var logger log.Logger
	switch format {
	case "logfmt":
		logger = log.NewLogfmtLogger(w)
	case "json":
		logger = log.NewJSONLogger(w)
	default:
		return nil, fmt.Errorf("log format %q: want logfmt or json", format)
	}
	lvl, err := level.Parse(min)
	if err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", min)
	}
	logger = level.NewFilter(logger, level.Allow(lvl))
	return log.With(logger, "ts", log.DefaultTimestampUTC), nil
}

// Libraries sends what libraries log of their own, which for client-go is mostly that the API server cannot be
// reached, to the logger too: errors as warnings, the rest as debug lines.
func Libraries(logger log.Logger) {
	klog.SetLogger(logr.New(sink{log.With(logger, "from", "client-go")}))
}

// sink makes a logger of go-kit one of logr.
type sink struct{ logger log.Logger }

func (s sink) Init(logr.RuntimeInfo)             {}
func (s sink) Enabled(int) bool                  { return true }
func (s sink) WithName(string) logr.LogSink      { return s }
func (s sink) WithValues(kv ...any) logr.LogSink { return sink{log.With(s.logger, kv...)} }

func (s sink) Info(_ int, msg string, kv ...any) {
	level.Debug(s.logger).Log(append([]any{"msg", msg}, kv...)...)
}

func (s sink) Error(err error, msg string, kv ...any) {
	level.Warn(s.logger).Log(append([]any{"msg", msg, "err", err}, kv...)...)
}
