package web

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"dirpost/internal/testenv"

	"github.com/prometheus/client_golang/prometheus"
)

type site struct {
	*Server
	plain, secure, status string
	client                *http.Client
}

// start serves on free ports of the loopback.
func start(t *testing.T, c Config, checks map[string]Check) *site {
	t.Helper()
	cert := testenv.Certificate(t)
	reg := prometheus.NewRegistry()
	s := &site{Server: New(c, reg, checks, slog.New(slog.DiscardHandler))}
	reg.MustRegister(s.Collectors()...)
	s.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cert.Pool}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.Handle("GET /page", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	s.HandleACME(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "token") }))

	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 3)
	var ls [3]net.Listener
	for i := range ls {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ls[i] = l
	}
	s.plain, s.secure, s.status = "http://"+ls[0].Addr().String(), "https://"+ls[1].Addr().String(), "http://"+ls[2].Addr().String()
	go func() { over <- s.ServePlain(ctx, ls[0]) }()
	go func() { over <- s.ServeTLS(ctx, ls[1], &tls.Config{Certificates: []tls.Certificate{cert.TLS}}) }()
	go func() { over <- s.ServeStatus(ctx, ls[2]) }()
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		cancel()
		for range 3 {
			if err := <-over; err != nil {
				t.Errorf("serve: %v", err)
			}
		}
	})
	return s
}

func (s *site) get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	res, err := s.client.Get(url)
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

func TestPages(t *testing.T) {
	t.Parallel()
	s := start(t, Config{HTTPSPort: 10443}, nil)
	res, body := s.get(t, s.secure+"/page")
	if res.StatusCode != 200 || body != "HTTP/2.0" {
		t.Errorf("page: %s %s", res.Status, body)
	}
	for _, h := range []string{"Strict-Transport-Security", "Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"} {
		if res.Header.Get(h) == "" {
			t.Errorf("page without %s", h)
		}
	}
	if res, _ := s.get(t, s.secure+"/other"); res.StatusCode != 404 || res.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("no page: %s", res.Status)
	}
	// RFC 8555 §8.3: the challenge is fetched over HTTP.
	if res, body := s.get(t, s.plain+"/.well-known/acme-challenge/x"); res.StatusCode != 200 || body != "token" {
		t.Errorf("ACME: %s %s", res.Status, body)
	}
	if res, _ := s.get(t, s.plain+"/page?a=b"); res.StatusCode != 308 || res.Header.Get("Location") != "https://127.0.0.1:10443/page?a=b" {
		t.Errorf("redirect: %s to %s", res.Status, res.Header.Get("Location"))
	}
	if res, body := s.get(t, s.plain+"/metrics"); res.StatusCode != 200 || !strings.Contains(body, `dirpost_web_requests_total{code="3xx"} 1`) {
		t.Errorf("metrics: %s %s", res.Status, body)
	}
}

func TestRedirectHost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host, hostname string
		port           int
		want           string
	}{
		{"mail.corp.example", "", 0, "https://mail.corp.example/a"},
		{"mail.corp.example:80", "", 443, "https://mail.corp.example/a"},
		{"[2001:db8::1]:80", "", 0, "https://[2001:db8::1]/a"},
		{"[2001:db8::1]", "", 8443, "https://[2001:db8::1]:8443/a"},
		{"a@b", "mail.corp.example", 0, "https://mail.corp.example/a"},
		{"", "mail.corp.example", 0, "https://mail.corp.example/a"},
		{"", "", 0, ""},
	} {
		s := New(Config{Hostname: c.hostname, HTTPSPort: c.port}, prometheus.NewRegistry(), nil, slog.New(slog.DiscardHandler))
		r, err := http.NewRequest("GET", "http://x/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = c.host
		w := &recorder{header: http.Header{}}
		s.redirect(w, r)
		if got := w.header.Get("Location"); got != c.want {
			t.Errorf("%q: redirected to %q, want %q", c.host, got, c.want)
		}
	}
}

type recorder struct{ header http.Header }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (r *recorder) WriteHeader(int)             {}

func TestHealth(t *testing.T) {
	t.Parallel()
	answer := func(s State, d string) Check { return func(context.Context) (State, string) { return s, d } }
	for name, c := range map[string]struct {
		checks map[string]Check
		code   int
		state  State
	}{
		"all well":    {map[string]Check{"database": answer(OK, "")}, 200, OK},
		"degraded":    {map[string]Check{"database": answer(OK, ""), "directory": answer(Degraded, "stale for 3m")}, 200, Degraded},
		"down":        {map[string]Check{"database": answer(Down, "refused"), "directory": answer(Degraded, "")}, 503, Down},
		"no checks":   {nil, 200, OK},
		"one is down": {map[string]Check{"a": answer(OK, ""), "b": answer(Down, "")}, 503, Down},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{}, c.checks)
			for _, base := range []string{s.plain, s.secure} {
				res, body := s.get(t, base+"/healthz")
				var r report
				if err := json.Unmarshal([]byte(body), &r); err != nil {
					t.Fatal(err)
				}
				if res.StatusCode != c.code || r.State != c.state || len(r.Components) != len(c.checks) {
					t.Errorf("%s: %s", res.Status, body)
				}
			}
		})
	}
}

// Strangers learn whether the node is well, and nothing else.
func TestStrangers(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Allowed: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		map[string]Check{"database": func(context.Context) (State, string) { return Down, "secret detail" }})
	if res, body := s.get(t, s.plain+"/healthz"); res.StatusCode != 503 || strings.Contains(body, "database") {
		t.Errorf("health: %s %s", res.Status, body)
	}
	if res, _ := s.get(t, s.plain+"/metrics"); res.StatusCode != 404 {
		t.Errorf("metrics: %s", res.Status)
	}
}

// The status listener tells that the process runs from that it can serve, and has no
// page.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := start(t, Config{}, map[string]Check{"database": func(context.Context) (State, string) { return Down, "" }})
	for path, want := range map[string]int{"/livez": 200, "/healthz": 503, "/metrics": 200, "/page": 404, "/": 404, "/.well-known/acme-challenge/x": 404} {
		if res, body := s.get(t, s.status+path); res.StatusCode != want {
			t.Errorf("%s: %s %s", path, res.Status, body)
		}
	}
	if res, _ := s.get(t, s.plain+"/livez"); res.StatusCode != 308 {
		t.Errorf("/livez for the world: %s", res.Status)
	}
}

// A component that does not answer is down, and does not hold the others.
func TestHangingCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health{checks: map[string]Check{
			"hangs": func(ctx context.Context) (State, string) { <-ctx.Done(); <-t.Context().Done(); return OK, "" },
			"fine":  func(context.Context) (State, string) { return OK, "" },
		}}
		r := h.report(t.Context())
		if r.State != Down || r.Components["hangs"].State != Down || r.Components["fine"].State != OK {
			t.Errorf("%+v", r)
		}
	})
}
