package smtpd

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/logging"
)

// maxReplyText keeps a reply line within 512 octets (RFC 5321 §4.5.3.1.5).
const maxReplyText = 480

// flushAt is how many octets of replies are collected at most.
const flushAt = 4096

// say queues a reply line that needs no checking: code, space, text.
func (c *conn) say(line string) {
	c.out = append(append(c.out, line...), '\r', '\n')
}

// reply queues the one-line reply st. Replies are sent when the input is empty,
// so that a pipelined group is answered with one write (RFC 2920 §3.2).
func (c *conn) reply(st envelope.Status) error {
	c.out = appendReply(c.out, st)
	if len(c.out) >= flushAt {
		return c.flush()
	}
	return nil
}

// appendReply writes st as a reply line. Whatever its text holds, it is one line
// of printable ASCII.
func appendReply(b []byte, st envelope.Status) []byte {
	b = strconv.AppendInt(b, int64(st.Code), 10)
	b = append(b, ' ')
	if st.Enhanced != "" {
		b = append(append(b, st.Enhanced...), ' ')
	}
	for i := range min(len(st.Text), maxReplyText) {
		ch := st.Text[i]
		if ch < ' ' || ch > '~' {
			ch = '?'
		}
		b = append(b, ch)
	}
	return append(b, '\r', '\n')
}

// flush sends what was queued.
func (c *conn) flush() error {
	if c.dead != nil {
		return c.dead
	}
	if len(c.out) == 0 {
		return nil
	}
	if c.log.Enabled(context.Background(), logging.LevelTrace) {
		c.log.Log(context.Background(), logging.LevelTrace, "S", "data", string(c.out))
	}
	c.limitWrite()
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		c.dead = c.endOf(err)
		return c.dead
	}
	return nil
}

// limitWrite gives a write its time. It does not move the deadline at each reply,
// because it is a timer in the runtime, and often the nearest of all.
func (c *conn) limitWrite() {
	now, timeout := time.Now(), c.srv.cfg.WriteTimeout
	if c.writeBy.Sub(now) < timeout-timeout/8 {
		c.writeBy = now.Add(timeout)
		c.nc.SetWriteDeadline(c.writeBy)
	}
}

// refuse is the only place where an error becomes an SMTP reply. The cause is for
// the log, the status for the client.
func (c *conn) refuse(ctx context.Context, verb string, err error) error {
	st, level := envelope.StatusOf(err), slog.LevelInfo // the client's problem
	if st.Code == envelope.LocalError.Code && st.Enhanced == envelope.LocalError.Enhanced {
		level = slog.LevelError // ours
	}
	c.refusals++
	c.srv.count.refuse(verb, st.Code)
	c.event(ctx, level, "command refused", slog.String("user", c.client.Login), slog.String("verb", verb), slog.Int("code", st.Code),
		slog.String("dsn", st.Enhanced), slog.Any("err", err))
	return c.mistake(ctx, st)
}

// mistake replies st and, if it is the client's fault, counts it. A client that
// makes many is served slowly, and in the end no more (RFC 5321 §4.2.5, §7.8).
func (c *conn) mistake(ctx context.Context, st envelope.Status) error {
	if st.Code < 500 {
		return c.reply(st)
	}
	c.errors++
	if c.errors > c.srv.cfg.SoftErrors && c.srv.cfg.ErrorDelay > 0 {
		if err := c.flush(); err != nil {
			return err
		}
		c.pause(ctx, c.srv.cfg.ErrorDelay)
	}
	if err := c.reply(st); err != nil {
		return err
	}
	if c.errors >= c.srv.cfg.HardErrors {
		return c.end(errTooMany)
	}
	return nil
}

// pause waits for d or until ctx is done.
func (c *conn) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// end makes the connection dead for the reason why.
func (c *conn) end(why error) error {
	err := c.flush()
	if c.dead == nil {
		c.dead, err = why, why
	}
	return err
}

// farewell tells the client why the connection ends, as well as that goes
// (RFC 5321 §3.8: 421 may answer any command). It reports false where there is
// nothing to say, or nobody who would understand it: a client that waits for TLS.
func (c *conn) farewell(why error) bool {
	if c.srv.cfg.ImplicitTLS && c.client.TLS == "" {
		return false
	}
	var st envelope.Status
	switch {
	case errors.Is(why, errShutdown), errors.Is(why, errGraceOver):
		st = envelope.StatusShutdown.WithText(c.srv.cfg.Hostname + " Service shutting down")
	case errors.Is(why, errTimeout):
		st = envelope.Status{Code: 421, Enhanced: "4.4.2", Text: c.srv.cfg.Hostname + " Timeout exceeded"}
	case errors.Is(why, errTooMany):
		st = envelope.Status{Code: 421, Enhanced: "4.7.0", Text: c.srv.cfg.Hostname + " Too many errors"}
	case errors.Is(why, errSync):
		st = envelope.Status{Code: 421, Enhanced: "4.7.0", Text: c.srv.cfg.Hostname + " Protocol synchronization lost"}
	case errors.Is(why, errLoggedOut):
		st = envelope.Status{Code: 421, Enhanced: "4.7.0", Text: c.srv.cfg.Hostname + " You have been logged out"}
	case errors.Is(why, errPanic):
		st = envelope.Status{Code: 421, Enhanced: "4.3.0", Text: c.srv.cfg.Hostname + " Internal error, closing the connection"}
	default:
		return false
	}
	c.nc.SetWriteDeadline(time.Now().Add(min(c.srv.patience.words, c.srv.cfg.WriteTimeout)))
	_, err := c.nc.Write(appendReply(c.out[:0], st))
	return err == nil
}
