package imapd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"dirpost/directory"
	"dirpost/internal/dialog"
	"dirpost/internal/store"
	"dirpost/mra"
)

// timed starts a session in a synctest bubble: over a pipe, and without a store,
// which neither login nor IDLE without a mailbox need.
func timed(ctx context.Context, change func(*Config)) net.Conn {
	client, server := net.Pipe()
	config := Config{}
	if change != nil {
		change(&config)
	}
	log := slog.New(slog.DiscardHandler)
	b := &bridge{live: newDirectory(), clearOK: true, watchers: map[directory.Key][]func(string){}}
	s := New(config, Deps{Bridge: b, Live: b.live, Log: log, Watch: nobody{}})
	go func() {
		c := mra.NewConn(server, nil, "session", log)
		defer c.Close()
		defer context.AfterFunc(ctx, c.Wake)()
		s.ServeConn(ctx, c)
	}()
	return client
}

type nobody struct{}

func (nobody) WatchMailbox(store.AccountID, store.MailboxID, func(store.ModSeq)) func() {
	return func() {}
}

func say(t *testing.T, conn net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
		t.Fatal(err)
	}
}

// RFC 9051 §5.4: the autologout timer is at least 30 minutes, and begins anew
// with each command.
func TestAutologout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := timed(t.Context(), func(c *Config) { c.Autologout = time.Minute })
		defer conn.Close()
		dialog.Expect(t, conn, "* OK *")
		say(t, conn, "a LOGIN p1 secret")
		dialog.Expect(t, conn, "a OK *")
		time.Sleep(29 * time.Minute)
		say(t, conn, "b NOOP")
		dialog.Expect(t, conn, "b OK *")
		start := time.Now()
		dialog.Expect(t, conn, "* BYE Autologout*")
		if d := time.Since(start); d != 30*time.Minute {
			t.Errorf("logged out after %v", d)
		}
	})
}

// A client that does not log in has less time.
func TestLoginTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := timed(t.Context(), nil)
		defer conn.Close()
		start := time.Now()
		dialog.Expect(t, conn, "* OK *")
		dialog.Expect(t, conn, "* BYE Autologout*")
		if d := time.Since(start); d != loginTimeout {
			t.Errorf("sent away after %v", d)
		}
	})
}

// RFC 2177 §3: an idle client is told that we are there, and logged out in the
// end, since it should have said IDLE again.
func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := timed(t.Context(), nil)
		defer conn.Close()
		dialog.Expect(t, conn, "* OK *")
		say(t, conn, "a LOGIN p1 secret")
		dialog.Expect(t, conn, "a OK *")
		say(t, conn, "b IDLE")
		dialog.Expect(t, conn, "+ idling")
		start := time.Now()
		for d := stillHere; d < 30*time.Minute; d += stillHere {
			dialog.Expect(t, conn, "* OK Still here")
			if got := time.Since(start); got != d {
				t.Errorf("heard of after %v, want %v", got, d)
			}
		}
		dialog.Expect(t, conn, "* BYE Autologout*")
		if d := time.Since(start); d != 30*time.Minute {
			t.Errorf("logged out after %v", d)
		}
	})
}

// A server that shuts down says so, whatever the session is doing
// (RFC 9051 §7.1.5).
func TestShutdown(t *testing.T) {
	for _, commands := range [][]string{nil, {"a LOGIN p1 secret"}, {"a LOGIN p1 secret", "a IDLE"}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			conn := timed(ctx, nil)
			defer conn.Close()
			dialog.Expect(t, conn, "* OK *")
			for _, c := range commands {
				say(t, conn, c)
				dialog.Expect(t, conn, "*")
			}
			synctest.Wait()
			cancel(mra.ErrShutdown)
			dialog.Expect(t, conn, `* BYE [UNAVAILABLE] *`)
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("after BYE: %v", err)
			}
		})
	}
}

// A client is told that its command is under way, however long it takes.
func TestPatiently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		mc := mra.NewConn(server, nil, "session", slog.New(slog.DiscardHandler))
		c := newConn(t.Context(), &Server{}, mc)
		go func() {
			defer mc.Close()
			if err := c.patiently(func() error { time.Sleep(time.Minute - time.Second); return nil }); err != nil {
				t.Error(err)
			}
		}()
		for range 2 {
			dialog.Expect(t, client, "* OK Still working")
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}
