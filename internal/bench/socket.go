package main

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"dirpost/internal/nonblock"
)

// The generator must not be what is measured: with one session every µs that it
// takes for its turn is a µs without work for the server. So it does not tell Go's
// scheduler of its system calls, which then wakes a thread to watch over them (see
// internal/nonblock), and the only session of a load waits in the kernel for its
// reply as a C program does, instead of in epoll with a second thread.

// dialSession opens a connection for one of the sessions of a load.
func dialSession(addr string, sessions int) (io.ReadWriteCloser, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if sessions > 1 {
		return nonblock.Conn(conn), nil
	}
	defer conn.Close()
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd())) // Fd makes it blocking, and no poller knows the copy
	return socket(fd), err
}

// socket is a TCP connection that blocks in the kernel, its thread and the
// scheduler's P with it: for one at a time.
type socket uintptr

// Read implements io.Reader.
func (s socket) Read(p []byte) (int, error) {
	n, err := s.call(syscall.SYS_READ, p)
	if n == 0 && err == nil && len(p) > 0 {
		return 0, io.EOF
	}
	return n, err
}

// Write implements io.Writer.
func (s socket) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := s.call(syscall.SYS_WRITE, p[written:])
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// Close implements io.Closer.
func (s socket) Close() error { return os.NewSyscallError("close", syscall.Close(int(s))) }

func (s socket) call(number uintptr, p []byte) (int, error) {
	for {
		n, _, err := syscall.RawSyscall(number, uintptr(s), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch err {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, os.NewSyscallError("socket", err)
		}
	}
}
