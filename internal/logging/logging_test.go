package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"dirpost/internal/event"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// slog's own conformance suite.
func TestHandler(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		buf.Reset()
		log, _, err := New(&buf, Config{Format: "json"})
		if err != nil {
			t.Fatal(err)
		}
		return log.Handler()
	}, func(t *testing.T) map[string]any {
		m := map[string]any{}
		if err := json.Unmarshal(buf.Bytes(), &m); err != nil {
			t.Fatalf("%v in %s", err, buf.Bytes())
		}
		return m
	})
}

func TestLine(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 12, 30, 1, 2_345_678, time.FixedZone("CET", 3600))
	for name, c := range map[string]struct {
		level slog.Level
		attr  slog.Attr
		want  string
	}{
		"time in UTC":       {slog.LevelInfo, slog.Time("due", at), `time=2026-11-21T11:30:01.002Z level=info msg=m due=2026-11-21T11:30:01.002Z`},
		"delay in seconds":  {slog.LevelWarn, slog.Duration("delay", 1500*time.Millisecond), `level=warn msg=m delay=1.5`},
		"secret":            {slog.LevelError, slog.Any("arg", Secret("hunter2")), `level=error msg=m arg=[redacted]`},
		"forgotten secret":  {slog.LevelInfo, slog.String("Password", "hunter2"), `msg=m Password=[redacted]`},
		"content":           {slog.LevelInfo, slog.Any("arg", Content("Dear Bob")), `msg=m arg="[redacted, 8 octets]"`},
		"no forged line":    {slog.LevelInfo, slog.String("from", "a\ntime=… level=info"), `msg=m from="a\ntime=… level=info"`},
		"an error is plain": {slog.LevelInfo, slog.Any("err", errors.New("no")), `msg=m err=no`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var buf bytes.Buffer
			log, _, err := New(&buf, Config{})
			if err != nil {
				t.Fatal(err)
			}
			r := slog.NewRecord(at, c.level, "m", 0)
			r.AddAttrs(c.attr)
			if err := log.Handler().Handle(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSuffix(buf.String(), "\n"); !strings.HasSuffix(got, c.want) {
				t.Errorf("got  %s\nwant …%s", got, c.want)
			}
		})
	}
}

func TestSecretInEveryVerb(t *testing.T) {
	t.Parallel()
	type credentials struct{ Password Secret }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{Secret("hunter2"), credentials{"hunter2"}, &credentials{"hunter2"}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "hunter2") || strings.Contains(s, "68756e74") {
				t.Errorf("%s: %s", verb, s)
			}
		}
	}
	if b, err := json.Marshal(credentials{"hunter2"}); err != nil || strings.Contains(string(b), "hunter2") {
		t.Errorf("JSON: %s, %v", b, err)
	}
}

// Trace is for those who were named, at the level that was asked for.
func TestTrace(t *testing.T) {
	t.Parallel()
	log, control, err := New(io.Discard, Config{Trace: []string{"Alice@corp.example", "192.0.2.7"}})
	if err != nil {
		t.Fatal(err)
	}
	alice := log.With("session", "s", "user", "alice@corp.example")
	bob := log.With("user", "bob@corp.example", "client", "192.0.2.8")
	check := func(l *slog.Logger, level slog.Level, want bool) {
		t.Helper()
		if got := l.Enabled(context.Background(), level); got != want {
			t.Errorf("level %v enabled: %v, want %v", level, got, want)
		}
	}
	check(log, slog.LevelInfo, true)
	check(log, slog.LevelDebug, false)
	check(bob, slog.LevelDebug, false)
	check(bob.With("client", "192.0.2.7"), LevelTrace, true)
	check(alice, LevelTrace, true)
	check(alice, LevelTraceAuth, false)
	if err := control.Apply(Config{Level: "warn", Trace: []string{"bob@corp.example"}, TraceLevel: "trace-data"}); err != nil {
		t.Fatal(err)
	}
	check(alice, slog.LevelInfo, false)
	check(bob, LevelTraceData, true)
	check(bob.WithGroup("g"), LevelTraceData, true)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Format: "xml"}, {Level: "loud"}, {Level: "trace"}, {TraceLevel: "x"}} {
		if c.Validate() == nil {
			t.Errorf("%+v accepted", c)
		}
	}
}

func TestSink(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	log, _, err := New(&buf, Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := NewSink(log.With("node", "n1"))
	ctx := t.Context()
	s.Emit(ctx, event.Event{Room: "mta/intake", Msg: "delivered", Trace: "0abc", Attrs: []slog.Attr{slog.String("queue_id", "0abc"), slog.String("to", "a@b")}})
	s.Emit(ctx, event.Event{Room: "mta/intake", Msg: "delivered", Level: slog.LevelDebug})
	s.Emit(ctx, event.Event{Room: "auth", Msg: "login", Trace: "s1"})
	for i := range 2 * maxKinds {
		s.Emit(ctx, event.Event{Level: slog.LevelDebug, Room: "bad", Msg: fmt.Sprint(i)})
	}
	lines := strings.Split(buf.String(), "\n")
	for i, want := range []string{"msg=delivered node=n1 room=mta/intake queue_id=0abc to=a@b", "msg=login node=n1 room=auth trace=s1", ""} {
		if !strings.HasSuffix(lines[i], want) {
			t.Errorf("line %d: %s\nwant …%s", i, lines[i], want)
		}
	}
	var m dto.Metric
	if err := s.events.WithLabelValues("mta/intake", "delivered").Write(&m); err != nil || m.GetCounter().GetValue() != 2 {
		t.Errorf("counted %v, %v", m.GetCounter().GetValue(), err)
	}
	ch := make(chan prometheus.Metric, 3*maxKinds)
	s.events.Collect(ch)
	if n := len(ch); n > maxKinds+1 {
		t.Errorf("%d series", n)
	}
}

func BenchmarkEmit(b *testing.B) {
	log, _, err := New(io.Discard, Config{})
	if err != nil {
		b.Fatal(err)
	}
	s := NewSink(log.With("node", "n1"))
	attrs := []slog.Attr{slog.String("queue_id", "0123456789bcd"), slog.String("from", "alice@corp.example"),
		slog.String("to", "bob@corp.example"), slog.Int("size", 4711), slog.Duration("delay", time.Millisecond), slog.String("status", "sent")}
	b.ReportAllocs()
	for b.Loop() {
		s.Emit(context.Background(), event.Event{Room: "mta/intake", Msg: "delivered", Attrs: attrs})
	}
}
