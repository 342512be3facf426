package pop3d

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dirpost/auth"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/internal/logging"
	"dirpost/internal/store"
	"dirpost/mra"
)

const (
	maxLine     = 1024     // of a command; RFC 2449 §4 asks for 255
	maxSASLLine = 63 << 10 // of a SASL exchange and of AUTH: sasl.MaxResponse in base64 and some words
	maxErrors   = 20       // wrong commands in a row
	maxLogins   = 5        // failed logins
	loginTime   = 3 * time.Minute
	lineTime    = time.Minute // for a line that has begun
	quietTime   = 5 * time.Second
	// lookTime bounds what a command asks of the store before its answer begins.
	lookTime = 30 * time.Second
)

// Why a session ends, besides what the connection says.
var (
	errQuit       = errors.New("quit")
	errTooLong    = errors.New("line too long")
	errTooMany    = errors.New("too many errors")
	errAutologout = errors.New("autologout")
)

// conn is the session of one client.
type conn struct {
	srv *Server
	mc  *mra.Conn
	// ctx is the context of the session. It is a field since login replaces it
	// by one that ends when the person may no longer be logged in.
	ctx     context.Context
	start   time.Time
	state   state
	long    []byte // a line beyond the buffer
	errors  int    // wrong commands in a row
	logins  int    // failed
	failed  bool   // the command under way was answered -ERR
	name    string // of USER, until PASS
	release func() // of mra.Conn.Admit

	identity  *auth.Identity
	account   store.Account
	drop      *drop
	retrieved int
	octets    int64
	removed   int
}

// serve greets the client and runs its commands until one of them ends the
// session. It returns why.
func (c *conn) serve() error {
	// No timestamp in the greeting: APOP is not offered (RFC 1939 §7).
	c.ok("Dirpost POP3 server ready")
	for {
		if err := c.wait(); err != nil {
			return err
		}
		line, err := c.readLine(maxLine)
		if err != nil && c.ctx.Err() != nil {
			return context.Cause(c.ctx) // it was not read any more
		}
		if err != nil {
			return err
		}
		if err := c.command(line); err != nil {
			return err
		}
		if c.errors >= maxErrors {
			c.err("Too many errors")
			return errTooMany
		}
	}
}

// wait waits for the client's next line, as long as its state allows.
func (c *conn) wait() error {
	patience := c.srv.config.Autologout
	if c.state == authorization {
		// All of the login, not each command of it: RFC 1939 §3 speaks of ten
		// minutes of inactivity, but a stranger has no session to be idle in.
		patience = max(0, loginTime-time.Since(c.start))
	}
	if c.drop != nil && c.drop.hasAhead() {
		err := c.waitFor(quietTime)
		if !errors.Is(err, mra.ErrIdle) {
			return err
		}
		c.drop.forget()
		patience -= quietTime
	}
	err := c.waitFor(patience)
	if errors.Is(err, mra.ErrIdle) {
		return errAutologout
	}
	return err
}

func (c *conn) waitFor(d time.Duration) error {
	for {
		err := c.mc.Wait(d)
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if !errors.Is(err, mra.ErrWoken) {
			return err
		}
	}
}

// readLine returns the next line without its line end; it is valid until the
// next read. A bare LF ends a line too: nothing behind a command is content that
// could be mistaken for one.
func (c *conn) readLine(limit int) ([]byte, error) {
	c.mc.LimitRead(time.Now().Add(lineTime))
	r := c.mc.Reader()
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		c.long = c.long[:0]
		for errors.Is(err, bufio.ErrBufferFull) && len(c.long)+len(line) <= maxSASLLine {
			c.long = append(c.long, line...)
			line, err = r.ReadSlice('\n')
		}
		c.long = append(c.long, line...)
		line = c.long
	}
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	if len(line) > limit && !(limit == maxLine && isAuth(line) && len(line) <= maxSASLLine) {
		c.err("Line too long")
		return nil, errTooLong
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'}), nil
}

// isAuth reports whether line is an AUTH command, whose initial response may be
// as long as a ticket.
func isAuth(line []byte) bool { return len(line) > 5 && bytes.EqualFold(line[:5], []byte("AUTH ")) }

// command runs one command. What it returns ends the session.
func (c *conn) command(line []byte) error {
	c.failed = false
	p := parse(line)
	cmd, known := commands[string(p.verb)]
	label := "other"
	if known {
		label = string(p.verb)
	}
	c.traceLine(p)
	name, begun := c.name, time.Now()
	err := c.run(cmd, known, p, line)
	if c.name == name {
		c.name = "" // PASS comes right behind USER, or not at all (RFC 1939 §7)
	}
	status := "ok"
	if c.failed {
		status = "err"
	}
	c.srv.commands.WithLabelValues(label, status).Inc()
	c.srv.seconds.WithLabelValues(label).Observe(time.Since(begun).Seconds())
	return err
}

