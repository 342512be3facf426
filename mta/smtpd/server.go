package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/mta/policy"
)

// Deps are what a Server works with.
type Deps struct {
	Door   Door
	Auth   Authenticator  // for an MSA
	Policy *policy.Policy // nil: everything is accepted
	TLS    *tls.Config    // nil: no TLS
	Events event.Sink     // nil: nobody listens
	Log    *slog.Logger
	// Metrics may be shared with other servers; nil: nobody reads them.
	Metrics *Metrics
	// Name returns the verified host name of a client address, "" if it has
	// none. nil: nobody asks. It keeps to the deadline of ctx.
	Name func(ctx context.Context, a netip.Addr) string
}

// Server serves SMTP. Make it with New.
type Server struct {
	cfg  Config
	deps Deps

	count    counters
	patience patience
	buffers  sync.Pool    // of *[]byte, contentBuffer octets each
	open     atomic.Int64 // connections that were accepted and have not ended

	mu     sync.Mutex // guards the rest
	conns  map[*conn]struct{}
	per    map[netip.Addr]int // connections of each client, where they are limited
	ending error              // why no connection may stay, once the server shuts down
}

// patience is how long a connection that ends may take.
type patience struct {
	// words is for our last words to leave, and for a TLS handshake before them.
	words time.Duration
	// hangUp is for the client to read them. One that does not read then has an idle
	// connection, which it looks at before it uses it again, or is no loss. All
	// clients have this time at once, so it is also what they add to a shutdown.
	hangUp time.Duration
}

// contentBuffer is the size of a read while content arrives.
const contentBuffer = 64 << 10

// New returns a server.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("smtp server: %w", err)
	}
	if cfg.ImplicitTLS && deps.TLS == nil {
		return nil, errors.New("smtp server: implicit TLS without a certificate")
	}
	if cfg.Role == MSA && deps.Auth == nil {
		return nil, errors.New("smtp server: submission without authentication")
	}
	if deps.Policy == nil {
		deps.Policy = policy.New()
	}
	if cfg.PostmasterDomain == "" {
		cfg.PostmasterDomain = cfg.Hostname
	}
	if domain, err := envelope.ParseDomain(cfg.PostmasterDomain); err == nil { // Validate has seen to it
		cfg.PostmasterDomain = domain
	}
	if deps.Metrics == nil {
		deps.Metrics = NewMetrics()
	}
	s := &Server{cfg: cfg, deps: deps, count: deps.Metrics.of(cfg.Role), conns: make(map[*conn]struct{}), per: make(map[netip.Addr]int),
		patience: patience{words: 2 * time.Second, hangUp: time.Second}}
	s.buffers.New = func() any { b := make([]byte, contentBuffer); return &b }
	return s, nil
}

// Serve accepts connections from ln until ctx is done, and returns when the last
// one has ended. Then clients without a transaction are told 421 at once; the
// others have Config.Grace to finish.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()

	var wg sync.WaitGroup
	err := s.accept(ctx, ln, func(nc net.Conn) {
		wg.Go(func() {
			defer s.open.Add(-1)
			s.serveConn(base, newConn(s, nc))
		})
	})

	s.interrupt(errShutdown)
	grace := time.AfterFunc(s.cfg.Grace, func() {
		s.interrupt(errGraceOver)
		cancel(errGraceOver)
	})
	defer grace.Stop()
	wg.Wait()
	return err
}

// accept hands connections to serve until the listener is closed. It counts them
// as open; serve takes them off the count.
func (s *Server) accept(ctx context.Context, ln net.Listener, serve func(net.Conn)) error {
	const maxPause = time.Second
	pause := 5 * time.Millisecond
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("smtp listener: %w", err)
		default:
			// Out of descriptors, most likely: those who are here may leave.
			s.deps.Log.Warn("accept failed", "err", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, maxPause)
			continue
		}
		if s.open.Add(1) > int64(s.cfg.MaxConnections) {
			s.open.Add(-1)
			s.turnAway(nc)
			continue
		}
		serve(nc)
	}
}

// turnAway refuses a connection beyond the limit. The answer fits the socket's
// buffer, so it does not hold the accept loop.
func (s *Server) turnAway(nc net.Conn) {
	s.deps.Log.Info("connection refused", "client", nc.RemoteAddr().String(), "err", "too many connections")
	s.count.refuse("connect", 421)
	if !s.cfg.ImplicitTLS {
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		nc.Write([]byte("421 4.3.2 " + s.cfg.Hostname + " Too many connections, please try again later\r\n"))
	}
	nc.Close()
}

// ServeConn serves one connection and closes it. When ctx ends the client is told 421
// at once, within a transaction after it or after Config.Grace: as with Serve.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	c := newConn(s, nc)
	stop := context.AfterFunc(ctx, func() {
		c.interrupt(errShutdown)
		grace := time.NewTimer(s.cfg.Grace)
		defer grace.Stop()
		select {
		case <-grace.C:
			cancel(errGraceOver)
		case <-base.Done():
		}
	})
	defer stop()
	s.serveConn(base, c)
}

// serveConn serves one connection and closes it. ctx ends it at once.
func (s *Server) serveConn(ctx context.Context, c *conn) {
	s.count.connections.Inc()
	s.count.open.Inc()
	defer s.count.open.Dec()
	s.mu.Lock()
	s.conns[c] = struct{}{}
	if s.ending != nil {
		c.interrupt(s.ending)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	stop := context.AfterFunc(ctx, func() { c.interrupt(errGraceOver) })
	defer stop()
	c.serve(ctx)
}

// interrupt tells all connections why they must end, and those that are just
// being accepted.
func (s *Server) interrupt(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = why
	for c := range s.conns {
		c.interrupt(why)
	}
}

// take counts a connection of the client a, and reports false when it has as many
// as it may have. Who is true gives it back.
func (s *Server) take(a netip.Addr) bool {
	if s.cfg.MaxPerClient == 0 || !a.IsValid() {
		return true
	}
	a = clientKey(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.per[a] >= s.cfg.MaxPerClient {
		return false
	}
	s.per[a]++
	return true
}

// give takes back one take.
func (s *Server) give(a netip.Addr) {
	if s.cfg.MaxPerClient == 0 || !a.IsValid() {
		return
	}
	a = clientKey(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.per[a]--; s.per[a] <= 0 {
		delete(s.per, a)
	}
}

// clientKey is what counts as one client: an IPv6 client has 64 bits to itself.
func clientKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64) // 64 is never too many
		return p.Addr()
	}
	return a
}

// sessionID returns a new id for log lines.
func sessionID() string { return strconv.FormatUint(rand.Uint64()>>1, 36) }
