package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// client is a line-based connection to an IMAP or POP3 server.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	tag  int
}

func dial(addr string, secure bool) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		return nil, err
	}
	if secure {
		// The peers' certificates are made for the run; what is measured is
		// the handshake, not whom it convinces. One key exchange for all
		// targets: not all of them know X25519MLKEM768.
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}})
	}
	c := &client{conn: conn, r: bufio.NewReaderSize(conn, 4096)}
	_, err = c.line()
	return c, err
}

func (c *client) line() (string, error) {
	c.conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	s, err := c.r.ReadString('\n')
	return strings.TrimRight(s, "\r\n"), err
}

// imap runs one command and hands each untagged line to f, which may be nil.
func (c *client) imap(f func(string), format string, args ...any) error {
	c.tag++
	tag := "a" + strconv.Itoa(c.tag)
	if _, err := fmt.Fprintf(c.conn, tag+" "+format+"\r\n", args...); err != nil {
		return err
	}
	for {
		s, err := c.line()
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(s, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				return fmt.Errorf("%s: %s", format, rest)
			}
			return nil
		}
		if f != nil {
			f(s)
		}
	}
}

func (c *client) login(t *target, n int) error {
	return c.imap(nil, `LOGIN "%s" "%s"`, t.user(n), t.password)
}

// watcher looks at INBOXes over connections that it keeps, so that looking
// costs the target as little as possible.
type watcher []*client

// watch logs in as users first… and returns a watcher of their INBOXes.
func watch(t *target, first, users int) (watcher, error) {
	w := make(watcher, 0, users)
	for n := range users {
		c, err := dial(t.imap, false)
		if err == nil {
			w = append(w, c)
			err = c.login(t, first+n)
		}
		if err != nil {
			w.close()
			return nil, fmt.Errorf("%s: %w", t.user(first+n), err)
		}
	}
	return w, nil
}

func (w watcher) close() {
	for _, c := range w {
		c.conn.Close()
	}
}

// count returns how many messages the INBOXes hold together.
func (w watcher) count() (sum int, err error) {
	for _, c := range w {
		err := c.imap(func(s string) {
			if i := strings.Index(s, "(MESSAGES "); i >= 0 {
				n, _ := strconv.Atoi(strings.TrimRight(s[i+10:], ")"))
				sum += n
			}
		}, "STATUS INBOX (MESSAGES)")
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// wait returns when the INBOXes hold want messages, and how often it has looked.
func (w watcher) wait(want int) (looks int, err error) {
	for deadline := time.Now().Add(5 * time.Minute); ; {
		n, err := w.count()
		looks++
		if err != nil || n >= want {
			return looks, err
		}
		if time.Now().After(deadline) {
			return looks, fmt.Errorf("%d of %d messages visible", n, want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// price returns the processor time that one look costs t.
func (w watcher) price(t *target) (time.Duration, error) {
	const looks = 10
	before, err := family(t.pids)
	if err != nil {
		return 0, err
	}
	for range looks {
		if _, err := w.count(); err != nil {
			return 0, err
		}
	}
	after, err := family(t.pids)
	return (after - before) / looks, err
}

// loginEach logs every load user in and out once.
func loginEach(t *target, users int) error {
	for n := range users {
		c, err := dial(t.imap, false)
		if err != nil {
			return err
		}
		err = c.login(t, 1+n)
		if err == nil {
			err = c.imap(nil, "LOGOUT")
		}
		c.conn.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// logins connects, logs in and out for d with the given number of clients, and
// returns how many it did.
func logins(t *target, secure bool, clients, users int, d time.Duration) (int, error) {
	addr := t.imap
	if secure {
		addr = t.imaps
	}
	var done, next atomic.Int64
	errs := make(chan error, clients)
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for range clients {
		wg.Go(func() {
			for time.Now().Before(end) {
				c, err := dial(addr, secure)
				if err == nil {
					err = c.login(t, 1+int(next.Add(1))%users)
				}
				if err == nil {
					err = c.imap(nil, "LOGOUT")
				}
				if c != nil {
					c.conn.Close()
				}
				if err != nil {
					errs <- err
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return int(done.Load()), nil
	}
}

// drain reads and deletes everything in a POP3 mailbox and returns the number
// of messages.
func drain(t *target, n int) (int, error) {
	c, err := dial(t.pop3, false)
	if err != nil {
		return 0, err
	}
	defer c.conn.Close()
	say := func(format string, args ...any) (string, error) {
		if _, err := fmt.Fprintf(c.conn, format+"\r\n", args...); err != nil {
			return "", err
		}
		s, err := c.line()
		if err == nil && !strings.HasPrefix(s, "+OK") {
			err = fmt.Errorf("%s: %s", format, s)
		}
		return s, err
	}
	if _, err := say("USER %s", t.user(n)); err != nil {
		return 0, err
	}
	if _, err := say("PASS %s", t.password); err != nil {
		return 0, err
	}
	stat, err := say("STAT")
	if err != nil {
		return 0, err
	}
	count, err := strconv.Atoi(strings.Fields(stat)[1])
	if err != nil {
		return 0, err
	}
	// Commands go ahead of the answers (RFC 2449 §6.6), as a quick client does.
	go func() {
		var b bytes.Buffer
		for i := 1; i <= count; i++ {
			fmt.Fprintf(&b, "RETR %d\r\n", i)
		}
		for i := 1; i <= count; i++ {
			fmt.Fprintf(&b, "DELE %d\r\n", i)
		}
		c.conn.Write(b.Bytes())
	}()
	text := textproto.NewReader(c.r)
	for range count {
		if s, err := c.line(); err != nil || !strings.HasPrefix(s, "+OK") {
			return 0, fmt.Errorf("RETR: %s %w", s, err)
		}
		for {
			line, err := text.ReadLineBytes()
			if err != nil {
				return 0, err
			}
			if len(line) == 1 && line[0] == '.' {
				break
			}
		}
	}
	for range count {
		if s, err := c.line(); err != nil || !strings.HasPrefix(s, "+OK") {
			return 0, fmt.Errorf("DELE: %s %w", s, err)
		}
	}
	if _, err := say("QUIT"); err != nil {
		return 0, err
	}
	return count, nil
}

// idle opens n sessions that have read a little and now wait.
func idle(t *target, secure bool, n, users int) ([]*client, error) {
	addr := t.imap
	if secure {
		addr = t.imaps
	}
	sessions := make([]*client, n)
	var next atomic.Int64
	errs := make(chan error, 8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				c, err := dial(addr, secure)
				if err == nil {
					err = c.login(t, 1+i%users)
				}
				if err == nil {
					err = c.imap(nil, "SELECT INBOX")
				}
				if err == nil {
					err = c.imap(nil, "FETCH 1:20 (ENVELOPE)")
				}
				if err == nil {
					_, err = fmt.Fprintf(c.conn, "idle IDLE\r\n")
				}
				if err == nil {
					_, err = c.line()
				}
				if err != nil {
					errs <- err
					return
				}
				sessions[i] = c
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
		return sessions, nil
	}
}
