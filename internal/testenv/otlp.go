package testenv

import (
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A Collector is the receiving end of OTLP over HTTPS, strict about what the
// specification asks of who sends. It understands what comes with the messages that
// OpenTelemetry publishes, and keeps the spans.
type Collector struct {
	URL    string // https://127.0.0.1:PORT
	CAFile string
	Roots  *x509.CertPool

	t      testing.TB
	server *httptest.Server

	mu       sync.Mutex // guards what follows
	answer   func(w http.ResponseWriter, n int) bool
	requests int
	spans    []*tracepb.Span
	resource map[string]string
	header   http.Header
}

// OTLP starts a Collector. It ends with the test.
func OTLP(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{t: t, resource: map[string]string{}}
	c.server = httptest.NewUnstartedServer(c)
	c.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	cert := Certificate(t)
	c.server.TLS = &tls.Config{Certificates: []tls.Certificate{cert.TLS}}
	c.server.StartTLS()
	t.Cleanup(c.server.Close)
	c.URL, c.Roots, c.CAFile = c.server.URL, cert.Pool, cert.CAFile
	return c
}

// Answer has f answer the nth request from now on. Where it returns false it has
// written nothing and the request is taken as always.
func (c *Collector) Answer(f func(w http.ResponseWriter, n int) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = f
}

// ServeHTTP implements http.Handler.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests++
	c.header = r.Header
	answer, n := c.answer, c.requests
	c.mu.Unlock()
	if answer != nil && answer(w, n) {
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("collector: %s %s with %s", r.Method, r.URL, r.Header)
	}
	var data tracepb.TracesData // as ExportTraceServiceRequest, which brings gRPC
	z, err := gzip.NewReader(r.Body)
	if err == nil {
		var body []byte
		if body, err = io.ReadAll(z); err == nil {
			err = proto.Unmarshal(body, &data)
		}
	}
	if err != nil {
		c.t.Errorf("collector: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.take(&data)
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty ExportTraceServiceResponse
}

func (c *Collector) take(data *tracepb.TracesData) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range data.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			c.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				if len(s.TraceId) != 16 || len(s.SpanId) != 8 || s.Name == "" || s.StartTimeUnixNano == 0 || s.EndTimeUnixNano < s.StartTimeUnixNano {
					c.t.Errorf("collector: the span %v is none", s)
				}
			}
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

// Spans returns the spans that have come so far.
func (c *Collector) Spans() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Trace returns the spans of one trace, named by its id in hexadecimal, by their
// names; of several with the same name the last.
func (c *Collector) Trace(id string) map[string]*tracepb.Span {
	all := map[string]*tracepb.Span{}
	for _, s := range c.Spans() {
		if hex.EncodeToString(s.TraceId) == id {
			all[s.Name] = s
		}
	}
	return all
}

// Requests returns how many requests have come, and the header of the last one.
func (c *Collector) Requests() (int, http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests, c.header
}

// Resource returns what the spans say of who sends them.
func (c *Collector) Resource() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.resource)
}
