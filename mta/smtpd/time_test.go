package smtpd

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs f in virtual time with a connection to a server made by set.
func inBubble(t *testing.T, set func(*Config, *Deps), f func(t *testing.T, s *server, c *talk)) {
	t.Helper()
	srv := newServer(t, MX, set) // outside: making certificates uses files and other goroutines
	synctest.Test(t, func(t *testing.T) {
		nc := srv.pipe(t)
		f(t, srv, &talk{t, nc, newReader(nc)})
	})
}

// drip sends s at every interval until stop is called.
func (c *talk) drip(s string, every time.Duration) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			time.Sleep(every)
			if _, err := io.WriteString(c.nc, s); err != nil {
				return
			}
		}
	}()
	return func() {
		c.nc.Close()
		<-done
	}
}

func (c *talk) hello() {
	c.want("220")
	c.do("EHLO client.example", "250")
}

// RFC 5321 §4.5.3.2.7: a server waits at least five minutes for a command.
func TestCommandTimeout(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, _ *server, c *talk) {
		c.hello()
		start := time.Now()
		c.want("421 4.4.2")
		if d := time.Since(start); d != 5*time.Minute {
			t.Errorf("timeout after %v", d)
		}
		if got := c.rest(); got != "" {
			t.Errorf("after 421: %q", got)
		}
	})
}

// A client that sends an octet now and then does not keep the connection.
func TestSlowCommand(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, _ *server, c *talk) {
		c.hello()
		start := time.Now()
		defer c.drip("N", time.Minute)()
		c.want("421 4.4.2")
		if d := time.Since(start); d != 5*time.Minute {
			t.Errorf("timeout after %v", d)
		}
	})
}

// After a timeout within content, the rest of the content is not executed. In
// go-smtp it ran as commands.
func TestDataTimeout(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, s *server, c *talk) {
		c.hello()
		c.begin()
		c.send("Subject: x\r\n")
		time.Sleep(5*time.Minute + time.Second)
		done := c.sendWhile("RSET\r\n" + smuggled)
		got := c.rest()
		<-done
		if !strings.HasPrefix(got, "421 4.4.2") || strings.Count(got, "\r\n") != 1 {
			t.Errorf("after the timeout: %q", got)
		}
		if n := s.door.count(); n != 0 {
			t.Errorf("%d messages accepted", n)
		}
	})
}

// Content may take long as long as it comes: every read moves the deadline.
func TestSlowContent(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, s *server, c *talk) {
		c.hello()
		c.begin()
		block := strings.Repeat(strings.Repeat("x", 998)+"\r\n", 36)
		for range 100 { // 36,000 octets in two minutes: 300 a second
			time.Sleep(2 * time.Minute)
			c.send(block)
		}
		c.send(".\r\n")
		c.want("250")
		if s.door.octets != 3_600_000 {
			t.Errorf("%d octets", s.door.octets)
		}
	})
}

// A client below the least rate is cut off, though it never pauses for long.
func TestContentBelowMinRate(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, _ *server, c *talk) {
		c.hello()
		c.begin()
		start := time.Now()
		defer c.drip("x", time.Second)()
		c.want("421 4.4.2")
		if d := time.Since(start); d < 5*time.Minute || d > 6*time.Minute {
			t.Errorf("cut off after %v", d)
		}
	})
}

// A client that does not read its replies does not hold its goroutine for ever.
func TestClientDoesNotRead(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, s *server, c *talk) {
		c.hello()
		start := time.Now()
		c.send("NOOP\r\n")
		for { // writes fail once the server is gone
			if _, err := io.WriteString(c.nc, "NOOP\r\n"); err != nil {
				break
			}
		}
		if d := time.Since(start); d < time.Minute || d > time.Minute+s.patience.words {
			t.Errorf("gone after %v", d)
		}
	})
}

// RFC 3207: a handshake that never comes ends the connection.
func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, _ *server, c *talk) {
		c.hello()
		c.do("STARTTLS", "220")
		start := time.Now()
		if got := c.rest(); got != "" {
			t.Errorf("got %q", got)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("closed after %v", d)
		}
	})
}

// RFC 5321 §3.1: a client waits for the banner.
func TestEarlyTalker(t *testing.T) {
	t.Parallel()
	pause := func(c *Config, _ *Deps) { c.GreetPause = 3 * time.Second }
	t.Run("early", func(t *testing.T) {
		t.Parallel()
		inBubble(t, pause, func(t *testing.T, _ *server, c *talk) {
			time.Sleep(2 * time.Second)
			c.send("EHLO client.example\r\n")
			c.want("554 5.5.0")
			if got := c.rest(); got != "" {
				t.Errorf("then %q", got)
			}
		})
	})
	t.Run("patient", func(t *testing.T) {
		t.Parallel()
		inBubble(t, pause, func(t *testing.T, _ *server, c *talk) {
			start := time.Now()
			c.want("220")
			if d := time.Since(start); d != 3*time.Second {
				t.Errorf("banner after %v", d)
			}
			c.do("EHLO client.example", "250")
		})
	})
}

// RFC 5321 §7.8: the answers to mistakes come slowly after the first few.
func TestErrorDelay(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *Config, _ *Deps) { c.SoftErrors, c.ErrorDelay = 2, time.Second }, func(t *testing.T, _ *server, c *talk) {
		c.hello()
		for i, want := range []time.Duration{0, 0, time.Second, time.Second} {
			start := time.Now()
			c.do("FOO", "500")
			if d := time.Since(start); d != want {
				t.Errorf("mistake %d was answered after %v", i+1, d)
			}
		}
		start := time.Now()
		c.do("NOOP", "250")
		if d := time.Since(start); d != 0 {
			t.Errorf("NOOP was answered after %v", d)
		}
	})
}

// leave ends a server with cancel while one client is idle, one sends the rest of its
// message, and one never does.
func leave(t *testing.T, cancel func(), idle, quick, busy *talk) {
	t.Helper()
	for _, c := range []*talk{idle, quick, busy} {
		c.hello()
	}
	quick.begin()
	busy.begin()
	synctest.Wait()
	start := time.Now()
	cancel()
	idle.want("421 4.3.2")
	time.Sleep(10 * time.Second)
	quick.send("text\r\n.\r\n")
	quick.want("250")
	quick.want("421 4.3.2")
	busy.want("421 4.3.2")
	if d := time.Since(start); d != 20*time.Second {
		t.Errorf("cut off after %v", d)
	}
}

// RFC 5321 §3.8: a transaction that does not end within the grace is cut off.
func TestShutdownGrace(t *testing.T) {
	t.Parallel()
	srv := newServer(t, MX, nil)
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ctx, ln) }()
		idle, busy, quick := ln.dial(t), ln.dial(t), ln.dial(t)
		leave(t, cancel, idle, quick, busy)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := srv.door.count(); n != 1 {
			t.Errorf("%d messages", n)
		}
		if n := srv.door.unfinished(); n != 0 {
			t.Errorf("%d transactions left open", n)
		}
	})
}
