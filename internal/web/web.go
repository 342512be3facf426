package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"dirpost/internal/tlsconf"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config is what an administrator sets of the web listeners.
type Config struct {
	// Hostname is where clients are redirected to that do not say which host they
	// want.
	Hostname string
	// HTTPSPort is the port of the HTTPS listener as clients see it; 0 is 443.
	HTTPSPort int
	// Allowed are the networks that may read /metrics and the details of /healthz;
	// none: loopback only.
	Allowed []netip.Prefix
	// ShutdownGrace is the time for requests under way; 0 is 10 s.
	ShutdownGrace time.Duration
}

// Validate reports what cannot be meant.
func (c Config) Validate() error {
	if c.HTTPSPort < 0 || c.HTTPSPort > 65535 {
		return fmt.Errorf("HTTPS port %d", c.HTTPSPort)
	}
	if c.ShutdownGrace < 0 {
		return errors.New("negative shutdown grace")
	}
	return nil
}

// Server is the web server of a node.
type Server struct {
	config Config
	log    *slog.Logger
	health health
	plain  *http.ServeMux
	secure *http.ServeMux
	status *http.ServeMux
	acme   http.Handler

	requests *prometheus.CounterVec   // code: 2xx, 3xx, 4xx, 5xx
	seconds  *prometheus.HistogramVec // likewise
}

// New returns a server that answers /metrics from metrics and /healthz from
// checks, by name of the component.
func New(c Config, metrics prometheus.Gatherer, checks map[string]Check, log *slog.Logger) *Server {
	if len(c.Allowed) == 0 {
		c.Allowed = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	if c.ShutdownGrace == 0 {
		c.ShutdownGrace = 10 * time.Second
	}
	s := &Server{
		config: c, log: log, health: health{checks: checks},
		plain: http.NewServeMux(), secure: http.NewServeMux(), status: http.NewServeMux(), acme: http.NotFoundHandler(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_web_requests_total", Help: "Requests by the class of their answer.",
		}, []string{"code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dirpost_web_request_seconds", Help: "Time from a request to the end of its answer, what the client reads of it included.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10},
		}, []string{"code"}),
	}
	expose := s.allowedOnly(promhttp.HandlerFor(metrics, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}))
	for _, mux := range []*http.ServeMux{s.plain, s.secure, s.status} {
		mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { s.health.serve(w, r, s.allowed(r)) })
		mux.Handle("GET /metrics", expose)
	}
	// Whoever watches the process must not end it because the database is away.
	s.status.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n") // the client has left
	})
	s.plain.HandleFunc("GET /.well-known/acme-challenge/", func(w http.ResponseWriter, r *http.Request) { s.acme.ServeHTTP(w, r) })
	s.plain.HandleFunc("/", s.redirect)
	return s
}

// Collectors are the metrics of the server, to be registered by the caller.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.requests, s.seconds}
}

// Handle mounts a page on HTTPS; the pattern is that of http.ServeMux.
func (s *Server) Handle(pattern string, h http.Handler) { s.secure.Handle(pattern, h) }

// HandlePlain mounts on HTTP what must be had without TLS (autoconfiguration of
// clients looks there too). Never a page that asks for a password.
func (s *Server) HandlePlain(pattern string, h http.Handler) { s.plain.Handle(pattern, h) }

// HandleACME serves the challenges of RFC 8555 §8.3.
func (s *Server) HandleACME(h http.Handler) { s.acme = h }

// ServePlain serves HTTP on l until ctx ends.
func (s *Server) ServePlain(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, s.plain)
}

// ServeStatus serves /healthz, /livez and /metrics alone on l, in clear, until ctx
// ends: for those who watch the node.
func (s *Server) ServeStatus(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, s.status)
}

// ServeTLS serves HTTPS on l until ctx ends.
func (s *Server) ServeTLS(ctx context.Context, l net.Listener, config *tls.Config) error {
	return s.serve(ctx, tls.NewListener(shownListener{l}, tlsconf.Speak(config, "h2", "http/1.1")), secureHeaders(s.secure))
}

func (s *Server) serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           s.count(h),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    96 << 10, // a Kerberos ticket has up to 48,000 octets, in base64
		ConnContext:       withShown,
		// Failed handshakes of port scanners are of no interest.
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.ShutdownGrace)
		defer cancel()
		err := server.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		stopped <- err
	})
	err := server.Serve(l)
	if stop() { // not asked to
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return <-stopped
}

// redirect sends the client to the same page on HTTPS.
func (s *Server) redirect(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789.:-") != "" || host == "" {
		host = s.config.Hostname
	}
	if host == "" {
		http.Error(w, "HTTPS only", http.StatusBadRequest)
		return
	}
	if p := s.config.HTTPSPort; p != 0 && p != 443 {
		host = net.JoinHostPort(host, fmt.Sprint(p))
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	// 308 keeps the method, so that a form that was sent in clear fails visibly on
	// HTTPS instead of becoming a GET.
	http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusPermanentRedirect)
}

// allowed reports whether the connected address may see what is internal.
func (s *Server) allowed(r *http.Request) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	for _, p := range s.config.Allowed {
		if p.Contains(ap.Addr().Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// allowedOnly hides h from everybody else.
func (s *Server) allowedOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed(r) {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// secureHeaders sets what holds for every page. An owner whose page has scripts
// or images sets a Content-Security-Policy of its own.
func secureHeaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Strict-Transport-Security", "max-age=31536000") // RFC 6797 §6.1
		head.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("X-Frame-Options", "DENY")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.ServeHTTP(w, r)
	})
}

// count counts answers and their time.
func (s *Server) count(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		began := time.Now()
		defer func() {
			class := fmt.Sprintf("%dxx", c.code/100)
			s.requests.WithLabelValues(class).Inc()
			s.seconds.WithLabelValues(class).Observe(time.Since(began).Seconds())
		}()
		h.ServeHTTP(c, r)
	})
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	code int
}

// WriteHeader remembers and passes on.
func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController through.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
