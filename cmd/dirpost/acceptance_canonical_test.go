//go:build acceptance

package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
)

// raw is an SMTP client that sends what it is told, octet by octet.
type raw struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// rawSubmission is a session of alice.
func (s *system) rawSubmission(t *testing.T) *raw {
	t.Helper()
	conn, err := tls.Dial("tcp", s.addr["submissions"], s.tls())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	c := &raw{t, conn, bufio.NewReader(conn)}
	c.reply()
	c.want("EHLO client.example\r\n", "250")
	c.want("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00alice\x00"+s.slapd.UserPassword))+"\r\n", "235")
	return c
}

// reply reads one reply and returns its last line.
func (c *raw) reply() string {
	c.t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "connection lost: " + err.Error()
		}
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimSpace(line)
		}
	}
}

// send writes octets and returns the reply.
func (c *raw) send(octets string) string {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(octets)); err != nil {
		return "connection lost: " + err.Error()
	}
	return c.reply()
}

// want sends octets and wants a reply.
func (c *raw) want(octets, code string) {
	c.t.Helper()
	if got := c.send(octets); !strings.HasPrefix(got, code) {
		c.t.Fatalf("%.60q is answered %q, want %s", octets, got, code)
	}
}

// mail begins a transaction.
func (c *raw) mail(to string) {
	c.t.Helper()
	c.want("RSET\r\n", "250")
	c.want("MAIL FROM:<alice@corp.example>\r\n", "250")
	c.want("RCPT TO:<"+to+">\r\n", "250")
}

// data sends a message by DATA; text is what goes over the wire before the last
// CRLF.CRLF, dots doubled by the caller.
func (c *raw) data(to, text string) string {
	c.t.Helper()
	c.mail(to)
	c.want("DATA\r\n", "354")
	return c.send(text + "\r\n.\r\n")
}

// bdat sends a message in chunks (RFC 3030 §2), cut where it hurts.
func (c *raw) bdat(to, text string, cuts ...int) string {
	c.t.Helper()
	c.mail(to)
	begin := 0
	for _, cut := range cuts {
		if cut <= begin || cut >= len(text) {
			continue
		}
		if got := c.send(fmt.Sprintf("BDAT %d\r\n%s", cut-begin, text[begin:cut])); !strings.HasPrefix(got, "250") {
			return got
		}
		begin = cut
	}
	return c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text)-begin, text[begin:]))
}

// bodies are what a message may look like inside, as lines with CRLF.
var bodies = []struct{ name, text string }{
	{"plain", "One line.\r\n"},
	{"dots", ".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n"},
	{"dot first and last", ".\r\nmiddle\r\n."},
	{"no line at the end", "The last line has no end"},
	{"empty lines at the end", "text\r\n\r\n\r\n\r\n"},
	{"empty", ""},
	{"long lines", strings.Repeat("0123456789", 99) + "12345678\r\n" + strings.Repeat("x", 998) + "\r\nend\r\n"},
	{"eight bits", "Grüße, 你好, مرحبا\r\n\xff\xfe\x80 no UTF-8\r\n"},
	{"controls", "\x01\x07\x08\x1b[31m\x7f tab\t\r\n\f\v\r\n"},
	{"From at the beginning", "From the beginning\r\n>From quoted\r\n"},
	{"spaces at the ends", "trailing  \r\n \t\r\n- \r\n"},
	{"like SMTP", "\r\n.\r\n\r\nQUIT\r\nMAIL FROM:<evil@evil.example>\r\n"},
	{"large", strings.Repeat(strings.Repeat("large ", 12)+"\r\n.\r\n", 4000)},
}

// smuggled follows what some server might take for the end of a message.
const smuggled = "MAIL FROM:<alice@corp.example>\r\nRCPT TO:<victim@%s>\r\nDATA\r\nFrom: alice@corp.example\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\n"

// ends are what some server might take for the end of a message.
var ends = []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n.\r", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\n\n.\r\n", "\r\r\n.\r\r\n"}

