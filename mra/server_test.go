package mra

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/auth"
	"dirpost/internal/dialog"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// echo is a small protocol: it tells who the client is, and answers each line.
type echo struct{}

func (e *echo) Refusal(l Limit) string { return "* BYE limit " + string(l) }

func (e *echo) ServeConn(ctx context.Context, c *Conn) {
	fmt.Fprintf(c.Writer(), "* OK %v tls=%v\r\n", c.Client.Addr(), c.IsTLS())
	for {
		if err := c.Wait(idle); errors.Is(err, ErrWoken) {
			fmt.Fprintf(c.Writer(), "* BYE %v\r\n", context.Cause(ctx))
			c.Flush()
			return
		} else if err != nil {
			return
		}
		line, err := c.Reader().ReadString('\n')
		switch {
		case err != nil:
			return
		case line == "panic\r\n":
			panic("as asked")
		case line == "stuck\r\n":
			c.Writer().WriteString("stuck\r\n")
			c.Flush()
			io.Copy(io.Discard, c.Reader())
			if ctx.Err() != nil {
				fmt.Fprintf(c.Writer(), "* BYE %v\r\n", context.Cause(ctx))
				c.Flush()
			}
			return
		case line == "finish\r\n": // an answer that the end of the server finds half said
			c.Writer().WriteString("half ")
			c.Flush()
			<-ctx.Done()
			if err := c.Work(ctx).Err(); err != nil {
				fmt.Fprintf(c.Writer(), "%v", err)
			}
			c.Writer().WriteString("whole\r\n")
		case line == "endless\r\n": // one that is never over
			c.Writer().WriteString("begun\r\n")
			c.Flush()
			<-c.Work(ctx).Done()
			overs <- context.Cause(c.Work(ctx))
			return
		case line == "login\r\n":
			sctx, done, err := c.Admit(ctx, revoker, &auth.Identity{Person: "corp:1"})
			if err != nil {
				fmt.Fprintf(c.Writer(), "NO %v\r\n", err)
				continue
			}
			defer done()
			ctx = sctx
			c.Writer().WriteString("OK\r\n")
		default:
			c.Writer().WriteString(line)
		}
	}
}

const idle = 1 << 40 // nanoseconds, 18 minutes

// overs says why the work of endless commands was over.
var overs = make(chan error, 1)

// revoker remembers whom to tell.
var revoker = &watch{}

type watch struct {
	mu sync.Mutex // guards f
	f  []func(string)
}

func (w *watch) Watch(_ *auth.Identity, f func(string)) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.f = append(w.f, f)
	return func() {}
}

func (w *watch) revoke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.f {
		f("disabled")
	}
}

// running is a server on a free port of the loopback.
type running struct {
	*Server
	addr string
	stop context.CancelFunc
	over chan error
}

func run(t *testing.T, config Config, tlsConfig *tls.Config, implicit bool, set ...func(*Server)) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Server: NewServer("test", config, tlsConfig, &echo{}, testLog()), addr: l.Addr().String(), stop: cancel, over: make(chan error, 1)}
	for _, f := range set {
		f(r.Server)
	}
	go func() { r.over <- r.Serve(ctx, l, implicit) }()
	t.Cleanup(func() { cancel(); <-r.over })
	return r
}

func (r *running) ended(t *testing.T) {
	t.Helper()
	if err := <-r.over; err != nil {
		t.Errorf("Serve: %v", err)
	}
	r.over <- nil // for Cleanup
}

func (r *running) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// counted is the value of a counter.
func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestServer(t *testing.T) {
	t.Parallel()
	r := run(t, Config{}, nil, false)
	c := r.dial(t)
	dialog.Expect(t, c, "* OK 127.0.0.1 tls=false")
	io.WriteString(c, "a\r\n")
	dialog.Expect(t, c, "a")
}

func TestImplicitTLS(t *testing.T) {
	t.Parallel()
	sc, cc := tlsConfigs(t)
	r := run(t, Config{}, sc, true)
	c := tls.Client(r.dial(t), cc)
	dialog.Expect(t, c, "* OK 127.0.0.1 tls=true")
	io.WriteString(c, "a\r\n")
	dialog.Expect(t, c, "a")
	plain := r.dial(t)
	io.WriteString(plain, "a NOOP\r\n")
	if b, _ := io.ReadAll(plain); len(b) > 0 && b[0] != 21 { // a TLS alert at most
		t.Errorf("said in clear: %q", b)
	}
}

