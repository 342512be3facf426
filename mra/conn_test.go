package mra

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dirpost/auth"
	"dirpost/internal/testenv"
	"dirpost/internal/tlsconf"
)

// tcpPair is a connection over the loopback, which can be parked.
func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func tlsConfigs(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	cert := testenv.Certificate(t, "mail.corp.example")
	return &tls.Config{Certificates: []tls.Certificate{cert.TLS}}, &tls.Config{RootCAs: cert.Pool, ServerName: "mail.corp.example"}
}

func testLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// parked is a Conn over TCP that gives its buffers back at once.
func parked(t testing.TB, config *tls.Config) (net.Conn, *Conn) {
	client, server := tcpPair(t)
	c := NewConn(server, config, "s", testLog())
	c.hold = time.Nanosecond
	return client, c
}

func TestWaitSeesInput(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"clear", "tls"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc, cc := tlsConfigs(t)
			client, c := parked(t, sc)
			if name == "tls" {
				secure := tls.Client(client, cc)
				client = secure
				go secure.Handshake()
				if err := c.StartTLS(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			const rounds = 20
			go func() {
				for range rounds {
					io.WriteString(client, "a\r\nb\r\n") // the second is found in the buffer
					io.ReadFull(client, make([]byte, 2))
				}
				client.Close()
			}()
			for i := range rounds {
				for range 2 {
					if err := c.Wait(time.Minute); err != nil {
						t.Fatalf("round %d: %v", i, err)
					}
					line, err := c.Reader().ReadString('\n')
					if err != nil || len(line) != 3 {
						t.Fatalf("round %d: %q, %v", i, line, err)
					}
					c.Writer().WriteString(line[:1])
				}
			}
			if err := c.Wait(time.Minute); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if _, err := c.Reader().ReadByte(); err != io.EOF {
				t.Errorf("after the client has left: %v", err)
			}
		})
	}
}

// A parked session holds no buffer, and is woken by the clock, by Wake and by the
// client, each time with what it was.
func TestPark(t *testing.T) {
	t.Parallel()
	client, c := parked(t, nil)
	if err := c.Wait(time.Millisecond); !errors.Is(err, ErrIdle) {
		t.Fatalf("silent client: %v", err)
	}
	if c.r != nil || c.w != nil {
		t.Error("buffers are held by an idle session")
	}
	c.Wake()
	if err := c.Wait(time.Minute); !errors.Is(err, ErrWoken) {
		t.Fatalf("woken before: %v", err)
	}
	for range 50 {
		go c.Wake()
		if err := c.Wait(time.Minute); !errors.Is(err, ErrWoken) {
			t.Fatalf("woken meanwhile: %v", err)
		}
	}
	go io.WriteString(client, "x")
	if err := c.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Reader().ReadByte(); b != 'x' || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
}

// The answers to pipelined commands leave together, and before Wait waits.
func TestWaitFlushesLast(t *testing.T) {
	t.Parallel()
	client, c := parked(t, nil)
	io.WriteString(client, "ab")
	if err := c.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	c.Reader().ReadByte()
	c.Writer().WriteString("A")
	if err := c.Wait(time.Minute); err != nil || c.Writer().Buffered() != 1 {
		t.Fatalf("with input there: %v, %d octets unsent", err, c.Writer().Buffered())
	}
	c.Reader().ReadByte()
	c.Writer().WriteString("B")
	if err := c.Wait(time.Millisecond); !errors.Is(err, ErrIdle) {
		t.Fatal(err)
	}
	if b := make([]byte, 2); true {
		if _, err := io.ReadFull(client, b); err != nil || string(b) != "AB" {
			t.Errorf("client got %q, %v", b, err)
		}
	}
}

// RFC 2595 §4, CVE-2011-0411: nothing that came in clear is taken as said in TLS.
func TestStartTLSInjection(t *testing.T) {
	t.Parallel()
	sc, _ := tlsConfigs(t)
	client, c := parked(t, sc)
	io.WriteString(client, "STLS\r\nDELE 1\r\n")
	if err := c.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	c.Reader().ReadString('\n')
	if err := c.StartTLS(t.Context()); !errors.Is(err, ErrInjection) {
		t.Errorf("got %v", err)
	}
}

func TestFailedHandshake(t *testing.T) {
	t.Parallel()
	sc, _ := tlsConfigs(t)
	client, c := parked(t, sc)
	go func() {
		io.WriteString(client, "NOOP\r\n") // that is no ClientHello
		io.Copy(io.Discard, client)
	}()
	if err := c.StartTLS(t.Context()); err == nil || c.IsTLS() {
		t.Errorf("got %v, TLS %v", err, c.IsTLS())
	}
}

// A client that stops within a command has its connection ended, and what it
// sends afterwards is not read: it might be the rest of the command.
func TestReadTimeoutIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := NewConn(server, nil, "s", testLog())
		go func() {
			io.WriteString(client, "RE")
			time.Sleep(readTimeout / 2)
			io.WriteString(client, "TR")
			time.Sleep(readTimeout + time.Second)
			io.WriteString(client, " 1\r\nDELE 1\r\n")
		}()
		if err := c.Wait(time.Hour); err != nil {
			t.Fatal(err)
		}
		line, err := c.Reader().ReadString('\n')
		if line != "RETR" || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %q, %v", line, err)
		}
		time.Sleep(time.Hour)
		if n, err := c.Reader().Read(make([]byte, 10)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("then %d octets, %v", n, err)
		}
	})
}

