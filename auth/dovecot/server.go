package dovecot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dirpost/internal/envelope"

	"github.com/prometheus/client_golang/prometheus"
)

// Server serves the protocol on any number of sockets.
type Server struct {
	cfg  Config
	deps Deps
	pid  int
	uid  atomic.Uint32 // of the last connection

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}

	requests *prometheus.CounterVec // outcome
	refused  prometheus.Counter
	open     prometheus.Gauge
	panics   prometheus.Counter
}

// New returns a Server.
func New(c Config, d Deps) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Server{
		cfg: c.withDefaults(), deps: d, pid: os.Getpid(), conns: make(map[*conn]struct{}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_auth_socket_requests_total", Help: "Logins at the socket for other programs, by outcome.",
		}, []string{"outcome"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dirpost_auth_socket_refused_total", Help: "Connections of other programs beyond the limit.",
		}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dirpost_auth_socket_connections", Help: "Connections of other programs to the socket.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dirpost_auth_socket_panics_total", Help: "Bugs of ours that ended a login at the socket.",
		}),
	}, nil
}

// Collectors are the metrics, to be registered by the caller.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.requests, s.refused, s.open, s.panics}
}

// Serve accepts connections until ctx ends; it closes socket. Then logins that are
// under way are broken off: the other program comes back to whoever listens next.
func (s *Server) Serve(ctx context.Context, socket net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	pause := time.Millisecond
	for {
		nc, err := socket.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", socket.Addr(), err)
		case err != nil: // too many open files: others will be closed
			s.deps.Log.ErrorContext(ctx, "connection to the auth socket not accepted", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		clients.Go(func() { s.ServeConn(ctx, nc) })
	}
}

// ServeConn serves one program until it leaves or ctx ends; it closes nc.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errGone)
	c := newConn(s, nc, cancel)
	if !s.add(c) {
		s.refused.Inc()
		s.deps.Log.WarnContext(ctx, "connection to the auth socket refused: there are too many (auth.socket.max_connections)")
		return
	}
	defer s.remove(c)
	if err := c.serve(ctx); err != nil {
		c.log.InfoContext(ctx, "connection of another program ended", "err", err)
	}
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.cfg.MaxConnections {
		return false
	}
	s.conns[c] = struct{}{}
	s.open.Inc()
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.open.Dec()
}

// offered are the mechanisms that the handshake names.
func (s *Server) offered() []string {
	all := s.deps.Mechanisms()
	if len(s.cfg.Mechanisms) == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(m string) bool { return !slices.Contains(s.cfg.Mechanisms, m) })
}

// newSession makes the id of a connection, in the form of a queue id.
func newSession() string {
	return envelope.QueueID(time.Now().UnixMilli()<<21 | rand.Int64N(1<<21)).String()
}
