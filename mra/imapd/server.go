package imapd

import (
	"context"
	"log/slog"
	"time"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/event"
	"dirpost/internal/store"
	"dirpost/mra"

	"github.com/prometheus/client_golang/prometheus"
)

// Bridge is what the server needs of the SASL bridge.
type Bridge interface {
	// Mechanisms are those that would work now on c; none means that nobody
	// can log in there, and that LOGIN is disabled.
	Mechanisms(c auth.Conn) []string
	Start(ctx context.Context, c auth.Conn, mechanism string) (auth.Exchange, error)
	Login(ctx context.Context, c auth.Conn, user, password string) (*auth.Identity, error)
	mra.Watcher
}

// Watcher tells of changes in mailboxes; the bus is one.
type Watcher interface {
	// WatchMailbox calls f, which does not block, when the mailbox may have
	// reached a modseq.
	WatchMailbox(a store.AccountID, mb store.MailboxID, f func(store.ModSeq)) (cancel func())
}

// Clock is the database's: the time, and ids that are made of it. *postgres.DB is
// one.
type Clock interface {
	Now() time.Time
	NewID() int64
}

// Config is what an administrator sets of the IMAP server.
type Config struct {
	MaxMessage int64         // octets of one message in APPEND; 0 is 75 MiB
	Autologout time.Duration // of a client that says nothing; 0 is 30 minutes, less is not allowed
}

const (
	defaultMaxMessage = 75 << 20
	minAutologout     = 30 * time.Minute // RFC 9051 §5.4
	loginTimeout      = 2 * time.Minute
)

// Server serves IMAP. It implements mra.Handler.
type Server struct {
	config Config
	store  *store.Store
	blobs  *blob.Store
	bridge Bridge
	live   *directory.Live
	watch  Watcher
	clock  Clock
	events event.Sink
	log    *slog.Logger

	commands *prometheus.CounterVec   // verb, status
	seconds  *prometheus.HistogramVec // verb
	panics   prometheus.Counter
}

// Deps are the parts that a Server works with.
type Deps struct {
	Store  *store.Store
	Blobs  *blob.Store
	Bridge Bridge
	Live   *directory.Live
	Watch  Watcher
	Clock  Clock
	Events event.Sink
	Log    *slog.Logger
}

// New returns a Server.
func New(config Config, d Deps) *Server {
	if config.MaxMessage == 0 {
		config.MaxMessage = defaultMaxMessage
	}
	config.Autologout = max(config.Autologout, minAutologout)
	return &Server{
		config: config, store: d.Store, blobs: d.Blobs, bridge: d.Bridge, live: d.Live, watch: d.Watch, clock: d.Clock, events: d.Events, log: d.Log,
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dirpost_imapd_commands_total", Help: "Commands by name and outcome."}, []string{"verb", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dirpost_imapd_command_seconds", Help: "Time from a command to its answer, what the client sends and reads of it included; IDLE is not counted.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60},
		}, []string{"verb"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dirpost_imapd_panics_total", Help: "Commands that ended by a bug of ours. Alert on any."}),
	}
}

// Collectors are the metrics of the server, to be registered by the caller.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.commands, s.seconds, s.panics}
}

// Refusal is the greeting of a client that a limit keeps out.
func (s *Server) Refusal(l mra.Limit) string {
	if l == mra.LimitClient {
		return "* BYE [LIMIT] Too many connections from your address"
	}
	return "* BYE [UNAVAILABLE] Too many connections, please try again later"
}

// ServeConn serves one client until it leaves.
func (s *Server) ServeConn(ctx context.Context, mc *mra.Conn) {
	c := newConn(ctx, s, mc)
	defer c.end()
	c.leave(c.serve())
}
