package smtpd

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"unicode/utf8"

	"dirpost/internal/envelope"
	"dirpost/mta/policy"
)

var (
	statusHelloArg = envelope.Status{Code: 501, Enhanced: "5.5.4", Text: "Syntax: EHLO domain"}
	statusVrfy     = envelope.Status{Code: 252, Enhanced: "2.5.0", Text: "Cannot verify, send a message and see"}
	statusExpn     = envelope.Status{Code: 502, Enhanced: "5.5.1", Text: "Lists are not shown"}
	statusHelp     = envelope.Status{Code: 214, Enhanced: "2.0.0", Text: "See RFC 5321"}
	statusOk       = envelope.Status{Code: 250, Enhanced: "2.0.0", Text: "Ok"}
	statusBye      = envelope.Status{Code: 221, Enhanced: "2.0.0", Text: "Bye"}
)

// maxHelo is the longest name we keep (RFC 5321 §4.5.3.1.2).
const maxHelo = 255

// greeting takes the argument of HELO or EHLO and resets the session (RFC 5321
// §4.1.4). Nearly anything is taken for a name, since refusing a client for it is
// forbidden; policy may judge it with the rest (RFC 5321 §4.1.4, §4.1.3).
func (c *conn) greeting(ctx context.Context, verb string, arg []byte) (bool, error) {
	if c.insistsOnOrder() && !c.in.empty() {
		// Whatever follows was sent without waiting for the banner or the list
		// of extensions (RFC 2920 §3.1).
		return false, c.outOfSync(ctx, verb)
	}
	if i := bytes.IndexByte(arg, ' '); i >= 0 {
		arg = arg[:i]
	}
	if len(arg) == 0 || len(arg) > maxHelo || !utf8.Valid(arg) || bytes.ContainsFunc(arg, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false, c.refuse(ctx, verb, envelope.Because(statusHelloArg, nil))
	}
	c.reset()
	c.client.Helo = string(arg)
	if v := c.srv.deps.Policy.At(ctx, policy.Helo, &c.facts); v.Action >= policy.Defer {
		c.client.Helo = ""
		return false, c.refuse(ctx, verb, verdictError(v))
	}
	return true, nil
}

// insistsOnOrder reports whether a client that sends what it was not asked for
// is taken for no mail server.
func (c *conn) insistsOnOrder() bool { return c.srv.cfg.Role == MX && !c.srv.cfg.Impatient }

// outOfSync ends a conversation in which the client sends what it cannot know to
// be wanted. It is never a mail server that waits for answers.
func (c *conn) outOfSync(ctx context.Context, verb string) error {
	if err := c.refuse(ctx, verb, envelope.Because(statusSync, nil)); err != nil {
		return err
	}
	return c.end(errGone)
}

func helo(ctx context.Context, c *conn, arg []byte) error {
	ok, err := c.greeting(ctx, "HELO", arg)
	if !ok || err != nil {
		return err
	}
	c.ehlo = false
	c.say("250 " + c.srv.cfg.Hostname)
	return nil
}

// ehlo lists the extensions, under our own name (RFC 5321 §4.1.1.1).
func ehlo(ctx context.Context, c *conn, arg []byte) error {
	ok, err := c.greeting(ctx, "EHLO", arg)
	if !ok || err != nil {
		return err
	}
	c.ehlo = true
	cfg := &c.srv.cfg
	c.say("250-" + cfg.Hostname)
	c.say("250-PIPELINING")                                        // RFC 2920
	c.say("250-SIZE " + strconv.FormatInt(cfg.MaxSize, 10))        // RFC 1870
	c.say("250-LIMITS RCPTMAX=" + strconv.Itoa(cfg.MaxRecipients)) // RFC 9422
	if c.srv.deps.TLS != nil && c.client.TLS == "" {
		c.say("250-STARTTLS") // RFC 3207
	}
	if mechs := c.mechanisms(); len(mechs) > 0 {
		c.say("250-AUTH " + strings.Join(mechs, " ")) // RFC 4954
	}
	c.say("250-ENHANCEDSTATUSCODES") // RFC 2034
	c.say("250-8BITMIME")            // RFC 6152
	c.say("250-DSN")                 // RFC 3461
	c.say("250-SMTPUTF8")            // RFC 6531
	c.say("250 CHUNKING")            // RFC 3030
	return nil
}

func rset(_ context.Context, c *conn, _ []byte) error {
	c.reset()
	return c.reply(statusOk)
}

// vrfy tells nobody who exists (RFC 5321 §3.5.3, §7.3).
func vrfy(ctx context.Context, c *conn, arg []byte) error {
	if len(arg) == 0 {
		return c.refuse(ctx, "VRFY", envelope.Because(statusHelloArg.WithText("Syntax: VRFY address"), nil))
	}
	return c.reply(statusVrfy)
}

func expn(ctx context.Context, c *conn, _ []byte) error {
	return c.refuse(ctx, "EXPN", envelope.Because(statusExpn, nil))
}

func help(_ context.Context, c *conn, _ []byte) error { return c.reply(statusHelp) }

func noop(_ context.Context, c *conn, _ []byte) error { return c.reply(statusOk) }

// quit ends the session. What the client sent behind it is not looked at.
func quit(_ context.Context, c *conn, _ []byte) error {
	c.reset()
	c.reply(statusBye)
	return c.end(errQuit)
}

// verdictError is the error that says what v asks for.
func verdictError(v policy.Verdict) error {
	return envelope.Because(v.Status, policyError(v.Check+": "+v.Reason))
}

// policyError is the reason of a verdict, for the log.
type policyError string

func (e policyError) Error() string { return string(e) }
