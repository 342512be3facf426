//go:build acceptance

package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// The load of the test of an upgrade.
const (
	upgradeSenders = 6 // to port 25, half of them with many messages in a connection
	upgradePeople  = 2 // who submit
	upgradeReaders = 4
)

// load is mail that comes in and is read until it is told to finish.
type load struct {
	nodes   [2]*unit
	stop    chan struct{}
	clients sync.WaitGroup
	next    atomic.Int64
	acked   atomic.Int64

	refused  atomic.Int64 // connections
	goodbyes atomic.Int64 // 421 and BYE
	deferred atomic.Int64 // other answers with 4xx
	dropped  atomic.Int64 // connections that ended between two messages, without a word
	cut      atomic.Int64 // connections that ended in the middle of a message or an answer
	fetched  atomic.Int64

	previous atomic.Bool // nodes of the previous version are there, whose faults nobody can mend any more

	mu   sync.Mutex // guards sent
	sent map[int64]bool
}

// startLoad starts it.
func startLoad(t *testing.T, nodes [2]*unit) *load {
	l := &load{nodes: nodes, stop: make(chan struct{}), sent: map[int64]bool{}}
	for n := range upgradeSenders + upgradePeople {
		l.clients.Go(func() { l.send(t, n) })
	}
	for n := range upgradeReaders {
		l.clients.Go(func() { l.read(t, n) })
	}
	return l
}

// until waits until n more messages were answered with 250.
func (l *load) until(t *testing.T, n int64) {
	t.Helper()
	goal := l.acked.Load() + n
	nodes := l.nodes
	nodes[0].eventually(fmt.Sprintf("%d messages are acknowledged", goal), func() bool { return l.acked.Load() >= goal })
}

func (l *load) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// body is message i, the same octets each time; each tenth is large.
func body(i int64, from string) string {
	lines := 20
	if i%10 == 0 {
		lines = 10_000
	}
	return fmt.Sprintf("From: %s\r\nTo: alice@corp.example\r\nSubject: load %d\r\nMessage-ID: <load-%d@partner.example>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\n%s",
		from, i, i, strings.Repeat(fmt.Sprintf("line of message %d\r\n", i), lines))
}

// send sends one message after the other, each until it is acknowledged, to one node
// and after any trouble to the other.
func (l *load) send(t *testing.T, n int) {
	var c *smtp.Client
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	node := n
	for !l.stopped() {
		i := l.next.Add(1)
		deadline := time.Now().Add(2 * time.Minute)
		for {
			var err error
			if c == nil {
				c, err = l.dial(node, n >= upgradeSenders)
			}
			inside := false
			if err == nil {
				inside, err = transaction(c, i, n >= upgradeSenders)
			}
			if err == nil {
				l.mu.Lock()
				l.sent[i] = true
				l.mu.Unlock()
				l.acked.Add(1)
				if n%2 == 0 {
					_ = c.Quit()
					c = nil
				}
				break
			}
			l.count(t, err, inside)
			if c != nil {
				_ = c.Close()
				c = nil
			}
			node++
			if time.Now().After(deadline) {
				t.Errorf("message %d is not acknowledged: %v", i, err)
				return
			}
		}
	}
}

// dial connects to a node, as a server or as a person.
func (l *load) dial(node int, person bool) (*smtp.Client, error) {
	u := l.nodes[node%len(l.nodes)]
	if !person {
		return smtp.Dial(u.addr["smtp"])
	}
	c, err := smtp.DialTLS(u.addr["submissions"], u.tls())
	if err != nil {
		return nil, err
	}
	if err := c.Auth(sasl.NewPlainClient("", "bob", u.slapd.UserPassword)); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// transaction sends message i; inside says that its content had begun.
func transaction(c *smtp.Client, i int64, person bool) (inside bool, err error) {
	from := "sender@partner.example"
	if person {
		from = "bob@corp.example"
	}
	if err := c.Mail(from, nil); err != nil {
		return false, err
	}
	if err := c.Rcpt("alice@corp.example", nil); err != nil {
		return false, err
	}
	w, err := c.Data()
	if err != nil {
		return false, err
	}
	if _, err := io.WriteString(w, body(i, from)); err != nil {
		return true, err
	}
	return true, w.Close()
}

// count files an error.
func (l *load) count(t *testing.T, err error, inside bool) {
	var reply *smtp.SMTPError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		l.refused.Add(1)
		t.Errorf("refused: %v", err)
	case errors.As(err, &reply) && reply.Code == 421:
		l.goodbyes.Add(1)
	case errors.As(err, &reply) && reply.Temporary():
		l.deferred.Add(1)
		t.Logf("deferred: %v", err)
	case errors.As(err, &reply):
		t.Errorf("a message is refused for good: %v", err)
	case inside:
		l.cutOff(t, "message", err)
	default:
		l.dropped.Add(1)
		t.Logf("dropped between messages: %v", err)
	}
}

