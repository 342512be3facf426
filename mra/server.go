package mra

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/tlsconf"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrShutdown is the cause of a session's context that ended because the server
// leaves.
var ErrShutdown = errors.New("server shutting down")

// Limit says which limit keeps a client from being served.
type Limit string

// The limits.
const (
	LimitTotal  Limit = "total"  // connections of this server
	LimitClient Limit = "client" // connections of one client address
)

// Handler is a protocol.
type Handler interface {
	// ServeConn serves one client until it leaves. The caller closes c. When ctx
	// ends c is woken, and the handler should say why (context.Cause) and return;
	// what the client has asked for before is done with c.Work(ctx).
	ServeConn(ctx context.Context, c *Conn)
	// Refusal is the line, without CRLF, for a client that is not served because
	// of a limit. It is sent in clear only.
	Refusal(l Limit) string
}

// Config is what an administrator sets of a retrieval server.
type Config struct {
	MaxConnections int           // in total; 0 is 50,000
	MaxPerClient   int           // for one client address; 0 is 2,000: an office behind one address
	MaxPerPerson   int           // sessions of one person; 0 is 100
	ShutdownGrace  time.Duration // for sessions to finish what they do; 0 is 10 s
	// Proxies are the networks whose connections begin with a PROXY header. From
	// elsewhere such a header is an error of syntax.
	Proxies []netip.Prefix
}

// withDefaults is c with what zero stands for.
func (c Config) withDefaults() Config {
	for _, d := range []struct {
		v *int
		n int
	}{{&c.MaxConnections, 50_000}, {&c.MaxPerClient, 2_000}, {&c.MaxPerPerson, 100}} {
		if *d.v == 0 {
			*d.v = d.n
		}
	}
	if c.ShutdownGrace == 0 {
		c.ShutdownGrace = 10 * time.Second
	}
	return c
}

// Validate reports what cannot be meant.
func (c Config) Validate() error {
	if c.MaxConnections < 0 || c.MaxPerClient < 0 || c.MaxPerPerson < 0 || c.ShutdownGrace < 0 {
		return errors.New("limits must not be negative")
	}
	return nil
}

// Server serves one protocol on any number of listeners.
type Server struct {
	protocol string // "imap", "pop3"
	config   Config
	tls      *tls.Config // nil: none
	handler  Handler
	log      *slog.Logger

	total   *counter[struct{}]
	clients *counter[netip.Addr]
	persons *counter[directory.Key]

	bye    time.Duration // byeTime
	shake  time.Duration // handshakeGrace
	parked atomic.Int64  // sessions that fell silent since memory was given back

	open        prometheus.Gauge
	connections *prometheus.CounterVec // tls: none, implicit
	refused     *prometheus.CounterVec // limit: total, client, person
	panics      prometheus.Counter
}

// NewServer returns a server of protocol ("imap", "pop3"), whose clients handler
// serves. tlsConfig may be nil: then there is no TLS.
func NewServer(protocol string, config Config, tlsConfig *tls.Config, handler Handler, log *slog.Logger) *Server {
	config = config.withDefaults()
	if tlsConfig != nil {
		// A client that offers another protocol, a browser above all, gets no
		// handshake: what it sends is not meant for us (RFC 7301 §3.2, RFC 9325
		// §3.8). One that offers nothing is served.
		tlsConfig = tlsconf.Speak(tlsConfig, protocol)
	}
	labels := prometheus.Labels{"protocol": protocol}
	return &Server{
		protocol: protocol, config: config, tls: tlsConfig, handler: handler, log: log, bye: byeTime, shake: handshakeGrace,
		total:   newCounter[struct{}](config.MaxConnections),
		clients: newCounter[netip.Addr](config.MaxPerClient),
		persons: newCounter[directory.Key](config.MaxPerPerson),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dirpost_mra_connections", Help: "Open connections.", ConstLabels: labels}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_mra_connections_total", Help: "Accepted connections.", ConstLabels: labels}, []string{"tls"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_mra_refused_total", Help: "Connections and logins refused because of a limit.", ConstLabels: labels}, []string{"limit"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dirpost_mra_panics_total", Help: "Sessions that ended by a bug of ours. Alert on any.", ConstLabels: labels}),
	}
}

