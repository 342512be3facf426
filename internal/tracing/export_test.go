package tracing

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"dirpost/internal/event"
	"dirpost/internal/testenv"

	"google.golang.org/protobuf/encoding/protowire"
)

// refusal is an ExportTraceServiceResponse that has not taken n spans.
func refusal(n uint64, text string) []byte {
	var in []byte
	in = protowire.AppendTag(in, 1, protowire.VarintType)
	in = protowire.AppendVarint(in, n)
	in = protowire.AppendTag(in, 2, protowire.BytesType)
	in = protowire.AppendString(in, text)
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), in)
}

// TestAnswers: what becomes of spans after each answer of a collector.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                  string
		answer                func(w http.ResponseWriter, n int) bool
		requests              int
		sent, refused, failed float64
		log, notInLog         string
	}{
		{"taken", nil, 1, 10, 0, 0, "", "traces"},
		{"busy once", func(w http.ResponseWriter, n int) bool {
			if n == 1 {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return n == 1
		}, 2, 10, 0, 0, "traces are sent again", ""},
		{"busy for ever", func(w http.ResponseWriter, _ int) bool { w.WriteHeader(http.StatusTooManyRequests); return true }, maxTries, 0, 0, 10, "429 Too Many Requests", "again"},
		{"closes", func(http.ResponseWriter, int) bool { panic(http.ErrAbortHandler) }, maxTries, 0, 0, 10, "traces cannot be sent", "again"},
		{"not ours", func(w http.ResponseWriter, _ int) bool { w.WriteHeader(http.StatusUnauthorized); return true }, 1, 0, 10, 0, "401 Unauthorized", ""},
		{"elsewhere", func(w http.ResponseWriter, _ int) bool {
			w.Header().Set("Location", "/v2/traces")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}, 1, 0, 10, 0, "307", ""},
		{"some not", func(w http.ResponseWriter, _ int) bool { _, _ = w.Write(refusal(3, "too old")); return true }, 1, 7, 3, 0, "too old", ""},
		{"a warning", func(w http.ResponseWriter, _ int) bool { _, _ = w.Write(refusal(0, "use v2")); return true }, 1, 10, 0, 0, "", "traces"},
		{"nonsense", func(w http.ResponseWriter, _ int) bool { _, _ = w.Write([]byte("OK\n")); return true }, 1, 10, 0, 0, "", "traces"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := testenv.OTLP(t)
			c.Answer(tt.answer)
			tr, log := newTracer(t, config(c), event.Discard)
			for _, e := range message(time.Now()) {
				tr.Emit(t.Context(), e)
			}
			for len(tr.queue) > 0 {
				tr.pending = append(tr.pending, <-tr.queue...)
			}
			tr.send(t.Context())
			if n, _ := c.Requests(); n != tt.requests || tr.count("sent") != tt.sent || tr.count("refused") != tt.refused || tr.count("failed") != tt.failed {
				t.Errorf("%d requests, %v sent, %v refused, %v failed", n, tr.count("sent"), tr.count("refused"), tr.count("failed"))
			}
			if !strings.Contains(log.String(), tt.log) || tt.notInLog != "" && strings.Contains(log.String(), tt.notInLog) || strings.Contains(log.String(), "s3cret") {
				t.Errorf("the log says %q", log.String())
			}
		})
	}
}

// TestRun: spans are sent while the process runs, and those that are left at its end.
func TestRun(t *testing.T) {
	t.Parallel()
	c := testenv.OTLP(t)
	tr, _ := newTracer(t, config(c), event.Discard)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); _ = tr.Run(ctx) }()
	tr.Emit(ctx, message(time.Now())[1])
	for deadline := time.Now().Add(time.Minute); len(c.Spans()) < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is sent")
		}
	}
	cancel()
	<-over
	for range 200 {
		tr.Emit(t.Context(), message(time.Now())[1])
	}
	tr.Close()
	ids := map[string]bool{} // a request that the end of Run has broken off may come twice
	for _, s := range c.Spans() {
		ids[string(s.SpanId)] = true
	}
	// The root is the same span each time, the three others are not.
	if want := 1 + 3*201; len(ids) != want {
		t.Errorf("%d spans are sent, want %d", len(ids), want)
	}
}

// TestNeverWaits: a collector that does not answer costs spans, and three seconds at
// the end.
func TestNeverWaits(t *testing.T) {
	t.Parallel()
	c := testenv.OTLP(t)
	hang, reached := make(chan struct{}), make(chan struct{}, 1)
	defer close(hang)
	c.Answer(func(http.ResponseWriter, int) bool { reached <- struct{}{}; <-hang; return true })
	tr, _ := newTracer(t, config(c), event.Discard)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); _ = tr.Run(ctx) }()
	tr.Emit(ctx, message(time.Now())[1])
	<-reached
	for range maxQueue + 10 {
		tr.Emit(ctx, message(time.Now())[1])
	}
	if got := tr.count("dropped"); got != 40 {
		t.Errorf("%v spans are dropped, want 40", got)
	}
	cancel()
	<-over
	start := time.Now()
	tr.Close()
	if took := time.Since(start); took > time.Minute { // 3 s, on a machine that has time
		t.Errorf("the end took %v", took)
	}
	if tr.count("sent") != 0 || tr.count("failed") == 0 {
		t.Errorf("%v sent, %v failed", tr.count("sent"), tr.count("failed"))
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	header := http.Header{"Authorization": {"Bearer s3cret"}}
	for _, tt := range []struct {
		c    Config
		want string // "" for good
	}{
		{Config{Endpoint: "https://otel.example.com:4318", Sample: 1, Header: header}, ""},
		{Config{Endpoint: "http://otel.example.com:4318/x", Sample: 0.1}, ""},
		{Config{Endpoint: "http://127.0.0.1:4318", Personal: true, Header: header}, ""},
		{Config{Endpoint: "http://otel.example.com:4318", Header: header}, "by https:// only"},
		{Config{Endpoint: "http://otel.example.com:4318", Personal: true}, "by https:// only"},
		{Config{Endpoint: "https://user:pass@otel.example.com"}, "without user and password"},
		{Config{Endpoint: "otel.example.com:4318"}, "want a URL"},
		{Config{Endpoint: "https://otel.example.com", Sample: 1.5}, "no share"},
	} {
		err := tt.c.Validate()
		if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.c.Endpoint, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "pass@") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
	for endpoint, want := range map[string]string{"https://a": "https://a/v1/traces", "https://a/": "https://a/v1/traces", "https://a/otlp/v1/traces": "https://a/otlp/v1/traces"} {
		if u, err := (Config{Endpoint: endpoint}).url(); err != nil || u.String() != want {
			t.Errorf("%s goes to %s (%v), want %s", endpoint, u, err, want)
		}
	}
}

// FuzzPartial: no answer of a collector does harm, and one that is well-formed is
// read.
func FuzzPartial(f *testing.F) {
	f.Add(refusal(3, "too old"))
	f.Add([]byte("OK\n"))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		err := partial(b)
		if r, ok := err.(*refusedError); ok && (r.spans <= 0 || len(r.text) > maxValue) {
			t.Errorf("%d spans, %q", r.spans, r.text)
		}
	})
}