// RFC 7301 §3.2: a client that wants to speak another protocol is refused before
// it has said anything; one that says "test", or nothing, is served.
func TestALPN(t *testing.T) {
	t.Parallel()
	sc, cc := tlsConfigs(t)
	r := run(t, Config{}, sc, true)
	for protocol, want := range map[string]bool{"": true, "test": true, "http/1.1": false} {
		c := cc.Clone()
		if protocol != "" {
			c.NextProtos = []string{protocol}
		}
		if err := tls.Client(r.dial(t), c).Handshake(); (err == nil) != want {
			t.Errorf("%q: %v", protocol, err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for limit, config := range map[string]Config{"total": {MaxConnections: 1}, "client": {MaxPerClient: 1}} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			r := run(t, config, nil, false)
			first := r.dial(t)
			dialog.Expect(t, first, "* OK *")
			second := r.dial(t)
			dialog.Expect(t, second, "* BYE limit "+limit)
			if b, err := io.ReadAll(second); len(b) > 0 || err != nil {
				t.Errorf("then %q, %v", b, err)
			}
			if n := counted(t, r.refused.WithLabelValues(limit)); n != 1 {
				t.Errorf("%v refusals counted", n)
			}
			first.Close() // frees the place, some time
			for {
				c := r.dial(t)
				if line, err := bufio.NewReader(c).ReadString('\n'); err == nil && line[:4] == "* OK" {
					return
				}
				c.Close()
			}
		})
	}
}

func TestClientKey(t *testing.T) {
	t.Parallel()
	a, b, c := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2:0:0:1"), netip.MustParseAddr("2001:db8:0:1::1")
	if clientKey(a) != clientKey(b) || clientKey(a) == clientKey(c) {
		t.Error("a /64 is one client")
	}
	if v4 := netip.MustParseAddr("192.0.2.1"); clientKey(v4) != v4 {
		t.Error("an IPv4 address is one client")
	}
}

func TestPerPersonLimitAndRevocation(t *testing.T) {
	t.Parallel()
	r := run(t, Config{MaxPerPerson: 1}, nil, false)
	first, second := r.dial(t), r.dial(t)
	for _, c := range []net.Conn{first, second} {
		dialog.Expect(t, c, "* OK *")
		io.WriteString(c, "login\r\n")
		if c == first {
			dialog.Expect(t, c, "OK")
		}
	}
	dialog.Expect(t, second, "NO corp:1: too many sessions of this person")
	revoker.revoke()
	dialog.Expect(t, first, "* BYE login revoked: disabled")
	io.WriteString(second, "a\r\n")
	dialog.Expect(t, second, "a")
}

// Sessions are told, and those that do not listen are cut off.
func TestShutdown(t *testing.T) {
	t.Parallel()
	r := run(t, Config{ShutdownGrace: 1}, nil, false)
	idle, stuck := r.dial(t), r.dial(t)
	dialog.Expect(t, idle, "* OK *")
	dialog.Expect(t, stuck, "* OK *")
	io.WriteString(stuck, "stuck\r\n")
	dialog.Expect(t, stuck, "stuck")
	r.stop()
	r.ended(t)
	if b, err := io.ReadAll(stuck); err != nil || string(b) != "* BYE server shutting down\r\n" {
		t.Errorf("stuck client: %q, %v", b, err)
	}
	if _, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("still accepts")
	}
}

func TestShutdownSaysGoodbye(t *testing.T) {
	t.Parallel()
	r := run(t, Config{}, nil, false)
	c := r.dial(t)
	dialog.Expect(t, c, "* OK *")
	r.stop()
	dialog.Expect(t, c, "* BYE server shutting down")
	r.ended(t)
}

// The goodbye arrives at a client that is just sending, by TLS as well: also at one
// that is still within a command when the grace is over.
func TestShutdownGoodbyeArrives(t *testing.T) {
	t.Parallel()
	server, client := tlsConfigs(t)
	for name, c := range map[string]struct {
		grace time.Duration
		begin string
	}{"waiting": {time.Hour, "a\r\n"}, "within a command": {time.Millisecond, "stuck\r\n"}} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls=%v", name, secure), func(t *testing.T) {
				t.Parallel()
				r := run(t, Config{ShutdownGrace: c.grace}, server, secure, func(s *Server) { s.bye = time.Minute })
				conn := r.dial(t)
				raw := conn
				if secure {
					conn = tls.Client(conn, client)
				}
				dialog.Expect(t, conn, "* OK *")
				io.WriteString(conn, c.begin)
				dialog.Expect(t, conn, strings.TrimSpace(c.begin))
				r.stop()
				dialog.Expect(t, conn, "* BYE "+ErrShutdown.Error())
				for range 50 { // the first of them would make a closed socket reset
					if _, err := io.WriteString(conn, strings.Repeat("more\r\n", 1000)); err != nil {
						t.Fatal(err)
					}
				}
				if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
					t.Errorf("after the goodbye: %q, %v", rest, err)
				}
				raw.Close()
				r.ended(t)
			})
		}
	}
}

