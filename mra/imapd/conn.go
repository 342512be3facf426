package imapd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/event"
	"dirpost/internal/store"
	"dirpost/mra"
	"dirpost/mra/imapd/wire"
)

// conn is the session of one client.
type conn struct {
	srv *Server
	mc  *mra.Conn
	dec *wire.Decoder
	// ctx is the context of the session. It is a field since login replaces it
	// by one that ends when the person may no longer be logged in.
	ctx context.Context

	state    state
	identity *auth.Identity
	account  store.Account // of identity, once something was looked up
	release  func()        // of mra.Conn.Admit
	sel      *mailbox      // in state selected
	// idling says that a change is worth waking the session for.
	idling atomic.Bool

	condstore bool // a CONDSTORE enabling command was given (RFC 7162 §3.1)
	qresync   bool // QRESYNC is enabled (RFC 7162 §3.2.3)
	utf8      bool // UTF8=ACCEPT is enabled
	bads      int  // commands in a row answered BAD

	tag    string
	code   string // response code of the tagged OK
	text   string // and its words, if not the usual
	broken error  // why nothing more can be written

	started time.Time
}

// Limits before and after login. An unauthenticated client may not make us keep
// much (RFC 7888 §5); a line must hold a Kerberos ticket (RFC 4959) and an ID of
// 30 fields (RFC 2971 §3.3).
var (
	strangerLimits = wire.Limits{Line: 64 << 10, Literal: 4 << 10, Command: 8 << 10, Skip: 64 << 10}
	personLimits   = wire.Limits{Line: 64 << 10, Literal: 64 << 10, Command: 512 << 10, Skip: 256 << 20}
)

// maxBads is how many commands in a row may be nonsense.
const maxBads = 20

// errLogout ends a session that has been told BYE.
var errLogout = errors.New("logged out")

func newConn(ctx context.Context, s *Server, mc *mra.Conn) *conn {
	c := &conn{srv: s, mc: mc, ctx: ctx, state: notAuthenticated, started: time.Now()}
	c.dec = wire.NewDecoder(mc, c.proceed)
	c.dec.SetLimits(strangerLimits)
	// Nobody sends a login for longer, an octet a minute.
	mc.LimitRead(time.Now().Add(5 * time.Minute))
	return c
}

// proceed asks for a synchronising literal (RFC 9051 §4.3).
func (c *conn) proceed() error {
	c.put(append(c.buf(), "+ OK\r\n"...))
	return c.mc.Flush()
}

// authConn is what the SASL bridge must know of the connection.
func (c *conn) authConn() auth.Conn {
	return c.mc.AuthConn("imap")
}

// entry is the person's entry in the directory as it is now. It is taken once
// per command.
func (c *conn) entry() (*directory.Snapshot, *directory.Entry) {
	snap := c.srv.live.Snapshot()
	return snap, snap.ByKey(c.identity.Person)
}

// serve greets the client and runs its commands until one of them ends the
// session. It returns why.
func (c *conn) serve() error {
	c.untagged("OK [CAPABILITY " + c.capabilities() + "] Dirpost IMAP server ready")
	for {
		err := c.mc.Wait(c.patience())
		switch {
		case c.ctx.Err() != nil:
			return context.Cause(c.ctx)
		case errors.Is(err, mra.ErrWoken):
			continue // a hint: the next command tells what changed
		case err != nil:
			return err
		}
		if err := c.command(); err != nil {
			return err
		}
	}
}

// patience is how long the client may say nothing.
func (c *conn) patience() time.Duration {
	if c.state == notAuthenticated {
		return loginTimeout
	}
	return c.srv.config.Autologout
}

// orCause is err, or why the session was ended from outside: then err is no more
// than that the client was not read from any more.
func (c *conn) orCause(err error) error {
	if err != nil && c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return err
}

// leave says goodbye as the reason demands (RFC 9051 §7.1.5). In the middle of a
// response there is no place for it.
func (c *conn) leave(err error) {
	var revoked *mra.RevokedError
	switch {
	case errors.Is(err, errLogout):
	case errors.Is(err, mra.ErrShutdown):
		c.bye("[UNAVAILABLE] Server shutting down, please reconnect later")
	case errors.As(err, &revoked):
		c.bye("[EXPIRED] Your session was ended by the administrator")
	case errors.Is(err, mra.ErrIdle):
		c.bye("Autologout; idle for too long")
	case errors.Is(err, wire.ErrLineTooLong):
		c.bye("[LIMIT] Command line too long")
	case errors.Is(err, wire.ErrOverrun):
		c.bye("[TOOBIG] Literal too big")
	}
	_ = c.mc.Flush() // the client may be gone
	c.closeMailbox()
	took := time.Since(c.started)
	attrs := []slog.Attr{slog.String("session", c.mc.Session), slog.Any("client", c.mc.Client.Addr()), slog.Duration("delay", took)}
	if c.identity != nil {
		attrs = append(attrs, slog.Any("user", c.identity.Address))
	}
	if err != nil && !errors.Is(err, errLogout) {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	c.srv.emit(c.ctx, event.Event{Level: slog.LevelInfo, Msg: "session ended", Trace: c.mc.Session, Attrs: attrs,
		Span: event.Span{Name: "imap session", Root: true, Took: took}})
}

// end gives back what the session holds.
func (c *conn) end() {
	c.closeMailbox()
	if c.release != nil {
		c.release()
	}
}

func (s *Server) emit(ctx context.Context, e event.Event) {
	if s.events != nil {
		e.Room = "mra/imapd"
		s.events.Emit(ctx, e)
	}
}

// panicError is a recovered panic of a command.
type panicError struct {
	value any
	stack []byte
}

// Error implements error.
func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// aside runs f in a goroutine of its own and waits for it, so that the stack
// that f needs is not kept by a session that may idle for weeks.
func aside(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- guard(f) }()
	return <-done
}

// guard runs f and turns its panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	return f()
}
