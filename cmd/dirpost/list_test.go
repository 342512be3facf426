package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dirpost/internal/testenv"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/go-ldap/ldap/v3"
)

// TestListOutside: a list's copy for somebody outside leaves with the owner as
// sender, its fields on top and a signature that holds; sent back, it ends. A bounce
// reaches the owner.
func TestListOutside(t *testing.T) {
	t.Parallel()
	peer := testenv.SMTP(t, testenv.SMTPRefusal{}, nil)
	s := newSystem(t, fmt.Sprintf("smarthost = %q\nsmarthost_tls = \"none\"", peer.Addr))
	m := ldap.NewModifyRequest("cn=partners,ou=groups,"+s.slapd.Base, nil)
	m.Replace("dirpostListPolicy", []string{"open"})
	m.Add("owner", []string{"uid=carol,ou=people," + s.slapd.Base})
	if err := s.admin().Modify(m); err != nil {
		t.Fatal(err)
	}
	s.start()
	var out strings.Builder
	if code := run(t.Context(), []string{"dirpost", "--config", s.config, "dkim", "create", "corp.example", "--selector", "test"}, streams{nil, &out, &out}); code != 0 {
		t.Fatal(out.String())
	}
	msg := "From: bob@corp.example\r\nTo: partners@corp.example\r\nSubject: prices\r\nMessage-ID: <prices@corp.example>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nText.\r\n"
	if err := s.submit("bob", "bob@corp.example", []string{"partners@corp.example"}, msg); err != nil {
		t.Fatal(err)
	}
	var left []testenv.SMTPMessage
	for deadline := time.Now().Add(time.Minute); len(left) == 0; left = peer.Messages() {
		if time.Now().After(deadline) {
			t.Fatal("nothing leaves")
		}
		time.Sleep(20 * time.Millisecond) // the queue can only be asked
	}
	copied := left[0]
	if copied.From != "partners-owner@corp.example" || strings.Join(copied.To, " ") != "friend@partner.example" || !strings.HasSuffix(copied.Data, msg) ||
		!strings.HasPrefix(copied.Data, "Delivered-To: partners@corp.example\r\nList-Id: partners <partners.corp.example>\r\n") {
		t.Errorf("left: %+v", copied)
	}
	var record strings.Builder
	for i, part := range strings.Split(out.String(), `"`) {
		if i%2 == 1 {
			record.WriteString(part)
		}
	}
	checks, err := dkim.VerifyWithOptions(strings.NewReader(copied.Data), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		return []string{record.String()}, nil
	}})
	if err != nil || len(checks) != 1 || checks[0].Err != nil || checks[0].Domain != "corp.example" {
		t.Errorf("signature: %+v, %v, with %s", checks, err, record.String())
	}

	for _, from := range []string{"friend@partner.example", "partners-owner@corp.example"} {
		if err := s.deliver(from, []string{"partners@corp.example"}, copied.Data); err == nil || !strings.Contains(err.Error(), "loop") {
			t.Errorf("sent back from %s: %v", from, err)
		}
	}
	if got := s.read(s.login("alice"), "INBOX"); len(got) != 1 {
		t.Errorf("alice has %d copies, want 1", len(got))
	}
	if err := s.deliver("", []string{copied.From}, "From: mailer@partner.example\r\nSubject: Undelivered\r\nAuto-Submitted: auto-replied\r\n\r\nNo such person.\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := s.await("carol", "INBOX", 1); !strings.Contains(got[0], "Undelivered") || !strings.HasPrefix(got[0], "Return-Path: <>\r\n") {
		t.Errorf("carol has %q", got)
	}
}
