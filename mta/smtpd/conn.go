package smtpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"dirpost/auth"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/nonblock"
	"dirpost/mta/policy"
	"dirpost/mta/smtpd/wire"
)

var (
	errLoggedOut = errors.New("login revoked")
	errPanic     = errors.New("panic")
)

// conn is one connection and its session.
type conn struct {
	srv *Server
	nc  net.Conn // a *tls.Conn after STARTTLS
	raw net.Conn
	log *slog.Logger

	shown  *x509.Certificate // to the client, by TLS
	device auth.Device       // by its TLS session

	in   input
	out  []byte
	dead error // why the connection is not used again

	writeBy time.Time // the deadline of writes

	why  atomic.Pointer[error] // set by interrupt
	busy atomic.Bool           // in a transaction, which may outlive the shutdown for a while

	phase struct {
		sync.Mutex // guards the rest, with the deadlines that belong to it
		handshake  bool
		over       bool // the deadlines are those of our last words, for nobody to move
	}

	client envelope.Client
	facts  policy.Facts
	ehlo   bool // EHLO, not HELO
	id     *auth.Identity
	logout func() // ends the watch on id

	mail mail

	errors, idle, authFailures   int
	commands, messages, refusals int
	octets                       int64 // of content
	started                      time.Time
	active                       atomic.Int64 // when the last command of who has logged in came, in Unix nanoseconds
}

// mail is the transaction in progress. Its zero value is none.
type mail struct {
	tx      Transaction // nil: no MAIL yet
	env     envelope.Envelope
	chunked bool // a BDAT has come
	content wire.Content
	tooBig  bool
	junk    policy.Verdict
}

func newConn(s *Server, nc net.Conn) *conn {
	sock := nonblock.Conn(nc)
	c := &conn{srv: s, nc: sock, raw: sock, started: time.Now()}
	c.in.buf = make([]byte, commandBuffer)
	c.client.Session = sessionID()
	c.facts.Client = &c.client
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		c.setAddr(a.AddrPort().Addr())
	} else {
		c.log = s.deps.Log.With("session", c.client.Session)
	}
	return c
}

// interrupt ends the connection from outside: at once, or after the transaction
// or the handshake in progress when why is errShutdown.
func (c *conn) interrupt(why error) {
	if old := c.why.Load(); old != nil && (*old == errGraceOver || why == errShutdown) {
		return // what it is told already is more urgent
	}
	c.why.Store(&why)
	if why == errShutdown && c.busy.Load() {
		return
	}
	c.phase.Lock()
	defer c.phase.Unlock()
	switch {
	case c.phase.over:
	case why == errGraceOver:
		c.raw.SetDeadline(longAgo) // a client that does not read has had its time too
	case why == errShutdown && c.phase.handshake:
		c.raw.SetDeadline(time.Now().Add(c.srv.patience.words)) // within it there is no place for 421
	default:
		c.raw.SetReadDeadline(longAgo)
	}
}

// longAgo is a deadline that has passed in every clock, virtual ones too.
var longAgo = time.Unix(1, 0)

// interrupted returns the reason to stop now, or nil.
func (c *conn) interrupted() error {
	why := c.why.Load()
	if why == nil || *why == errShutdown && c.busy.Load() {
		return nil
	}
	return *why
}

// serve runs the session to its end.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errGone)
	defer c.close(ctx)
	defer c.recover(ctx)

	if c.trustedProxy() {
		if c.dead = c.readProxyHeader(); c.dead != nil {
			return
		}
	}
	// Before TLS: the limit is to protect us from the handshakes too.
	if !c.srv.take(c.facts.Addr) {
		c.tooMany(ctx)
		return
	}
	defer c.srv.give(c.facts.Addr)
	if err := c.greet(ctx); err != nil {
		return
	}
	defer c.srv.deps.Policy.Leave(&c.facts)
	for {
		if err := c.command(ctx); err != nil {
			return
		}
	}
}

// recover turns a panic of ours into 421. It is the only place of smtpd that
// recovers.
func (c *conn) recover(ctx context.Context) {
	if v := recover(); v != nil {
		c.dead = errPanic
		c.srv.count.panics.Inc()
		c.event(ctx, slog.LevelError, "panic", slog.String("err", fmt.Sprint(v)), slog.String("stack", string(debug.Stack())))
	}
}

// close ends whatever is open and writes the session's one line.
func (c *conn) close(ctx context.Context) {
	c.reset()
	user := c.client.Login
	c.forgetLogin()
	c.phase.Lock()
	c.phase.over = true
	c.phase.Unlock()
	if c.farewell(c.dead) {
		// The client may be in the middle of content, or of commands that it sends
		// without waiting: what says why must not be lost by a reset.
		if secure, ok := c.nc.(*tls.Conn); ok {
			_ = secure.CloseWrite() // close_notify: as well as that goes
		}
		nonblock.HangUp(c.raw, c.srv.patience.hangUp)
	}
	c.nc.Close()
	took := time.Since(c.started)
	c.eventOver(ctx, slog.LevelInfo, "session ended", event.Span{Name: "smtp session", Root: true, Took: took}, slog.String("helo", c.client.Helo), slog.String("tls", c.client.TLS),
		slog.String("user", user), slog.Int("commands", c.commands), slog.Int("messages", c.messages),
		slog.Int("refused", c.refusals), slog.Int64("size", c.octets), slog.Duration("delay", took), slog.Any("err", c.dead))
}

