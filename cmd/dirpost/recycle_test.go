package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// TestRecycleBin: who is deleted in Active Directory and restored from its recycle bin
// has the same mailbox again, with what came meanwhile, and every address and group
// without anybody giving them anew.
func TestRecycleBin(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	ad := s.joinAD()
	s.change("base = \""+ad.base+"\"\n", "base = \""+ad.base+"\"\npoll_every = \"1s\"\n")
	ad.s.EnableRecycleBin(t)
	dn, address := ad.person("back")
	alias := "alias." + address
	change := ldap.NewModifyRequest(dn, nil)
	change.Replace("proxyAddresses", []string{"SMTP:" + address, "smtp:" + alias})
	if err := ad.Modify(change); err != nil {
		t.Fatal(err)
	}
	crew := "CN=crew," + ad.base
	ad.add(crew, map[string][]string{"objectClass": {"group"}, "sAMAccountName": {"c" + ad.name}, "mail": {"crew." + ad.name + "@corp.example"},
		"info": {"mail-policy: open"}, "member": {dn}})
	s.confirm()
	s.start()
	who := &stateCase{who: address, password: ad.s.UserPassword}
	deliver := func(to, subject string) {
		t.Helper()
		if err := s.deliver("x@partner.example", []string{to}, "Subject: "+subject+"\r\n\r\nx"); err != nil {
			t.Errorf("%s to %s: %v", subject, to, err)
		}
	}
	subjects := func() string {
		c, err := s.tryState(who)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		var all []string
		for _, m := range s.read(c, "INBOX") {
			_, subject, _ := strings.Cut(m, "Subject: ")
			subject, _, _ = strings.Cut(subject, "\r\n")
			all = append(all, subject)
		}
		return strings.Join(all, " ")
	}
	s.eventually("the person is known", func() bool { return subjects() == "" })
	deliver(alias, "before")
	found, err := ad.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"objectGUID"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	guid := fmt.Sprintf("<GUID=%x>", found.Entries[0].GetRawAttributeValue("objectGUID"))

	if err := ad.Del(ldap.NewDelRequest(dn, nil)); err != nil {
		t.Fatal(err)
	}
	s.eventually("nobody logs in", func() bool { _, err := s.tryState(who); return err != nil })
	deliver(address, "meanwhile")

	deleted := []ldap.Control{ldap.NewControlMicrosoftShowDeleted()}
	found, err = ad.Search(ldap.NewSearchRequest(guid, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"mail"}, deleted))
	if err != nil {
		t.Fatal(err)
	}
	if found.Entries[0].GetAttributeValue("mail") != address {
		t.Errorf("the recycle bin does not keep attributes: %+v", found.Entries[0])
	}
	ad.s.Restore(t, found.Entries[0].DN, dn)
	s.eventually("the mailbox is there again", func() bool { return subjects() == "before meanwhile" })
	deliver(alias, "after")
	s.eventually("the group has its member again", func() bool {
		return s.deliver("x@partner.example", []string{"crew." + ad.name + "@corp.example"}, "Subject: crew\r\n\r\nx") == nil && strings.Contains(subjects(), "crew")
	})
	if got := subjects(); !strings.HasPrefix(got, "before meanwhile after crew") {
		t.Errorf("INBOX: %s", got)
	}
}
