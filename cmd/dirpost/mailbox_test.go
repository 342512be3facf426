package main

import (
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// TestMailboxCommand lists a person's mailboxes, and attaches those of an entry
// that was deleted and made again.
func TestMailboxCommand(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	command := func(args ...string) (int, string) {
		var out strings.Builder
		code := run(t.Context(), append([]string{"dirpost", "--config", s.config, "mailbox"}, args...), streams{nil, &out, &out})
		return code, out.String()
	}
	if code, out := command("list", "yuki"); code != 0 || !strings.Contains(out, "has no mail yet") {
		t.Errorf("before any mail: exit %d, %s", code, out)
	}
	if err := s.deliver("friend@partner.example", []string{"yuki@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"yuki", "Yuki@Corp.Example"} {
		if code, out := command("list", who); code != 0 || !strings.Contains(out, "INBOX") || !strings.Contains(out, "Archive") {
			t.Errorf("list %s: exit %d, %s", who, code, out)
		}
	}
	if code, out := command("list", "nobody"); code != 1 || !strings.Contains(out, "nobody in the directory") {
		t.Errorf("list nobody: exit %d, %s", code, out)
	}
	_, out := command("list", "--json", "yuki")
	if !strings.Contains(out, `"mailbox":"INBOX"`) || !strings.Contains(out, `"messages":1`) {
		t.Errorf("as JSON: %s", out)
	}

	session := s.login("yuki")
	if code, out := command("logout", "yuki@corp.example"); code != 0 || !strings.Contains(out, "told") {
		t.Errorf("logout: exit %d, %s", code, out)
	}
	<-session.Closed() // the server has said goodbye

	// Deleted and made again: a new entryUUID, and an empty mailbox.
	old := s.uuid("yuki")
	conn := s.admin()
	dn := "uid=yuki,ou=people," + s.slapd.Base
	entry, err := conn.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Del(ldap.NewDelRequest(dn, nil)); err != nil {
		t.Fatal(err)
	}
	add := ldap.NewAddRequest(dn, nil)
	for _, a := range entry.Entries[0].Attributes {
		add.Attribute(a.Name, a.Values)
	}
	if err := conn.Add(add); err != nil {
		t.Fatal(err)
	}
	if code, out := command("attach", "corp:"+old, "corp:"+s.uuid("yuki")); code != 0 {
		t.Fatalf("attach: exit %d, %s", code, out)
	}
	s.awaitUUID("yuki")
	if got := s.read(s.login("yuki"), "INBOX"); len(got) != 1 {
		t.Errorf("after attach yuki has %d messages, want 1", len(got))
	}
}
