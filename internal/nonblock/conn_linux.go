package nonblock

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// maxStep is how many octets one system call moves at most: what it copies keeps
// the garbage collector waiting, some ten µs.
const maxStep = 256 << 10

// Conn returns c with Read and Write as this package does them; c itself where it
// is neither a TCP nor a Unix connection. Everything else is c's: deadlines,
// addresses, the end.
func Conn(c net.Conn) net.Conn {
	var s syscall.Conn
	switch c := c.(type) {
	case *net.TCPConn:
		s = c
	case *net.UnixConn:
		s = c
	default:
		return c
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return c // closed: its own errors say so
	}
	w := &conn{Conn: c, raw: raw}
	w.in.try, w.in.now, w.out.try = w.in.read, w.in.readNow, w.out.write
	return w
}

type conn struct {
	net.Conn
	raw     syscall.RawConn
	in, out transfer
}

// transfer is one direction of a connection: the arguments and results of a
// system call.
type transfer struct {
	mu  sync.Mutex // guards what follows
	p   []byte
	n   int
	err syscall.Errno
	try func(fd uintptr) bool // read or write, made once
	now func(fd uintptr) bool // likewise readNow
}

// SyscallConn implements syscall.Conn.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// CloseWrite says to the other side that nothing more comes.
func (c *conn) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return c.Conn.Read(p)
	}
	t := &c.in
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p = p[:min(len(p), maxStep)]
	err := c.raw.Read(t.try)
	t.p = nil
	switch {
	case err != nil:
		return 0, err
	case t.err != 0:
		return 0, c.failed("read", t.err)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return c.Conn.Write(p)
	}
	t := &c.out
	t.mu.Lock()
	defer t.mu.Unlock()
	written := 0
	for written < len(p) {
		t.p = p[written:min(len(p), written+maxStep)]
		err := c.raw.Write(t.try)
		t.p = nil
		if err != nil {
			return written, err
		}
		if t.err != 0 {
			return written, c.failed("write", t.err)
		}
		written += t.n
	}
	return written, nil
}

// failed gives an error the form of package net.
func (c *conn) failed(op string, err syscall.Errno) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}

func (t *transfer) read(fd uintptr) bool { return t.call(syscall.SYS_READ, fd) }

// readNow is read for once: it never has to be called again.
func (t *transfer) readNow(fd uintptr) bool {
	if n, _, err := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.p))), uintptr(len(t.p))); err == 0 {
		t.n = int(n)
	}
	return true
}

func (t *transfer) write(fd uintptr) bool { return t.call(syscall.SYS_WRITE, fd) }

// call makes one system call on p. It reports false when the socket is not ready:
// then package net waits for it and calls again.
func (t *transfer) call(number, fd uintptr) bool {
	for {
		n, _, err := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.p))), uintptr(len(t.p)))
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		case 0:
			t.n, t.err = int(n), 0
		default:
			t.n, t.err = 0, err
		}
		return true
	}
}

// ReadNow reads what has come on c, into p, and does not wait: 0 when that is nothing
// yet, or when only Read can say what there is: the end, an error, or anything at all
// where c is no connection of this package, as with TLS.
func ReadNow(c net.Conn, p []byte) int {
	w, ok := c.(*conn)
	if !ok || len(p) == 0 {
		return 0
	}
	t := &w.in
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n = p[:min(len(p), maxStep)], 0
	err := w.raw.Read(t.now)
	t.p = nil
	if err != nil {
		return 0
	}
	return t.n
}

// IsQuiet reports whether c, which nobody uses, is open and has nothing to read. What
// the other side has said unasked, and its end, are seen without waiting. With TLS
// only an end counts: some servers say things of its own unasked (RFC 8446 §4.6.1).
// It is true for what is no connection of this package.
func IsQuiet(c net.Conn) bool {
	above, isTLS := c.(interface{ NetConn() net.Conn })
	if isTLS {
		c = above.NetConn()
	}
	q, ok := c.(*conn)
	if !ok {
		return true
	}
	quiet := false
	// Control and not Read: the driver may have left a goroutine in Read (its reader for
	// long writes), which would have to be waited for.
	err := q.raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		quiet = err == syscall.EAGAIN || err == syscall.EINTR || err == 0 && n > 0 && isTLS
	})
	return err == nil && quiet
}
