package mra

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"dirpost/internal/nonblock"
)

// Why Conn.Wait or a read ended before the client said anything.
var (
	// ErrWoken reports a call of Conn.Wake. The session looks at its context and
	// at whatever it is subscribed to, and waits again.
	ErrWoken = errors.New("woken")
	// ErrIdle reports that the client said nothing for the time given to Wait.
	ErrIdle = errors.New("idle for too long")
	// ErrInjection reports that a client sent octets behind its request for
	// TLS, which can only be an attack or a broken client.
	ErrInjection = errors.New("octets before the TLS handshake")
)

// Time limits of a connection.
const (
	// readTimeout is the time for one more octet within a command.
	readTimeout = time.Minute
	// writeTimeout is the time for some progress while something is written.
	writeTimeout = 2 * time.Minute
	// writeProgress is how many octets count as progress.
	writeProgress = 512
	// handshakeTimeout is the time for a whole TLS handshake.
	handshakeTimeout = 30 * time.Second
	// handshakeGrace is what is left of it when the server leaves: within it there is no
	// place for words, behind it there is.
	handshakeGrace = 2 * time.Second
	// holdTime is how long Wait keeps the buffers: a client that is in the middle
	// of a conversation answers within it.
	holdTime = 2 * time.Second
)

// bufferSize is the size of the pooled buffers, which a session has only while
// something is said.
const (
	readBufferSize  = 4 << 10
	writeBufferSize = 32 << 10
)

// Conn is the connection of a client. It belongs to one goroutine; only Wake may
// be called from others.
type Conn struct {
	// Session is the id of the session in the log and in the trace.
	Session string
	// Client is the connected side; behind a trusted proxy, what that said.
	Client netip.AddrPort
	// Local is the address that the client connected to.
	Local netip.AddrPort
	// Log has the session and the client as attributes.
	Log *slog.Logger

	server *Server // nil: limits nothing
	// work is the context of Work, nil where no server has made the Conn; endWork ends
	// it early.
	work    context.Context
	endWork context.CancelCauseFunc
	config  *tls.Config // nil: no TLS to be had
	sock    *socket
	hold    time.Duration // holdTime
	bye     time.Duration // byeTime
	leaving bool          // it ends because the server does
	// ending ends when the server begins to; a handshake under way has shake then. nil
	// where no server has made the Conn.
	ending context.Context
	shake  time.Duration // handshakeGrace
	tls    *tls.Conn     // nil in clear
	r      *bufio.Reader
	w      *bufio.Writer

	active atomic.Int64 // when the client last said something, in Unix nanoseconds

	mu      sync.Mutex // guards what follows, against Wake
	waiting bool
	woken   bool
	closing bool
}

// The pools are shared by all servers of the process; they hold nothing but
// empty buffers.
var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBufferSize) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, writeBufferSize) }}
)

// NewConn wraps an accepted connection. config is for TLS at the client's
// request (StartTLS), nil if there is none. Servers make their Conns
// themselves; this is for tests, and for connections that come in another way.
func NewConn(conn net.Conn, config *tls.Config, session string, log *slog.Logger) *Conn {
	c := &Conn{Session: session, config: config, sock: newSocket(conn), hold: holdTime, bye: byeTime, shake: handshakeGrace, Client: addrPort(conn.RemoteAddr()), Local: addrPort(conn.LocalAddr())}
	c.Log = log.With("session", session, "client", c.Client.Addr())
	return c
}

// addrPort is a without an IPv4-mapped form; the zero value for what is no IP
// address, such as a pipe.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// Reader is the buffered input. It is valid until the next Wait or StartTLS.
func (c *Conn) Reader() *bufio.Reader {
	if c.r == nil {
		c.r = readers.Get().(*bufio.Reader)
		c.r.Reset(c)
	}
	return c.r
}

// Writer is the buffered output. It is valid until the next Wait or StartTLS.
func (c *Conn) Writer() *bufio.Writer {
	if c.w == nil {
		c.w = writers.Get().(*bufio.Writer)
		c.w.Reset(c)
	}
	return c.w
}