// tooMany refuses a client that has as many connections as it may have; without
// words where the first word would be TLS.
func (c *conn) tooMany(ctx context.Context) {
	const reason = "too many connections of one client"
	if c.srv.cfg.ImplicitTLS {
		c.srv.count.refuse("connect", statusPerClient.Code)
		c.event(ctx, slog.LevelInfo, "connection refused", slog.Int("code", statusPerClient.Code), slog.String("err", reason))
		c.dead = errGone
		return
	}
	c.turnAway(ctx, statusPerClient, reason)
}

var statusPerClient = envelope.Status{Code: 421, Enhanced: "4.7.0", Text: "Too many connections of your address, please try again later"}

// greet does what comes before the first command: TLS where it is implicit,
// policy, banner.
func (c *conn) greet(ctx context.Context) error {
	if c.srv.cfg.ImplicitTLS {
		if err := c.startTLS(ctx); err != nil {
			c.dead = err
			return err
		}
	}
	if c.srv.deps.Name != nil && c.facts.Addr.IsValid() && !c.facts.Addr.IsLoopback() {
		nameCtx, cancel := context.WithTimeout(ctx, nameTimeout)
		c.client.Name = c.srv.deps.Name(nameCtx, c.facts.Addr)
		cancel()
	}
	if v := c.srv.deps.Policy.At(ctx, policy.Connect, &c.facts); v.Action >= policy.Defer {
		c.turnAway(ctx, v.Status, v.Check+": "+v.Reason)
		return c.dead
	}
	if c.insistsOnOrder() && c.talksEarly(ctx) {
		c.srv.deps.Policy.Leave(&c.facts)
		c.turnAway(ctx, statusEarly, "client talks before the banner")
		return c.dead
	}
	c.say("220 " + c.srv.cfg.Hostname + " ESMTP Dirpost")
	return nil
}

// nameTimeout bounds the look-up of a client's name: it delays the banner.
const nameTimeout = 5 * time.Second

var statusEarly = envelope.Status{Code: 554, Enhanced: "5.5.0", Text: "Client talks before the banner"}

// turnAway refuses the client instead of greeting it (RFC 5321 §3.1).
func (c *conn) turnAway(ctx context.Context, st envelope.Status, reason string) {
	c.refusals++
	c.srv.count.refuse("connect", st.Code)
	c.event(ctx, slog.LevelInfo, "connection refused", slog.Int("code", st.Code), slog.String("err", reason))
	st.Text = c.srv.cfg.Hostname + " " + st.Text
	c.reply(st)
	c.end(errGone)
}

// talksEarly reports whether the client sends something before the banner, which
// only those do who do not listen to the answers (RFC 5321 §3.1).
func (c *conn) talksEarly(ctx context.Context) bool {
	if c.srv.cfg.GreetPause == 0 {
		p, ok := c.nc.(*behindProxy)
		return ok && len(p.pending) > 0 || pendingInput(c.raw)
	}
	c.in.step, c.in.until = c.srv.cfg.GreetPause, time.Time{}
	err := c.fill(commandBuffer)
	if errors.Is(err, errTimeout) {
		c.dead = nil // silence was what we waited for
		return false
	}
	return err == nil
}

// reset ends the transaction in progress, if there is one (RFC 5321 §4.1.1.5).
func (c *conn) reset() {
	if c.mail.tx != nil {
		c.mail.tx.Abort()
	}
	c.mail = mail{}
	c.busy.Store(false)
}

// tlsState describes a TLS connection for trace fields and log.
func tlsState(s tls.ConnectionState) string {
	return tls.VersionName(s.Version)[:3] + tls.VersionName(s.Version)[4:] + " " + tls.CipherSuiteName(s.CipherSuite)
}

// event emits an outcome, to the sink if there is one.
func (c *conn) event(ctx context.Context, level slog.Level, msg string, attrs ...slog.Attr) {
	c.eventOver(ctx, level, msg, event.Span{}, attrs...)
}

// eventOver emits an outcome that took a time.
func (c *conn) eventOver(ctx context.Context, level slog.Level, msg string, span event.Span, attrs ...slog.Attr) {
	if c.srv.deps.Events == nil {
		c.log.LogAttrs(ctx, level, msg, attrs...)
		return
	}
	all := make([]slog.Attr, 0, len(attrs)+2)
	all = append(all, slog.String("session", c.client.Session), slog.String("client", clientOf(c.facts.Addr)))
	c.srv.deps.Events.Emit(ctx, event.Event{Time: time.Now(), Level: level, Room: "mta/smtpd", Msg: msg, Trace: c.client.Session, Attrs: append(all, attrs...), Span: span})
}

func clientOf(a netip.Addr) string {
	if !a.IsValid() {
		return "local"
	}
	return a.String()
}
