package main

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// TestLMTP: another MTA hands mail over, each recipient gets an answer, and
// nothing is relayed.
func TestLMTP(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	nc, err := net.Dial("tcp", s.addr["lmtp"])
	if err != nil {
		t.Fatal(err)
	}
	c := smtp.NewClientLMTP(nc)
	defer c.Close()
	if err := c.Mail("friend@partner.example", nil); err != nil {
		t.Fatal(err)
	}
	for to, code := range map[string]int{"bob@corp.example": 0, "carol@corp.example": 0, "nobody@corp.example": 550, "someone@elsewhere.example": 550} {
		var refused *smtp.SMTPError
		if err := c.Rcpt(to, nil); err != nil && (!errors.As(err, &refused) || refused.Code != code) || err == nil && code != 0 {
			t.Errorf("RCPT %s: %v, want %d", to, err, code)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(plain)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"bob", "carol"} {
		if got := s.read(s.login(who), "INBOX"); len(got) != 1 || !strings.HasSuffix(got[0], plain) || !strings.Contains(got[0], "with LMTP") {
			t.Errorf("INBOX of %s: %q", who, got)
		}
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
	s.eventually("the session has its line", func() bool {
		return strings.Contains(s.logs.String(), "msg=\"session ended\" room=mda/lmtpd") && strings.Contains(s.logs.String(), "messages=1 refused=2")
	})
	if _, text := s.ask("http", "GET", "/metrics", ""); !strings.Contains(text, "dirpost_lmtpd_messages_total 1") || !strings.Contains(text, `dirpost_lmtpd_refused_total{class="5xx",verb="RCPT"} 2`) {
		t.Error("/metrics does not count it")
	}
}
