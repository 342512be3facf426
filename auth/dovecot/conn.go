package dovecot

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The version that we speak. Parameters of later ones are names that are skipped.
const (
	major = 1
	minor = 2
)

const (
	// handshakeTime is the time for the client's part of the handshake. Exim sends
	// it together with its request, Postfix when its first client connects.
	handshakeTime = time.Minute
	// writeTime is the time for the other side to read an answer.
	writeTime = 10 * time.Second
	// lastTime is the same once the connection is over.
	lastTime = time.Second
	// exchangeTime is the time for a client's next response.
	exchangeTime = 150 * time.Second
)

var (
	errGone    = errors.New("gone")
	errLong    = errors.New("line too long")
	errVersion = errors.New("other version of the protocol")
	errAway    = errors.New("closed, to say that a failure is temporary")
	errPanic   = errors.New("panic")
)

// conn is the connection of another program.
type conn struct {
	srv     *Server
	nc      net.Conn
	log     *slog.Logger
	session string
	end     context.CancelCauseFunc
	out     chan []byte // whole lines, for the goroutine that writes
	minor   uint32      // that the client speaks

	mu       sync.Mutex // guards requests, and what is said to be guarded in them
	requests map[uint32]*request
}

func newConn(s *Server, nc net.Conn, end context.CancelCauseFunc) *conn {
	session := newSession()
	return &conn{
		srv: s, nc: nc, session: session, log: s.deps.Log.With("session", session), end: end,
		out: make(chan []byte, 16), requests: make(map[uint32]*request),
	}
}

// serve speaks with the client until it leaves or ctx ends. It returns nil where
// nobody has to know why.
func (c *conn) serve(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { c.write(ctx) })
	// What ends the connection wakes the read.
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	defer c.dropAll()
	c.send(ctx, c.handshake())
	err := c.read(ctx, &parts)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	c.end(errGone)
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || errors.Is(err, errAway) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// handshake is our part of it, which comes first: Exim waits for it before it says
// a word. Clients know by MECH before SPID that the socket is of the right kind.
func (c *conn) handshake() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "VERSION\t%d\t%d\n", major, minor)
	for _, m := range c.srv.offered() {
		b.WriteString("MECH\t" + escape(m))
		for _, p := range properties(m) {
			b.WriteString("\t" + p)
		}
		b.WriteByte('\n')
	}
	cookie := make([]byte, 16) // for REQUEST of an auth-master socket, which we have not
	rand.Read(cookie)          // never fails: it ends the process instead
	fmt.Fprintf(&b, "SPID\t%d\nCUID\t%d\nCOOKIE\t%s\nDONE\n", c.srv.pid, c.srv.uid.Add(1), hex.EncodeToString(cookie))
	return []byte(b.String())
}

// properties are what a client wants to know of a mechanism, to obey options such
// as "noplaintext".
func properties(mechanism string) []string {
	switch {
	case mechanism == "PLAIN", mechanism == "LOGIN", mechanism == "OAUTHBEARER", mechanism == "XOAUTH2":
		return []string{"plaintext"} // whoever reads it can use it
	case strings.HasPrefix(mechanism, "SCRAM-"), strings.HasPrefix(mechanism, "GS"):
		return []string{"mutual-auth"}
	}
	return nil
}

// read takes what the client says.
func (c *conn) read(ctx context.Context, parts *sync.WaitGroup) error {
	r := bufio.NewReaderSize(c.nc, maxLine+1)
	if err := c.nc.SetReadDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	greeted := 0 // VERSION, then CPID
	for {
		text, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return errLong
		case err != nil && greeted < 2 && errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("no handshake: %w", err)
		case err != nil:
			return err
		}
		l, err := parse(text[:len(text)-1])
		clear(text) // a password is not kept longer than it must
		if err != nil {
			return err
		}
		if greeted < 2 {
			if err := c.greet(l, greeted); err != nil {
				return err
			}
			if greeted++; greeted == 2 {
				if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
					return err
				}
				if ctx.Err() != nil { // it may have moved the deadline before us
					return context.Cause(ctx)
				}
			}
			continue
		}
		if err := c.handle(ctx, l, parts); err != nil {
			return err
		}
	}
}

// greet takes the client's part of the handshake.
func (c *conn) greet(l line, step int) error {
	switch {
	case step == 0 && l.kind == kindVersion:
		if l.major != major {
			return fmt.Errorf("%w: %d.%d", errVersion, l.major, l.minor)
		}
		c.minor = l.minor
		return nil
	case step == 1 && l.kind == kindPID:
		c.log = c.log.With("pid", l.id)
		return nil
	}
	return fmt.Errorf("%w in the handshake", errProtocol)
}

// handle does what a line asks for. An error ends the connection.
func (c *conn) handle(ctx context.Context, l line, parts *sync.WaitGroup) error {
	switch l.kind {
	case kindAuth:
		return c.begin(ctx, l.id, l.auth, parts)
	case kindCont:
		return c.respond(ctx, l.id, l.data, parts)
	case kindCancel:
		c.drop(l.id)
		return nil
	}
	return fmt.Errorf("%w: handshake repeated", errProtocol)
}

// send hands lines to the goroutine that writes. A client that does not read is
// waited for there.
func (c *conn) send(ctx context.Context, lines []byte) {
	select {
	case c.out <- lines:
	case <-ctx.Done():
	}
}

// write sends what there is to say, at the end of the connection too.
func (c *conn) write(ctx context.Context) {
	for {
		select {
		case b := <-c.out:
			if err := c.put(b, writeTime); err != nil {
				c.end(err)
				return
			}
		case <-ctx.Done():
			for {
				select {
				case b := <-c.out:
					if c.put(b, lastTime) != nil {
						return
					}
				default:
					return
				}
			}
		}
	}
}

func (c *conn) put(b []byte, within time.Duration) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err := c.nc.Write(b)
	return err
}

// reply writes an answer about a request.
func (c *conn) reply(ctx context.Context, verb string, id uint32, params ...string) {
	b := append([]byte(verb), '\t')
	b = strconv.AppendUint(b, uint64(id), 10)
	for _, p := range params {
		b = append(append(b, '\t'), p...)
	}
	c.send(ctx, append(b, '\n'))
}
