package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/go-ldap/ldap/v3"
)

// wire is a conversation by TLS, line by line.
type wire struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// dialTLS begins a conversation with a listener.
func (s *system) dialTLS(listener string) *wire {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.addr[listener], s.tls())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	return &wire{s.t, conn, bufio.NewReader(conn)}
}

// say sends text, and reads lines until one begins with want.
func (w *wire) say(text, want string) string {
	w.t.Helper()
	if _, err := w.conn.Write([]byte(text)); err != nil {
		w.t.Fatalf("%q: %v", text, err)
	}
	return w.until(want)
}

// until reads lines until one begins with want.
func (w *wire) until(want string) string {
	w.t.Helper()
	for {
		line, err := w.r.ReadString('\n')
		if strings.HasPrefix(line, want) {
			return strings.TrimSpace(line)
		}
		if err != nil {
			w.t.Fatalf("read %q, want %s: %v", line, want, err)
		}
	}
}

// over says that there is nothing more.
func (w *wire) over(what string) {
	w.t.Helper()
	if line, err := w.r.ReadString('\n'); err == nil {
		w.t.Errorf("%s: after the goodbye: %q", what, line)
	}
}

// inbox opens the INBOX of a person.
func (s *system) inbox(who, password string) *wire {
	s.t.Helper()
	w := s.dialTLS("imaps")
	w.until("* OK")
	w.say(fmt.Sprintf("a LOGIN %s \"%s\"\r\n", who, password), "a OK")
	w.say("b SELECT INBOX\r\n", "b OK")
	return w
}

// submitter is a session of submission, in the middle of a message.
func (s *system) submitter(who string) *wire {
	s.t.Helper()
	w := s.dialTLS("submissions")
	w.until("220")
	w.say("EHLO here\r\n", "250 ")
	w.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+who+"\x00"+s.slapd.UserPassword))+"\r\n", "235")
	w.say("MAIL FROM:<"+who+"@corp.example>\r\n", "250")
	w.say("RCPT TO:<alice@corp.example>\r\n", "250")
	w.say("DATA\r\nFrom: "+who+"@corp.example\r\nSubject: unfinished\r\n\r\n", "354")
	return w
}

// pop opens a drop.
func (s *system) pop(who string) *wire {
	s.t.Helper()
	w := s.dialTLS("pop3s")
	w.until("+OK")
	w.say("USER "+who+"\r\n", "+OK")
	w.say("PASS "+s.slapd.UserPassword+"\r\n", "+OK")
	return w
}

// TestOffboard: somebody is disabled, and every session of theirs is told and ended,
// whatever it is in the middle of. Those of others go on.
func TestOffboard(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	idle, literal, pop, submit := s.inbox("carol", s.slapd.UserPassword), s.inbox("carol", s.slapd.UserPassword), s.pop("carol"), s.submitter("carol")
	idle.say("c IDLE\r\n", "+")
	literal.say("c APPEND INBOX {100000}\r\n", "+")
	if _, err := literal.conn.Write([]byte("From: carol@corp.example\r\n")); err != nil {
		t.Fatal(err)
	}
	other := s.inbox("bob", s.slapd.UserPassword)
	other.say("c IDLE\r\n", "+")

	conn := s.admin()
	m := ldap.NewModifyRequest(s.person("carol"), nil)
	m.Replace("dirpostEnabled", []string{"nologin"})
	if err := conn.Modify(m); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		w    *wire
		want string
	}{
		"IDLE": {idle, "* BYE [EXPIRED] "}, "a literal": {literal, "* BYE [EXPIRED] "},
		"POP3": {pop, "-ERR [SYS/PERM] "}, "submission": {submit, "421 4.7.0 "},
	} {
		c.w.until(c.want)
		c.w.over(what)
	}
	if got := s.read(s.login("alice"), "INBOX"); len(got) != 0 {
		t.Errorf("a message that was not finished: %q", got)
	}
	other.say("DONE\r\n", "c OK")
}

// TestOffboardByGroup: a group takes a protocol away from its members, and with it
// the sessions that they have by it.
func TestOffboardByGroup(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.change("\n[auth]\n", fmt.Sprintf("\n[[policy]]\ngroup = \"cn=desk,ou=groups,%s\"\ndeny = [\"imap\"]\n[auth]\n", s.slapd.Base))
	conn := s.admin()
	add := ldap.NewAddRequest("cn=desk,ou=groups,"+s.slapd.Base, nil)
	add.Attribute("objectClass", []string{"groupOfNames"})
	add.Attribute("member", []string{s.person("alice")})
	if err := conn.Add(add); err != nil {
		t.Fatal(err)
	}
	s.start()
	imap, submit := s.inbox("carol", s.slapd.UserPassword), s.submitter("carol")
	imap.say("c IDLE\r\n", "+")
	m := ldap.NewModifyRequest("cn=desk,ou=groups,"+s.slapd.Base, nil)
	m.Add("member", []string{s.person("carol")})
	if err := conn.Modify(m); err != nil {
		t.Fatal(err)
	}
	imap.until("* BYE ")
	imap.over("IMAP")
	submit.say("Text.\r\n.\r\n", "250")
}

// TestDepartedMail: what somebody has submitted who is disabled since waits in the
// queue for the administrator.
func TestDepartedMail(t *testing.T) {
	t.Parallel()
	next := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
	s := newSystem(t, fmt.Sprintf("smarthost = %q\nsmarthost_tls = \"none\"\n", freeAddress(t)))
	s.change("[mta.submission]\n", "[mta.submission]\ndeparted = \"hold\"\n")
	stop := s.start()
	for _, who := range []string{"carol", "alice"} {
		msg := fmt.Sprintf("From: %[1]s@corp.example\r\nSubject: of %[1]s\r\nMessage-ID: <%[1]s@corp.example>\r\n\r\nText.\r\n", who)
		if err := s.submit(who, who+"@corp.example", []string{"friend@partner.example"}, msg); err != nil {
			t.Fatal(err)
		}
	}
	s.eventually("both have been tried", func() bool {
		return strings.Count(s.command(0, "queue", "list", "--state", "waiting", "--json"), `"attempts":`) == 2
	})
	m := ldap.NewModifyRequest(s.person("carol"), nil)
	m.Replace("dirpostEnabled", []string{"nologin"})
	if err := s.admin().Modify(m); err != nil {
		t.Fatal(err)
	}
	s.eventually("carol is out", func() bool {
		c, err := s.tryLogin("carol")
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	stop()
	s.change("smarthost = ", fmt.Sprintf("smarthost = %q\n#", next.Addr))
	s.start()
	s.command(0, "queue", "retry", "--state", "waiting")
	s.eventually("that of carol is held", func() bool {
		out := s.command(0, "queue", "list", "--state", "held")
		return strings.Contains(out, "carol@corp.example") && strings.Contains(out, "has left since: account disabled")
	})
	s.eventually("that of alice is sent", func() bool { return len(next.Messages()) == 1 })
	if got := next.Messages()[0].Data; !strings.Contains(got, "Subject: of alice") {
		t.Errorf("sent:\n%s", got)
	}
	s.command(0, "queue", "release", "--sender", "carol@corp.example")
	s.eventually("that of carol is sent", func() bool { return len(next.Messages()) == 2 })
}
