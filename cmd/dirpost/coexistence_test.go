package main

import (
	"fmt"
	"net"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/internal/postgres"
	"dirpost/internal/testenv"

	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"
)

// change edits the configuration before a node is started.
func (s *system) change(old, text string) {
	s.t.Helper()
	b, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		s.t.Fatalf("the configuration has no %q", old)
	}
	if err := os.WriteFile(s.config, []byte(strings.Replace(string(b), old, text, 1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if s.file, err = readConfig(s.config); err != nil {
		s.t.Fatal(err)
	}
}

// eventually waits for what the server does a moment later.
func (s *system) eventually(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("it never comes to that: %s", what)
		}
	}
}

// say sends a message to port 25 from an address of this machine, and returns the
// answers to RCPT and the one to the content.
func (s *system) say(from string, rcpts []string, msg string) (answers []string) {
	s.t.Helper()
	return s.sayTo(s.addr["smtp"], from, rcpts, msg)
}

// sayTo is say to any server.
func (s *system) sayTo(server, from string, rcpts []string, msg string) (answers []string) {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(s.t.Context(), "tcp", server)
	if err != nil {
		s.t.Fatal(err)
	}
	c := textproto.NewConn(conn)
	defer c.Close()
	ask := func(format string, args ...any) string {
		if format != "" {
			if err := c.PrintfLine(format, args...); err != nil {
				s.t.Fatal(err)
			}
		}
		_, text, err := c.ReadResponse(0)
		if err != nil {
			s.t.Fatal(err)
		}
		return text // without the three digits, which the enhanced code repeats
	}
	ask("")
	ask("EHLO client.example")
	ask("MAIL FROM:<someone@partner.example>")
	taken := false
	for _, r := range rcpts {
		answer := ask("RCPT TO:<%s>", r)
		answers = append(answers, answer)
		taken = taken || strings.HasPrefix(answer, "2.1.5")
	}
	if taken {
		ask("DATA")
		answers = append(answers, ask("%s\r\n.", msg))
	}
	return answers
}

// TestCoexistence: another system has some of the mailboxes. Mail reaches each
// mailbox once, whoever it comes from and wherever it is; what the other system
// sends back stays there; nothing goes round.
func TestCoexistence(t *testing.T) {
	t.Parallel()
	exchange := testenv.SMTP(t, testenv.SMTPRefusal{}, func(s *smtp.Server) { s.EnableSMTPUTF8 = true })
	s := newSystem(t, "")
	s.change("postmaster = \"postmaster@corp.example\"\n", fmt.Sprintf("postmaster = \"alice@corp.example\"\nother_system = %q\nother_clients = [\"127.0.0.2\"]\nunknown = \"other\"\n", exchange.Addr))
	s.change("[auth]\n", "[directory.corp.mailboxes]\ngroups = [\"CN=sales,ou=groups,"+s.slapd.Base+"\"]\n[auth]\n")
	s.start()

	// These are other rules than the ones that were confirmed: whoever loses the
	// mailbox here waits.
	if got := s.say("127.0.0.1", []string{"alice@corp.example", "erik@corp.example"}, "Subject: early\r\n\r\n1"); !strings.HasPrefix(got[0], "2.1.5") || !strings.HasPrefix(got[1], "4.3.5") {
		t.Errorf("before they are confirmed: %q", got)
	}
	if out := s.command(0, "directory", "check"); !strings.Contains(out, "waits") || !strings.Contains(out, "--accept") {
		t.Errorf("directory check: %s", out)
	}
	if out := s.command(0, "directory", "check", "--accept"); !strings.Contains(out, "takes mail") || strings.Contains(out, "--accept") {
		t.Errorf("directory check --accept: %s", out)
	}
	s.eventually("erik's mail is taken", func() bool {
		return strings.HasPrefix(s.say("127.0.0.1", []string{"erik@corp.example"}, "Subject: first\r\n\r\nfirst")[0], "2.1.5")
	})

	stranger := s.say("127.0.0.1", []string{"alice@corp.example", "erik@corp.example", "unknown@corp.example", "sales@corp.example"}, "Message-ID: <s@x>\r\nSubject: stranger\r\n\r\nstranger")
	for i, answer := range stranger {
		if !strings.HasPrefix(answer, "2.") {
			t.Errorf("stranger, answer %d: %s", i, answer)
		}
	}
	if err := s.submit("alice", "alice@corp.example", []string{"everybody@corp.example"}, "Message-ID: <e@x>\r\nFrom: alice@corp.example\r\nSubject: all\r\n\r\nall"); err != nil {
		t.Fatal(err)
	}
	fromOther := s.say("127.0.0.2", []string{"bob@corp.example", "erik@corp.example", "unknown@corp.example", "stranger@far.example"}, "Message-ID: <o@x>\r\nSubject: other\r\n\r\nother")
	for i, want := range []string{"2.1.5", "4.4.6", "5.1.1", "5.7.1", "2.0.0"} {
		if !strings.HasPrefix(fromOther[i], want) {
			t.Errorf("the other system, answer %d: %s, want %s", i, fromOther[i], want)
		}
	}

	subjects := func(person string) string {
		var all []string
		for _, m := range s.read(s.login(person), "INBOX") {
			_, subject, _ := strings.Cut(m, "Subject: ")
			subject, _, _ = strings.Cut(subject, "\r\n")
			all = append(all, subject)
		}
		return strings.Join(all, " ")
	}
	s.eventually("everybody has it", func() bool { return strings.Count(allRecipients(exchange), "all>") == 20 })
	for person, want := range map[string]string{"alice": "early stranger all", "bob": "stranger all other", "wangwei": "stranger all", "carol": "stranger all"} {
		if got := subjects(person); got != want {
			t.Errorf("%s has %q, want %q", person, got, want)
		}
	}
	there := allRecipients(exchange)
	for want, n := range map[string]int{"<erik@corp.example stranger>": 1, "<unknown@corp.example stranger>": 1, "<erik@corp.example all>": 1, "alice@": 0, "bob@": 0, "other>": 0, "early>": 0} {
		if got := strings.Count(there, want); got != n {
			t.Errorf("the other system has %s %d times, want %d: %s", want, got, n, there)
		}
	}
}

