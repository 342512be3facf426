package smtpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/logging"
	"dirpost/mta/smtpd/wire"
)

// rule is what is true of a command wherever it is given.
type rule uint8

const (
	// needsHello: refused before HELO or EHLO (RFC 5321 §4.1.4).
	needsHello rule = 1 << iota
	// open: an MSA takes it before AUTH (RFC 6409 §4.3).
	open
	// last: the client must wait for the answer before it sends more, and we
	// send it without delay (RFC 2920 §3.1, §3.2).
	last
	// leads: leads to a message; others in a row count as idle chatter.
	leads
	// bare: takes no argument.
	bare
)

// command describes one SMTP command.
type command struct {
	rules rule
	run   func(ctx context.Context, c *conn, arg []byte) error
}

var commands = map[wire.Verb]command{
	wire.VerbOf("EHLO"):     {open | last, ehlo},                      // RFC 5321 §4.1.1.1
	wire.VerbOf("HELO"):     {open | last, helo},                      // RFC 5321 §4.1.1.1
	wire.VerbOf("MAIL"):     {needsHello | leads, mailFrom},           // RFC 5321 §4.1.1.2
	wire.VerbOf("RCPT"):     {needsHello | leads, rcptTo},             // RFC 5321 §4.1.1.3
	wire.VerbOf("DATA"):     {needsHello | leads | last | bare, data}, // RFC 5321 §4.1.1.4
	wire.VerbOf("BDAT"):     {open | leads, bdat},                     // RFC 3030 §2; it must take its chunk whatever is wrong
	wire.VerbOf("RSET"):     {open | bare, rset},                      // RFC 5321 §4.1.1.5
	wire.VerbOf("VRFY"):     {last, vrfy},                             // RFC 5321 §4.1.1.6
	wire.VerbOf("EXPN"):     {last, expn},                             // RFC 5321 §4.1.1.7
	wire.VerbOf("HELP"):     {open, help},                             // RFC 5321 §4.1.1.8
	wire.VerbOf("NOOP"):     {open | last, noop},                      // RFC 5321 §4.1.1.9
	wire.VerbOf("QUIT"):     {open | last, quit},                      // RFC 5321 §4.1.1.10
	wire.VerbOf("STARTTLS"): {open | last | bare, starttls},           // RFC 3207 §4
	wire.VerbOf("AUTH"):     {open | last, authenticate},              // RFC 4954 §4
}

var verbAuth = wire.VerbOf("AUTH")

// strangers speak another protocol, mostly a browser that was tricked into
// carrying commands here. Nothing they say is looked at again.
var strangers = map[wire.Verb]bool{
	wire.VerbOf("GET"): true, wire.VerbOf("POST"): true, wire.VerbOf("PUT"): true,
	wire.VerbOf("CONNECT"): true, wire.VerbOf("OPTIONS"): true, wire.VerbOf("HEAD"): true,
}

var (
	statusUnknown   = envelope.Status{Code: 500, Enhanced: "5.5.1", Text: "Command not recognized"}
	statusNotHere   = envelope.Status{Code: 502, Enhanced: "5.5.1", Text: "Command not available here"}
	statusLong      = envelope.Status{Code: 500, Enhanced: "5.5.6", Text: "Line too long"}
	statusBare      = envelope.Status{Code: 500, Enhanced: "5.5.2", Text: "A line ends with CRLF and holds no other CR, LF or NUL"}
	statusNoArg     = envelope.Status{Code: 501, Enhanced: "5.5.4", Text: "No argument allowed"}
	statusHello     = envelope.Status{Code: 503, Enhanced: "5.5.1", Text: "Say EHLO first"}
	statusAuthFirst = envelope.Status{Code: 530, Enhanced: "5.7.0", Text: "Authentication required"}
	statusTLSFirst  = envelope.Status{Code: 530, Enhanced: "5.7.0", Text: "Must issue a STARTTLS command first"}
	statusSync      = envelope.Status{Code: 554, Enhanced: "5.5.0", Text: "Improper use of pipelining"}
)

// command reads one command and answers it. After an error the session is over.
func (c *conn) command(ctx context.Context) error {
	line, err := c.readLine(c.lineLimit())
	switch {
	case errors.Is(err, errLineTooLong):
		return c.refuse(ctx, "unknown", envelope.Because(statusLong, err))
	case errors.Is(err, errBareLine):
		return c.refuse(ctx, "unknown", envelope.Because(statusBare, err))
	case err != nil:
		return err
	}
	verb, arg := wire.Split(line)
	if len(line)+len("\r\n") > maxCommand && verb != verbAuth {
		return c.refuse(ctx, "unknown", envelope.Because(statusLong, nil))
	}
	c.commands++
	if c.id != nil {
		c.active.Store(time.Now().UnixNano())
	}
	c.traceLine(ctx, verb, line)
	cmd, known := commands[verb]
	if !known {
		if strangers[verb] {
			c.refuse(ctx, "unknown", envelope.Because(statusNotHere, nil))
			return c.end(errGone)
		}
		return c.refuse(ctx, "unknown", envelope.Because(statusUnknown, fmt.Errorf("command %q", verb.String())))
	}
	if err := c.allowed(verb, cmd, arg); err != nil {
		return c.refuse(ctx, verb.String(), err)
	}
	if err := c.countIdle(cmd); err != nil {
		return err
	}
	if err := cmd.run(ctx, c, arg); err != nil {
		return err
	}
	if cmd.rules&last != 0 {
		return c.flush()
	}
	return nil
}

// lineLimit is longer where AUTH may come, whose initial response can be a Kerberos
// ticket or a token (RFC 4954 §4).
func (c *conn) lineLimit() int {
	if c.srv.cfg.Role == MSA && c.id == nil {
		return maxAuth
	}
	return maxCommand
}

// allowed checks what the table says of cmd.
func (c *conn) allowed(verb wire.Verb, cmd command, arg []byte) error {
	switch {
	case cmd.rules&open == 0 && c.srv.cfg.Role == MSA && c.id == nil:
		return envelope.Because(c.authFirst(), nil)
	case cmd.rules&needsHello != 0 && c.client.Helo == "":
		return envelope.Because(statusHello, nil)
	case cmd.rules&bare != 0 && len(arg) > 0:
		return envelope.Because(statusNoArg, nil)
	}
	return nil
}

// authFirst is the answer of an MSA to a stranger.
func (c *conn) authFirst() envelope.Status {
	if c.srv.deps.TLS != nil && c.client.TLS == "" && len(c.mechanisms()) == 0 {
		return statusTLSFirst
	}
	return statusAuthFirst
}

// countIdle ends a session that only chats.
func (c *conn) countIdle(cmd command) error {
	if cmd.rules&leads != 0 {
		return nil
	}
	if c.idle++; c.idle > c.srv.cfg.MaxIdle {
		return c.end(errTooMany)
	}
	return nil
}

// traceLine logs a command line for a developer. AUTH is not shown.
func (c *conn) traceLine(ctx context.Context, verb wire.Verb, line []byte) {
	if !c.log.Enabled(ctx, logging.LevelTrace) {
		return
	}
	text := string(line)
	if verb == verbAuth {
		text = "AUTH [redacted]"
	}
	c.log.LogAttrs(ctx, logging.LevelTrace, "C", slog.String("data", text))
}
