package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// patient gives connections that end all the time that a loaded machine may need.
func patient(s *server) *server {
	s.patience.words, s.patience.hangUp = time.Minute, time.Minute
	return s
}

// dial connects to a server that listens; implicit TLS comes first if it has that.
func (s *server) dial(t testing.TB, addr string) *talk {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if s.cfg.ImplicitTLS {
		nc = tls.Client(nc, s.clientTLS())
	}
	return newTalk(t, nc)
}

// The reason why a connection ends arrives at a client that is just sending, by TLS as
// well: it is not lost by a reset, and what the client sends on is taken, not executed.
func TestLastWordsArrive(t *testing.T) {
	t.Parallel()
	shutdown := func(s *server) { s.interrupt(errShutdown) }
	over := func(s *server) { s.interrupt(errGraceOver) }
	for name, c := range map[string]struct {
		begin func(c *talk)
		end   func(s *server)
		more  string
		want  string
	}{
		"between messages":     {func(*talk) {}, shutdown, smuggled, "421 4.3.2"},
		"after its message":    {func(c *talk) { c.begin(); c.send("text\r\n.\r\n"); c.want("250") }, shutdown, smuggled, "421 4.3.2"},
		"within content":       {func(c *talk) { c.begin() }, over, strings.Repeat("text\r\n", 1000), "421 4.3.2"},
		"after many mistakes":  {func(c *talk) { c.send("FOO\r\n"); c.want("500") }, func(*server) {}, "FOO\r\n", "421 4.7.0"},
		"protocol out of sync": {func(c *talk) { c.send("BDAT x\r\n"); c.want("501") }, func(*server) {}, smuggled, "421 4.7.0"},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls=%v", name, secure), func(t *testing.T) {
				t.Parallel()
				s := patient(newServer(t, MX, func(cfg *Config, _ *Deps) { cfg.ImplicitTLS, cfg.HardErrors = secure, 1 }))
				addr := s.listen(t)
				talk := s.dial(t, addr)
				talk.want("220")
				talk.do("EHLO client.example", "250")
				c.begin(talk)
				before := s.door.count()
				c.end(s)
				talk.want(c.want)
				for range 50 { // the first of them would make a closed socket reset
					talk.send(c.more)
				}
				if rest, err := io.ReadAll(talk.r); err != nil || len(rest) > 0 {
					t.Errorf("after the last words: %q, %v", rest, err)
				}
				talk.nc.Close()
				if n := s.door.count(); n != before {
					t.Errorf("%d messages came in after them", n-before)
				}
			})
		}
	}
}

// A handshake that a shutdown finds under way comes to its end, since there is no place
// for 421 within it.
func TestShutdownWithinHandshake(t *testing.T) {
	t.Parallel()
	for _, implicit := range []bool{false, true} {
		t.Run(fmt.Sprintf("implicit=%v", implicit), func(t *testing.T) {
			t.Parallel()
			s := patient(newServer(t, MX, func(cfg *Config, _ *Deps) { cfg.ImplicitTLS = implicit }))
			nc, err := net.Dial("tcp", s.listen(t))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if !implicit {
				c := newTalk(t, nc)
				c.hello()
				c.do("STARTTLS", "220")
			}
			for !s.shakesHands() {
				time.Sleep(time.Millisecond)
			}
			s.interrupt(errShutdown)
			c := newTalk(t, tls.Client(nc, s.clientTLS()))
			if implicit {
				c.want("220")
			}
			c.want("421 4.3.2")
			if rest := c.rest(); rest != "" {
				t.Errorf("then %q", rest)
			}
			nc.Close()
		})
	}
}

// shakesHands reports whether a connection is within its handshake.
func (s *server) shakesHands() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.phase.Lock()
		active := c.phase.handshake
		c.phase.Unlock()
		if active {
			return true
		}
	}
	return false
}

// A client that never shakes hands does not hold the shutdown up, and is not spoken to
// in clear where it waits for TLS.
func TestShutdownWithoutHandshake(t *testing.T) {
	t.Parallel()
	s := newServer(t, MX, func(cfg *Config, _ *Deps) { cfg.ImplicitTLS, cfg.Grace = true, time.Hour })
	s.patience.words = 10 * time.Millisecond
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for !s.shakesHands() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if got, err := io.ReadAll(nc); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A single connection has the same grace as those of a listener.
func TestServeConnGrace(t *testing.T) {
	t.Parallel()
	srv := newServer(t, MX, nil)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var open []*talk
		over := make(chan struct{}, 3)
		for range 3 {
			client, server := net.Pipe()
			defer client.Close()
			go func() { srv.ServeConn(ctx, server); over <- struct{}{} }()
			open = append(open, &talk{t, client, newReader(client)})
		}
		start := time.Now()
		leave(t, cancel, open[0], open[1], open[2])
		for range open {
			<-over
		}
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("over after %v", d)
		}
	})
}