// cutOff counts a connection that ended in the middle of something. Of this version
// that is an error.
func (l *load) cutOff(t *testing.T, what string, err error) {
	l.cut.Add(1)
	if l.previous.Load() {
		t.Logf("cut off in the middle of the %s, with nodes of the previous version: %v", what, err)
		return
	}
	t.Errorf("cut off in the middle of the %s: %v", what, err)
}

// read reads the mailbox, session after session.
func (l *load) read(t *testing.T, n int) {
	seen := map[int]string{} // UID -> Message-ID
	for node := n; !l.stopped(); node++ {
		u := l.nodes[node%len(l.nodes)]
		conn, err := tls.Dial("tcp", u.addr["imaps"], u.tls())
		if err != nil {
			if errors.Is(err, syscall.ECONNREFUSED) {
				l.refused.Add(1)
				t.Errorf("refused: %v", err)
			} else {
				l.dropped.Add(1)
				t.Logf("dropped in the handshake: %v", err)
			}
			continue
		}
		s := &imapReader{conn: conn, r: bufio.NewReader(conn), seen: seen}
		err = s.session(u.slapd.UserPassword, l)
		_ = conn.Close()
		switch {
		case err == nil:
		case s.bye && errors.Is(err, io.EOF):
			l.goodbyes.Add(1)
		case s.within:
			l.cutOff(t, "answer", err)
		case errors.Is(err, errMailbox):
			t.Error(err)
			return
		default:
			l.dropped.Add(1)
			t.Logf("dropped between answers: %v", err)
		}
	}
}

// imapReader is a client that sees where in the stream its connection ends.
type imapReader struct {
	conn   net.Conn
	r      *bufio.Reader
	seen   map[int]string
	bye    bool // said by the server
	within bool // a response has begun and is not over
	tag    int
}

var (
	errMailbox = errors.New("the mailbox is not what it was")
	fetchUID   = regexp.MustCompile(`UID (\d+)`)
	literal    = regexp.MustCompile(`\{(\d+)\}\r\n$`)
	loadID     = regexp.MustCompile(`(?i)Message-ID: <load-(\d+)@partner\.example>`)
)

// session logs in and looks at what is new, until the load is stopped or the server
// says goodbye.
func (s *imapReader) session(password string, l *load) error {
	_ = s.conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, _, err := s.response(); err != nil { // greeting
		return err
	}
	for _, c := range []string{"LOGIN alice " + strconv.Quote(password), "SELECT INBOX"} {
		if err := s.command(c, nil); err != nil {
			return err
		}
	}
	for !l.stopped() {
		last := 0
		for uid := range s.seen {
			last = max(last, uid)
		}
		_ = s.conn.SetDeadline(time.Now().Add(2 * time.Minute))
		// Some that are known already, too: they must be the same whatever node answers.
		if err := s.command(fmt.Sprintf("UID FETCH %d:* (UID BODY.PEEK[])", max(1, last-5)), func(text string) error {
			uid, id := fetchUID.FindStringSubmatch(text), loadID.FindStringSubmatch(text)
			if uid == nil || id == nil {
				return nil
			}
			n, _ := strconv.Atoi(uid[1])
			if known, ok := s.seen[n]; ok && known != id[1] {
				return fmt.Errorf("%w: UID %d was message %s and is %s", errMailbox, n, known, id[1])
			}
			s.seen[n] = id[1]
			l.fetched.Add(1)
			return nil
		}); err != nil {
			return err
		}
		if err := s.command("NOOP", nil); err != nil {
			return err
		}
	}
	return nil
}