// TestAcceptanceCanonical: what leaves has come in by every way, and arrives at
// Postfix and at Exim octet by octet, with CRLF at the ends of lines and as the
// one message that it was (RFC 5321 §2.3.8).
func TestAcceptanceCanonical(t *testing.T) {
	for name, start := range peers {
		t.Run(name, func(t *testing.T) {
			wire := newTap(t)
			s := newSystem(t, fmt.Sprintf("smarthost = %q\nsmarthost_tls = \"none\"", wire.addr))
			p := start(t, peerDir(t), s)
			wire.target.Store(p.addr)
			s.start()
			c := &canonical{t: t, s: s, p: p, want: make(map[string]string)}
			c.byDATA()
			c.byBDAT()
			c.byAPPEND()
			c.bySendmail()
			c.tricks()
			c.check(wire)
		})
	}
}

// peerDir is a directory that the users of a peer can enter.
func peerDir(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// canonical is the state of the test: what must arrive, by Message-ID.
type canonical struct {
	t    *testing.T
	s    *system
	p    *peer
	want map[string]string
}

// message makes the next message, and what is wanted of it.
func (c *canonical) message(way, name, text string) (header, id string) {
	id = fmt.Sprintf("<%d@corp.example>", len(c.want)+1)
	header = fmt.Sprintf("From: alice@corp.example\r\nTo: friend@%s\r\nSubject: %s by %s\r\nMessage-ID: %s\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nX-Folded: one\r\n\ttwo\r\n  three\r\n\r\n", c.p.domain(), name, way, id)
	if !strings.HasSuffix(text, "\r\n") && text != "" {
		text += "\r\n"
	}
	c.want[id] = header + text
	return header, id
}

// accepted fails the test if the message was not taken.
func (c *canonical) accepted(way, name, reply string) {
	c.t.Helper()
	if !strings.HasPrefix(reply, "250") {
		c.t.Errorf("%s by %s: %s", name, way, reply)
	}
}

func (c *canonical) to() string { return "friend@" + c.p.domain() }

// stuffed doubles dots at the beginning of lines (RFC 5321 §4.5.2).
func stuffed(s string) string {
	s = strings.ReplaceAll(s, "\r\n.", "\r\n..")
	return strings.TrimSuffix(s, "\r\n")
}

func (c *canonical) byDATA() {
	r := c.s.rawSubmission(c.t)
	for _, b := range bodies {
		header, id := c.message("DATA", b.name, b.text)
		_ = header
		c.accepted("DATA", b.name, r.data(c.to(), stuffed(c.want[id])))
	}
}

func (c *canonical) byBDAT() {
	r := c.s.rawSubmission(c.t)
	for _, b := range bodies {
		header, _ := c.message("BDAT", b.name, b.text)
		// Chunks end within a line end, behind a CR, before a dot.
		c.accepted("BDAT", b.name, r.bdat(c.to(), header+b.text, len(header)-1, len(header), len(header)+1, len(header)+3, len(header)+len(b.text)-1))
	}
}

// byAPPEND stores a message with the line ends of Unix and of old Macs, and
// submits what is read there, as a client does with a draft.
func (c *canonical) byAPPEND() {
	client, r := c.s.login("alice"), c.s.rawSubmission(c.t)
	for _, end := range []string{"\r\n", "\n", "\r"} {
		for _, b := range bodies {
			if b.name == "large" || b.name == "like SMTP" && end == "\r" {
				continue
			}
			header, id := c.message(fmt.Sprintf("APPEND with %q", end), b.name, b.text)
			text := strings.ReplaceAll(header+b.text, "\r\n", end)
			w := client.Append("Drafts", int64(len(text)), nil)
			if _, err := w.Write([]byte(text)); err != nil {
				c.t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				c.t.Fatal(err)
			}
			stored, err := w.Wait()
			if err != nil {
				c.t.Errorf("%s, APPEND with %q: %v", b.name, end, err)
				delete(c.want, id)
				continue
			}
			if _, err := client.Select("Drafts", nil).Wait(); err != nil {
				c.t.Fatal(err)
			}
			section := &imap.FetchItemBodySection{Peek: true}
			got, err := client.Fetch(imap.UIDSetNum(stored.UID), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
			if err != nil || len(got) != 1 {
				c.t.Fatalf("fetch: %d messages, %v", len(got), err)
			}
			draft := string(got[0].FindBodySection(section))
			if bare(draft) {
				c.t.Errorf("%s, APPEND with %q: a bare CR or LF comes back: %.200q", b.name, end, draft)
				delete(c.want, id)
				continue
			}
			if !strings.HasSuffix(draft, "\r\n") {
				draft += "\r\n"
			}
			c.accepted("APPEND", b.name, r.data(c.to(), stuffed(draft)))
		}
	}
}

// bySendmail pipes messages as scripts do.
func (c *canonical) bySendmail() {
	send := func(stdin string) (string, error) {
		cmd := exec.Command(os.Args[0], "sendmail", "-C", c.s.config, "-oi", "-f", "alice@corp.example", c.to())
		cmd.Stdin = strings.NewReader(stdin)
		cmd.Env = append(cmd.Environ(), asProgram+"=1")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, end := range []string{"\r\n", "\n", "\r"} {
		for _, b := range bodies {
			header, _ := c.message(fmt.Sprintf("sendmail with %q", end), b.name, b.text)
			head := strings.ReplaceAll(header, "\r\n", "\n")
			if end == "\r\n" {
				head = header
			}
			if out, err := send(head + strings.ReplaceAll(b.text, "\r\n", end)); err != nil {
				c.t.Errorf("%s, sendmail with %q: %v: %s", b.name, end, err, out)
			}
		}
	}
	for _, end := range ends {
		// Each lone CR and each lone LF is a line end, for everybody.
		text := "before" + end + fmt.Sprintf(smuggled, c.p.domain())
		header, id := c.message("sendmail", fmt.Sprintf("end %q", end), "")
		c.want[id] = header + lines(text)
		if out, err := send(strings.ReplaceAll(header, "\r\n", "\n") + text); err != nil {
			if !strings.Contains(end, "\x00") {
				c.t.Errorf("end %q, sendmail: %v: %s", end, err, out)
			}
			delete(c.want, id)
		}
	}
}

// lines makes each CRLF, lone CR and lone LF a CRLF.
func lines(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", "\n")
	return strings.ReplaceAll(s, "\n", "\r\n")
}

// bare reports whether a CR or an LF stands alone.
func bare(s string) bool {
	return strings.ContainsAny(strings.ReplaceAll(s, "\r\n", ""), "\r\n")
}

// tricks try to smuggle a second message by SMTP: they are refused, or they are
// part of the one message.
func (c *canonical) tricks() {
	for _, end := range ends {
		header, id := c.message("DATA", fmt.Sprintf("end %q", end), "")
		delete(c.want, id) // whatever comes is judged by check
		text := strings.Replace(header, id, fmt.Sprintf("<trick-data-%x@corp.example>", end), 1) + "before" + end + fmt.Sprintf(smuggled, c.p.domain())
		r := c.s.rawSubmission(c.t)
		r.mail(c.to())
		r.want("DATA\r\n", "354")
		if got := r.send(text); !strings.HasPrefix(got, "5") && !strings.Contains(end, "\x00") {
			c.t.Errorf("end %q by DATA: %q, want a refusal", end, got)
		}
		_ = r.conn.Close()
		text = strings.Replace(header, id, fmt.Sprintf("<trick-bdat-%x@corp.example>", end), 1) + "before" + end + fmt.Sprintf(smuggled, c.p.domain())
		r = c.s.rawSubmission(c.t)
		if got := r.bdat(c.to(), text, strings.Index(text, end)+1); !strings.HasPrefix(got, "5") && !strings.Contains(end, "\x00") {
			c.t.Errorf("end %q by BDAT: %q, want a refusal", end, got)
		}
		_ = r.conn.Close()
	}
}

// check waits for all and compares.
func (c *canonical) check(wire *tap) {
	c.t.Helper()
	last := ""
	for id := range c.want {
		c.p.awaitText(c.t, "\r\nMessage-ID: "+id+"\r\n")
		last = id
	}
	c.p.awaitText(c.t, last)
	seen := make(map[string]int)
	for _, m := range c.p.received(c.t) {
		_, rest, ok := strings.Cut(m, "\r\nMessage-ID: ")
		id, _, _ := strings.Cut(rest, "\r\n")
		want, known := c.want[id]
		switch {
		case strings.Contains(m, "\r\nSubject: smuggled\r\n") && (!ok || !strings.Contains(id, "trick-") && !known):
			c.t.Errorf("a second message was smuggled: %.300q", m)
		case strings.Contains(id, "trick-"): // taken as one message: with NUL only
		case !known:
			c.t.Errorf("a message that nobody sent: %.300q", m)
		case !strings.HasSuffix(m, "\r\n"+want):
			c.t.Errorf("%s arrives changed:\n%s", id, difference(m, want))
		}
		seen[id]++
	}
	for id, n := range seen {
		if n != 1 {
			c.t.Errorf("%s arrived %d times", id, n)
		}
	}
	for _, said := range wire.sessions() {
		if bare(said) {
			c.t.Errorf("a bare CR or LF went out")
		}
		if strings.Contains(said, "\r\nRCPT TO:<victim@") && slices.Contains(strings.Split(commands(said), "\r\n"), "RCPT TO:<victim@"+c.p.domain()+">") {
			c.t.Errorf("a smuggled command went out")
		}
	}
	c.t.Logf("%s: %d messages arrived octet by octet", c.p.name, len(c.want))
}

// commands is what is said outside DATA: without the contents.
func commands(said string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(said, "\r\nDATA\r\n")
		b.WriteString(before + "\r\n")
		if !ok {
			return b.String()
		}
		_, said, _ = strings.Cut(rest, "\r\n.\r\n")
	}
}

// difference shows where the end of got begins to differ from want.
func difference(got, want string) string {
	got = got[max(0, len(got)-len(want)):]
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("at %d: got %.80q, want %.80q", i, got[max(0, i-20):], want[max(0, i-20):])
		}
	}
	return fmt.Sprintf("got %d octets, want %d", len(got), len(want))
}

