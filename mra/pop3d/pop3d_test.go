package pop3d

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dirpost/auth"
	"dirpost/internal/dialog"
	"dirpost/internal/event"
	"dirpost/internal/store"
	"dirpost/mra"
)

func TestDialogs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.dialog")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialog"), func(t *testing.T) {
			t.Parallel()
			newWorld(t).runner().Run(t, file)
		})
	}
}

// client is a POP3 client for tests with many messages.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (w *world) login(t testing.TB) *client {
	t.Helper()
	conn := w.serve()
	t.Cleanup(func() { conn.Close() })
	c := &client{t, conn, bufio.NewReader(conn)}
	c.line()
	c.cmd("USER alice")
	c.cmd("PASS " + password)
	return c
}

func (c *client) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSuffix(s, "\r\n")
}

// cmd sends a command and returns the +OK line.
func (c *client) cmd(text string) string {
	c.t.Helper()
	if _, err := io.WriteString(c, text+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	s := c.line()
	if !strings.HasPrefix(s, "+OK") {
		c.t.Fatalf("%s: %s", text, s)
	}
	return s
}

// lines returns the lines of a multi-line response, dots undone.
func (c *client) lines() string {
	c.t.Helper()
	var b strings.Builder
	for {
		s, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		if s == ".\r\n" {
			return b.String()
		}
		b.WriteString(strings.TrimPrefix(s, "."))
	}
}

// Messages come as they were stored, with exact sizes, in whatever order they
// are asked for, among deleted ones, small and large.
func TestRetrieveInAnyOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want []string
	for i := range 150 {
		m := fmt.Sprintf("Subject: %d\r\n\r\n.%s\r\n..\r\n", i, strings.Repeat("x.\r\n.", i))
		if i%40 == 39 {
			m = large(int64(300_000 + i))
		}
		want = append(want, m)
	}
	if err := w.deliver("alice", want...); err != nil {
		t.Fatal(err)
	}
	c := w.login(t)
	c.cmd("LIST")
	for i, line := range strings.Split(strings.TrimSuffix(c.lines(), "\r\n"), "\r\n") {
		if line != fmt.Sprintf("%d %d", i+1, len(want[i])) {
			t.Errorf("LIST: %q, want %d", line, len(want[i]))
		}
	}
	get := func(i int) {
		t.Helper()
		ok := c.cmd("RETR " + strconv.Itoa(i+1))
		if got := c.lines(); got != want[i] || ok != fmt.Sprintf("+OK %d octets", len(want[i])) {
			t.Errorf("RETR %d: %s: %d octets, want %d", i+1, ok, len(got), len(want[i]))
		}
	}
	for i := range want { // in order
		get(i)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		get(rnd.IntN(len(want)))
	}
	for i := range want { // in order, with gaps
		if i%3 == 0 {
			c.cmd("DELE " + strconv.Itoa(i+1))
		}
	}
	for i := range want {
		if i%3 != 0 {
			get(i)
		}
		if i%7 == 1 && i%3 != 0 {
			c.cmd("TOP " + strconv.Itoa(i+1) + " 0")
			if got, head := c.lines(), want[i][:strings.Index(want[i], "\r\n\r\n")+4]; got != head {
				t.Errorf("TOP %d: %q", i+1, got)
			}
		}
	}
	c.cmd("QUIT")
}

// Whatever is under way when a session breaks off, nothing is deleted: neither
// by a client that hangs up, nor by our shutdown.
func TestBrokenSessionDeletesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.do("alice has 5 messages"); err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(c *client, stop context.CancelCauseFunc){
		"client hangs up":         func(c *client, _ context.CancelCauseFunc) { c.Close() },
		"in the middle of QUIT":   func(c *client, _ context.CancelCauseFunc) { io.WriteString(c, "QUI"); c.Close() },
		"QUIT without a line end": func(c *client, _ context.CancelCauseFunc) { io.WriteString(c, "QUIT"); c.Close() },
		"in the middle of RETR":   func(c *client, _ context.CancelCauseFunc) { io.WriteString(c, "RETR 2\r\n"); c.line(); c.Close() },
		"shutdown": func(c *client, stop context.CancelCauseFunc) {
			stop(mra.ErrShutdown)
			c.bye(t, "[SYS/TEMP] Server shutting down")
		},
		"no longer permitted": func(c *client, stop context.CancelCauseFunc) {
			stop(&mra.RevokedError{})
			c.bye(t, "[SYS/PERM] You may no")
		},
	} {
		client, server := net.Pipe()
		mc := mra.NewConn(server, nil, "s1", slog.New(slog.DiscardHandler))
		mc.Client = w.client
		ctx, stop := context.WithCancelCause(t.Context())
		context.AfterFunc(ctx, mc.Wake)
		over := make(chan struct{})
		go func() { w.ServeConn(ctx, mc); mc.Close(); close(over) }()
		c := newClient(t, client)
		c.line()
		c.cmd("USER alice")
		c.cmd("PASS " + password)
		for i := range 5 {
			c.cmd("DELE " + strconv.Itoa(i+1))
		}
		end(c, stop)
		client.Close()
		<-over
		stop(nil)
		if s := w.login(t).cmd("STAT"); !strings.HasPrefix(s, "+OK 5 ") {
			t.Errorf("%s: then STAT says %s", name, s)
		}
	}
}

func newClient(t testing.TB, conn net.Conn) *client { return &client{t, conn, bufio.NewReader(conn)} }

// bye waits for the last line of the server.
func (c *client) bye(t *testing.T, want string) {
	t.Helper()
	if s := c.line(); !strings.HasPrefix(s, "-ERR "+want) {
		t.Errorf("goodbye is %q", s)
	}
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
}