// command sends a command and gives its untagged responses to f.
func (s *imapReader) command(text string, f func(response string) error) error {
	s.tag++
	tag := fmt.Sprintf("a%d", s.tag)
	if _, err := fmt.Fprintf(s.conn, "%s %s\r\n", tag, text); err != nil {
		// The server has left: what it said before is still to be read.
		for {
			if _, _, err := s.response(); err != nil {
				return err
			}
		}
	}
	for {
		first, all, err := s.response()
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(first, tag+" OK"):
			return nil
		case strings.HasPrefix(first, tag+" "):
			return fmt.Errorf("%w: %s: %s", errMailbox, text, strings.TrimSpace(first))
		case f != nil:
			if err := f(all); err != nil {
				return err
			}
		}
	}
}

// response reads one response with its literals.
func (s *imapReader) response() (first, all string, err error) {
	var b strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		s.within = b.Len()+len(line) > 0
		if err != nil {
			return "", "", err
		}
		b.WriteString(line)
		if first == "" {
			first = line
			s.bye = s.bye || strings.HasPrefix(line, "* BYE")
		}
		m := literal.FindStringSubmatch(line)
		if m == nil {
			s.within = false
			return first, b.String(), nil
		}
		n, _ := strconv.Atoi(m[1])
		if _, err := io.CopyN(&b, s.r, int64(n)); err != nil {
			return "", "", err
		}
	}
}

// replace gives a node another program while a client is in the middle of a message:
// that is taken, and only then the client is told goodbye.
func (l *load) replace(t *testing.T, u *unit, program, config string) {
	t.Helper()
	i := l.next.Add(1)
	c, err := smtp.Dial(u.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := errors.Join(c.Mail("sender@partner.example", nil), c.Rcpt("alice@corp.example", nil)); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	text := body(i, "sender@partner.example")
	if _, err := io.WriteString(w, text[:len(text)/2]); err != nil {
		t.Fatal(err)
	}
	u.end(func() {
		_, err := io.WriteString(w, text[len(text)/2:])
		if err := errors.Join(err, w.Close()); err != nil {
			t.Errorf("the message under way when the node is told to end: %v", err)
			return
		}
		l.mu.Lock()
		l.sent[i] = true
		l.mu.Unlock()
		var reply *smtp.SMTPError
		if err := c.Noop(); !errors.As(err, &reply) || reply.Code != 421 {
			t.Errorf("after its message the client hears %v, want 421", err)
		}
	})
	// Who comes now waits for the next program.
	u.run(program, config)
	l.until(t, 200)
}

// finish ends the load, and looks at the mailbox.
func (l *load) finish(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.clients.Wait()
	found := map[int64]int{}
	u := l.nodes[1]
	for _, m := range u.read(u.login("alice"), "INBOX") {
		id := loadID.FindStringSubmatch(m)
		if id == nil {
			t.Errorf("a message that nobody sent: %.200q", m)
			continue
		}
		i, err := strconv.ParseInt(id[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		_, want, _ := strings.Cut(body(i, ""), "\r\n\r\n")
		if !strings.HasSuffix(m, "\r\n\r\n"+want) {
			t.Errorf("message %d is damaged: %d octets", i, len(m))
		}
		found[i]++
	}
	lost, doubled := 0, 0
	for i := range l.sent {
		if found[i] == 0 {
			lost++
			t.Errorf("message %d was acknowledged and is not there", i)
		}
	}
	for _, i := range slices.Sorted(maps.Keys(found)) {
		if found[i] > 1 {
			doubled++
			t.Errorf("message %d is there %d times", i, found[i])
		}
	}
	t.Logf("%d messages acknowledged, lost %d, doubled %d; %d fetched; connections refused %d, ended by 421 or BYE %d, dropped between messages %d, cut off in the middle %d; other 4xx %d",
		len(l.sent), lost, doubled, l.fetched.Load(), l.refused.Load(), l.goodbyes.Load(), l.dropped.Load(), l.cut.Load(), l.deferred.Load())
}
