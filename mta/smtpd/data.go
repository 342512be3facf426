package smtpd

import (
	"context"
	"time"

	"dirpost/internal/envelope"
	"dirpost/mta/policy"
	"dirpost/mta/smtpd/wire"
)

var (
	statusNoRcpt   = envelope.Status{Code: 554, Enhanced: "5.5.1", Text: "No valid recipients"}
	statusBareText = envelope.Status{Code: 550, Enhanced: "5.6.0", Text: "Message contains a bare CR or LF"}
	statusNUL      = envelope.Status{Code: 550, Enhanced: "5.6.0", Text: "Message contains NUL"}
	statusLongLine = envelope.Status{Code: 550, Enhanced: "5.6.0", Text: "Message contains a line that is too long"}
)

// data takes the message after 354.
func data(ctx context.Context, c *conn, _ []byte) error {
	if c.mail.chunked { // RFC 3030 §2: DATA and BDAT do not mix
		return c.refuse(ctx, "DATA", envelope.Because(statusChunked, nil))
	}
	if err := c.contentAllowed(ctx); err != nil {
		return c.refuse(ctx, "DATA", err)
	}
	if c.insistsOnOrder() && !c.in.empty() {
		// Content before 354 is how a smuggled message arrives.
		return c.outOfSync(ctx, "DATA")
	}
	c.say("354 End data with <CR><LF>.<CR><LF>")
	if err := c.flush(); err != nil {
		return err
	}
	c.beginContent(ctx, true) // while the client makes ready too
	if err := c.readContent(ctx); err != nil {
		return err
	}
	return c.finish(ctx, "DATA")
}

// contentAllowed says why content may not come now.
func (c *conn) contentAllowed(ctx context.Context) error {
	switch {
	case c.mail.tx == nil:
		return envelope.Because(statusNeedMail, nil)
	case c.mail.tx.Recipients() == 0:
		// RFC 5321 §3.3: 554 here, RFC 2920 §3.1: a client that pipelines
		// DATA must be prepared for it.
		return envelope.Because(statusNoRcpt, nil)
	}
	c.facts.Recipients = c.mail.tx.Recipients()
	v := c.srv.deps.Policy.At(ctx, policy.Data, &c.facts)
	if v.Action >= policy.Defer {
		return verdictError(v)
	}
	if v.Action == policy.Junk {
		c.mail.junk = v
	}
	return nil
}

// beginContent makes ready for content.
func (c *conn) beginContent(ctx context.Context, dots bool) {
	c.mail.content = wire.Content{Dots: dots, MaxLine: c.srv.cfg.MaxContentLine}
	c.mail.tx.Begin(ctx)
}

// readContent passes the content of DATA on, up to its end.
func (c *conn) readContent(ctx context.Context) error {
	c.borrowBuffer()
	defer c.giveBackBuffer()
	pace := c.newPace()
	for {
		for !c.in.empty() {
			run, n, end := c.mail.content.Next(c.in.unread())
			c.in.r += n
			c.pass(run)
			if end {
				return nil
			}
		}
		if c.mail.content.Size > 2*c.srv.cfg.MaxSize {
			// It was told the limit and does not stop.
			c.refuse(ctx, "DATA", envelope.Because(envelope.StatusTooBig, nil))
			return c.end(errGone)
		}
		pace.set(c)
		if err := c.fill(contentBuffer); err != nil {
			return err
		}
		pace.octets += int64(len(c.in.unread()))
	}
}

// pass hands content to the door, unless the message is lost already.
func (c *conn) pass(run []byte) {
	if len(run) == 0 || c.mail.tooBig || c.mail.content.Defects != 0 {
		return
	}
	if c.mail.content.Size > c.srv.cfg.MaxSize {
		// The client hears of it at the end, when it listens (RFC 1870 §6.3).
		c.mail.tooBig = true
		c.mail.tx.Abort()
		return
	}
	c.mail.tx.Write(run) // its error is reported by Commit
}

// finish ends the message: 250 once it is committed.
func (c *conn) finish(ctx context.Context, verb string) error {
	defer c.reset()
	if end := c.mail.content.Close(); end != "" {
		c.pass([]byte(end))
	}
	c.octets += c.mail.content.Size
	c.srv.count.octets.Add(float64(c.mail.content.Size))
	if err := c.contentRefused(ctx); err != nil {
		return c.refuse(ctx, verb, err)
	}
	if v := c.mail.junk; v.Action == policy.Junk {
		c.mail.tx.MarkJunk(v.Check + ": " + v.Reason)
	}
	id := c.mail.tx.QueueID()
	ctx, cancel := context.WithTimeout(ctx, c.srv.cfg.CommitTimeout)
	defer cancel()
	begun := time.Now()
	err := c.mail.tx.Commit(ctx)
	c.srv.count.accept.Observe(time.Since(begun).Seconds())
	if err != nil {
		return c.refuse(ctx, verb, err)
	}
	c.messages++
	c.srv.count.messages.Inc()
	c.errors, c.idle = 0, 0
	if err := c.reply(envelope.Status{Code: 250, Enhanced: "2.0.0", Text: "Ok: queued as " + id.String()}); err != nil {
		return err
	}
	return c.flush() // the sooner it is known, the fewer repeats
}

// contentRefused says why the message as a whole is refused.
func (c *conn) contentRefused(ctx context.Context) error {
	switch defects := c.mail.content.Defects; {
	case c.mail.tooBig:
		return envelope.Because(envelope.StatusTooBig, nil)
	case defects&(wire.BareCR|wire.BareLF) != 0:
		return envelope.Because(statusBareText, nil)
	case defects&wire.NUL != 0: // RFC 2045 §2.7, §2.8
		return envelope.Because(statusNUL, nil)
	case defects&wire.LongLine != 0:
		return envelope.Because(statusLongLine, nil)
	}
	c.facts.Size, c.facts.Received = c.mail.content.Size, c.mail.content.Received
	v := c.srv.deps.Policy.At(ctx, policy.Content, &c.facts)
	if v.Action >= policy.Defer {
		return verdictError(v)
	}
	if v.Action == policy.Junk {
		c.mail.junk = v
	}
	return nil
}

// pace is the least rate of content: each read has its time, and all of them
// together have it longer the more has come.
type pace struct {
	start  time.Time
	octets int64
}

func (c *conn) newPace() pace { return pace{start: time.Now()} }

func (p *pace) set(c *conn) {
	cfg := &c.srv.cfg
	c.in.step, c.in.until = cfg.DataTimeout, time.Time{}
	if cfg.MinRate > 0 {
		c.in.until = p.start.Add(cfg.DataTimeout + time.Duration(p.octets/cfg.MinRate)*time.Second)
	}
}

func (c *conn) borrowBuffer() { c.in.borrow(c.srv.buffers.Get().(*[]byte)) }

func (c *conn) giveBackBuffer() { c.srv.buffers.Put(c.in.giveBack()) }
