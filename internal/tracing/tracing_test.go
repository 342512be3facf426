package tracing

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"dirpost/internal/event"
	"dirpost/internal/testenv"

	dto "github.com/prometheus/client_model/go"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// config is that of a tracer which sends to c.
func config(c *testenv.Collector) Config {
	return Config{Endpoint: c.URL, Sample: 1, Roots: c.Roots, Version: "1.2.3", Node: "mail1", Header: http.Header{"Authorization": {"Bearer s3cret"}}}
}

// lines is a sink that keeps what it was handed.
type lines struct{ all []event.Event }

func (l *lines) Emit(_ context.Context, e event.Event) { l.all = append(l.all, e) }

func newTracer(t testing.TB, c Config, next event.Sink) (*Tracer, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	tr, err := New(c, next, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	tr.every, tr.retry = time.Millisecond, time.Millisecond
	return tr, &log
}

func (t *Tracer) count(result string) float64 {
	var m dto.Metric
	if err := t.spans.WithLabelValues(result).Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue()
}

// A message as its stages report it: login, acceptance, delivery, an attempt of the
// queue, the end of the session.
func message(end time.Time) []event.Event {
	const session, id = "0session", "0message"
	return []event.Event{
		{Time: end, Room: "auth", Msg: "login", Trace: session, Attrs: []slog.Attr{
			slog.String("session", session), slog.String("authcid", "alice"), slog.String("outcome", "accepted"), slog.String("password", "hunter2"),
		}, Span: event.Span{Name: "login", Took: 3 * time.Millisecond}},
		{Time: end, Room: "mta/intake", Msg: "message accepted", Trace: id, Attrs: []slog.Attr{
			slog.String("queue_id", id), slog.String("session", session), slog.String("from", "alice@corp.example"), slog.Int("nrcpt", 2), slog.Int64("size", 4711),
		}, Span: event.Span{Name: "message", Root: true, Took: 10 * time.Millisecond, Steps: [3]event.Step{{Name: "plan", Took: time.Millisecond}, {}, {Name: "commit", Took: 4 * time.Millisecond}}}},
		{Time: end, Room: "mta/intake", Msg: "list expanded", Trace: id, Attrs: []slog.Attr{
			slog.String("queue_id", id), slog.String("list_queue_id", "0list"),
		}, Span: event.Span{Name: "list expanded"}},
		{Time: end, Room: "mda", Msg: "delivery", Trace: id, Attrs: []slog.Attr{
			slog.String("queue_id", id), slog.String("to", "bob@corp.example"), slog.String("status", "delivered"),
		}, Span: event.Span{Name: "delivery", Took: 4 * time.Millisecond}},
		{Time: end, Room: "mta/qmgr", Msg: "delivery", Trace: id, Attrs: []slog.Attr{
			slog.String("queue_id", id), slog.String("to", "carol@else.example"), slog.String("relay", "mx.else.example"), slog.String("status", "deferred"), slog.String("dsn", "4.4.1"),
		}, Span: event.Span{Name: "queue attempt", Took: time.Second}},
		{Time: end, Room: "mta/smtpd", Msg: "session ended", Trace: session, Attrs: []slog.Attr{
			slog.String("session", session), slog.String("client", "192.0.2.7"), slog.Any("err", errors.New("alice@corp.example is gone")),
		}, Span: event.Span{Name: "smtp session", Root: true, Took: time.Minute}},
		{Time: end, Level: slog.LevelInfo, Room: "mta/smtpd", Msg: "command refused", Trace: session, Attrs: []slog.Attr{slog.String("session", session)}},
	}
}

// TestTrace: what one collector gets of a message, from several nodes.
func TestTrace(t *testing.T) {
	t.Parallel()
	c := testenv.OTLP(t)
	var log lines
	end := time.Now()
	a, _ := newTracer(t, config(c), &log)
	b, _ := newTracer(t, config(c), &log) // another node
	for i, e := range message(end) {
		if e.Room == "mta/qmgr" {
			b.Emit(t.Context(), e)
		} else {
			a.Emit(t.Context(), e)
		}
		if got := find(log.all[i].Attrs, "trace_id"); got != TraceID(e.Trace) {
			t.Errorf("the line %q has the trace id %q, want %q", e.Msg, got, TraceID(e.Trace))
		}
	}
	a.Close()
	b.Close()

	of, in := c.Trace(TraceID("0message")), c.Trace(TraceID("0session"))
	root, session := idsOf("0message"), idsOf("0session")
	for _, tt := range []struct {
		trace        map[string]*tracepb.Span
		name, parent string // "": none
		took         time.Duration
		kind         tracepb.Span_SpanKind
		failed       bool
	}{
		{of, "message", "", 10 * time.Millisecond, tracepb.Span_SPAN_KIND_INTERNAL, false},
		{of, "plan", "message", time.Millisecond, tracepb.Span_SPAN_KIND_INTERNAL, false},
		{of, "commit", "message", 4 * time.Millisecond, tracepb.Span_SPAN_KIND_INTERNAL, false},
		{of, "list expanded", "message", 0, tracepb.Span_SPAN_KIND_INTERNAL, false},
		{of, "delivery", "message", 4 * time.Millisecond, tracepb.Span_SPAN_KIND_INTERNAL, false},
		{of, "queue attempt", "message", time.Second, tracepb.Span_SPAN_KIND_CLIENT, true},
		{in, "smtp session", "", time.Minute, tracepb.Span_SPAN_KIND_SERVER, false},
		{in, "login", "smtp session", 3 * time.Millisecond, tracepb.Span_SPAN_KIND_INTERNAL, false},
		{in, "message", "smtp session", 10 * time.Millisecond, tracepb.Span_SPAN_KIND_INTERNAL, false},
	} {
		s := tt.trace[tt.name]
		if s == nil {
			t.Errorf("there is no span %q: %v", tt.name, tt.trace)
			continue
		}
		var parent []byte
		if tt.parent != "" {
			parent = tt.trace[tt.parent].GetSpanId()
		}
		if !bytes.Equal(s.ParentSpanId, parent) {
			t.Errorf("%s has the parent %x, want %x", tt.name, s.ParentSpanId, parent)
		}
		if took := time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano); took != tt.took {
			t.Errorf("%s took %v, want %v", tt.name, took, tt.took)
		}
		if s.Kind != tt.kind || (s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR) != tt.failed {
			t.Errorf("%s is %v, %v", tt.name, s.Kind, s.Status)
		}
	}
	if got := of["plan"].GetEndTimeUnixNano(); got != uint64(end.Add(-4*time.Millisecond).UnixNano()) {
		t.Errorf("the plan does not end where the commit begins")
	}
	if !bytes.Equal(of["message"].GetSpanId(), root.root[:]) {
		t.Error("the message is not the root that other nodes take it for")
	}
	linked := func(s *tracepb.Span, to ids, id []byte) {
		t.Helper()
		if len(s.GetLinks()) != 1 || !bytes.Equal(s.Links[0].TraceId, to.trace[:]) || !bytes.Equal(s.Links[0].SpanId, id) {
			t.Errorf("%s has the links %v", s.GetName(), s.GetLinks())
		}
	}
	linked(of["message"], session, session.root[:])
	linked(in["message"], root, root.root[:])
	list := idsOf("0list")
	linked(of["list expanded"], list, list.root[:])
	linked(c.Trace(TraceID("0list"))["list expanded"], root, of["list expanded"].GetSpanId())

	if r := c.Resource(); r["service.name"] != "dirpost" || r["service.version"] != "1.2.3" || r["service.instance.id"] != "mail1" {
		t.Errorf("the service is %v", r)
	}
	if _, header := c.Requests(); header.Get("Authorization") != "Bearer s3cret" {
		t.Errorf("the header is %v", header)
	}
	if sent := a.count("sent") + b.count("sent"); int(sent) != len(c.Spans()) || sent != 10 {
		t.Errorf("%v sent, %d received", sent, len(c.Spans()))
	}
}

