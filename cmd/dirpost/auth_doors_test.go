package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"
)

// dialFrom opens a connection by TLS from an address of the loopback network.
func (s *system) dialFrom(from, listener string) net.Conn {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 20 * time.Second}
	raw, err := d.Dial("tcp", s.addr[listener])
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = raw.Close() })
	if err := raw.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	return tls.Client(raw, s.tls())
}

// offered is what each protocol offers to a client from an address: mechanisms, and
// whether there is a login beside SASL.
func (s *system) offered(from string) (smtpMechs, imapMechs, pop3Mechs []string, login, user bool) {
	s.t.Helper()
	c := smtp.NewClient(s.dialFrom(from, "submissions"))
	if err := c.Hello("client.example"); err != nil {
		s.t.Fatal(err)
	}
	if _, list := c.Extension("AUTH"); list != "" {
		smtpMechs = strings.Fields(list)
	}
	ic := imapclient.New(s.dialFrom(from, "imaps"), nil)
	caps, err := ic.Capability().Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	imapMechs, login = caps.AuthMechanisms(), !caps.Has(imap.CapLoginDisabled)
	pc := &pop3Client{textproto.NewConn(s.dialFrom(from, "pop3s"))}
	if err := errors.Join(pc.answer(), pc.command("CAPA")); err != nil {
		s.t.Fatal(err)
	}
	lines, err := pc.text.ReadDotLines()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, l := range lines {
		if list, ok := strings.CutPrefix(l, "SASL "); ok {
			pop3Mechs = strings.Fields(list)
		}
	}
	return smtpMechs, imapMechs, pop3Mechs, login, slices.Contains(lines, "USER")
}

// TestDoors: at each door the lists of mechanisms hold what would work there, on
// all ports, and what comes from outside never counts against an account.
func TestDoors(t *testing.T) {
	t.Parallel()
	const policy = "\ndn: cn=strict,dc=corp,dc=example\nobjectClass: organizationalRole\nobjectClass: pwdPolicy\ncn: strict\npwdAttribute: userPassword\npwdLockout: TRUE\npwdMaxFailure: 3\n"
	s := newSystemIn(t, databaseURL(t), "", testenv.SlapdPolicy(t, "cn=strict,dc=corp,dc=example", policy))
	s.change("\n[auth]\n", "\n[auth]\ninside = [\"127.0.0.1\"]\n")
	s.confirm()
	stop := s.start()
	const inside, outside = "127.0.0.1", "127.9.0.1"
	check := func(from string, want ...string) {
		t.Helper()
		smtpMechs, imapMechs, pop3Mechs, login, user := s.offered(from)
		for protocol, got := range map[string][]string{"SMTP": smtpMechs, "IMAP": imapMechs, "POP3": pop3Mechs} {
			for _, m := range []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"} {
				if slices.Contains(got, m) != slices.Contains(want, m) {
					t.Errorf("%s from %s offers %q, want %q", protocol, from, got, want)
				}
			}
		}
		if login != (len(want) > 0) || user != (len(want) > 0) {
			t.Errorf("from %s: IMAP LOGIN %v, POP3 USER %v", from, login, user)
		}
	}
	try := func(from, who, password, want string) {
		t.Helper()
		for _, w := range ways {
			got, err := w.try(s, cell{user: who, password: password}, net.ParseIP(from))
			if (got == "in") != (want == "in") || err != nil {
				t.Errorf("%s from %s, %s: %q, %v", who, from, w.name, got, err)
			}
		}
	}
	check(inside, "PLAIN", "LOGIN")
	// App passwords are the rule there.
	check(outside, "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
	for _, password := range []string{"guess1", "guess2", "guess3", "guess4", s.slapd.UserPassword} {
		try(outside, "alice", password, "no")
	}
	try(inside, "alice", s.slapd.UserPassword, "in")
	res, err := s.admin().Search(ldap.NewSearchRequest(s.person("alice"), ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"pwdFailureTime", "pwdAccountLockedTime"}, nil))
	if err != nil || len(res.Entries) != 1 || len(res.Entries[0].Attributes) != 0 {
		t.Errorf("guesses from outside count: %v, %v", res, err)
	}
	stop()

	s.change("inside = [\"127.0.0.1\"]\n", "inside = [\"127.0.0.1\"]\noutside_password_groups = [\"it@corp.example\"]\n")
	stop = s.start()
	// A client with a password of the domain must not be led to SCRAM.
	check(outside, "PLAIN", "LOGIN")
	try(outside, "erik", s.slapd.UserPassword, "in")
	try(outside, "alice", s.slapd.UserPassword, "no")
	stop()

	s.change("outside_password_groups = [\"it@corp.example\"]\n", "")
	s.change("[[tls.certificate]]", "[auth.app_passwords]\nmax = 0\n[[tls.certificate]]")
	s.start()
	check(outside)
}

