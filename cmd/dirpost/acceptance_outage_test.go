//go:build acceptance

package main

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/emersion/go-smtp"
)

// TestAcceptanceDatabaseAway: Postgres is shut down, started, and killed under
// load. Clients are told to come again (4xx), nothing that was acknowledged is
// lost or doubled, and the service resumes by itself.
func TestAcceptanceDatabaseAway(t *testing.T) {
	pg := testenv.NewCrashPostgres(t)
	s := newSystemOn(t, pg.URL(), "")
	s.confirm()
	s.start()
	c := &crash{s: s}
	reader := s.login("alice") // from before
	next := make(chan int)
	var clients sync.WaitGroup
	for range crashClients {
		clients.Go(func() {
			for i := range next {
				c.send(t, i)
			}
		})
	}
	go func() {
		defer close(next)
		for i := range crashMessages {
			next <- i
		}
	}()
	until := func(n int64) {
		for c.count.Load() < n {
			time.Sleep(time.Millisecond)
		}
	}
	until(crashMessages / 4)
	pg.Stop()
	// Long enough that every client has met it.
	deferred := c.deferred.Load()
	deadline := time.Now().Add(time.Minute)
	for c.deferred.Load() < deferred+3*crashClients {
		if time.Now().After(deadline) {
			t.Errorf("only %d answers with 4xx without a database", c.deferred.Load()-deferred)
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := s.tryLogin("bob"); err == nil || strings.Contains(err.Error(), "AUTHENTICATIONFAILED") {
		t.Errorf("a login without a database: %v, want a temporary failure", err)
	}
	before := c.count.Load()
	pg.Start(t)
	until(before + crashMessages/4)
	pg.Crash(t)
	until(before + crashMessages/3)
	clients.Wait()
	found := c.found(t)
	lost, doubled := 0, 0
	for i := range crashMessages {
		if n := found[i]; n == 0 {
			lost++
		} else if n > 1 {
			doubled++
		}
	}
	t.Logf("%d messages acknowledged, %d answers with 4xx, %d unsure, lost %d, doubled %d", c.count.Load(), c.deferred.Load(), c.unsure.Load(), lost, doubled)
	if lost+doubled > 0 || c.count.Load() != crashMessages {
		t.Errorf("lost %d, doubled %d, acknowledged %d of %d", lost, doubled, c.count.Load(), crashMessages)
	}
	if err := reader.Noop().Wait(); err != nil {
		t.Errorf("the session from before: %v", err)
	}
	if n := len(s.read(reader, "INBOX")); n != crashMessages {
		t.Errorf("the session from before sees %d messages", n)
	}
}

// TestAcceptanceDirectoryAway: slapd is stopped for longer than the replica is
// trusted to know everybody. Mail for known people goes on, unknown ones are
// deferred and not refused, and who has logged in lately still can.
func TestAcceptanceDirectoryAway(t *testing.T) {
	s := newSystem(t, "")
	s.start()
	await := func(code int, text string) {
		t.Helper()
		start := time.Now()
		for {
			err := s.deliver("friend@partner.example", []string{"nobody@corp.example"}, plain)
			var reply *smtp.SMTPError
			if errors.As(err, &reply) && reply.Code == code {
				t.Logf("%s: %d %v after %v", text, reply.Code, reply.EnhancedCode, time.Since(start).Round(time.Millisecond))
				return
			}
			if time.Since(start) > time.Minute {
				t.Fatalf("%s: %v, want %d", text, err, code)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	await(550, "unknown recipient")
	s.login("bob")
	s.slapd.Stop()
	await(451, "unknown recipient without a directory")
	for i, to := range []string{"bob@corp.example", "sales@corp.example", "a.example@corp.example", "wangwei@corp.example"} {
		if err := s.deliver("friend@partner.example", []string{to}, strings.ReplaceAll(plain, "plain", "known"+string(rune('a'+i)))); err != nil {
			t.Errorf("mail for %s without a directory: %v", to, err)
		}
	}
	if got := s.read(s.login("bob"), "INBOX"); len(got) != 2 {
		t.Errorf("bob, who is remembered, reads %d messages, want 2", len(got))
	}
	if _, err := s.tryLogin("carol"); err == nil || !strings.Contains(err.Error(), "UNAVAILABLE") {
		t.Errorf("carol, who is not remembered, logs in: %v, want UNAVAILABLE", err)
	}
	s.slapd.Start(t)
	await(550, "unknown recipient with the directory back")
	if _, err := s.tryLogin("carol"); err != nil {
		t.Errorf("carol logs in again: %v", err)
	}
}
