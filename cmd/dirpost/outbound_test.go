package main

import (
	"fmt"
	"strings"
	"testing"

	"dirpost/internal/testenv"

	"github.com/emersion/go-smtp"
)

// TestOutbound: mail to outside is signed and arrives; what the other side
// refuses comes back as a report; the queue shows what waits.
func TestOutbound(t *testing.T) {
	t.Parallel()
	peer := testenv.SMTP(t, testenv.SMTPRefusal{Rcpt: func(to string) error {
		switch {
		case strings.HasPrefix(to, "nobody@"):
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such person"}
		case strings.HasPrefix(to, "later@"):
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "not now"}
		}
		return nil
	}}, nil)
	s := newSystem(t, fmt.Sprintf("smarthost = %q\nsmarthost_tls = \"none\"", peer.Addr))
	s.start()
	command := func(args ...string) string {
		t.Helper()
		var out strings.Builder
		if code := run(t.Context(), append([]string{"dirpost", "--config", s.config}, args...), streams{nil, &out, &out}); code != 0 {
			t.Errorf("dirpost %s: exit %d: %s", strings.Join(args, " "), code, out.String())
		}
		return out.String()
	}
	record := command("dkim", "create", "corp.example", "--selector", "test")
	if !strings.Contains(record, "test._domainkey.corp.example.") || !strings.Contains(record, "v=DKIM1") {
		t.Errorf("dkim create: %s", record)
	}
	if out := command("dns", "records", "--address", "192.0.2.25"); !strings.Contains(out, "corp.example.\tIN\tMX\t10 mail.corp.example.") ||
		!strings.Contains(out, "25.2.0.192.in-addr.arpa.\tIN\tPTR\tmail.corp.example.") || !strings.Contains(out, "test._domainkey.corp.example.") || !strings.Contains(out, "v=DMARC1") {
		t.Errorf("dns records: %s", out)
	}
	msg := "From: alice@corp.example\r\nTo: friend@elsewhere.example\r\nSubject: out\r\nMessage-ID: <out@corp.example>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nText.\r\n.dot\r\n"
	if err := s.submit("alice", "alice@corp.example", []string{"friend@elsewhere.example", "later@elsewhere.example", "bob@corp.example"}, msg); err != nil {
		t.Fatal(err)
	}
	if err := s.submit("alice", "alice@corp.example", []string{"nobody@elsewhere.example"}, "From: alice@corp.example\r\nSubject: to nobody\r\n\r\nText.\r\n"); err != nil {
		t.Fatal(err)
	}
	report := s.await("alice", "INBOX", 1)[0]
	for _, want := range []string{"Return-Path: <>", "nobody@elsewhere.example", "5.1.1", "message/delivery-status", "no such person"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report has no %q: %s", want, report)
		}
	}
	var arrived []testenv.SMTPMessage
	for _, m := range peer.Messages() {
		if strings.HasSuffix(m.Data, msg) {
			arrived = append(arrived, m)
		}
	}
	if len(arrived) != 1 || strings.Join(arrived[0].To, " ") != "friend@elsewhere.example" || !strings.Contains(arrived[0].Data, "DKIM-Signature: v=1; a=rsa-sha256;") {
		t.Errorf("arrived outside: %+v", arrived)
	}
	if got := s.read(s.login("bob"), "INBOX"); len(got) != 1 || !strings.HasSuffix(got[0], msg) {
		t.Errorf("bob has %q", got)
	}

	list := command("queue", "list")
	if !strings.Contains(list, "later@elsewhere.example") || !strings.Contains(list, "451 4.7.1 not now") || strings.Count(list, "\n") != 2 {
		t.Errorf("queue list:\n%s", list)
	}
	id := strings.Fields(strings.Split(list, "\n")[1])[0]
	if out := command("queue", "show", id); !strings.Contains(out, "alice@corp.example") || !strings.Contains(out, "later@elsewhere.example") {
		t.Errorf("queue show: %s", out)
	}
	if out := command("queue", "show", "--content", id); !strings.HasSuffix(out, msg) {
		t.Errorf("queue show --content: %q", out)
	}
	for _, c := range [][2]string{{"hold", "1 recipients held"}, {"release", "1 recipients released"}, {"delete", "1 recipients deleted"}} {
		if out := command("queue", c[0], id); !strings.Contains(out, c[1]) {
			// A release tries at once; the recipient may be active when it is deleted.
			t.Errorf("queue %s: %s", c[0], out)
		}
	}
	if out := command("queue", "list", "--json"); strings.TrimSpace(out) != "" {
		t.Errorf("after delete: %s", out)
	}
}
