package pop3d

import (
	"context"
	"errors"
	"time"

	"dirpost/auth"
	"dirpost/internal/event"
	"dirpost/internal/store"
	"dirpost/mra"

	"github.com/prometheus/client_golang/prometheus"
)

// Bridge is what the server needs of the SASL bridge.
type Bridge interface {
	// Mechanisms are those that would work now on c; none means that no
	// password is taken there.
	Mechanisms(c auth.Conn) []string
	Start(ctx context.Context, c auth.Conn, mechanism string) (auth.Exchange, error)
	Login(ctx context.Context, c auth.Conn, user, password string) (*auth.Identity, error)
	mra.Watcher
}

// Config is what an administrator sets of the POP3 server.
type Config struct {
	// Autologout ends the session of a client that says nothing; 0 is 10 minutes,
	// less is not allowed (RFC 1939 §3).
	Autologout time.Duration
	// LeaveUnseen keeps messages that were retrieved as unread as they were.
	LeaveUnseen bool
}

const minAutologout = 10 * time.Minute

// Validate reports what cannot be meant.
func (c Config) Validate() error {
	if c.Autologout != 0 && c.Autologout < minAutologout {
		return errors.New("autologout: at least 10 minutes (RFC 1939 §3)")
	}
	return nil
}

// Server serves POP3. It implements mra.Handler.
type Server struct {
	config Config
	store  *store.Store
	bridge Bridge
	events event.Sink

	commands *prometheus.CounterVec   // verb, status: ok, err
	seconds  *prometheus.HistogramVec // verb
	octets   prometheus.Counter
}

// New returns a server of the mailboxes in st for the people that bridge lets in.
func New(config Config, st *store.Store, bridge Bridge, events event.Sink) *Server {
	config.Autologout = max(config.Autologout, minAutologout)
	return &Server{
		config: config, store: st, bridge: bridge, events: events,
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_pop3d_commands_total", Help: "Commands by name and outcome."}, []string{"verb", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dirpost_pop3d_command_seconds", Help: "Time from a command to its answer, what the client reads of it included.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60},
		}, []string{"verb"}),
		octets: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dirpost_pop3d_message_octets_total", Help: "Octets of messages that were retrieved."}),
	}
}

// Collectors are the metrics of the server, to be registered by the caller.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.commands, s.seconds, s.octets}
}

// Refusal is the greeting of a client that a limit keeps out.
func (s *Server) Refusal(l mra.Limit) string {
	if l == mra.LimitClient {
		return "-ERR [SYS/TEMP] Too many connections from your address"
	}
	return "-ERR [SYS/TEMP] Too many connections, please try again later"
}

// ServeConn serves one client until it leaves.
func (s *Server) ServeConn(ctx context.Context, mc *mra.Conn) {
	c := &conn{srv: s, mc: mc, ctx: ctx, state: authorization, start: time.Now(), release: func() {}}
	defer func() { c.release() }()
	defer c.excuse()
	c.leave(c.serve())
}