// TestPersonal: what is about people leaves the house only if somebody wants it, what
// is secret never.
func TestPersonal(t *testing.T) {
	t.Parallel()
	for _, personal := range []bool{false, true} {
		c := testenv.OTLP(t)
		config := config(c)
		config.Personal = personal
		tr, _ := newTracer(t, config, event.Discard)
		for _, e := range message(time.Now()) {
			tr.Emit(t.Context(), e)
		}
		tr.Close()
		var all []byte
		for _, s := range c.Spans() {
			b, err := proto.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		for _, word := range []string{"alice", "bob", "carol", "corp.example", "else.example", "192.0.2.7"} {
			if bytes.Contains(all, []byte(word)) != personal {
				t.Errorf("personal is %v, and %q is sent or not", personal, word)
			}
		}
		for _, word := range []string{"dirpost.queue_id", "0message", "dirpost.status", "delivered", "dirpost.size"} {
			if !bytes.Contains(all, []byte(word)) {
				t.Errorf("personal is %v, and %q is not sent", personal, word)
			}
		}
		if bytes.Contains(all, []byte("hunter2")) || bytes.Contains(all, []byte("s3cret")) {
			t.Error("a secret is sent")
		}
	}
}

// TestTraceID: the documentation says how an administrator computes it.
func TestTraceID(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("sh", "-c", "printf %s 0message | sha256sum | cut -c1-32").Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != TraceID("0message") {
		t.Errorf("sha256sum says %q (%v), we %q", got, err, TraceID("0message"))
	}
}

func TestSample(t *testing.T) {
	t.Parallel()
	const all = 10000
	for _, share := range []float64{0, 0.1, 0.5, 1} {
		n := 0
		for i := range all {
			if idsOf(time.Duration(i).String()).in(share) {
				n++
			}
		}
		if got := float64(n) / all; got < share-0.02 || got > share+0.02 {
			t.Errorf("the share %v gives %v", share, got)
		}
	}
	c := testenv.OTLP(t)
	config := config(c)
	config.Sample = 0
	var log lines
	tr, _ := newTracer(t, config, &log)
	for _, e := range message(time.Now()) {
		tr.Emit(t.Context(), e)
	}
	tr.Close()
	if len(c.Spans()) > 0 || find(log.all[0].Attrs, "trace_id") != "" {
		t.Errorf("a sample of nothing sends %d spans, logs %v", len(c.Spans()), log.all[0].Attrs)
	}
}

// Off, what stages say for traces costs nothing.
func TestOffCostsNothing(t *testing.T) {
	if n := testing.AllocsPerRun(1000, off()); n != 0 {
		t.Errorf("%v allocations an event", n)
	}
}

func BenchmarkOff(b *testing.B) {
	f := off()
	b.ReportAllocs()
	for b.Loop() {
		f()
	}
}

// off emits an event to a node without traces, from clock to sink.
func off() func() {
	sink, ctx := event.Discard, context.Background()
	attrs := []slog.Attr{slog.String("queue_id", "0message")}
	return func() {
		began := time.Now()
		sink.Emit(ctx, event.Event{Room: "mta/intake", Msg: "message accepted", Trace: "0message", Attrs: attrs, Span: event.Span{
			Name: "message", Root: true, Took: time.Since(began), Steps: [3]event.Step{{Name: "plan", Took: 1}, {Name: "content", Took: 2}, {Name: "commit", Took: 3}},
		}})
	}
}

func BenchmarkOn(b *testing.B) {
	c := testenv.OTLP(b)
	tr, err := New(config(c), event.Discard, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	e := message(time.Now())[1]
	b.ReportAllocs()
	for b.Loop() {
		tr.Emit(context.Background(), e)
	}
}