// TestOnBehalf: masters and people with rights act as others, by IMAP, POP3 and
// submission; the session ends with the right.
func TestOnBehalf(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.change("\n[auth]\n", "\n[auth]\nmasters = [\"cn=it,ou=groups,dc=corp,dc=example\"]\n")
	s.start()
	if err := s.deliver("friend@partner.example", []string{"office@corp.example"}, "Subject: for the office\r\n\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	as := func(authzid, who string) (*imapclient.Client, error) {
		c := imapclient.New(s.dialFrom("127.0.0.1", "imaps"), nil)
		return c, c.Authenticate(sasl.NewPlainClient(authzid, who, s.slapd.UserPassword))
	}
	for _, tt := range []struct {
		authzid, who string
		may          bool
	}{
		{"office@corp.example", "alice", true}, // a member of sales
		{"office@corp.example", "lina", false},
		{"bob", "alice", false},
		{"bob", "erik", true}, // a master
		{"office@corp.example", "erik", true},
		{"dave", "erik", true}, // whose account is disabled
		{"nobody", "erik", false},
	} {
		c, err := as(tt.authzid, tt.who)
		if (err == nil) != tt.may {
			t.Errorf("%s as %s: %v, want allowed %v", tt.who, tt.authzid, err, tt.may)
		}
		var refused *imap.Error
		if !tt.may && (!errors.As(err, &refused) || refused.Code != imap.ResponseCodeAuthorizationFailed) {
			t.Errorf("%s as %s: %v, want AUTHORIZATIONFAILED", tt.who, tt.authzid, err)
		}
		if tt.authzid == "office@corp.example" && tt.may {
			if got := s.read(c, "INBOX"); len(got) != 1 || !strings.Contains(got[0], "for the office") {
				t.Errorf("%s as %s reads %q", tt.who, tt.authzid, got)
			}
		}
	}
	c := smtp.NewClient(s.dialFrom("127.0.0.1", "submissions"))
	if err := c.Auth(sasl.NewPlainClient("office@corp.example", "alice", s.slapd.UserPassword)); err != nil {
		t.Fatal(err)
	}
	if err := c.SendMail("office@corp.example", []string{"bob@corp.example"}, strings.NewReader("From: office@corp.example\r\nSubject: x\r\n\r\nx\r\n")); err != nil {
		t.Errorf("submission as the office: %v", err)
	}

	session, err := as("office@corp.example", "alice")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := session.Idle()
	if err != nil {
		t.Fatal(err)
	}
	change := ldap.NewModifyRequest("cn=sales,ou=groups,"+s.slapd.Base, nil)
	change.Delete("member", []string{s.person("alice")})
	if err := s.admin().Modify(change); err != nil {
		t.Fatal(err)
	}
	if err := idle.Wait(); err == nil {
		t.Error("the session goes on without the right")
	}
	s.eventually("the log names both", func() bool {
		for line := range strings.Lines(s.logs.String()) {
			if strings.Contains(line, "msg=login ") && strings.Contains(line, "authcid=alice") && strings.Contains(line, "authzid=office@corp.example") &&
				strings.Contains(line, "user=office@corp.example") && strings.Contains(line, "actor=corp:") {
				return true
			}
		}
		return false
	})
}

