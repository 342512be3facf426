package main

import (
	"regexp"
	"strings"
	"testing"

	"dirpost/auth/selfservice"
)

// TestPageSessions: a person sees the sessions of mail programs on the page, by what
// they were opened, and ends one of them.
func TestPageSessions(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	app := s.appPassword("alice", "--name", "Thunderbird")
	first, err := s.imap("alice", app.Password)
	if err != nil {
		t.Fatal(err)
	}
	second := s.login("alice")
	s.login("bob")
	submission := s.submitter("alice")
	v := s.visitor()
	v.get("/")
	v.post("login", "user", "alice", "password", s.slapd.UserPassword)
	v.get(selfservice.Root + "sessions")
	v.want("app password “Thunderbird”")
	v.want("sending mail")
	v.want("127.0.0.1 (this one)")
	refs := regexp.MustCompile(`name="ref" value="([0-9a-f]+)"`).FindAllStringSubmatch(v.last, -1)
	if len(refs) != 3 {
		t.Fatalf("%d sessions of programs, want 3:\n%s", len(refs), v.last)
	}
	rows := strings.Split(v.last, "<tr>")
	for i, row := range rows {
		if strings.Contains(row, "Thunderbird") {
			ref := regexp.MustCompile(`name="ref" value="([0-9a-f]+)"`).FindStringSubmatch(rows[i])
			v.post("sessions/end", "ref", ref[1])
		}
	}
	v.want("The session was ended")
	<-first.Closed() // the server has said goodbye
	if err := second.Noop().Wait(); err != nil {
		t.Errorf("another session has ended too: %v", err)
	}
	submission.say("Text.\r\n.\r\n", "250 ")
	if strings.Contains(v.last, "Thunderbird") {
		t.Errorf("it is still there:\n%s", v.last)
	}
}
