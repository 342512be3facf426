package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

var decisionAddress = regexp.MustCompile(`moderate-[a-z2-7]{32}@corp\.example`)

// TestModeration: a list becomes moderated in the directory; what people and
// strangers send to it waits for carol, who answers with swaks and reads with curl;
// the administrator decides about what is left.
func TestModeration(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	m := ldap.NewModifyRequest("cn=it,ou=groups,"+s.slapd.Base, nil)
	m.Replace("dirpostListPolicy", []string{"moderated"})
	m.Add("dirpostListModerator", []string{"uid=carol,ou=people," + s.slapd.Base})
	m.Add("owner", []string{"uid=bob,ou=people," + s.slapd.Base})
	if err := s.admin().Modify(m); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) string {
		t.Helper()
		var out strings.Builder
		if code := run(t.Context(), append([]string{"dirpost", "--config", s.config}, args...), streams{nil, &out, &out}); code != 0 {
			t.Errorf("dirpost %s: exit %d: %s", strings.Join(args, " "), code, out.String())
		}
		return out.String()
	}
	// Until the change is seen anybody may write, and the mail is delivered.
	var mail string
	for n, deadline := 0, time.Now().Add(time.Minute); !strings.Contains(command("queue", "list", "--state", "held"), "waits for a moderator of the list"); n++ {
		if time.Now().After(deadline) {
			t.Fatal("the list does not become moderated")
		}
		mail = strings.ReplaceAll(plain, "<plain@", fmt.Sprintf("<plain-%d@", n)) // else it is a repeat
		if err := s.deliver("friend@partner.example", []string{"it@corp.example"}, mail); err != nil {
			t.Fatal(err)
		}
	}
	before := len(s.read(s.login("erik"), "INBOX"))

	question := s.await("carol", "INBOX", 1)[0]
	to := decisionAddress.FindString(question)
	read, err := s.client("curl", "-sS", "--cacert", s.cert.CAFile, "-u", "carol:"+s.slapd.UserPassword, "imaps://localhost:"+s.port("imaps")+"/INBOX;UID=1")
	if err != nil || !strings.Contains(read, to) || !strings.Contains(read, mail) {
		t.Errorf("curl reads the question: %v: %s", err, read)
	}
	answer := func(who, to, text string) (string, error) {
		return s.client("swaks", "--server", "127.0.0.1", "--port", s.port("submission"), "-tls", "--auth", "PLAIN", "--auth-user", who, "--auth-password", s.slapd.UserPassword,
			"--from", who+"@corp.example", "--to", to, "--header", "Subject: Re: Please decide", "--body", text)
	}
	if out, err := answer("alice", to, "approve"); err == nil || !strings.Contains(out, "550 5.7.1") {
		t.Errorf("alice decides: %v: %s", err, out)
	}
	if out, err := s.client("swaks", "--server", "127.0.0.1", "--port", s.port("smtp"), "--from", "carol@corp.example", "--to", to, "--body", "approve"); err == nil || !strings.Contains(out, "550 5.7.1") {
		t.Errorf("somebody outside decides in carol's name: %v: %s", err, out)
	}
	if out, err := answer("carol", to, "Approve\n\n> quoted"); err != nil {
		t.Fatalf("carol approves: %v: %s", err, out)
	}
	got := s.await("erik", "INBOX", before+1)[before]
	if !strings.HasPrefix(got, "Return-Path: <it-owner@corp.example>\r\n") || !strings.HasSuffix(got, mail) || !strings.Contains(got, "\r\nList-Owner: <mailto:it-owner@corp.example>\r\n") {
		t.Errorf("erik has\n%s", got)
	}
	if out, err := answer("carol", to, "reject"); err == nil || !strings.Contains(out, "This message was approved") {
		t.Errorf("carol decides twice: %v: %s", err, out)
	}

	// A colleague's message goes back with the words of the moderator.
	if err := s.submit("alice", "alice@corp.example", []string{"it@corp.example"}, "From: alice@corp.example\r\nSubject: cake\r\nMessage-ID: <cake@corp.example>\r\n\r\nCake in the kitchen.\r\n"); err != nil {
		t.Fatal(err)
	}
	to = decisionAddress.FindString(s.await("carol", "INBOX", 2)[1])
	if out, err := answer("carol", to, "Reject, please write to everybody@ instead."); err != nil {
		t.Fatalf("carol rejects: %v: %s", err, out)
	}
	report := s.await("alice", "INBOX", 1)[0]
	for _, want := range []string{"Return-Path: <>\r\n", "please write to everybody@ instead.", "it@corp.example", "Action: failed", "Status: 5.7.2", "Cake in the kitchen."} {
		if !strings.Contains(report, want) {
			t.Errorf("the report has no %q:\n%s", want, report)
		}
	}

	// The administrator decides about two more.
	for _, c := range []string{"reject", "release"} {
		if err := s.submit("alice", "alice@corp.example", []string{"it@corp.example"}, "From: alice@corp.example\r\nSubject: "+c+"\r\nMessage-ID: <"+c+"@corp.example>\r\n\r\nx\r\n"); err != nil {
			t.Fatal(err)
		}
		args := []string{"queue", c, "--state", "held", "--sender", "alice@corp.example"}
		if c == "reject" {
			args = append(args, "--reason", "Not this week.")
		}
		if out := command(args...); !strings.Contains(out, "1 recipients re") {
			t.Errorf("queue %s: %s", c, out)
		}
	}
	if report := s.await("alice", "INBOX", 2)[1]; !strings.Contains(report, "Not this week.") {
		t.Errorf("the report has no reason:\n%s", report)
	}
	s.await("erik", "INBOX", before+2)
	to = decisionAddress.FindString(s.await("carol", "INBOX", 4)[3])
	if out, err := answer("carol", to, "reject"); err == nil || !strings.Contains(out, "550") {
		t.Errorf("carol decides after the administrator: %v: %s", err, out)
	}
	if out := command("queue", "list"); strings.Contains(out, "alice@corp.example") {
		t.Errorf("left in the queue %s:\n%s", filepath.Base(s.config), out)
	}
}
