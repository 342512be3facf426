package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"dirpost/internal/event"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	maxBatch    = 512             // spans in a request
	sendEvery   = 2 * time.Second // or earlier, with maxBatch
	requestTime = 10 * time.Second
	firstRetry  = time.Second
	maxTries    = 4 // of a batch
	maxPause    = 30 * time.Second
	closeTime   = 3 * time.Second
	maxAnswer   = 64 << 10
)

// newClient returns the client for the collector alone.
func newClient(c Config) *http.Client {
	return &http.Client{
		Timeout: requestTime,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true, MaxIdleConns: 1, IdleConnTimeout: time.Minute,
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Run sends spans until ctx is done. A collector that is away costs spans, nothing
// else.
func (t *Tracer) Run(ctx context.Context) error {
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	for {
		select {
		case spans := <-t.queue:
			if t.pending = append(t.pending, spans...); len(t.pending) < maxBatch {
				continue
			}
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		t.send(ctx)
	}
}

// Close sends what is left, once Run and everybody who emits has ended, for three
// seconds at most.
func (t *Tracer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	defer t.client.CloseIdleConnections()
	for {
		select {
		case spans := <-t.queue:
			if t.pending = append(t.pending, spans...); len(t.pending) >= maxBatch {
				t.sendLast(ctx)
			}
			continue
		default:
		}
		t.sendLast(ctx)
		return
	}
}

func (t *Tracer) sendLast(ctx context.Context) {
	if len(t.pending) > 0 {
		t.settle(t.post(ctx))
	}
}

// send sends what is pending, several times if the collector asks for it. If ctx ends
// meanwhile it stays pending.
func (t *Tracer) send(ctx context.Context) {
	if len(t.pending) == 0 {
		return
	}
	pause := t.retry
	for try := 1; ; try++ {
		err := t.post(ctx)
		if ctx.Err() != nil && err != nil {
			return
		}
		var busy *busyError
		if !errors.As(err, &busy) || try == maxTries {
			t.settle(err)
			return
		}
		t.report(err)
		wait := min(max(busy.after, pause+rand.N(pause/2+1)), maxPause)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		pause *= 2
	}
}

// Probe asks the collector of c to take no spans: whether it answers, and lets us in.
func Probe(ctx context.Context, c Config) error {
	t, err := New(c, event.Discard, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer t.client.CloseIdleConnections()
	return t.post(ctx)
}

// settle counts what became of the pending spans, and forgets them.
func (t *Tracer) settle(err error) {
	n := float64(len(t.pending))
	clear(t.pending)
	t.pending = t.pending[:0]
	var refused *refusedError
	switch {
	case err == nil:
		t.spans.WithLabelValues("sent").Add(n)
	case errors.As(err, &refused):
		bad := n
		if refused.spans > 0 { // the others were taken
			bad = min(n, float64(refused.spans))
		}
		t.spans.WithLabelValues("refused").Add(bad)
		t.spans.WithLabelValues("sent").Add(n - bad)
	default:
		t.spans.WithLabelValues("failed").Add(n)
	}
	t.report(err)
}

// report logs when the collector goes away and comes back, once each.
func (t *Tracer) report(err error) {
	switch {
	case err != nil && !t.away:
		t.log.Warn("traces cannot be sent, and are lost after a while; mail goes on as always", "endpoint", t.url, "err", err)
	case err == nil && t.away:
		t.log.Info("traces are sent again", "endpoint", t.url)
	}
	t.away = err != nil
}

// busyError is an answer that asks to try again, or none.
type busyError struct {
	err   error
	after time.Duration // not earlier
}

func (e *busyError) Error() string { return e.err.Error() }
func (e *busyError) Unwrap() error { return e.err }

// refusedError is an answer that nothing helps against.
type refusedError struct {
	spans int64 // 0: all
	text  string
}

func (e *refusedError) Error() string { return "the collector refuses spans: " + e.text }

// post sends what is pending in one request.
func (t *Tracer) post(ctx context.Context) error {
	body, err := t.body()
	if err != nil {
		return &refusedError{text: err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return &refusedError{text: err.Error()}
	}
	for name, values := range t.config.Header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "gzip")
	req.Header.Set("User-Agent", "dirpost/"+t.config.Version)
	res, err := t.client.Do(req)
	if err != nil {
		return &busyError{err: err}
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return &busyError{err: err}
	}
	switch res.StatusCode {
	case http.StatusOK:
		return partial(answer)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &busyError{err: errors.New(res.Status), after: retryAfter(res.Header.Get("Retry-After"))}
	}
	return &refusedError{text: res.Status}
}

// retryAfter reads a number of seconds; what is none is 0.
func retryAfter(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// body is the pending spans as ExportTraceServiceRequest, which has the same form as
// TracesData.
func (t *Tracer) body() ([]byte, error) {
	attrs := []*common.KeyValue{{Key: "service.name", Value: text("dirpost")}}
	for _, a := range [][2]string{{"service.version", t.config.Version}, {"service.instance.id", t.config.Node}} {
		if a[1] != "" {
			attrs = append(attrs, &common.KeyValue{Key: a[0], Value: text(a[1])})
		}
	}
	b, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:   &resource.Resource{Attributes: attrs},
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: &common.InstrumentationScope{Name: "dirpost", Version: t.config.Version}, Spans: t.pending}},
	}}})
	if err != nil {
		return nil, fmt.Errorf("encode spans: %w", err)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		return nil, fmt.Errorf("compress spans: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress spans: %w", err)
	}
	return out.Bytes(), nil
}

// partial reads ExportTraceServiceResponse: which spans the collector did not take. An
// answer that cannot be read is that of a collector which took them. Its package is
// not used since it brings gRPC.
func partial(answer []byte) error {
	var r refusedError
	each(answer, func(n protowire.Number, v []byte, _ uint64) {
		if n != 1 { // partial_success
			return
		}
		each(v, func(n protowire.Number, v []byte, number uint64) {
			switch n {
			case 1:
				r.spans = int64(number)
			case 2:
				r.text = shorten(string(v))
			}
		})
	})
	if r.spans <= 0 { // a text alone is a warning
		return nil
	}
	return &r
}

// each calls f with the fields of a protobuf message that are numbers or octets, as
// far as it can be read.
func each(b []byte, f func(n protowire.Number, v []byte, number uint64)) {
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return
		}
		b = b[size:]
		switch typ {
		case protowire.VarintType:
			v, size := protowire.ConsumeVarint(b)
			if size < 0 {
				return
			}
			f(n, nil, v)
			b = b[size:]
		case protowire.BytesType:
			v, size := protowire.ConsumeBytes(b)
			if size < 0 {
				return
			}
			f(n, v, 0)
			b = b[size:]
		default:
			if size = protowire.ConsumeFieldValue(n, typ, b); size < 0 {
				return
			}
			b = b[size:]
		}
	}
}