// A client that never shakes hands does not hold the server up, and one that does in
// time hears goodbye.
func TestShutdownWithinHandshake(t *testing.T) {
	t.Parallel()
	server, client := tlsConfigs(t)
	begun := func(r *running) { // counted when the handshake begins
		for counted(t, r.connections.WithLabelValues("implicit")) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	r := run(t, Config{ShutdownGrace: time.Hour}, server, true, func(s *Server) { s.shake = 10 * time.Millisecond })
	silent := r.dial(t)
	begun(r)
	r.stop()
	r.ended(t)
	if got, err := io.ReadAll(silent); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}

	r = run(t, Config{ShutdownGrace: time.Hour}, server, true, func(s *Server) { s.shake = time.Hour })
	conn := r.dial(t)
	begun(r)
	r.stop()
	secure := tls.Client(conn, client)
	dialog.Expect(t, secure, "* OK *")
	dialog.Expect(t, secure, "* BYE "+ErrShutdown.Error())
	conn.Close()
	r.ended(t)
}

func TestPanicEndsOneSession(t *testing.T) {
	t.Parallel()
	r := run(t, Config{}, nil, false)
	c, other := r.dial(t), r.dial(t)
	dialog.Expect(t, c, "* OK *")
	dialog.Expect(t, other, "* OK *")
	io.WriteString(c, "panic\r\n")
	io.ReadAll(c)
	io.WriteString(other, "a\r\n")
	dialog.Expect(t, other, "a")
	if n := counted(t, r.panics); n != 1 {
		t.Errorf("%v panics counted", n)
	}
}

func TestProxyHeader(t *testing.T) {
	t.Parallel()
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	const v1 = "PROXY TCP4 198.51.100.7 192.0.2.1 4711 143\r\n"
	const v2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x12\x67\x00\x8f"
	const local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	for name, c := range map[string]struct {
		trusted    []netip.Prefix
		send, want string
	}{
		"version 1":      {loopback, v1 + "a\r\n", "* OK 198.51.100.7 tls=false\r\na\r\n"},
		"version 2":      {loopback, v2 + "a\r\n", "* OK 198.51.100.7 tls=false\r\na\r\n"},
		"health check":   {loopback, local + "a\r\n", "* OK 127.0.0.1 tls=false\r\na\r\n"},
		"missing":        {loopback, "a\r\n", ""},
		"not trusted":    {elsewhere, v1, "* OK 127.0.0.1 tls=false\r\n" + v1},
		"not configured": {nil, v1, "* OK 127.0.0.1 tls=false\r\n" + v1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, Config{Proxies: c.trusted}, nil, false)
			conn := r.dial(t)
			io.WriteString(conn, c.send)
			if c.want == "" {
				if b, _ := io.ReadAll(conn); len(b) > 0 {
					t.Errorf("got %q", b)
				}
				return
			}
			got := make([]byte, len(c.want))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != c.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// What a client has asked for is finished when the server leaves; work that is never
// over ends with the grace, or at once for whom is revoked meanwhile.
func TestWork(t *testing.T) {
	t.Parallel()
	r := run(t, Config{ShutdownGrace: time.Minute}, nil, false)
	c, endless := r.dial(t), r.dial(t)
	for _, x := range []net.Conn{c, endless} {
		dialog.Expect(t, x, "* OK *")
	}
	io.WriteString(c, "finish\r\n")
	if _, err := io.ReadFull(c, make([]byte, len("half "))); err != nil {
		t.Fatal(err)
	}
	io.WriteString(endless, "login\r\nendless\r\n")
	dialog.Expect(t, endless, "OK")
	dialog.Expect(t, endless, "begun")
	r.stop()
	dialog.Expect(t, c, "whole")
	dialog.Expect(t, c, "* BYE "+ErrShutdown.Error())
	revoker.revoke()
	var revoked *RevokedError
	if err := <-overs; !errors.As(err, &revoked) {
		t.Errorf("the work of whom is revoked is over because of %v", err)
	}
	r.ended(t)

	r = run(t, Config{ShutdownGrace: 50 * time.Millisecond}, nil, false)
	endless = r.dial(t)
	dialog.Expect(t, endless, "* OK *")
	io.WriteString(endless, "endless\r\n")
	dialog.Expect(t, endless, "begun")
	r.stop()
	if err := <-overs; !errors.Is(err, ErrShutdown) {
		t.Errorf("work that lasts longer than the grace is over because of %v", err)
	}
	r.ended(t)
}
