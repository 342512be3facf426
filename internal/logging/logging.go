package logging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// The levels of protocol trace, below slog.LevelDebug.
const (
	LevelTrace     slog.Level = -8  // lines of a protocol, credentials and content left out
	LevelTraceAuth slog.Level = -12 // with credentials
	LevelTraceData slog.Level = -16 // with content
)

// levels are the names of the levels in the configuration and in the log.
var levels = []struct {
	name  string
	level slog.Level
}{
	{"error", slog.LevelError}, {"warn", slog.LevelWarn}, {"info", slog.LevelInfo}, {"debug", slog.LevelDebug},
	{"trace", LevelTrace}, {"trace-auth", LevelTraceAuth}, {"trace-data", LevelTraceData},
}

// Config is what an administrator sets of the log.
type Config struct {
	Format string // "text" (also "") or "json"
	Level  string // "error", "warn", "info" (also ""), "debug"; trace levels are for Trace alone
	// Trace are users (as in the attribute user) and client addresses whose
	// sessions are traced at TraceLevel.
	Trace      []string
	TraceLevel string // "trace" (also ""), "trace-auth", "trace-data"
}

// Validate reports what cannot be meant.
func (c Config) Validate() error {
	_, err := c.filter()
	if c.Format != "" && c.Format != "text" && c.Format != "json" {
		err = errors.Join(err, fmt.Errorf("log format %q: text or json is wanted", c.Format))
	}
	return err
}

// filter decides what is logged. It is immutable.
type filter struct {
	level  slog.Level
	traced slog.Level // for who is in trace
	trace  map[string]bool
}

func (c Config) filter() (*filter, error) {
	level, err := parseLevel(c.Level, "info")
	if err != nil {
		return nil, err
	}
	traced, err := parseLevel(c.TraceLevel, "trace")
	if err != nil {
		return nil, err
	}
	if level < slog.LevelDebug {
		return nil, fmt.Errorf("log level %q: trace levels are for single users and clients", c.Level)
	}
	f := &filter{level: level, traced: min(level, traced), trace: make(map[string]bool)}
	for _, who := range c.Trace {
		f.trace[strings.ToLower(who)] = true
	}
	return f, nil
}

func parseLevel(name, standard string) (slog.Level, error) {
	if name == "" {
		name = standard
	}
	var names []string
	for _, l := range levels {
		if l.name == name {
			return l.level, nil
		}
		names = append(names, l.name)
	}
	return 0, fmt.Errorf("log level %q: one of %s is wanted", name, strings.Join(names, ", "))
}

// Control changes what the loggers made with it let through.
type Control struct{ filter atomic.Pointer[filter] }

// Apply makes level and trace of c valid for every logger, at once. The format
// stays.
func (l *Control) Apply(c Config) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	l.filter.Store(f)
	return nil
}

// New returns a logger that writes lines to w, and what controls it. Where w is a
// Batch, warnings and errors do not wait in it.
func New(w io.Writer, c Config) (*slog.Logger, *Control, error) {
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	control := &Control{}
	if err := control.Apply(c); err != nil {
		return nil, nil, err
	}
	h := &handler{control: control}
	if b, ok := w.(*Batch); ok {
		h.batch, w = b, &b.text
	}
	options := &slog.HandlerOptions{Level: LevelTraceData, ReplaceAttr: replace}
	h.Handler = slog.NewTextHandler(w, options)
	if c.Format == "json" {
		h.Handler = slog.NewJSONHandler(w, options)
	}
	return slog.New(h), control, nil
}

// handler lets through what the control allows, to more for who is traced.
type handler struct {
	slog.Handler
	control *Control
	batch   *Batch   // nil: lines are written at once
	who     []string // users and clients among the attributes so far
}

// Handle writes r, one that somebody should look at without delay.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if h.batch == nil {
		return h.Handler.Handle(ctx, r)
	}
	h.batch.add(line{handler: h.Handler, record: settle(r)})
	if r.Level >= slog.LevelWarn {
		h.batch.Flush()
	}
	return nil
}

// Enabled reports whether a line of level l would be written.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool {
	f := h.control.filter.Load()
	if l >= f.level {
		return true
	}
	return l >= f.traced && slices.ContainsFunc(h.who, func(s string) bool { return f.trace[s] })
}

// WithAttrs remembers whose logger this becomes.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	who := h.who
	for _, a := range attrs {
		if a.Key == "user" || a.Key == "client" {
			who = append(slices.Clip(who), strings.ToLower(a.Value.Resolve().String()))
		}
	}
	return &handler{Handler: h.Handler.WithAttrs(attrs), control: h.control, batch: h.batch, who: who}
}

// WithGroup returns a handler whose further attributes stand in a group.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{Handler: h.Handler.WithGroup(name), control: h.control, batch: h.batch, who: h.who}
}

// timeFormat is RFC 3339 with milliseconds, always UTC.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// replace gives times and levels the form of the house, and hides what is under
// the key of a secret.
func replace(groups []string, a slog.Attr) slog.Attr {
	switch {
	case a.Value.Kind() == slog.KindTime:
		a.Value = slog.StringValue(a.Value.Time().UTC().Format(timeFormat))
	case a.Value.Kind() == slog.KindDuration:
		// Postfix's delay is in seconds; a unit in the value would have to be parsed.
		a.Value = slog.Float64Value(a.Value.Duration().Round(time.Microsecond).Seconds())
	case a.Key == slog.LevelKey && len(groups) == 0:
		if l, ok := a.Value.Any().(slog.Level); ok {
			a.Value = slog.StringValue(levelName(l))
		}
	case isSecretKey(a.Key):
		a.Value = redacted
	}
	return a
}

func levelName(l slog.Level) string {
	for _, known := range levels {
		if known.level == l {
			return known.name
		}
	}
	return strings.ToLower(l.String())
}
