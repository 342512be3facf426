package web

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"dirpost/internal/testenv"
	"dirpost/internal/tlsconf"

	"github.com/prometheus/client_golang/prometheus"
)

// TestShown: a page can know which certificate its client was shown, by HTTP/1 and 2,
// and gets the longest ticket there is.
func TestShown(t *testing.T) {
	t.Parallel()
	cert := testenv.Certificate(t)
	store, err := tlsconf.Open(tlsconf.Config{Pairs: []tlsconf.Pair{{CertFile: cert.CertFile, KeyFile: cert.KeyFile}}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{}, prometheus.NewRegistry(), nil, slog.New(slog.DiscardHandler))
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := Shown(r); c != nil {
			_, _ = w.Write(c.Raw)
		}
	})
	s.Handle("GET /", page)
	s.HandlePlain("GET /plain", page)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 2)
	listen := func(serve func(net.Listener) error) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { over <- serve(l) }()
		return l.Addr().String()
	}
	plain := listen(func(l net.Listener) error { return s.ServePlain(ctx, l) })
	secure := listen(func(l net.Listener) error { return s.ServeTLS(ctx, l, store.Config()) })
	get := func(c *http.Client, url string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Negotiate "+strings.Repeat("A", 64000))
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(b)
	}
	for _, http2 := range []bool{false, true} {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cert.Pool}, ForceAttemptHTTP2: http2}}
		res, body := get(c, "https://"+secure+"/")
		if res.StatusCode != http.StatusOK || body != string(res.TLS.PeerCertificates[0].Raw) || (res.ProtoMajor == 2) != http2 {
			t.Errorf("%s: %s, %d octets", res.Proto, res.Status, len(body))
		}
		c.CloseIdleConnections()
	}
	if res, body := get(http.DefaultClient, "http://"+plain+"/plain"); res.StatusCode != http.StatusOK || body != "" {
		t.Errorf("in clear: %s, %d octets", res.Status, len(body))
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	for range 2 {
		if err := <-over; err != nil {
			t.Error(err)
		}
	}
}
