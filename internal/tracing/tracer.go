package tracing

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"dirpost/internal/event"

	"github.com/prometheus/client_golang/prometheus"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// maxQueue is how many events may wait to be sent: some 10 MB of spans.
const maxQueue = 4096

// Tracer is a sink that makes spans of events, and hands each on with its trace id.
type Tracer struct {
	config Config
	next   event.Sink
	log    *slog.Logger

	queue chan []*tracepb.Span
	spans *prometheus.CounterVec // result

	// What follows is Run's, and once that has ended Close's.
	client  *http.Client
	url     string
	pending []*tracepb.Span
	away    bool          // the collector was told of already
	every   time.Duration // a request is sent, or earlier
	retry   time.Duration // after the first failure
}

// New returns a Tracer that hands what it has seen to next. Somebody has to Run it.
func New(c Config, next event.Sink, log *slog.Logger) (*Tracer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	u, err := c.url()
	if err != nil {
		return nil, err
	}
	return &Tracer{
		config: c, next: next, log: log, url: u.String(), client: newClient(c), every: sendEvery, retry: firstRetry,
		queue: make(chan []*tracepb.Span, maxQueue),
		spans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_tracing_spans_total",
			Help: "Spans by what became of them: sent, refused by the collector, failed (it could not be reached in time), dropped (the queue was full).",
		}, []string{"result"}),
	}, nil
}

// Collectors are the metrics of the tracer, to be registered by the caller.
func (t *Tracer) Collectors() []prometheus.Collector { return []prometheus.Collector{t.spans} }

// Emit implements event.Sink.
func (t *Tracer) Emit(ctx context.Context, e event.Event) {
	if e.Trace != "" {
		if e.Time.IsZero() {
			e.Time = time.Now()
		}
		of := idsOf(e.Trace)
		sampled := of.in(t.config.Sample)
		if e.Span.Name != "" {
			t.take(t.spansOf(&e, of, sampled))
		}
		if sampled && (e.Span.Name != "" || find(e.Attrs, "queue_id") != "" || find(e.Attrs, "session") != "") {
			e.Attrs = append(slices.Clip(e.Attrs), slog.String("trace_id", hex.EncodeToString(of.trace[:])))
		}
	}
	t.next.Emit(ctx, e)
}

// take queues spans, or drops them.
func (t *Tracer) take(spans []*tracepb.Span) {
	if len(spans) == 0 {
		return
	}
	select {
	case t.queue <- spans:
	default:
		t.spans.WithLabelValues("dropped").Add(float64(len(spans)))
	}
}

// spansOf makes the spans of e: its own with its steps, and one in each trace that it
// has to do with.
func (t *Tracer) spansOf(e *event.Event, of ids, sampled bool) (all []*tracepb.Span) {
	s := newSpan(of, e.Span.Name, e.Time, e.Span.Took)
	if e.Span.Root {
		s.SpanId = of.root[:]
	} else {
		s.ParentSpanId = of.root[:]
	}
	s.Kind, s.Status = kindOf(e), statusOf(e)
	s.Attributes = t.attributes(e.Attrs)
	if sampled {
		all = append(all, s)
		all = append(all, steps(e, of, s)...)
	}
	// A message and the session it came in by, or the list that made another of it,
	// are traces of their own.
	for _, key := range [...]string{"session", "list_queue_id"} {
		id := find(e.Attrs, key)
		if id == "" || id == e.Trace || key == "session" && !e.Span.Root {
			continue
		}
		other := idsOf(id)
		s.Links = append(s.Links, &tracepb.Span_Link{TraceId: other.trace[:], SpanId: other.root[:]})
		if !other.in(t.config.Sample) {
			continue
		}
		there := newSpan(other, e.Span.Name, e.Time, e.Span.Took)
		there.Kind, there.Status, there.Attributes = s.Kind, s.Status, s.Attributes
		there.Links = []*tracepb.Span_Link{{TraceId: of.trace[:], SpanId: s.SpanId}}
		if key == "session" {
			there.ParentSpanId = other.root[:]
		} else {
			there.SpanId = other.root[:]
		}
		all = append(all, there)
	}
	return all
}

// steps makes spans of the parts of e, whose span is whole.
func steps(e *event.Event, of ids, whole *tracepb.Span) (all []*tracepb.Span) {
	end := e.Time
	for _, step := range slices.Backward(e.Span.Steps[:]) {
		if step.Name == "" {
			continue
		}
		s := newSpan(of, step.Name, end, step.Took)
		s.ParentSpanId, s.Kind = whole.SpanId, tracepb.Span_SPAN_KIND_INTERNAL
		all = append(all, s)
		end = end.Add(-max(step.Took, 0))
	}
	return all
}

// newSpan returns a span of a trace with an id of its own.
func newSpan(of ids, name string, end time.Time, took time.Duration) *tracepb.Span {
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1) // zero is none
	return &tracepb.Span{
		TraceId: of.trace[:], SpanId: id[:], Name: name, Flags: 1, // sampled
		StartTimeUnixNano: uint64(end.Add(-max(took, 0)).UnixNano()), EndTimeUnixNano: uint64(end.UnixNano()),
	}
}

// kindOf says on which side of a conversation we were.
func kindOf(e *event.Event) tracepb.Span_SpanKind {
	switch {
	case e.Span.Root && strings.HasSuffix(e.Span.Name, "session"):
		return tracepb.Span_SPAN_KIND_SERVER
	case e.Room == "mta/qmgr" && find(e.Attrs, "relay") != "local":
		return tracepb.Span_SPAN_KIND_CLIENT
	}
	return tracepb.Span_SPAN_KIND_INTERNAL
}

// statusOf is an error where somebody should look, or where a recipient has not got
// the message; a mistake of a client is none.
func statusOf(e *event.Event) *tracepb.Status {
	failed := e.Level >= slog.LevelWarn
	switch find(e.Attrs, "status") {
	case "bounced", "deferred":
		failed = true
	}
	if !failed {
		return nil
	}
	return &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: find(e.Attrs, "dsn")}
}

// shorten bounds a text, and makes it one that protobuf takes.
func shorten(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue]
	}
	return strings.ToValidUTF8(s, "")
}