// Read reads past the buffer; it is for Reader and for what replaces it.
func (c *Conn) Read(p []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Read(p)
	}
	return c.sock.Read(p)
}

// Write writes past the buffer; it is for Writer and for what replaces it.
func (c *Conn) Write(p []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Write(p)
	}
	return c.sock.Write(p)
}

// Flush sends what Writer holds.
func (c *Conn) Flush() error {
	if c.w == nil {
		return nil
	}
	return c.w.Flush()
}

// LimitRead sets the moment at which reads fail whatever progress there is; the
// zero time takes the limit away. Without it a command could be sent an octet a
// minute.
func (c *Conn) LimitRead(t time.Time) { c.sock.limit = t }

// Wait returns nil as soon as there is input. Output is flushed first, unless
// there is input already: so the answers to pipelined commands leave together.
// The buffers go back to their pools while nothing happens. It returns ErrIdle
// after timeout, and ErrWoken if Wake was called since the last Wait.
func (c *Conn) Wait(timeout time.Duration) error {
	if c.r != nil && c.r.Buffered() > 0 {
		return nil
	}
	if err := c.Flush(); err != nil {
		return err
	}
	// The large buffer goes at once: a thousand clients that log in together share
	// a few.
	c.releaseWriter()
	end := time.Now().Add(timeout)
	hold := end
	if c.sock.canPark() && timeout > c.hold {
		hold = time.Now().Add(c.hold)
	}
	if err := c.waitUntil(hold, c.peek); !errors.Is(err, ErrIdle) || hold.Equal(end) {
		return err
	}
	c.releaseBuffers()
	if c.server != nil {
		c.server.parked.Add(1)
	}
	return c.waitUntil(end, c.sock.park)
}

// peek waits for input and leaves it in the buffer.
func (c *Conn) peek() error {
	_, err := c.Reader().Peek(1)
	return err
}

