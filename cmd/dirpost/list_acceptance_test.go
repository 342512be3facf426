//go:build acceptance

package main

import (
	"fmt"
	"testing"
	"time"

	"dirpost/internal/postgres"

	"github.com/go-ldap/ldap/v3"
)

// TestLargeList: a message to a list of 5,000 is taken at once and delivered
// behind the 250, to each member once; a letter to one of them meanwhile does not
// wait for the list.
func TestLargeList(t *testing.T) {
	t.Parallel()
	const members = 5000
	s := newSystem(t, "")
	admin := s.admin()
	list := ldap.NewAddRequest("cn=crowd,ou=groups,"+s.slapd.Base, nil)
	list.Attribute("objectClass", []string{"groupOfNames", "dirpostList"})
	list.Attribute("cn", []string{"crowd"})
	list.Attribute("mail", []string{"crowd@corp.example"})
	list.Attribute("dirpostListPolicy", []string{"open"})
	var dns []string
	for i := range members {
		uid := fmt.Sprintf("u%05d", i+1)
		dn := "uid=" + uid + ",ou=people," + s.slapd.Base
		add := ldap.NewAddRequest(dn, nil)
		add.Attribute("objectClass", []string{"inetOrgPerson", "dirpostMailbox"})
		add.Attribute("uid", []string{uid})
		add.Attribute("cn", []string{uid})
		add.Attribute("sn", []string{uid})
		add.Attribute("mail", []string{uid + "@corp.example"})
		if err := admin.Add(add); err != nil {
			t.Fatal(err)
		}
		dns = append(dns, dn)
	}
	list.Attribute("member", dns)
	if err := admin.Add(list); err != nil {
		t.Fatal(err)
	}
	s.start()
	db, err := postgres.Open(t.Context(), postgres.Config{URL: s.file.Database.URL}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// How many INBOXes have how many messages.
	inboxes := func() (have, most int) {
		t.Helper()
		err := db.QueryRow(t.Context(), postgres.Interactive,
			`select count(*) filter (where messages > 0), coalesce(max(messages), 0) from mailbox where name = 'INBOX'`).Scan(&have, &most)
		if err != nil {
			t.Fatal(err)
		}
		return have, most
	}

	if err := s.deliver("friend@elsewhere.example", []string{"crowd@corp.example"}, "Subject: to all\r\nMessage-ID: <all@elsewhere.example>\r\n\r\nText.\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := s.deliver("friend@elsewhere.example", []string{"bob@corp.example"}, "Subject: to bob\r\n\r\nText.\r\n"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Minute)
	for have := 0; have < members+1; have, _ = inboxes() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d INBOXes have the message", have, members+1)
		}
		time.Sleep(50 * time.Millisecond) // deliveries of the queue can only be asked for
	}
	if have, most := inboxes(); have != members+1 || most != 1 {
		t.Errorf("%d INBOXes have up to %d messages, want %d with one", have, most, members+1)
	}
}
