package logging

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"dirpost/internal/event"

	"github.com/prometheus/client_golang/prometheus"
)

// maxKinds bounds the label values of the counter, should a stage put data into
// its message against the rules.
const maxKinds = 1000

// Sink logs events and counts them by room and message.
type Sink struct {
	log    *slog.Logger
	events *prometheus.CounterVec

	mu    sync.RWMutex // guards kinds
	kinds map[kind]prometheus.Counter
}

type kind struct{ room, msg string }

// NewSink returns a sink that writes to log.
func NewSink(log *slog.Logger) *Sink {
	return &Sink{
		log:   log,
		kinds: make(map[kind]prometheus.Counter),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_logging_events_total",
			Help: "Outcomes by the room that reports them and what happened.",
		}, []string{"room", "event"}),
	}
}

// Collectors are the metrics of the sink, to be registered by the caller.
func (s *Sink) Collectors() []prometheus.Collector { return []prometheus.Collector{s.events} }

// Emit counts e, and logs it if its level is enabled.
func (s *Sink) Emit(ctx context.Context, e event.Event) {
	s.counter(kind{e.Room, e.Msg}).Inc()
	h := s.log.Handler()
	if !h.Enabled(ctx, e.Level) {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	r := slog.NewRecord(e.Time, e.Level, e.Msg, 0)
	r.AddAttrs(slog.String("room", e.Room))
	if e.Trace != "" && !hasTrace(e.Attrs) {
		r.AddAttrs(slog.String("trace", e.Trace))
	}
	r.AddAttrs(e.Attrs...)
	// There is nobody to tell that the log cannot be written.
	_ = h.Handle(ctx, r)
}

// hasTrace reports whether the trace id stands among attrs under its own name.
func hasTrace(attrs []slog.Attr) bool {
	for i := range attrs {
		if attrs[i].Key == "queue_id" || attrs[i].Key == "session" {
			return true
		}
	}
	return false
}

func (s *Sink) counter(k kind) prometheus.Counter {
	s.mu.RLock()
	c := s.kinds[k]
	s.mu.RUnlock()
	if c != nil {
		return c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.kinds[k]; c != nil {
		return c
	}
	if len(s.kinds) >= maxKinds {
		return s.events.WithLabelValues("other", "other")
	}
	c = s.events.WithLabelValues(k.room, k.msg)
	s.kinds[k] = c
	return c
}
