package smtpd

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Limits on lines, in octets with CRLF.
const (
	// maxCommand is 512 (RFC 5321 §4.5.3.1.4) and what extensions add: SIZE 26,
	// BODY 17, SMTPUTF8 10, DSN 114 on MAIL and 528 on RCPT, AUTH 507.
	maxCommand = 2048
	// maxAuth is more than the 12,288 of RFC 4954 §4: sasl.MaxResponse in base64,
	// which is a Kerberos ticket of many groups, and some words.
	maxAuth = 63 << 10
	// maxDiscard is how much of a line that is too long is read and dropped.
	maxDiscard = 64 << 10

	commandBuffer = 4096
)

// Ends of a connection. After any of them nothing is read from it again.
var (
	errGone      = errors.New("client gone")
	errTimeout   = errors.New("timeout")
	errShutdown  = errors.New("server shutting down")
	errGraceOver = errors.New("server shut down")
	errQuit      = errors.New("quit")
	errTooMany   = errors.New("too many errors")
	errSync      = errors.New("protocol synchronization lost")
)

// Faults of a line, after which the conversation goes on.
var (
	errLineTooLong = errors.New("line too long")
	errBareLine    = errors.New("bare CR, LF or NUL in line")
)

// input is what has come and was not used yet: buf[r:w].
type input struct {
	buf  []byte
	r, w int
	own  []byte  // the connection's buffer, while buf is one from the pool
	big  *[]byte // that one

	step  time.Duration // limit of each read
	until time.Time     // limit of all reads, if set
}

func (in *input) unread() []byte { return in.buf[in.r:in.w] }

func (in *input) empty() bool { return in.r == in.w }

// discard drops what has come: plaintext behind STARTTLS.
func (in *input) discard() (n int) {
	n = in.w - in.r
	in.r, in.w = 0, 0
	return n
}

// makeRoom moves what is unread to the front, and sees that there is space for
// more, up to a buffer of limit octets.
func (in *input) makeRoom(limit int) {
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
	if in.w < len(in.buf) {
		return
	}
	if in.r == 0 {
		if len(in.buf) >= limit {
			panic("input buffer full") // callers read lines of at most limit octets
		}
		in.buf = append(in.buf, make([]byte, limit-len(in.buf))...)
		return
	}
	in.w = copy(in.buf, in.unread())
	in.r = 0
}

// borrow puts big in the place of the buffer.
func (in *input) borrow(big *[]byte) {
	in.own, in.big = in.buf, big
	in.w = copy(*big, in.unread())
	in.r, in.buf = 0, *big
}

// giveBack is the reverse of borrow, and returns what was borrowed.
func (in *input) giveBack() (big *[]byte) {
	if left := in.w - in.r; left > len(in.own) {
		in.own = make([]byte, left) // the client pipelined much behind its content
	}
	in.w = copy(in.own, in.unread())
	big = in.big
	in.r, in.buf, in.own, in.big = 0, in.own, nil, nil
	return big
}

// fill sends what is due and waits for more input (RFC 2920 §3.2: replies are
// sent when the input is empty). Every read moves the deadline by step, but not
// beyond until. limit bounds the buffer.
func (c *conn) fill(limit int) error {
	if err := c.flush(); err != nil {
		return err
	}
	in := &c.in
	in.makeRoom(limit)
	deadline := time.Now().Add(in.step)
	if !in.until.IsZero() && in.until.Before(deadline) {
		deadline = in.until
	}
	for {
		c.nc.SetReadDeadline(deadline)
		// Whoever interrupts sets the reason first and the deadline then; so
		// either the reason is seen here, or the deadline overrides ours.
		if c.dead = c.interrupted(); c.dead != nil {
			return c.dead
		}
		n, err := c.nc.Read(in.buf[in.w:])
		in.w += n
		if n > 0 || err == nil {
			return nil // an error comes again at the next read
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && c.interrupted() == nil && time.Now().Before(deadline) {
			continue // woken by an interruption that is not meant for us any more
		}
		c.dead = c.endOf(err)
		return c.dead
	}
}

// endOf says why a read or write failed for good.
func (c *conn) endOf(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		if err == io.EOF || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errGone
		}
		return errors.Join(errGone, err)
	}
	if why := c.interrupted(); why != nil {
		return why
	}
	return errTimeout
}

// readLine returns the next line of at most limit octets, without its CRLF. It
// is valid until the next read.
//
// errLineTooLong and errBareLine are mistakes in a line that was read to its
// end; after any other error the connection is dead.
func (c *conn) readLine(limit int) ([]byte, error) {
	c.in.step, c.in.until = c.srv.cfg.CommandTimeout, time.Now().Add(c.srv.cfg.CommandTimeout)
	scanned := 0
	for {
		unread := c.in.unread()
		if i := bytes.IndexByte(unread[scanned:], '\n'); i >= 0 {
			n := scanned + i + 1
			c.in.r += n
			if n > limit {
				return nil, errLineTooLong
			}
			return cutLine(unread[:n])
		}
		if scanned = len(unread); scanned >= limit {
			return nil, c.discardLine()
		}
		if err := c.fill(limit); err != nil {
			return nil, err
		}
	}
}

// cutLine removes CRLF. Neither CR nor LF may stand alone (RFC 5321 §2.3.8), and
// NUL in no command.
func cutLine(line []byte) ([]byte, error) {
	n := len(line) - 2
	if n < 0 || line[n] != '\r' {
		return nil, errBareLine
	}
	line = line[:n]
	if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return nil, errBareLine
	}
	return line, nil
}

// discardLine drops the rest of a line that is too long. One without an end ends
// the connection.
func (c *conn) discardLine() error {
	for dropped := 0; dropped < maxDiscard; {
		unread := c.in.unread()
		if i := bytes.IndexByte(unread, '\n'); i >= 0 {
			c.in.r += i + 1
			return errLineTooLong
		}
		dropped += c.in.discard()
		if err := c.fill(commandBuffer); err != nil {
			return err
		}
	}
	c.dead = errTooMany
	return c.dead
}
