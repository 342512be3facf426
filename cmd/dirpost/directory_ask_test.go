package main

import (
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"

	"github.com/go-ldap/ldap/v3"
)

// TestDirectoryAsked: while the node that feeds is gone, somebody new gets mail all the
// same, by each way in, and finds it when the directory is followed again.
func TestDirectoryAsked(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	hold := func(lease string) {
		t.Helper()
		if _, err := s.node.db.Exec(t.Context(), postgres.Background, lease); err != nil {
			t.Fatal(err)
		}
	}
	hold("update directory_lease set token = token + 1, holder = 'another', expires_at = now() + interval '1 hour'")
	s.eventually("the snapshot grows old", func() bool {
		age, known := s.node.live.Snapshot().Age()
		return !known || age > 5*time.Second
	})
	add := ldap.NewAddRequest("uid=newbie,ou=people,"+s.slapd.Base, nil)
	for attribute, value := range map[string]string{"objectClass": "inetOrgPerson", "cn": "Newbie", "sn": "Newbie", "uid": "newbie", "mail": "newbie@corp.example", "userPassword": s.slapd.UserPassword} {
		add.Attribute(attribute, []string{value})
	}
	if err := s.admin().Add(add); err != nil {
		t.Fatal(err)
	}
	if err := s.deliver("friend@partner.example", []string{"newbie@corp.example"}, "Subject: one\r\nMessage-ID: <1@partner.example>\r\n\r\none\r\n"); err != nil {
		t.Errorf("mail from outside: %v", err)
	}
	if err := s.submit("alice", "alice@corp.example", []string{"bob@corp.example", "newbie+detail@corp.example"}, "From: alice@corp.example\r\nSubject: two\r\n\r\ntwo\r\n"); err != nil {
		t.Errorf("mail of a colleague: %v", err)
	}
	if code := s.sendTo("nobody@corp.example", "x"); code != 550 && code != 451 {
		t.Errorf("mail for nobody: %d", code)
	}
	if s.node.live.Snapshot().ByLogin("newbie") != nil {
		t.Fatal("the directory is followed, so nothing was shown")
	}
	hold("update directory_lease set expires_at = now()")
	s.eventually("the directory is followed again", func() bool {
		return s.node.live.Snapshot().Resolve(envelope.Address{Local: "newbie", Domain: "corp.example"}).OK()
	})
	s.await("newbie", "INBOX", 2)
}
