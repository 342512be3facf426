//go:build acceptance

package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/postgres"
	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/go-ldap/ldap/v3"
)

// sibling is another node on the database and the directory of s.
func (s *system) sibling() *system {
	s.t.Helper()
	n := *s
	n.dir, n.addr = shortDir(s.t), make(map[string]string)
	b, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), filepath.Join(s.dir, "sock"), filepath.Join(n.dir, "sock"))
	for name, addr := range s.addr {
		n.addr[name] = freeAddress(s.t)
		text = strings.ReplaceAll(text, `"`+addr+`"`, `"`+n.addr[name]+`"`)
	}
	n.config = mustWrite(s.t, filepath.Join(n.dir, "dirpost.toml"), text, 0o600)
	if n.file, err = readConfig(n.config); err != nil {
		s.t.Fatal(err)
	}
	return &n
}

// told is an IDLE session that keeps what it is told.
type told struct {
	mu       sync.Mutex // guards the fields below
	messages uint32
	expunged int
	flags    []imap.Flag
}

// idle opens the INBOX of a person on a node and waits for news.
func (s *system) idle(who string) *told {
	s.t.Helper()
	n := new(told)
	c, err := imapclient.DialTLS(s.addr["imaps"], &imapclient.Options{TLSConfig: s.tls(), UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if d.NumMessages != nil {
				n.messages = *d.NumMessages
			}
		},
		Expunge: func(uint32) { n.mu.Lock(); defer n.mu.Unlock(); n.expunged++; n.messages-- },
		Fetch: func(m *imapclient.FetchMessageData) {
			b, err := m.Collect()
			n.mu.Lock()
			defer n.mu.Unlock()
			if err == nil {
				n.flags = b.Flags
			}
		},
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	if err := c.Login(who, s.slapd.UserPassword).Wait(); err != nil {
		s.t.Fatal(err)
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	n.messages = box.NumMessages
	if _, err := c.Idle(); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// until waits until the session was told something.
func (n *told) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	start := time.Now()
	for {
		n.mu.Lock()
		done := ok()
		n.mu.Unlock()
		if done {
			t.Logf("%s: told after %v", what, time.Since(start).Round(time.Millisecond))
			return
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("%s: not told", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestAcceptanceNodes: two nodes on one database are one server. What happens on
// one is told to those who wait on the other.
func TestAcceptanceNodes(t *testing.T) {
	a := newSystem(t, "")
	b := a.sibling()
	a.process()
	b.process()
	a.awaitServing(t)
	b.awaitServing(t)
	waiting := b.idle("bob")
	if err := a.deliver("friend@partner.example", []string{"bob@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	waiting.until(t, "new mail", func() bool { return waiting.messages == 1 })
	c := a.login("bob")
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged, imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	waiting.until(t, "flags", func() bool { return len(waiting.flags) >= 2 })
	if err := c.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	waiting.until(t, "expunge", func() bool { return waiting.expunged == 1 && waiting.messages == 0 })
}

// awaitServing waits until the node knows the directory.
func (s *system) awaitServing(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := s.submit("erik", "erik@corp.example", []string{"erik@corp.example"}, "From: erik@corp.example\r\nSubject: serving\r\n\r\nx\r\n")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node does not serve: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// addAlias gives bob another address.
func (s *system) addAlias(t *testing.T, alias string) {
	t.Helper()
	c, err := ldap.DialURL(s.slapd.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind(s.slapd.AdminDN, s.slapd.AdminPassword); err != nil {
		t.Fatal(err)
	}
	m := ldap.NewModifyRequest("uid=bob,ou=people,"+s.slapd.Base, nil)
	m.Add("dirpostAlias", []string{alias})
	if err := c.Modify(m); err != nil {
		t.Fatal(err)
	}
}

// TestAcceptanceNodeDies: one of two nodes is killed while both take mail.
// Nothing that was acknowledged is lost or doubled, the clients go to the other,
// and that one reads the directory within ten seconds.
func TestAcceptanceNodeDies(t *testing.T) {
	a := newSystem(t, "")
	b := a.sibling()
	db := testenv.OpenDatabase(t, a.file.Database.URL)
	first := a.process()
	a.awaitServing(t) // holds the lease
	b.process()
	b.awaitServing(t)
	c := &crash{s: b}
	next := make(chan int)
	var clients sync.WaitGroup
	for n := range crashClients {
		clients.Go(func() {
			here := *c.s
			if n%2 == 0 {
				here = *a
			}
			mine := &crash{s: &here}
			for i := range next {
				// A client that has lost its server goes to the other.
				if err := mine.once(i); err != nil {
					mine.s = b
					c.send(t, i)
					continue
				}
				c.acked[i].Store(true)
				c.count.Add(1)
			}
		})
	}
	go func() {
		defer close(next)
		for i := range crashMessages {
			next <- i
		}
	}()
	for c.count.Load() < crashMessages/3 {
		time.Sleep(time.Millisecond)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	_ = first.Wait()
	a.addAlias(t, "afterwards@corp.example")
	for {
		err := b.deliver("friend@partner.example", []string{"afterwards@corp.example"}, strings.ReplaceAll(plain, "plain", "afterwards"))
		if err == nil {
			break
		}
		if time.Since(killed) > time.Minute {
			t.Fatalf("mail for the new address: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	passed := time.Since(killed)
	clients.Wait()
	var holder string
	if err := db.QueryRow(t.Context(), postgres.Interactive, "select holder from directory_lease").Scan(&holder); err != nil {
		t.Fatal(err)
	}
	t.Logf("the other node takes mail for a new address %v after the kill; the lease is held by %s", passed.Round(time.Millisecond), holder)
	if passed > 10*time.Second {
		t.Errorf("the lease passed to the other node after %v, want 10 s", passed)
	}
	found := c.found(t)
	lost, doubled := 0, 0
	for i := range crashMessages {
		if n := found[i]; n == 0 {
			lost++
		} else if n > 1 {
			doubled++
		}
	}
	t.Logf("%d messages acknowledged, lost %d, doubled %d", c.count.Load(), lost, doubled)
	if lost+doubled > 0 || c.count.Load() != crashMessages {
		t.Errorf("lost %d, doubled %d, acknowledged %d of %d", lost, doubled, c.count.Load(), crashMessages)
	}
}

// once tries to send message i.
func (c *crash) once(i int) error {
	_, err := c.attempt(crashMessage(i))
	return err
}