// However steadily the octets come, there is an end to one command.
func TestLimitRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := NewConn(server, nil, "s", testLog())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			for {
				if _, err := io.WriteString(client, "x"); err != nil {
					return
				}
				time.Sleep(10 * time.Second)
			}
		}()
		start := time.Now()
		c.LimitRead(start.Add(3 * time.Minute))
		if _, err := c.Reader().ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != 3*time.Minute {
			t.Errorf("after %v", d)
		}
		server.Close()
		<-gone
	})
}

// A slow reader of a large answer is served to the end, one that takes nothing
// is not waited for.
func TestWriteDeadlineMovesWithProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := NewConn(server, nil, "s", testLog())
		done := make(chan error, 1)
		go func() {
			_, err := c.Write(bytes.Repeat([]byte("x"), 64<<10))
			done <- err
		}()
		for range 64 { // an hour altogether
			time.Sleep(time.Minute)
			if _, err := io.ReadFull(client, make([]byte, 1<<10)); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Fatalf("slow reader: %v", err)
		}
		start := time.Now()
		if _, err := c.Write([]byte("y")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("stalled reader: %v", err)
		}
		if d := time.Since(start); d != writeTimeout {
			t.Errorf("given up after %v", d)
		}
		client.Close()
		server.Close()
	})
}

// BenchmarkIdle is a connection in IDLE that is woken by a hint.
func BenchmarkIdle(b *testing.B) {
	_, c := parked(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		c.Wake()
		if err := c.Wait(time.Minute); !errors.Is(err, ErrWoken) {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommand is a round trip of one short command.
func BenchmarkCommand(b *testing.B) {
	client, server := tcpPair(b)
	c := NewConn(server, nil, "s", testLog())
	ctx, cancel := context.WithCancel(b.Context())
	go func() {
		defer cancel()
		for c.Wait(time.Minute) == nil {
			line, err := c.Reader().ReadSlice('\n')
			if err != nil {
				return
			}
			c.Writer().Write(line)
		}
	}()
	r := bufio.NewReader(client)
	b.ReportAllocs()
	for b.Loop() {
		io.WriteString(client, "NOOP\r\n")
		if line, err := r.ReadSlice('\n'); err != nil || !strings.HasPrefix(string(line), "NOOP") {
			b.Fatal(err)
		}
	}
	client.Close()
	<-ctx.Done()
}

// A session that is woken since the server shuts down sees that it shall end,
// whichever of the two contexts ends first.
func TestShutdownIsNotMissed(t *testing.T) {
	for range 30 {
		client, server := net.Pipe()
		c := NewConn(server, nil, "s", testLog())
		above, shutdown := context.WithCancelCause(t.Context())
		stop := context.AfterFunc(above, c.Wake)
		for range 5000 { // other sessions: contexts end one after the other, in no order
			_, cancel := context.WithCancel(above)
			defer cancel()
		}
		ctx, done, err := c.Admit(above, &watch{}, &auth.Identity{})
		if err != nil {
			t.Fatal(err)
		}
		go shutdown(ErrShutdown)
		for ctx.Err() == nil {
			if err := c.Wait(time.Minute); !errors.Is(err, ErrWoken) {
				t.Fatalf("the wake was lost: %v", err)
			}
		}
		stop()
		done()
		client.Close()
		server.Close()
	}
}

// The SASL bridge learns of TLS what channel bindings are made of.
func TestAuthConn(t *testing.T) {
	t.Parallel()
	cert := testenv.Certificate(t, "mail.corp.example")
	store, err := tlsconf.Open(tlsconf.Config{Pairs: []tlsconf.Pair{{CertFile: cert.CertFile, KeyFile: cert.KeyFile}}}, testLog())
	if err != nil {
		t.Fatal(err)
	}
	client, server := tcpPair(t)
	c := NewConn(server, store.Config(), "s", testLog())
	if a := c.AuthConn("imap"); a.Protocol != "imap" || a.TLS || a.State != nil || a.Certificate != nil || a.Client != c.Client.Addr() || a.Session != "s" {
		t.Errorf("in clear: %+v", a)
	}
	secure := tls.Client(client, &tls.Config{RootCAs: cert.Pool, ServerName: "mail.corp.example"})
	done := make(chan error, 1)
	go func() { done <- secure.Handshake() }()
	if err := errors.Join(c.StartTLS(t.Context()), <-done); err != nil {
		t.Fatal(err)
	}
	a, theirs := c.AuthConn("imap"), secure.ConnectionState()
	if !a.TLS || a.State == nil || a.Certificate == nil || !a.Certificate.Equal(theirs.PeerCertificates[0]) {
		t.Fatalf("by TLS: %+v", a)
	}
	// RFC 9266 §3: tls-exporter.
	const label = "EXPORTER-Channel-Binding"
	ours, err1 := a.State.ExportKeyingMaterial(label, nil, 32)
	his, err2 := theirs.ExportKeyingMaterial(label, nil, 32)
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(ours, his) {
		t.Errorf("the channel binding differs: %v", err)
	}
}