// Collectors are the metrics of the server, to be registered by the caller.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.open, s.connections, s.refused, s.panics}
}

// Serve accepts clients from l until ctx ends; implicit says that TLS comes
// first (RFC 8314 §3). Then it closes l, wakes the sessions so that they say
// goodbye, gives them the grace of the configuration and cuts off what is left. It
// returns when the last session is over: nil, or why l failed.
func (s *Server) Serve(ctx context.Context, l net.Listener, implicit bool) error {
	if implicit && s.tls == nil {
		return fmt.Errorf("listen on %s: no certificate for TLS", l.Addr())
	}
	sessions, end := context.WithCancelCause(context.WithoutCancel(ctx))
	force, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		l.Close() // its error is that of Accept
		end(ErrShutdown)
	})
	defer stop()
	wg.Go(func() { s.tidy(ctx) })

	err := s.accept(ctx, l, func(conn net.Conn) {
		wg.Go(func() {
			s.serve(sessions, force, conn, implicit)
		})
	})
	l.Close()
	end(ErrShutdown)
	defer time.AfterFunc(s.config.ShutdownGrace, func() { cut(ErrShutdown) }).Stop()
	wg.Wait()
	return err
}

// accept hands connections to f until l is closed.
func (s *Server) accept(ctx context.Context, l net.Listener, f func(net.Conn)) error {
	const first, last = 5 * time.Millisecond, time.Second
	pause := first
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = first
			f(conn)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		default:
			// Out of file descriptors, or a client that is gone already.
			s.log.WarnContext(ctx, "accept", "err", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, last)
		}
	}
}

// serve is one connection from first to last; force is when it is cut whatever its
// client is doing. It is where its panics end.
func (s *Server) serve(ctx, force context.Context, conn net.Conn, implicit bool) {
	c := NewConn(conn, s.tls, newSession(), s.log)
	c.server, c.bye, c.shake, c.ending = s, s.bye, s.shake, ctx
	defer context.AfterFunc(force, c.cut)()
	s.open.Inc()
	defer func() {
		if p := recover(); p != nil {
			s.panics.Inc()
			c.Log.ErrorContext(ctx, "panic in session", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
		c.leaving = c.ending.Err() != nil
		c.Close() // nobody is left to tell
		s.open.Dec()
	}()
	if contains(s.config.Proxies, c.Client.Addr()) {
		if err := c.readProxyHeader(); err != nil {
			c.Log.InfoContext(ctx, "connection without its PROXY header", "err", err)
			return
		}
		c.Log = s.log.With("session", c.Session, "client", c.Client.Addr())
	}
	if !s.total.take(struct{}{}) {
		s.refuse(ctx, c, LimitTotal, implicit)
		return
	}
	defer s.total.give(struct{}{})
	key := clientKey(c.Client.Addr())
	if !s.clients.take(key) {
		s.refuse(ctx, c, LimitClient, implicit)
		return
	}
	defer s.clients.give(key)

	if implicit {
		s.connections.WithLabelValues("implicit").Inc()
		if err := c.handshake(force); err != nil { // in clear there is no goodbye
			c.Log.InfoContext(ctx, "connection ended", "err", err)
			return
		}
	} else {
		s.connections.WithLabelValues("none").Inc()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, c.Wake)()
	defer c.startWork(ctx, force)()
	s.handler.ServeConn(ctx, c)
}

// refuse turns a client away. In TLS that would cost the handshake of which the
// limit is to protect us.
func (s *Server) refuse(ctx context.Context, c *Conn, l Limit, implicit bool) {
	s.refused.WithLabelValues(string(l)).Inc()
	c.Log.DebugContext(ctx, "connection refused", "status", string(l))
	if !implicit {
		c.sock.closing = true
		if c.sock.Conn.SetWriteDeadline(time.Now().Add(time.Second)) == nil {
			_, _ = c.Write([]byte(s.handler.Refusal(l) + "\r\n")) // it leaves in any case
		}
	}
}

// newSession makes the id of a session, in the form of a queue id.
func newSession() string {
	return envelope.QueueID(time.Now().UnixMilli()<<21 | rand.Int64N(1<<21)).String()
}
