// Package logging makes the one logger of a process. What is logged is the caller's affair: one line for a change,
// none for a resync, with the keys msg, err, svc, ip, node, peer, pool and if.
package logging

import (
	"fmt"
	"io"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
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
