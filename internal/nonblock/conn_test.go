package nonblock

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// pair returns the two ends of a connection over network.
func pair(t testing.TB, network string) (client, server net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// The Go project's own suite of what a net.Conn is.
func TestConn(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				client, server := pair(t, network)
				return Conn(client), Conn(server), func() { client.Close(); server.Close() }, nil
			})
		})
	}
}

// More than a step, and more than the socket takes at once.
func TestLarge(t *testing.T) {
	t.Parallel()
	client, server := pair(t, "tcp")
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	done := make(chan error, 1)
	go func() {
		n, err := Conn(client).Write(want)
		if err == nil && n != len(want) {
			err = io.ErrShortWrite
		}
		client.Close()
		done <- err
	}()
	got, err := io.ReadAll(Conn(server))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %d octets, want %d, or others", len(got), len(want))
	}
}

// Errors are those of package net, by which callers tell what has happened.
func TestErrors(t *testing.T) {
	t.Parallel()
	client, server := pair(t, "tcp")
	c := Conn(client)
	server.(*net.TCPConn).SetLinger(0)
	server.Close()
	_, err := c.Read(make([]byte, 1))
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read from a connection that was reset: %v", err)
	}
	_, err = c.Write([]byte("x"))
	if !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to a connection that was reset: %v", err)
	}
	client.Close()
	for name, f := range map[string]func([]byte) (int, error){"read": c.Read, "write": c.Write} {
		if _, err := f(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s on a closed connection: %v", name, err)
		}
	}
	if again := Conn(client); again == nil {
		t.Error("a closed connection is lost")
	}
}

// What is no socket stays as it is.
func TestOther(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	if Conn(client) != client {
		t.Error("a pipe was wrapped")
	}
}

func BenchmarkEcho(b *testing.B) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{"net": func(c net.Conn) net.Conn { return c }, "nonblock": Conn} {
		b.Run(name, func(b *testing.B) {
			client, server := pair(b, "tcp")
			client, server = wrap(client), wrap(server)
			go io.Copy(struct{ io.Writer }{server}, struct{ io.Reader }{server})
			p := make([]byte, 64)
			for b.Loop() {
				if _, err := client.Write(p); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(client, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// An end and words unasked for are seen without waiting.
func TestIsQuiet(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		client, server := pair(t, network)
		c := Conn(client)
		if !IsQuiet(c) {
			t.Errorf("%s: a connection on which nothing was said is not quiet", network)
		}
		reading := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			reading <- err
		}()
		time.Sleep(10 * time.Millisecond)
		if !IsQuiet(c) { // with somebody in Read it must not wait for him
			t.Errorf("%s: a connection that somebody reads from is not quiet", network)
		}
		if _, err := server.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		if err := <-reading; err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return !IsQuiet(c) })
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil || !IsQuiet(c) {
			t.Errorf("%s: %v; not quiet when all is read", network, err)
		}
		server.Close()
		waitFor(t, func() bool { return !IsQuiet(c) })
	}
}

// waitFor waits for what the kernel does in its own time.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never comes to that")
		}
	}
}

// ReadNow takes what is there, and leaves it to Read to wait and to fail.
func TestReadNow(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		client, server := pair(t, network)
		c := Conn(server)
		buf := make([]byte, 10)
		if n := ReadNow(c, buf); n != 0 {
			t.Errorf("%s: %d octets of nothing", network, n)
		}
		if n := ReadNow(c, nil); n != 0 {
			t.Errorf("%s: %d octets into nothing", network, n)
		}
		io.WriteString(client, "hello, world")
		if _, err := io.ReadFull(c, buf[:1]); err != nil { // now all of it is there
			t.Fatal(err)
		}
		if n := ReadNow(c, buf); n != 10 || string(buf) != "ello, worl" {
			t.Errorf("%s: %d octets %q", network, n, buf[:n])
		}
		c.SetReadDeadline(time.Unix(1, 0))
		if n := ReadNow(c, buf); n != 0 {
			t.Errorf("%s: %d octets after the deadline", network, n)
		}
		c.SetReadDeadline(time.Time{})
		if n, err := c.Read(buf); n != 1 || err != nil {
			t.Errorf("%s: rest %d %v", network, n, err)
		}
		client.Close()
		if n := ReadNow(c, buf); n != 0 {
			t.Errorf("%s: %d octets after the end", network, n)
		}
		if _, err := c.Read(buf); err != io.EOF {
			t.Errorf("%s: end: %v", network, err)
		}
		if n := ReadNow(server, buf); n != 0 {
			t.Errorf("%s: %d octets of a connection that is not ours", network, n)
		}
	}
}
