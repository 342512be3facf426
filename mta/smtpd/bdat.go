package smtpd

import (
	"context"
	"strconv"

	"dirpost/internal/envelope"
	"dirpost/internal/nonblock"
	"dirpost/mta/smtpd/wire"
)

// bdat takes a chunk. The chunk is read whatever is wrong with the command, so
// that nothing of it can become a command (RFC 3030 §2).
func bdat(ctx context.Context, c *conn, arg []byte) error {
	size, last, err := wire.ParseBDAT(string(arg))
	if err != nil {
		// Nobody knows where the chunk ends.
		c.refuse(ctx, "BDAT", err)
		return c.end(errSync)
	}
	if size > 2*c.srv.cfg.MaxSize {
		c.refuse(ctx, "BDAT", envelope.Because(envelope.StatusTooBig, nil))
		return c.end(errSync)
	}
	refusal := c.chunkAllowed(ctx)
	if refusal == nil && !c.mail.chunked {
		c.mail.chunked = true
		c.beginContent(ctx, false)
	}
	if err := c.readChunk(size, refusal != nil); err != nil {
		return err
	}
	if refusal != nil {
		// RFC 3030 §4.2: chunks that are in the pipeline behind this one find
		// no transaction, and are refused likewise. Otherwise a message without
		// its beginning could be accepted, as soon as there is no more reason to
		// refuse.
		c.reset()
		return c.refuse(ctx, "BDAT", refusal)
	}
	if last {
		return c.finish(ctx, "BDAT")
	}
	if size == 0 { // RFC 3030 allows it, but not for ever
		if c.idle++; c.idle > c.srv.cfg.MaxIdle {
			return c.end(errTooMany)
		}
	}
	if c.mail.tooBig {
		c.reset()
		return c.refuse(ctx, "BDAT", envelope.Because(envelope.StatusTooBig, nil))
	}
	if c.mail.content.Defects != 0 {
		err := c.contentRefused(ctx)
		c.reset()
		return c.refuse(ctx, "BDAT", err)
	}
	return c.reply(statusOk.WithText(strconv.FormatInt(size, 10) + " octets received"))
}

// chunkAllowed says why a chunk may not come now. It stands in for the rules of
// the command table.
func (c *conn) chunkAllowed(ctx context.Context) error {
	switch {
	case c.srv.cfg.Role == MSA && c.id == nil:
		return envelope.Because(c.authFirst(), nil)
	case c.mail.chunked:
		return nil
	}
	return c.contentAllowed(ctx)
}

// readChunk reads size octets of content and passes them on, or drops them.
func (c *conn) readChunk(size int64, drop bool) error {
	c.borrowBuffer()
	defer c.giveBackBuffer()
	pace := c.newPace()
	for left := size; left > 0; {
		if c.in.empty() {
			pace.set(c)
			if err := c.fillChunk(); err != nil {
				return err
			}
		}
		p := c.in.unread()
		if int64(len(p)) > left {
			p = p[:left]
		}
		c.in.r += len(p)
		left -= int64(len(p))
		pace.octets += int64(len(p))
		for !drop && len(p) > 0 {
			run, n, _ := c.mail.content.Next(p)
			c.pass(run)
			p = p[n:]
		}
	}
	return nil
}

// fillChunk is fill, but takes what is there before it sends what is due. The rest of
// a chunk comes without the client waiting for anything, and what is there already is
// input that is not empty (RFC 2920 §3.2): a message that comes in one piece behind its
// envelope is answered in one piece.
func (c *conn) fillChunk() error {
	c.in.makeRoom(contentBuffer)
	if n := nonblock.ReadNow(c.nc, c.in.buf[c.in.w:]); n > 0 {
		c.in.w += n
		return nil
	}
	return c.fill(contentBuffer)
}
