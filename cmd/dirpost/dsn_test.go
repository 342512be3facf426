package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// TestSuccessReport: who asks for it hears once that a list was expanded and that
// a forwarded message is in the mailbox (RFC 3461 §5.2.7); members report nothing.
func TestSuccessReport(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	c, err := smtp.DialTLS(s.addr["submissions"], s.tls())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", "lina", s.slapd.UserPassword)); err != nil {
		t.Fatal(err)
	}
	if err := c.Mail("lina@corp.example", &smtp.MailOptions{EnvelopeID: "env-1", Return: smtp.DSNReturnHeaders}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"sales@corp.example", "grace@corp.example", "omar@corp.example"} {
		o := &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyFailure}, OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "to-" + r}
		if strings.HasPrefix(r, "omar") {
			o = nil
		}
		if err := c.Rcpt(r, o); err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("From: lina@corp.example\r\nSubject: plans\r\n\r\nx\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	report := s.await("lina", "INBOX", 1)[0]
	// bob is a member, and has the forward of grace too: one copy for him.
	for who, n := range map[string]int{"alice": 1, "bob": 1, "wangwei": 1, "carol": 1, "grace": 1, "omar": 1, "lina": 1} {
		if got := s.read(s.login(who), "INBOX"); len(got) != n {
			t.Errorf("%s has %d messages, want %d", who, len(got), n)
		}
	}
	_, status, _ := strings.Cut(report, "Content-Type: message/delivery-status\r\n")
	status, _, _ = strings.Cut(status, "\r\n--")
	status = regexp.MustCompile(`(?m)^(Arrival-Date|Last-Attempt-Date|X-Dirpost-Queue-Id): .*$`).ReplaceAllString(strings.ReplaceAll(status, "\r\n", "\n"), "$1: …")
	const golden = "testdata/success-report.want"
	if *update {
		if err := os.WriteFile(golden, []byte(status), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	// Which row comes first is the queue's to say.
	if got, want := blocks(status), blocks(string(want)); !slices.Equal(got, want) {
		t.Errorf("the report says\n%s\nwant\n%s", strings.Join(got, "\n\n"), strings.Join(want, "\n\n"))
	}
}

// blocks are the paragraphs of a text, sorted.
func blocks(text string) []string {
	all := strings.Split(strings.TrimSpace(text), "\n\n")
	slices.Sort(all)
	return all
}
