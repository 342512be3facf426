package main

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// The crash test: so many messages by so many clients, with so many kills in
// between.
const (
	crashMessages = 1000
	crashClients  = 8
	crashKills    = 5
)

// crash is the state of the test.
type crash struct {
	s      *system
	acked  [crashMessages]atomic.Bool // the server said 250
	unsure atomic.Int64               // the connection broke behind the content: nobody knows
	count  atomic.Int64               // acknowledged
	resent atomic.Int64
	// deferred counts the answers with 4xx.
	deferred atomic.Int64
}

// TestKill9: while 1,000 messages come in, the node is killed again and again.
// Each message that was answered with 250 is found exactly once; one whose answer
// was lost is repeated by its client, as RFC 5321 §4.5.4.1 wants, and is found
// exactly once too.
func TestKill9(t *testing.T) {
	t.Parallel()
	c := &crash{s: newSystem(t, "")}
	node := c.s.process()
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
	for kill := 1; kill <= crashKills; kill++ {
		// In the middle of whatever happens when so many were acknowledged.
		for c.count.Load() < int64(kill*crashMessages/(crashKills+1)) {
			time.Sleep(time.Millisecond)
		}
		if err := node.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = node.Wait()
		node = c.s.process()
	}
	clients.Wait()

	found := c.found(t)
	lost, doubled, beyond := 0, 0, 0
	for i := range crashMessages {
		switch n := found[i]; {
		case c.acked[i].Load() && n == 0:
			lost++
		case n > 1:
			doubled++
		case !c.acked[i].Load() && n == 1:
			beyond++
		}
	}
	t.Logf("%d kills; %d messages acknowledged; %d answers lost, repeated %d times; found once: %d; lost %d, doubled %d, beyond the 250s %d",
		crashKills, c.count.Load(), c.unsure.Load(), c.resent.Load(), len(found)-doubled, lost, doubled, beyond)
	if lost != 0 || doubled != 0 || c.count.Load() != crashMessages {
		t.Errorf("lost %d, doubled %d, acknowledged %d of %d", lost, doubled, c.count.Load(), crashMessages)
	}
}

// send sends message i until it is acknowledged, always the same octets.
func (c *crash) send(t *testing.T, i int) {
	msg := crashMessage(i)
	deadline := time.Now().Add(2 * time.Minute)
	for try := 0; time.Now().Before(deadline); try++ {
		unsure, err := c.attempt(msg)
		if err == nil {
			c.acked[i].Store(true)
			c.count.Add(1)
			if try > 0 {
				c.resent.Add(1)
			}
			return
		}
		var reply *smtp.SMTPError
		if errors.As(err, &reply) && !reply.Temporary() {
			t.Errorf("message %d: %v", i, err)
			return
		}
		if reply != nil {
			c.deferred.Add(1)
		}
		if unsure {
			c.unsure.Add(1)
		}
		time.Sleep(20 * time.Millisecond) // the node is being started again
	}
	t.Errorf("message %d was not acknowledged in time", i)
}

// crashMessage is message i, the same octets each time.
func crashMessage(i int) string {
	return fmt.Sprintf("From: sender@partner.example\r\nTo: alice@corp.example\r\nSubject: crash %d\r\nMessage-ID: <crash-%d@partner.example>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\n%s\r\n", i, i, strings.Repeat(fmt.Sprintf("line of message %d\r\n", i), 40))
}

// attempt is one transaction; unsure says that the content was sent and no
// answer came.
func (c *crash) attempt(msg string) (unsure bool, err error) {
	conn, err := net.DialTimeout("tcp", c.s.addr["smtp"], 5*time.Second)
	if err != nil {
		return false, err
	}
	client := smtp.NewClient(conn)
	defer client.Close()
	if err := client.Mail("sender@partner.example", nil); err != nil {
		return false, err
	}
	if err := client.Rcpt("alice@corp.example", nil); err != nil {
		return false, err
	}
	w, err := client.Data()
	if err != nil {
		return false, err
	}
	if _, err := w.Write([]byte(msg)); err != nil {
		return false, err
	}
	err = w.Close()
	var reply *smtp.SMTPError
	return err != nil && !errors.As(err, &reply), err
}

var crashID = regexp.MustCompile(`(?m)^Message-ID: <crash-(\d+)@partner\.example>\r$`)

// found counts each message in alice's INBOX.
func (c *crash) found(t *testing.T) map[int]int {
	t.Helper()
	found := make(map[int]int)
	for _, m := range c.s.read(c.s.login("alice"), "INBOX") {
		id := crashID.FindStringSubmatch(m)
		if id == nil {
			t.Errorf("a message that nobody sent: %q", m)
			continue
		}
		var i int
		if _, err := fmt.Sscan(id[1], &i); err != nil {
			t.Fatal(err)
		}
		if want := strings.Repeat(fmt.Sprintf("line of message %d\r\n", i), 40) + "\r\n"; !strings.HasSuffix(m, "\r\n\r\n"+want) {
			t.Errorf("message %d is damaged: %d octets", i, len(m))
		}
		found[i]++
	}
	return found
}