// TestAcceptanceRelay: Postfix and Exim send to us, to port 25 for our people
// and to 587 with a login for everybody else; it arrives octet by octet.
func TestAcceptanceRelay(t *testing.T) {
	for name, start := range peers {
		t.Run(name, func(t *testing.T) {
			outside := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
			s := newSystem(t, fmt.Sprintf("smarthost = %q\nsmarthost_tls = \"none\"", outside.Addr))
			p := start(t, peerDir(t), s)
			s.start()
			content := func(way, i int) string {
				text := bodies[i].text
				if text != "" && !strings.HasSuffix(text, "\r\n") {
					text += "\r\n"
				}
				return fmt.Sprintf("\r\nFrom: alice@corp.example\r\nSubject: %s\r\nMessage-ID: <relay-%d-%d@corp.example>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\n%s", bodies[i].name, way, i, text)
			}
			for i, b := range bodies {
				for way, to := range []string{"bob@corp.example", "friend@elsewhere.example"} {
					if err := sendTo(p.addr, "alice@corp.example", to, content(way, i)[2:]); err != nil {
						t.Fatalf("%s takes %s: %v", name, b.name, err)
					}
				}
			}
			inside := s.await("bob", "INBOX", len(bodies))
			deadline := time.Now().Add(time.Minute)
			for len(outside.Messages()) < len(bodies) && time.Now().Before(deadline) {
				time.Sleep(20 * time.Millisecond) // until the queues are empty
			}
			for i, b := range bodies {
				if !slices.ContainsFunc(inside, func(m string) bool { return strings.HasSuffix(m, content(0, i)) }) {
					t.Errorf("%s from %s to port 25 does not arrive as it was", b.name, name)
				}
				if !slices.ContainsFunc(outside.Messages(), func(m testenv.SMTPMessage) bool { return strings.HasSuffix(m.Data, content(1, i)) }) {
					t.Errorf("%s from %s by port 587 does not arrive outside as it was", b.name, name)
				}
			}
			if n := len(outside.Messages()); len(inside) != len(bodies) || n != len(bodies) {
				t.Errorf("%d messages inside and %d outside, want %d each; log of %s:\n%s", len(inside), n, len(bodies), name, p.lastLog())
			}
		})
	}
}

// sendTo sends a message in clear.
func sendTo(addr, from, to, msg string) error {
	c, err := smtp.Dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SendMail(from, []string{to}, strings.NewReader(msg)); err != nil {
		return err
	}
	return c.Quit()
}