func (c *conn) run(cmd command, known bool, p parsed, line []byte) error {
	args, fits := cmd.args.split(p.tail)
	switch {
	case !known:
		c.wrong("Unknown command")
	case !isText(line):
		c.wrong("Invalid character in command")
	case cmd.states&c.state == 0 && c.state == authorization:
		c.wrong("Log in first")
	case cmd.states&c.state == 0:
		c.wrong("You are logged in already")
	case !fits:
		c.wrong("Wrong number of arguments")
	default:
		errorsBefore := c.errors
		err := cmd.run(c, args)
		if c.errors == errorsBefore {
			c.errors = 0
		}
		return err
	}
	return nil
}

// traceLine shows the line to who is traced; credentials only at a level of
// their own.
func (c *conn) traceLine(p parsed) {
	if !c.mc.Log.Enabled(c.ctx, logging.LevelTrace) {
		return
	}
	verb := string(p.verb)
	if verb == "PASS" || verb == "AUTH" {
		c.mc.Log.Log(c.ctx, logging.LevelTraceAuth, "client says", "verb", verb, "arg", string(p.tail))
		p.tail = []byte("[redacted]")
	}
	c.mc.Log.Log(c.ctx, logging.LevelTrace, "client says", "verb", verb, "arg", string(p.tail))
}

// ok answers +OK. That a client cannot be written to is noticed by Wait.
func (c *conn) ok(text string) {
	w := c.mc.Writer()
	w.WriteString("+OK ")
	w.WriteString(text)
	w.WriteString("\r\n")
}

// err answers -ERR.
func (c *conn) err(text string) {
	c.failed = true
	w := c.mc.Writer()
	w.WriteString("-ERR ")
	w.WriteString(text)
	w.WriteString("\r\n")
}

// wrong answers -ERR to what a client should not have said, and counts it.
func (c *conn) wrong(text string) {
	c.errors++
	c.err(text)
}

// fail answers that a command could not be done; the cause is for the log.
func (c *conn) fail(verb string, err error) {
	st, level := envelope.StatusOf(err), slog.LevelInfo // the client's problem
	if st.IsTemporary() {
		level = slog.LevelError // ours
	}
	c.mc.Log.Log(c.ctx, level, "command refused", "verb", verb, "code", st.POP3, "err", err)
	c.say(st)
}

// say is the only place where a status becomes words for the client. What is our
// trouble comes with the session, so that it can be looked up.
func (c *conn) say(st envelope.Status) {
	text := st.Text
	if st.IsTemporary() {
		text += " (session " + c.mc.Session + ")"
	}
	if st.POP3 != "" {
		text = "[" + st.POP3 + "] " + text // RFC 2449 §8
	}
	c.err(text)
}

// excuse says goodbye when a bug of ours has ended the session. The panic goes on
// to mra, which reports it; nothing is removed.
func (c *conn) excuse() {
	if p := recover(); p != nil {
		c.say(envelope.LocalError)
		_ = c.mc.Flush() // the session is over in any case
		panic(p)
	}
}

// leave says why the session ends, where the client should know, and reports
// the session.
func (c *conn) leave(err error) {
	var revoked *mra.RevokedError
	level := slog.LevelInfo
	switch {
	case errors.As(err, &revoked):
		c.err("[SYS/PERM] You may no longer be logged in")
	case errors.Is(err, mra.ErrShutdown):
		c.err("[SYS/TEMP] Server shutting down, please try again later")
	case errors.Is(err, errAutologout):
		// RFC 1939 §3: closed without a word.
	}
	c.mc.LimitRead(time.Time{})
	if flushErr := c.mc.Flush(); flushErr != nil && errors.Is(err, errQuit) {
		err = fmt.Errorf("last answer: %w", flushErr)
	}
	took := time.Since(c.start)
	attrs := []slog.Attr{
		slog.String("session", c.mc.Session),
		slog.String("client", c.mc.Client.Addr().String()),
		slog.Bool("tls", c.mc.IsTLS()),
		slog.Any("err", err),
		slog.Duration("delay", took),
	}
	if c.identity == nil {
		level = slog.LevelDebug // scanners, health checks
	} else {
		attrs = append(attrs,
			slog.String("user", c.identity.Address.String()),
			slog.Int("retrieved", c.retrieved), slog.Int64("size", c.octets), slog.Int("removed", c.removed))
	}
	c.srv.events.Emit(c.ctx, event.Event{Level: level, Room: "mra/pop3d", Msg: "session ended", Trace: c.mc.Session, Attrs: attrs,
		Span: event.Span{Name: "pop3 session", Root: true, Took: took}})
}