// noBridge lets nobody in.
type noBridge struct{ Bridge }

func (noBridge) Mechanisms(auth.Conn) []string { return nil }

// RFC 1939 §3: the autologout timer is at least ten minutes, any command resets
// it, and its end is silent. A stranger has three minutes altogether.
func TestAutologout(t *testing.T) {
	for _, c := range []struct {
		state state
		pause time.Duration // between NOOPs
		nops  int
		want  time.Duration
	}{
		{transaction, 0, 0, 10 * time.Minute},
		{transaction, 9 * time.Minute, 3, 37 * time.Minute},
		{authorization, 0, 0, 3 * time.Minute},
		{authorization, time.Minute, 2, 3 * time.Minute},
	} {
		t.Run(fmt.Sprint(c.state, c.nops), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				s := New(Config{}, nil, noBridge{}, event.Discard)
				mc := mra.NewConn(server, nil, "s1", slog.New(slog.DiscardHandler))
				session := &conn{srv: s, mc: mc, ctx: t.Context(), state: c.state, start: time.Now(), release: func() {}}
				if c.state == transaction {
					session.drop = newDrop(nil, 1, &store.Drop{})
				}
				var why error
				over := make(chan struct{})
				go func() {
					defer close(over)
					why = session.serve()
					session.leave(why)
					mc.Close()
				}()
				start := time.Now()
				dialog.Expect(t, client, "+OK *")
				for range c.nops {
					time.Sleep(c.pause)
					io.WriteString(client, "CAPA\r\n")
					for line := ""; line != ".\r\n"; {
						line = readLine(t, client)
					}
				}
				if b, err := io.ReadAll(client); len(b) > 0 || err != nil {
					t.Errorf("said %q, %v", b, err)
				}
				<-over
				if d := time.Since(start); d != c.want || !errors.Is(why, errAutologout) {
					t.Errorf("ended after %v: %v", d, why)
				}
			})
		})
	}
}

// A bug of ours is temporary for the client, and ends one session only.
func TestPanic(t *testing.T) {
	t.Parallel()
	l := listen(t, &world{t: t, Server: New(Config{}, nil, nil, event.Discard)}) // no bridge: CAPA panics
	for range 2 {
		conn, err := net.Dial("tcp", "127.0.0.1:"+l.port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := newClient(t, conn)
		c.line()
		io.WriteString(c, "CAPA\r\n")
		got, err := io.ReadAll(c.r)
		if err != nil || !strings.Contains(string(got), "\r\n-ERR [SYS/TEMP] Temporary local problem") {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func readLine(t *testing.T, r io.Reader) string {
	t.Helper()
	var b []byte
	for one := make([]byte, 1); len(b) == 0 || b[len(b)-1] != '\n'; b = append(b, one[0]) {
		if _, err := io.ReadFull(r, one); err != nil {
			t.Fatal(err)
		}
	}
	return string(b)
}

func TestParse(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"quit":       "QUIT|",
		"Retr 1":     "RETR|1",
		"PASS a  b ": "PASS|a  b ",
		" QUIT":      "|QUIT",
		"":           "|",
		"TOP 1 10":   "TOP|1 10",
		"pass\xe9":   "PASS\xe9|",
	} {
		p := parse([]byte(line))
		if got := string(p.verb) + "|" + string(p.tail); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]int{"1": 1, "007": 7, "0": 0, "": -1, "+1": -1, "-1": -1, "1a": -1, "٣": -1, "99999999999": -1, "2147483647": 2147483647} {
		n, ok := number([]byte(arg))
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d, want %d", arg, n, want)
		}
	}
}

// Dots are doubled at the start of a line and nowhere else, however the octets
// are cut into pieces.
func TestDotWriter(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":               ".\r\n",
		"a\r\n":          "a\r\n.\r\n",
		"a":              "a\r\n.\r\n",
		"a\r":            "a\r\r\n.\r\n",
		".\r\n":          "..\r\n.\r\n",
		".":              "..\r\n.\r\n",
		"..\r\n.a\r\n":   "...\r\n..a\r\n.\r\n",
		"a.b\r\n.":       "a.b\r\n..\r\n.\r\n",
		"\r\n.\r\n.\r\n": "\r\n..\r\n..\r\n.\r\n",
	} {
		for size := 1; size <= len(in)+1; size++ {
			var b strings.Builder
			d := dotWriter{w: &b}
			for p := in; p != ""; {
				k := min(size, len(p))
				if n, err := d.Write([]byte(p[:k])); n != k || err != nil {
					t.Fatalf("%q: wrote %d, %v", in, n, err)
				}
				p = p[k:]
			}
			if err := d.close(); err != nil || b.String() != want {
				t.Errorf("%q in pieces of %d: %q, want %q (%v)", in, size, b.String(), want, err)
			}
		}
	}
}

func TestLineLimit(t *testing.T) {
	t.Parallel()
	const message = "A: b\r\n\r\none\r\ntwo\r\nthree\r\n"
	for lines, want := range map[int]string{0: "A: b\r\n\r\n", 1: "A: b\r\n\r\none\r\n", 3: message, 4: message} {
		for size := 1; size <= len(message); size++ {
			var b strings.Builder
			l := lineLimit{w: &b, skip: 8, lines: lines}
			for p := message; p != ""; {
				k := min(size, len(p))
				if _, err := l.Write([]byte(p[:k])); err != nil {
					break
				}
				p = p[k:]
			}
			if b.String() != want {
				t.Errorf("%d lines in pieces of %d: %q, want %q", lines, size, b.String(), want)
			}
		}
	}
}
