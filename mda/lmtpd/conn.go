package lmtpd

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"dirpost/internal/nonblock"
)

// conn is the connection that go-smtp sees. Each read and write has a deadline of
// its own, those that go-smtp sets are ignored: its deadline is one for a whole
// message. Once a read has failed, all later ones do: go-smtp would take the rest
// of a message that stalled for commands.
type conn struct {
	net.Conn
	srv     *Server
	session string

	busy     atomic.Bool // in a transaction
	stopping atomic.Bool
	dead     atomic.Bool // nothing is read or written any more
	told     atomic.Bool // why it ends

	closed sync.Once

	mu   sync.Mutex // guards over, with the deadlines that belong to it
	over bool       // they are those of our last words, for nobody to move
}

// addr is the client's address; local means that it came over a unix socket.
func (c *conn) addr() (a netip.Addr, local bool) {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, true
	}
	return tcp.AddrPort().Addr().Unmap().WithZone(""), false
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	deadline := time.Now().Add(c.srv.cfg.ReadTimeout)
	for {
		if c.dead.Load() {
			return 0, io.EOF
		}
		c.Conn.SetReadDeadline(deadline)
		// stop sets the flag first and the deadline then, so one of them is seen.
		if c.stopping.Load() && !c.busy.Load() {
			return c.end("421 4.3.2 " + c.srv.cfg.Hostname + " Service shutting down")
		}
		n, err := c.Conn.Read(p)
		if n > 0 {
			return n, nil
		}
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			c.dead.Store(true)
			return 0, err
		case !time.Now().Before(deadline):
			return c.end("421 4.4.2 " + c.srv.cfg.Hostname + " Timeout exceeded")
		}
	}
}

// end says text and makes the connection dead.
func (c *conn) end(text string) (int, error) {
	c.dead.Store(true)
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.Conn.SetWriteDeadline(time.Now().Add(min(2*time.Second, c.srv.cfg.WriteTimeout)))
	if _, err := c.Conn.Write([]byte(text + "\r\n")); err == nil {
		c.told.Store(true)
	}
	return 0, io.EOF
}

// Write implements net.Conn. What go-smtp says on a dead connection is dropped.
func (c *conn) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return len(p), nil
	}
	c.Conn.SetWriteDeadline(time.Now().Add(c.srv.cfg.WriteTimeout))
	n, err := c.Conn.Write(p)
	if err != nil {
		c.dead.Store(true)
	}
	return n, err
}

// Close implements net.Conn. A client that is just sending can read our last words:
// they are not lost by a reset.
func (c *conn) Close() error {
	if c.told.Load() {
		nonblock.HangUp(c.Conn, c.srv.hangUp)
	}
	err := c.Conn.Close()
	c.closed.Do(func() { c.srv.gone(c) })
	return err
}

// SetDeadline implements net.Conn and does nothing, like the two below.
func (*conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn and does nothing.
func (*conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn and does nothing.
func (*conn) SetWriteDeadline(time.Time) error { return nil }

// stop ends the connection unless it is in a transaction; then it ends after that.
func (c *conn) stop() {
	c.stopping.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.busy.Load() && !c.over {
		c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// kill ends the connection now.
func (c *conn) kill() {
	c.busy.Store(false)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.Conn.SetDeadline(time.Unix(1, 0))
	}
}
