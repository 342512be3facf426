package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// TestSubmissionRate: a person who sends too much is put off and loses nothing;
// others send on, and so does who is exempt.
func TestSubmissionRate(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	limited := strings.NewReplacer("max_messages = 0", "max_messages = 2", "exempt = []", `exempt = ["carol@corp.example"]`).Replace(string(text))
	if err := os.WriteFile(s.config, []byte(limited), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.file, err = readConfig(s.config); err != nil {
		t.Fatal(err)
	}
	s.start()
	send := func(who string) error {
		return s.submit(who, who+"@corp.example", []string{"bob@corp.example"}, "Subject: from "+who+"\r\n\r\nx\r\n")
	}
	for _, who := range []string{"alice", "alice", "carol", "carol", "carol", "wangwei"} {
		if err := send(who); err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
	var refused *smtp.SMTPError
	if err := send("alice"); !errors.As(err, &refused) || refused.Code != 450 || refused.EnhancedCode != (smtp.EnhancedCode{4, 7, 1}) {
		t.Errorf("one too many: %v, want 450 4.7.1", err)
	}
	if err := s.deliver("x@elsewhere.example", []string{"bob@corp.example"}, "Subject: from outside\r\n\r\nx\r\n"); err != nil {
		t.Errorf("port 25: %v", err)
	}
	if got := s.read(s.login("bob"), "INBOX"); len(got) != 7 {
		t.Errorf("bob has %d messages, want 7", len(got))
	}
}