// TestWaitingMailFollows: a change in the directory alone, and no command, sends mail
// that waits where it goes now: into a mailbox that came here while the other system is
// away, and into one that is no longer on hold.
func TestWaitingMailFollows(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.change("postmaster = \"postmaster@corp.example\"\n", "postmaster = \"alice@corp.example\"\nother_system = \"127.0.0.1:1\"\n")
	group := "cn=sales,ou=groups," + s.slapd.Base
	s.change("[auth]\n", "[directory.corp.mailboxes]\ngroups = [\""+group+"\"]\n[auth]\n")
	s.start()
	s.command(0, "directory", "check", "--accept")
	admin := s.admin()
	set := func(dn, attribute string, values ...string) {
		t.Helper()
		m := ldap.NewModifyRequest(dn, nil)
		if attribute == "member" {
			m.Add(attribute, values)
		} else {
			m.Replace(attribute, values)
		}
		if err := admin.Modify(m); err != nil {
			t.Fatal(err)
		}
	}
	sent := 0
	// waits sends until the mail waits, and the list of the queue says so: the change
	// before it, or the confirmation, takes a moment.
	waits := func(to, with string) {
		t.Helper()
		s.eventually(to+" waits", func() bool {
			out := s.command(0, "queue", "list")
			if strings.Contains(out, to) {
				return strings.Contains(out, with)
			}
			if strings.HasPrefix(s.say("127.0.0.1", []string{to}, fmt.Sprintf("Message-ID: <%d@x>\r\nSubject: %[1]d\r\n\r\nx", sent))[0], "2.1.5") {
				sent++
			}
			return false
		})
	}
	waits("erik@corp.example", "4.4.1")
	set(group, "member", s.person("erik"))
	s.eventually("erik has it", func() bool { return !strings.Contains(s.command(0, "queue", "list"), "erik@") })
	if n := len(s.await("erik", "INBOX", sent)); n != sent {
		t.Errorf("erik has %d messages, want %d", n, sent)
	}

	sent = 0
	set(s.person("bob"), "dirpostEnabled", "hold")
	waits("bob@corp.example", "held")
	set(s.person("bob"), "dirpostEnabled", "active")
	s.eventually("bob has it", func() bool { return !strings.Contains(s.command(0, "queue", "list"), "bob@") })
	if n := len(s.await("bob", "INBOX", sent)); n != sent {
		t.Errorf("bob has %d messages, want %d", n, sent)
	}
}

// allRecipients is what arrived, as <recipient subject>.
func allRecipients(p *testenv.SMTPServer) string {
	var b strings.Builder
	for _, m := range p.Messages() {
		_, subject, _ := strings.Cut(m.Data, "Subject: ")
		subject, _, _ = strings.Cut(subject, "\r\n")
		for _, to := range m.To {
			fmt.Fprintf(&b, "<%s %s>", to, subject)
		}
	}
	return b.String()
}

