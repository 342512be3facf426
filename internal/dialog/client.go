package dialog

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// client is one connection of a dialogue.
type client struct {
	name string // "", or its number when there are several
	conn net.Conn

	done chan struct{} // closed when the reading goroutine has ended
	more chan struct{} // capacity 1: something came

	mu  sync.Mutex // guards what follows
	buf []byte     // received, not yet wanted
	err error      // why nothing more will come
}

var errTimeout = errors.New("nothing came in time")

func newClient(name string, conn net.Conn) *client {
	c := &client{name: name, conn: conn}
	c.start()
	return c
}

// start begins to collect what the server sends.
func (c *client) start() {
	c.done, c.more = make(chan struct{}), make(chan struct{}, 1)
	go c.collect(c.conn, c.done)
}

func (c *client) collect(conn net.Conn, done chan struct{}) {
	defer close(done)
	p := make([]byte, 4096)
	for {
		n, err := conn.Read(p)
		c.mu.Lock()
		c.buf = append(c.buf, p[:n]...)
		c.err = err
		c.mu.Unlock()
		select {
		case c.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// take waits until f finds something in the buffer, and removes it. f returns
// how many octets it wants, 0 for "not yet there".
func (c *client) take(timeout time.Duration, f func(buf []byte) int) ([]byte, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		c.mu.Lock()
		n := f(c.buf)
		b := bytes.Clone(c.buf[:n])
		c.buf = c.buf[n:]
		err := c.err
		c.mu.Unlock()
		if n > 0 {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-c.more:
		case <-timer.C:
			return nil, errTimeout
		}
	}
}

// line returns the next line without its CRLF.
func (c *client) line(timeout time.Duration) (string, error) {
	b, err := c.take(timeout, func(buf []byte) int { return bytes.IndexByte(buf, '\n') + 1 })
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(b), "\r\n"), nil
}

// octets returns the next n octets.
func (c *client) octets(timeout time.Duration, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	return c.take(timeout, func(buf []byte) int {
		if len(buf) < n {
			return 0
		}
		return n
	})
}

// gone waits for the end of the connection, and complains of anything before it.
func (c *client) gone(timeout time.Duration) error {
	b, err := c.take(timeout, func(buf []byte) int { return len(buf) })
	switch {
	case err == nil:
		return fmt.Errorf("instead of the end came %s", strconv.Quote(string(b)))
	case errors.Is(err, errTimeout):
		return err
	}
	// Whether a peer that hangs up on unread input is seen as EOF or as a reset is
	// not the server's choice.
	return nil
}

// send writes s, with a limit so that a server that does not read cannot hold
// the test.
func (c *client) send(timeout time.Duration, s string) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := io.WriteString(c.conn, s)
	return err
}

// startTLS makes the connection a TLS one.
func (c *client) startTLS(timeout time.Duration, config *tls.Config) error {
	// Wake the reading goroutine; what came before TLS is no part of it.
	if err := c.conn.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		return err
	}
	<-c.done
	if len(c.buf) > 0 {
		return fmt.Errorf("before TLS came %s", strconv.Quote(string(c.buf)))
	}
	if !errors.Is(c.err, os.ErrDeadlineExceeded) {
		return c.err
	}
	c.err = nil
	if err := c.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	secure := tls.Client(c.conn, config)
	err := secure.Handshake()
	if err != nil {
		c.err = err
		c.done = make(chan struct{})
		close(c.done)
		return fmt.Errorf("handshake: %w", err)
	}
	c.conn = secure
	if err := secure.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c.start()
	return nil
}

// close hangs up and waits for the reading goroutine.
func (c *client) close() {
	c.conn.Close()
	<-c.done
}

// pending is what came and was not wanted yet, for the report.
func (c *client) pending() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.buf)
}
