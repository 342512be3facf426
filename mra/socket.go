package mra

import (
	"crypto/x509"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"dirpost/internal/nonblock"
)

// socket is the transport below TLS: a net.Conn whose deadlines move with
// progress. A read that ran into its deadline within a command fails for good,
// so that the rest of a stalled command is never taken for commands.
type socket struct {
	net.Conn
	raw     syscall.RawConn // nil for what is no socket, such as a pipe
	isTCP   bool
	pending []byte // read already, behind a PROXY header

	limit    time.Time // no read goes on beyond it
	deadline time.Time // as set last by Read
	waiting  bool      // Conn.Wait holds the deadline
	closing  bool      // leave the deadlines as they are
	err      error     // of a read that ran out of time

	shown    *x509.Certificate // to the client, by TLS
	session  string            // name of the TLS session, "" for none
	returned bool              // the client has resumed it

	// cutBy is when writes end, in Unix nanoseconds, once reads have; 0: not cut.
	// It is set by another goroutine, before the deadlines; here it is looked at
	// after they were moved. So either it is seen, or its deadline holds.
	cutBy atomic.Int64
}

// errCut reports a read after cut.
var errCut = errors.New("session is over")

// cut makes a read within a command fail, under way or to come, and any write that
// has not ended by then.
func (s *socket) cut(by time.Time) {
	s.cutBy.Store(by.UnixNano())
	// An error means that the connection is closed, which is as good.
	_ = s.Conn.SetReadDeadline(time.Unix(1, 0))
	_ = s.Conn.SetWriteDeadline(by)
}

// isCut reports whether the socket was cut, and by when writes end.
func (s *socket) isCut() (by time.Time, ok bool) {
	n := s.cutBy.Load()
	return time.Unix(0, n), n != 0
}

func newSocket(conn net.Conn) *socket {
	_, isTCP := conn.(*net.TCPConn)
	s := &socket{Conn: nonblock.Conn(conn), isTCP: isTCP}
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

// Present implements tlsconf.Presenter.
func (s *socket) Present(leaf *x509.Certificate) { s.shown = leaf }

// Recognize implements tlsconf.Recognizer.
func (s *socket) Recognize(session string, returned bool) { s.session, s.returned = session, returned }

// Read reads what is there, and waits for readTimeout at most.
func (s *socket) Read(p []byte) (int, error) {
	if len(s.pending) > 0 {
		n := copy(p, s.pending)
		s.pending = s.pending[n:]
		return n, nil
	}
	if s.waiting || s.closing {
		return s.Conn.Read(p)
	}
	if s.err != nil {
		return 0, s.err
	}
	if err := s.extend(time.Now()); err != nil {
		return 0, err
	}
	if _, ok := s.isCut(); ok {
		s.err = errCut
		return 0, s.err
	}
	n, err := s.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.err = err
	}
	return n, err
}

// extend moves the read deadline, but not at each read: a deadline is a timer in
// the runtime, and an eighth of the time is nothing.
func (s *socket) extend(now time.Time) error {
	want := now.Add(readTimeout)
	if !s.limit.IsZero() && want.After(s.limit) {
		want = s.limit
	}
	if ahead := want.Sub(s.deadline); ahead >= 0 && ahead < readTimeout/8 && (s.limit.IsZero() || !s.deadline.After(s.limit)) {
		return nil
	}
	if err := s.Conn.SetReadDeadline(want); err != nil {
		return err
	}
	s.deadline = want
	return nil
}

// Write writes all of p. It gives up when less than writeProgress octets leave
// within writeTimeout.
func (s *socket) Write(p []byte) (int, error) {
	if s.closing {
		return s.Conn.Write(p)
	}
	written := 0
	for {
		if err := s.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return written, err
		}
		if by, ok := s.isCut(); ok {
			if err := s.Conn.SetWriteDeadline(by); err != nil {
				return written, err
			}
		}
		n, err := s.Conn.Write(p[written:])
		written += n
		_, cut := s.isCut()
		if err == nil || cut || !errors.Is(err, os.ErrDeadlineExceeded) || n < writeProgress {
			return written, err
		}
	}
}

// canPark reports whether the socket can be waited for without a buffer.
func (s *socket) canPark() bool { return s.raw != nil && len(s.pending) == 0 }

// park waits until the socket is readable, without reading: the runtime's
// poller is asked by a peek of one octet.
func (s *socket) park() error {
	var one [1]byte
	var failed error
	err := s.raw.Read(func(fd uintptr) bool {
		for {
			_, _, failed = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
			if failed == syscall.EINTR {
				continue
			}
			return failed != syscall.EAGAIN
		}
	})
	if err != nil {
		return err
	}
	return failed // nil at the end of the stream too: the next read says so
}

// quickAck makes the kernel acknowledge what was received without waiting for
// something to send with it.
func (s *socket) quickAck() {
	if s.isTCP && s.raw != nil {
		_ = s.raw.Control(func(fd uintptr) { // it only saves time
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
		})
	}
}