// waitUntil calls wait with a read deadline that Wake can move.
func (c *Conn) waitUntil(end time.Time, wait func() error) error {
	c.mu.Lock()
	if c.woken {
		c.woken = false
		c.mu.Unlock()
		return ErrWoken
	}
	c.waiting = true
	c.sock.waiting = true
	err := c.sock.Conn.SetReadDeadline(end)
	c.mu.Unlock()

	if err == nil {
		err = wait()
	}
	if err == nil {
		c.active.Store(time.Now().UnixNano())
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	c.sock.waiting = false
	c.sock.deadline = time.Time{} // of no use any more: Wake may have moved it
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if c.woken {
		c.woken = false
		return ErrWoken
	}
	return ErrIdle
}

// Wake makes a Wait that is under way, else the next one, return ErrWoken. It
// does not block.
func (c *Conn) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	if c.waiting {
		// An error means that the connection is closed, which wakes too.
		_ = c.sock.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// byeTime is how long a session that was revoked, or that goes on when the grace of a
// shutdown is over, may take to finish what it is saying and to say goodbye; and then
// how long its client may take to read that.
const byeTime = 500 * time.Millisecond

// cut ends whatever the client is doing, within a command too: what it sends is
// not read any more, and it has byeTime to read what it is told. It does not block,
// and may be called from other goroutines.
func (c *Conn) cut() {
	c.Wake() // first: Wait must not take the moved deadline for silence
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return // the deadlines are those of the goodbye
	}
	c.sock.cut(time.Now().Add(c.bye))
}

// Work is the context for what the client of a session with the context ctx has asked
// for. It ends as ctx does, but for ErrShutdown: an answer that has begun when the
// server leaves is finished, unless the grace of the configuration is over before.
func (c *Conn) Work(ctx context.Context) context.Context {
	if c.work == nil {
		return ctx
	}
	return c.work
}

// startWork makes the context of Work for a session with the context ctx, within a
// server that cuts its connections when force ends.
func (c *Conn) startWork(ctx, force context.Context) (done func()) {
	c.work, c.endWork = context.WithCancelCause(force)
	stop := context.AfterFunc(ctx, func() {
		if why := context.Cause(ctx); !errors.Is(why, ErrShutdown) {
			c.endWork(why)
		}
	})
	return func() {
		stop()
		c.endWork(nil)
	}
}

// releaseBuffers gives the buffers back. They are empty.
func (c *Conn) releaseBuffers() {
	if c.r != nil {
		c.r.Reset(nil)
		readers.Put(c.r)
		c.r = nil
	}
	c.releaseWriter()
}

func (c *Conn) releaseWriter() {
	if c.w != nil {
		c.w.Reset(nil)
		writers.Put(c.w)
		c.w = nil
	}
}

// QuickAck helps a client that sends what belongs together in two writes, such as
// an IMAP literal and the end of its line: by Nagle's algorithm its second one
// waits for our acknowledgement of the first, which is otherwise delayed by
// 40 ms. It is for the moment when more must come and nothing is to be said.
func (c *Conn) QuickAck() { c.sock.quickAck() }

// CanStartTLS reports whether StartTLS is possible now.
func (c *Conn) CanStartTLS() bool { return c.tls == nil && c.config != nil }

// IsTLS reports whether the connection is encrypted.
func (c *Conn) IsTLS() bool { return c.tls != nil }

// TLSState describes the TLS connection; the zero value in clear.
func (c *Conn) TLSState() tls.ConnectionState {
	if c.tls == nil {
		return tls.ConnectionState{}
	}
	return c.tls.ConnectionState()
}

// Certificate is the one that the client was shown; nil in clear, or where the
// configuration's certificates are not those of a tlsconf.Store.
func (c *Conn) Certificate() *x509.Certificate { return c.sock.shown }

// StartTLS flushes the output, with the consent to TLS in it, and shakes hands.
// After an error the connection is of no more use: going on in clear would be
// what an attacker wants.
func (c *Conn) StartTLS(ctx context.Context) error {
	if !c.CanStartTLS() {
		return errors.New("no TLS to start")
	}
	if c.r != nil && c.r.Buffered() > 0 {
		return ErrInjection
	}
	if err := c.Flush(); err != nil {
		return err
	}
	c.releaseBuffers()
	return c.handshake(ctx)
}

// handshake makes the connection a TLS one. It runs in a goroutine of its own
// so that its deep stack is given back at once, not when the collector finds
// out that the session's goroutine idles on one of 16 KiB.
func (c *Conn) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if c.ending != nil {
		defer context.AfterFunc(c.ending, func() {
			select {
			case <-time.After(c.shake):
				cancel()
			case <-ctx.Done():
			}
		})()
	}
	limit := c.sock.limit
	c.LimitRead(time.Now().Add(handshakeTimeout))
	secure := tls.Server(c.sock, c.config)
	failed := make(chan error, 1)
	go func() { failed <- handshakeOf(ctx, secure) }()
	err := <-failed
	c.LimitRead(limit)
	if err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.tls = secure
	return nil
}

// handshakeOf turns a panic of the handshake into an error, since it happens
// outside of the connection's goroutine.
func handshakeOf(ctx context.Context, conn *tls.Conn) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return conn.HandshakeContext(ctx)
}

// Close ends the connection: what is buffered is not sent. A session that was
// revoked, or that ends with the server, may end in the middle of what the client
// sends; its goodbye is to be read all the same.
func (c *Conn) Close() error {
	c.releaseBuffers()
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	by, cut := c.sock.isCut()
	if cut || c.leaving {
		c.sock.closing = !cut
		if c.tls != nil && (!cut || time.Now().Before(by)) {
			_ = c.tls.CloseWrite() // close_notify: as well as that goes
		}
		nonblock.HangUp(c.sock.Conn, c.bye)
		return c.sock.Close()
	}
	c.sock.closing = true
	if c.tls != nil {
		return c.tls.Close() // with close_notify, at most five seconds
	}
	return c.sock.Close()
}

// IsGone reports whether err means no more than that the client has left or
// fallen silent: nothing anybody has to look at.
func IsGone(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ErrIdle) || errors.As(err, &op)
}