// Servers follow one another on sockets that stay open, as systemd has it, while many
// clients send: whatever they are doing, none loses its connection without 421.
func TestRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	const (
		restarts = 5
		clients  = 8 // of each kind
		messages = 40
	)
	door := &recorder{}
	for _, kind := range []string{"clear", "starttls", "implicit"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := &restarted{t: t, kind: kind}
			l.open()
			defer l.socket.Close()
			stop := l.start(door)
			var all sync.WaitGroup
			done := make(chan struct{})
			for n := range clients {
				all.Go(func() { l.client(n%2 == 0, done) })
			}
			for range restarts {
				for goal := l.sent.Load() + messages; l.sent.Load() < goal && !t.Failed(); {
					time.Sleep(time.Millisecond)
				}
				stop()
				stop = l.start(door)
			}
			close(done)
			all.Wait()
			stop()
			t.Logf("%d messages, %d connections ended by 421", l.sent.Load(), l.goodbyes.Load())
		})
	}
}

// restarted is a port whose servers come and go.
type restarted struct {
	t        *testing.T
	kind     string
	socket   *net.TCPListener
	config   atomic.Pointer[tls.Config] // of clients
	sent     atomic.Int64
	goodbyes atomic.Int64
}

func (l *restarted) open() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	l.socket = ln.(*net.TCPListener)
}

// start starts a server on a duplicate of the socket.
func (l *restarted) start(door *recorder) (stop func()) {
	s := patient(newServer(l.t, MX, func(c *Config, d *Deps) {
		c.ImplicitTLS, d.Door = l.kind == "implicit", door
	}))
	l.config.Store(&tls.Config{InsecureSkipVerify: true}) // each server has a certificate of its own
	file, err := l.socket.File()
	if err != nil {
		l.t.Fatal(err)
	}
	defer file.Close()
	ln, err := net.FileListener(file)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	return func() {
		cancel()
		if err := <-served; err != nil {
			l.t.Errorf("Serve: %v", err)
		}
	}
}

var errGoodbye = errors.New("421")

// client sends message after message, each in a connection of its own or all in one,
// until done.
func (l *restarted) client(single bool, done <-chan struct{}) {
	for {
		c, err := l.connect()
		for err == nil {
			select {
			case <-done:
				c.nc.Close()
				return
			default:
			}
			if err = c.message(); err == nil {
				l.sent.Add(1)
				if single {
					break
				}
			}
		}
		if c != nil {
			c.nc.Close()
		}
		switch {
		case errors.Is(err, errGoodbye):
			l.goodbyes.Add(1)
		case err != nil:
			l.t.Errorf("a connection ends without 421: %v", err)
			return
		}
	}
}

// sender is a client that looks for 421 in all that it is told.
type sender struct{ *talk }

func (l *restarted) connect() (*sender, error) {
	nc, err := net.Dial("tcp", l.socket.Addr().String())
	if err != nil {
		return nil, err
	}
	if l.kind == "implicit" {
		nc = tls.Client(nc, l.config.Load())
	}
	c := &sender{newTalk(l.t, nc)}
	if err := c.hear("220"); err != nil {
		return c, fmt.Errorf("greeting: %w", err)
	}
	if err := c.say("EHLO client.example\r\n", "250"); err != nil {
		return c, err
	}
	if l.kind == "starttls" {
		if err := c.say("STARTTLS\r\n", "220"); err != nil {
			return c, err
		}
		c = &sender{newTalk(l.t, tls.Client(nc, l.config.Load()))}
		if err := c.say("EHLO client.example\r\n", "250"); err != nil {
			return c, err
		}
	}
	return c, nil
}

// message sends a message, its commands in one piece.
func (c *sender) message() error {
	err := c.say("MAIL FROM:<sender@outside.example>\r\nRCPT TO:<alice@corp.example>\r\nDATA\r\n", "250", "250", "354")
	if err != nil {
		return err
	}
	return c.say("Subject: x\r\n\r\ntext\r\n.\r\n", "250")
}

func (c *sender) say(text string, want ...string) error {
	_, err := io.WriteString(c.nc, text)
	if err != nil {
		return fmt.Errorf("send %.10q: %w", text, err)
	}
	for _, w := range want {
		if err := c.hear(w); err != nil {
			return fmt.Errorf("after %.10q: %w", text, err)
		}
	}
	return nil
}

// hear reads one reply.
func (c *sender) hear(want string) error {
	for {
		line, err := c.r.ReadString('\n')
		switch {
		case err != nil:
			return fmt.Errorf("%q, %w", line, err)
		case strings.HasPrefix(line, "421 "):
			return errGoodbye
		case !strings.HasPrefix(line, want):
			return fmt.Errorf("%q instead of %s", line, want)
		case line[3] == ' ':
			return nil
		}
	}
}
