package lmtpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"dirpost/internal/envelope"
	"dirpost/internal/event"
)

// Committer takes mail in: mta/intake, joined in cmd.
type Committer interface {
	// Start begins a transaction for a client that may send to our own domains
	// only.
	Start(client *envelope.Client, params envelope.Envelope) (Transaction, error)
}

// Transaction is one message on its way in. Its errors are answered with
// envelope.StatusOf.
type Transaction interface {
	AddRecipient(ctx context.Context, r envelope.Recipient) error
	// Begin prepares for content, Write takes it and does not keep p.
	Begin(ctx context.Context)
	Write(p []byte) (int, error)
	QueueID() envelope.QueueID
	// Commit makes the message durable. results has an entry for each recipient,
	// in the order in which they were added: nil where the message was delivered
	// or queued. No results mean that all is well for everybody. err says that
	// nobody has it.
	Commit(ctx context.Context) (results []error, err error)
	// Abort gives the message up. It may follow anything, Commit too.
	Abort()
}

// Server serves LMTP. Make it with New.
type Server struct {
	cfg    Config
	door   Committer
	events event.Sink
	log    *slog.Logger
	count  *Metrics
	hangUp time.Duration // for a client to read why its connection ends; all have it at once

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
	wg    sync.WaitGroup // connections, and transactions, which may outlive them for a moment
}

// New returns a server. events may be nil.
func New(cfg Config, door Committer, events event.Sink, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("lmtp server: %w", err)
	}
	return &Server{cfg: cfg, door: door, events: events, log: log, count: NewMetrics(), hangUp: time.Second, conns: make(map[*conn]struct{})}, nil
}

// Count has the server count in m instead of for itself, before it serves.
func (s *Server) Count(m *Metrics) { s.count = m }

// Serve accepts connections from ln until ctx is done, and returns when the last
// one has ended. Then clients without a transaction are told 421 at once; the
// others have Config.Grace to finish.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()

	err := s.protocol(base).Serve(&listener{ln, s})
	if ctx.Err() != nil {
		err = nil
	} else if err != nil {
		err = fmt.Errorf("lmtp listener: %w", err)
	}
	s.each((*conn).stop)
	grace := time.AfterFunc(s.cfg.Grace, func() {
		cancel(errShutdown)
		s.each((*conn).kill)
	})
	defer grace.Stop()
	s.wg.Wait()
	return err
}

var errShutdown = errors.New("server shut down")

// protocol returns the engine whose sessions live in ctx.
func (s *Server) protocol(ctx context.Context) *smtp.Server {
	p := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return s.newSession(ctx, c), nil
	}))
	p.LMTP = true
	p.Domain = s.cfg.Hostname
	p.MaxMessageBytes = s.cfg.MaxSize
	p.MaxRecipients = s.cfg.MaxRecipients
	// go-smtp has one limit for the lines of commands and of content, and counts
	// a pipelined chunk of BDAT as a line until it has read the command.
	p.MaxLineLength = 1 << 20
	p.EnableSMTPUTF8 = true
	p.EnableDSN = true
	// Our connection has deadlines of its own; with none here go-smtp would
	// dereference nil after QUIT.
	p.ReadTimeout, p.WriteTimeout = s.cfg.ReadTimeout, s.cfg.WriteTimeout
	p.ErrorLog = errorLog{s.log}
	return p
}

func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// admit registers c, or says why it may not come in.
func (s *Server) admit(c *conn) (refusal string) {
	addr, local := c.addr()
	if !local && !s.allowed(addr) {
		return "554 5.7.1 " + s.cfg.Hostname + " Not for you"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.cfg.MaxConnections {
		return "421 4.3.2 " + s.cfg.Hostname + " Too many connections, please try again later"
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	return ""
}

func (s *Server) allowed(a netip.Addr) bool {
	for _, n := range s.cfg.Clients {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// gone is called once for each connection that was admitted.
func (s *Server) gone(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.wg.Done()
}

// listener lets clients in.
type listener struct {
	net.Listener
	srv *Server
}

// Accept returns the next connection of a client that is let in.
func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: nc, srv: l.srv, session: strconv.FormatUint(rand.Uint64()>>1, 36)}
		refusal := l.srv.admit(c)
		if refusal == "" {
			return c, nil
		}
		l.srv.log.Info("connection refused", "client", nc.RemoteAddr().String(), "err", refusal)
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		nc.Write([]byte(refusal + "\r\n"))
		nc.Close()
	}
}

// errorLog passes what go-smtp has to say on: panics of ours, and connections
// that broke.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Printf(format string, v ...any) {
	l.log.Error("lmtp engine", "err", fmt.Sprintf(format, v...))
}

func (l errorLog) Println(v ...any) { l.log.Error("lmtp engine", "err", fmt.Sprint(v...)) }
