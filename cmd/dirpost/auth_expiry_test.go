package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/auth/expiry"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"

	"github.com/go-ldap/ldap/v3"
)

// changedAgo makes the password of a person one that was changed some time ago.
func (s *system) changedAgo(conn *ldap.Conn, who string, ago time.Duration) {
	s.t.Helper()
	m := ldap.NewModifyRequest(s.person(who), nil)
	m.Replace("userPassword", []string{s.slapd.UserPassword})
	if err := conn.Modify(m); err != nil {
		s.t.Fatal(err)
	}
	m = ldap.NewModifyRequest(s.person(who), []ldap.Control{relax})
	m.Replace("pwdChangedTime", []string{time.Now().Add(-ago).UTC().Format("20060102150405Z")})
	if err := conn.Modify(m); err != nil {
		s.t.Fatal(err)
	}
}

// TestPasswordWarning: people are told before their password expires, each mark once,
// however many nodes look; not those whom it would not help. Who comes too late is
// told where to change it.
func TestPasswordWarning(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.slapd.UsePasswordPolicy(t, "pwdMaxAge: 1728000\n") // 20 days
	s.change("\n[mta]\n", "\n[auth.password_warning]\nurl = \"https://mail.corp.example/password\"\n\n[mta]\n")
	conn := s.admin()
	const day = 24 * time.Hour
	for who, left := range map[string]time.Duration{"alice": 3*day - time.Hour, "carol": 10 * day, "erik": 16 * day, "bob": -time.Hour, "dave": 3*day - time.Hour} {
		s.changedAgo(conn, who, 20*day-left)
	}
	s.start()
	n := s.node
	c := s.file.Auth.PasswordWarning.config()
	c.Hostname, c.From = "mail.corp.example", envelope.Address{Local: "postmaster", Domain: "corp.example"}
	job, err := expiry.New(c, expiry.Deps{DB: n.db, Live: n.live, Sources: []expiry.Source{n.readers[0]}, Originator: n.door, Events: n.events, Log: n.log})
	if err != nil {
		t.Fatal(err)
	}
	round := func() {
		t.Helper()
		if _, err := n.db.Exec(t.Context(), postgres.Background, "update password_warning_run set next_at = '-infinity'"); err != nil {
			t.Fatal(err)
		}
		var nodes sync.WaitGroup
		for range 3 {
			nodes.Go(func() {
				if err := job.Once(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		nodes.Wait()
	}
	round()
	round()
	told := s.await("alice", "INBOX", 1)
	for _, want := range []string{"Subject: Your password expires in 3 days\r\n", "https://mail.corp.example/password\r\n", "Auto-Submitted: auto-generated\r\n", "Return-Path: <>\r\n", "To: alice@corp.example\r\n"} {
		if !strings.Contains(told[0], want) {
			t.Errorf("no %q in\n%s", want, told[0])
		}
	}
	if got := s.await("carol", "INBOX", 1); !strings.Contains(got[0], "expires in 10 days") {
		t.Errorf("carol has\n%s", got[0])
	}
	for who, want := range map[string]int{"alice": 1, "carol": 1, "erik": 0} {
		if got := s.read(s.login(who), "INBOX"); len(got) != want {
			t.Errorf("%s has %d messages, want %d", who, len(got), want)
		}
	}
	// What they were told was an earlier mark.
	if _, err := n.db.Exec(t.Context(), postgres.Background, "with told as (delete from password_warning returning person, expires_at) insert into password_warning (person, expires_at, days) select person, expires_at, 30 from told"); err != nil {
		t.Fatal(err)
	}
	round()
	s.await("alice", "INBOX", 2)
	var rows int
	if err := n.db.QueryRow(t.Context(), postgres.Background, "select count(*) from password_warning where person in ($1, $2)", "corp:"+s.uuid("bob"), "corp:"+s.uuid("dave")).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d warnings for who has expired and who is disabled, %v", rows, err)
	}

	w := s.dialTLS("imaps")
	w.until("* OK")
	got := w.say(fmt.Sprintf("a LOGIN bob \"%s\"\r\n", s.slapd.UserPassword), "a ")
	if got != "a NO [EXPIRED] Password expired, change it first: https://mail.corp.example/password" {
		t.Errorf("bob is told %q", got)
	}
}

// TestChangeURL: people are led to the page that there is.
func TestChangeURL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, new, want string }{
		"our own":         {"", "", "https://mail.example.com/account/"},
		"another":         {"#url = ", "url = ", "https://password.example.com/"},
		"no change":       {"#change_password = true", "change_password = false", ""},
		"no page":         {"[auth.page]\n#enabled = true", "[auth.page]\nenabled = false", ""},
		"no HTTPS at all": {"[[listener]]\naddress = \"[::]:443\"\nprotocol = \"http\"\ntls = \"implicit\"\n", "", ""},
		"on its own port": {"[::]:443", "[::]:8443", "https://mail.example.com:8443/account/"},
	} {
		if !strings.Contains(exampleTOML, c.old) {
			t.Fatalf("the example has no %q", c.old)
		}
		f, err := parseConfig([]byte(strings.Replace(exampleTOML, c.old, c.new, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.changeURL(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
