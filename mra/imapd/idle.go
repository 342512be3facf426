package imapd

import (
	"context"
	"errors"
	"time"

	"dirpost/mra"
	"dirpost/mra/imapd/wire"
)

// idle tells of changes as they happen until the client says DONE (RFC 2177).
// It runs on the session's own goroutine: this is where a session is most of its
// life.
func idle(ctx context.Context, c *conn, dec *wire.Decoder) error {
	if err := dec.End(); err != nil {
		return err
	}
	c.put(append(c.buf(), "+ idling\r\n"...))
	c.idling.Store(true)
	defer c.idling.Store(false)
	end := time.Now().Add(c.srv.config.Autologout)
	for {
		if c.sel != nil && c.sel.stale.Load() {
			if err := aside(func() error { return c.sync(c.mc.Work(ctx), true) }); err != nil {
				return err
			}
		}
		if c.broken != nil {
			return c.broken
		}
		left := time.Until(end)
		err := c.mc.Wait(min(left, stillHere))
		switch {
		case ctx.Err() != nil:
			return &leaving{context.Cause(ctx)}
		case errors.Is(err, mra.ErrWoken):
		case errors.Is(err, mra.ErrIdle) && left > stillHere:
			c.untagged("OK Still here")
		case err != nil:
			return &leaving{err}
		default:
			return c.idleDone(dec)
		}
	}
}

// idleDone reads the line that ends IDLE.
func (c *conn) idleDone(dec *wire.Decoder) error {
	line, err := dec.Line(personLimits.Line)
	if err != nil {
		return &leaving{err}
	}
	if len(line) != 4 || (line[0]|0x20) != 'd' || (line[1]|0x20) != 'o' || (line[2]|0x20) != 'n' || (line[3]|0x20) != 'e' {
		return bad("Expected DONE")
	}
	return nil
}