// TestUnknownIsVerified: what nobody has here is taken only if the other system knows
// it, so that nothing of it comes back to a sender who may be forged.
func TestUnknownIsVerified(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	exchange := testenv.SMTP(t, testenv.SMTPRefusal{Rcpt: func(to string) error {
		asked.Add(1)
		if strings.HasPrefix(to, "there") {
			return nil
		}
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 10}, Message: "RESOLVER.ADR.RecipientNotFound"}
	}}, nil)
	s := newSystem(t, "")
	s.change("postmaster = \"postmaster@corp.example\"\n", fmt.Sprintf("postmaster = \"alice@corp.example\"\nother_system = %q\nunknown = \"other\"\n", exchange.Addr))
	s.confirm()
	s.start()
	for range 2 { // what was said is remembered
		got := s.say("127.0.0.1", []string{"there@corp.example", "nobody@corp.example", "alice@corp.example"}, "Subject: x\r\n\r\nx")
		for i, want := range []string{"2.1.5", "5.1.1", "2.1.5", "2.0.0"} {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("answer %d: %s, want %s", i, got[i], want)
			}
		}
		if err := s.submit("alice", "alice@corp.example", []string{"nobody@corp.example"}, "From: alice@corp.example\r\n\r\nx"); err == nil || !strings.Contains(err.Error(), "550") {
			t.Errorf("alice to nobody: %v", err)
		}
	}
	s.eventually("both are handed over", func() bool { return len(exchange.Messages()) == 2 })
	if n := asked.Load(); n != 4 { // two questions, two messages
		t.Errorf("RCPT was said %d times, want 4", n)
	}
}

// Two systems that each think the other has a mailbox do not send a message round
// and round, even where ours cannot tell who its client is.
func TestCoexistenceEndsRounds(t *testing.T) {
	t.Parallel()
	exchange := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
	s := newSystem(t, "")
	s.change("postmaster = \"postmaster@corp.example\"\n", fmt.Sprintf("postmaster = \"alice@corp.example\"\nother_system = %q\nunknown = \"other\"\n", exchange.Addr))
	s.confirm()
	s.start()
	msg, rounds := "Subject: round\r\n\r\nround", 0
	for ; rounds < 20; rounds++ {
		got := s.say("127.0.0.1", []string{"nobody@corp.example"}, msg)
		if last := got[len(got)-1]; !strings.HasPrefix(last, "2.0.0") {
			if !strings.HasPrefix(last, "5.4.6") {
				t.Errorf("round %d: %s", rounds, last)
			}
			break
		}
		s.eventually("it is handed over", func() bool { return len(exchange.Messages()) == rounds+1 })
		msg = strings.TrimSuffix(exchange.Messages()[rounds].Data, "\r\n")
	}
	if rounds != 5 {
		t.Errorf("it went round %d times", rounds)
	}
}

// TestUnconfirmed: a new system takes no mail before somebody has looked.
func TestUnconfirmed(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.change("local = [\"corp.example\"]", "local = [\"corp.example\", \"new.example\"]")
	if out := s.command(1, "directory", "check"); !strings.Contains(out, "dirpost serve") {
		t.Errorf("before anything was read: %s", out)
	}
	s.start()
	if got := s.say("127.0.0.1", []string{"postmaster@new.example", "alice@corp.example"}, "Subject: x\r\n\r\nx"); !strings.HasPrefix(got[0], "4.3.5") || !strings.HasPrefix(got[1], "2.1.5") {
		t.Errorf("unconfirmed: %q", got)
	}
	if out := s.command(2, "doctor", "--only=replica"); !strings.Contains(out, "mail for new.example waits") {
		t.Errorf("doctor: %s", out)
	}
	if out := s.command(0, "directory", "check", "--accept", "--json"); strings.Count(out, `"confirmed":true`) != 2 {
		t.Errorf("directory check --accept --json: %s", out)
	}
	s.eventually("the new domain is served", func() bool {
		return strings.HasPrefix(s.say("127.0.0.1", []string{"postmaster@new.example"}, "Subject: x\r\n\r\nx")[0], "2.1.5")
	})
}

// TestConfirmedBefore: a system with mail in it that is migrated goes on taking mail,
// until somebody confirms its domains.
func TestConfirmedBefore(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	db, err := openDatabase(t.Context(), s.file, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, sql := range []string{
		"delete from directory_domain",
		"insert into directory_domain (domain, placement, here, elsewhere, nowhere, lists, contacts, confirmed_by) values ('*', '', 0, 0, 0, 0, 0, 'an earlier version')",
	} {
		if _, err := db.Exec(t.Context(), postgres.Background, sql); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	if got := s.say("127.0.0.1", []string{"alice@corp.example"}, "Subject: x\r\n\r\nx"); !strings.HasPrefix(got[0], "2.1.5") {
		t.Errorf("before: %q", got)
	}
	s.command(0, "directory", "check", "--accept")
	var named []string
	rows, err := db.Query(t.Context(), postgres.Background, "select domain from directory_domain order by domain")
	if err == nil {
		named, err = postgres.CollectValues[string](rows)
	}
	if err != nil || !slices.Equal(named, []string{"corp.example"}) {
		t.Errorf("confirmed: %q, %v", named, err)
	}
}
