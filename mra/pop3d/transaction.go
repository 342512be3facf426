package pop3d

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dirpost/internal/store"
)

// updateTime bounds the UPDATE state.
const updateTime = 2 * time.Minute

// index reads a message number and returns its index; it answers the client when
// there is no such message, or when it is deleted.
func (c *conn) index(arg []byte) (int, bool) {
	n, ok := number(arg)
	switch {
	case !ok || n == 0:
		c.wrong("A message number is wanted")
	case n > len(c.drop.UIDs):
		c.wrong("No such message")
	case c.drop.deleted.has(n - 1):
		c.wrong("Message is deleted")
	default:
		return n - 1, true
	}
	return 0, false
}

func stat(c *conn, _ [][]byte) error {
	c.ok(fmt.Sprintf("%d %d", c.drop.count, c.drop.octets))
	return nil
}

func list(c *conn, args [][]byte) error {
	return c.listing(args, func(b []byte, i int) []byte { return strconv.AppendInt(b, c.drop.Sizes[i], 10) })
}

func uidl(c *conn, args [][]byte) error {
	return c.listing(args, func(b []byte, i int) []byte { return append(b, c.drop.uid(i)...) })
}

// listing answers with what value appends for one message, or for all that are
// not deleted.
func (c *conn) listing(args [][]byte, value func(b []byte, i int) []byte) error {
	line := make([]byte, 0, 64)
	put := func(i int) []byte {
		line = append(strconv.AppendInt(line[:0], int64(i+1), 10), ' ')
		return value(line, i)
	}
	if len(args) == 1 {
		if i, ok := c.index(args[0]); ok {
			c.ok(string(put(i)))
		}
		return nil
	}
	c.ok(c.drop.String())
	w := c.mc.Writer()
	for i := range c.drop.UIDs {
		if !c.drop.deleted.has(i) {
			w.Write(append(put(i), '\r', '\n'))
		}
	}
	w.WriteString(".\r\n")
	return nil
}

func retr(c *conn, args [][]byte) error {
	i, ok := c.index(args[0])
	if !ok {
		return nil
	}
	m, err := c.drop.message(c.mc.Work(c.ctx), i, store.ItemHeader|store.ItemBody)
	if err != nil {
		c.unread("RETR", err)
		return nil
	}
	r, err := c.srv.store.OpenMessage(c.mc.Work(c.ctx), c.account.ID, m)
	if err != nil {
		c.unread("RETR", err)
		return nil
	}
	defer r.Close()
	c.ok(strconv.FormatInt(m.Size, 10) + " octets")
	w := dotWriter{w: c.mc.Writer()}
	n, err := r.WriteTo(&w)
	c.octets += n
	c.srv.octets.Add(float64(n))
	if err != nil {
		return broken(err)
	}
	if err := w.close(); err != nil {
		return broken(err)
	}
	c.drop.seen.add(i)
	c.retrieved++
	return nil
}

// top sends the header, the empty line and some lines of the body (RFC 1939 §7).
func top(c *conn, args [][]byte) error {
	i, ok := c.index(args[0])
	if !ok {
		return nil
	}
	lines, ok := number(args[1])
	if !ok {
		c.wrong("A number of lines is wanted")
		return nil
	}
	items := store.ItemHeader
	if lines > 0 {
		items |= store.ItemBody
	}
	m, err := c.drop.message(c.mc.Work(c.ctx), i, items)
	if err != nil {
		c.unread("TOP", err)
		return nil
	}
	w := dotWriter{w: c.mc.Writer()}
	if lines == 0 {
		c.ok("Top of message follows")
		w.Write(m.Header)
		return broken(w.close())
	}
	r, err := c.srv.store.OpenMessage(c.mc.Work(c.ctx), c.account.ID, m)
	if err != nil {
		c.unread("TOP", err)
		return nil
	}
	defer r.Close()
	c.ok("Top of message follows")
	_, err = r.WriteTo(&lineLimit{w: &w, skip: m.HeaderSize, lines: lines})
	if err != nil && !errors.Is(err, errEnough) {
		return broken(err)
	}
	return broken(w.close())
}

// unread answers that a message cannot be had.
func (c *conn) unread(verb string, err error) {
	if errors.Is(err, errGone) || errors.Is(err, store.ErrNotFound) {
		c.err("Message is gone, another session has removed it")
		return
	}
	c.fail(verb, err)
}

// broken is the end of a session whose answer broke off in the middle: the
// client must not take what it got for a whole message.
func broken(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("answer broken off: %w", err)
}

func dele(c *conn, args [][]byte) error {
	if i, ok := c.index(args[0]); ok {
		c.drop.delete(i)
		c.ok("Marked to be deleted")
	}
	return nil
}

func noop(c *conn, _ [][]byte) error {
	c.ok("Nothing done")
	return nil
}

func rset(c *conn, _ [][]byte) error {
	c.drop.reset()
	c.ok(c.drop.String())
	return nil
}

// quit ends the session; after a login it is the one command that changes
// anything. It goes on when the server is asked to stop meanwhile: the client has
// said its last word and would not know what happened.
func quit(c *conn, _ [][]byte) error {
	if c.state == authorization {
		c.ok("Goodbye")
		return errQuit
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), updateTime)
	defer cancel()
	removed, seenErr, err := c.drop.update(ctx, c.srv.config.LeaveUnseen)
	c.removed = removed
	if seenErr != nil {
		c.mc.Log.WarnContext(ctx, "retrieved messages stay unseen", "err", seenErr)
	}
	if err != nil {
		// RFC 1939 §6: the server must not remove any messages not marked, may
		// remove none, and closes the connection in any case.
		c.fail("QUIT", err)
		return errQuit
	}
	c.ok("Goodbye")
	return errQuit
}