// TestAuditTellsNoSecret: a line and a count for each login, with everything that an
// administrator asks for, and no password in any line of the log, nor in a metric.
func TestAuditTellsNoSecret(t *testing.T) {
	t.Parallel()
	const wrong = "Wr0ng-Passw0rd-Of-Alice"
	s := newSystem(t, "")
	change := ldap.NewModifyRequest(s.person("carol"), nil)
	const right = "R1ght-Passw0rd-Of-Carol"
	change.Replace("userPassword", []string{right})
	if err := s.admin().Modify(change); err != nil {
		t.Fatal(err)
	}
	s.start()
	for i, w := range ways {
		another := fmt.Sprint(wrong, i) // one that is repeated is not judged again
		for _, c := range []struct{ who, password string }{{"carol", right}, {"carol", another}, {"nobody", another}, {"carol@corp.example", right}} {
			if _, err := w.try(s, cell{user: c.who, password: c.password}, net.IPv4(127, 0, 0, 1)); err != nil {
				t.Errorf("%s: %v", w.name, err)
			}
		}
	}
	lines := func(parts ...string) (n int) {
		for line := range strings.Lines(s.logs.String()) {
			ok := strings.Contains(line, "room=auth")
			for _, p := range parts {
				ok = ok && strings.Contains(line, p)
			}
			if ok {
				n++
			}
		}
		return n
	}
	s.eventually("each login has its line", func() bool {
		return lines("msg=login ", "outcome=accepted", "client=127.0.0.1", "door=inside", "person=corp:", "proof=password", "how=", "ms=") == 2*len(ways) &&
			lines("outcome=refused", "reason=password", "code=535") == len(ways) && lines("outcome=refused", "reason=unknown") == len(ways)
	})
	res, err := http.Get("http://" + s.addr["http"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	metrics, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`dirpost_auth_logins_total{mechanism="PLAIN",outcome="accepted",protocol="smtp",reason=""} 2`,
		`dirpost_auth_logins_total{mechanism="USER",outcome="refused",protocol="pop3",reason="password"} 1`,
		`dirpost_auth_login_seconds_count{how="bind",mechanism="LOGIN",outcome="refused"} `,
	} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("no metric %s", want)
		}
	}
	for _, secret := range []string{wrong, right} {
		if strings.Contains(s.logs.String(), secret) || strings.Contains(string(metrics), secret) {
			t.Errorf("%s stands in the log or in the metrics", secret)
		}
	}
}

// TestHalfFinished: exchanges that clients begin and leave, dozens on each
// port, keep nobody out, and what comes then is answered as ever.
func TestHalfFinished(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	begin := map[string][]string{ // what is said, and how the last answer begins
		"submissions": {"EHLO x", "250 ", "AUTH LOGIN", "334 ", "YWxpY2U=", "334 "},
		"imaps":       {"a AUTHENTICATE PLAIN", "+ "},
		"pop3s":       {"AUTH PLAIN", "+ "},
	}
	var open []*textproto.Conn
	for i := range 50 {
		for listener, words := range begin {
			c := textproto.NewConn(s.dialFrom(net.IPv4(127, 5, byte(i), 1).String(), listener))
			if _, err := c.ReadLine(); err != nil {
				t.Fatal(err)
			}
			for ; len(words) > 0; words = words[2:] {
				if err := c.PrintfLine("%s", words[0]); err != nil {
					t.Fatal(err)
				}
				for line := ""; !strings.HasPrefix(line, words[1]); {
					var err error
					if line, err = c.ReadLine(); err != nil {
						t.Fatalf("%s: %v", listener, err)
					}
				}
			}
			open = append(open, c)
		}
	}
	for _, w := range ways {
		if got, err := w.try(s, cell{user: "bob", password: s.slapd.UserPassword}, net.IPv4(127, 0, 0, 1)); got != "in" || err != nil {
			t.Errorf("%s beside %d exchanges: %q, %v", w.name, len(open), got, err)
		}
	}
	for i, c := range open {
		switch i % 3 {
		case 0: // gone without a word
		case 1:
			_ = c.PrintfLine("*")
			if line, err := c.ReadLine(); err != nil || !strings.Contains(line, "ancelled") {
				t.Errorf("cancelled: %q, %v", line, err)
			}
		case 2:
			_ = c.PrintfLine("%s", strings.Repeat("QUFB", 100))
			if line, err := c.ReadLine(); err != nil || strings.HasPrefix(line, "+") || strings.HasPrefix(line, "2") {
				t.Errorf("nonsense: %q, %v", line, err)
			}
		}
		_ = c.Close()
	}
	s.eventually("a login for each password, and none for what was left", func() bool {
		return strings.Count(s.logs.String(), "outcome=accepted") == len(ways)
	})
}
