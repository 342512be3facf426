package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// TestDirectoryReports: check finds mistakes, diff finds nothing, simulate shows
// what a change would do and changes nothing; what a person could write is told
// without writing it.
func TestDirectoryReports(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	s.start()
	if out := s.command(0, "directory", "diff"); !strings.Contains(out, "is what the directories say") {
		t.Errorf("diff: %s", out)
	}
	file := filepath.Join(s.dir, "change.ldif")
	if err := os.WriteFile(file, []byte(`dn: uid=bob,ou=people,`+s.slapd.Base+`
changetype: modify
replace: dirpostQuotaBytes
dirpostQuotaBytes: 1024

dn: uid=carol,ou=people,`+s.slapd.Base+`
changetype: delete

dn: uid=new,ou=people,`+s.slapd.Base+`
objectClass: inetOrgPerson
uid: new
cn: New
sn: New
mail: new@corp.example

dn: uid=foreign,dc=branch,dc=example
objectClass: inetOrgPerson
uid: foreign
cn: Foreign
sn: Foreign
mail: foreign@corp.example
`), 0o600); err != nil {
		t.Fatal(err)
	}
	out := s.command(0, "directory", "simulate", file)
	lines := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{"bob@corp.example quota 1024", "carol@corp.example entry person", "carol@corp.example home here", "new@corp.example home here"} {
		if !strings.Contains(lines, want) {
			t.Errorf("simulate does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "foreign@corp.example") {
		t.Errorf("simulate takes an entry of another directory:\n%s", out)
	}
	other := filepath.Join(s.dir, "new.toml")
	b, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte(strings.Replace(string(b), "[auth]\n", "[directory.corp.mailboxes]\ngroups = [\"cn=sales,ou=groups,"+s.slapd.Base+"\"]\n[auth]\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out = s.command(0, "directory", "simulate", "--new", other, "--json")
	if !strings.Contains(out, `"name":"erik@corp.example","what":"home","was":"here","is":"nobody"`) || strings.Contains(out, "alice@corp.example") {
		t.Errorf("simulate --new: %s", out)
	}
	s.command(1, "directory", "simulate")
	s.command(0, "directory", "diff") // nothing has come of it

	change := ldap.NewModifyRequest("uid=bob,ou=people,"+s.slapd.Base, nil)
	change.Replace("mail", []string{"bob@corp.example", "no address"})
	if err := s.admin().Modify(change); err != nil {
		t.Fatal(err)
	}
	if out := s.command(0, "directory", "check"); !strings.Contains(out, "unreadable value") || !strings.Contains(out, "no address") {
		t.Errorf("check: %s", out)
	}
	password := filepath.Join(s.dir, "bob.password")
	if err := os.WriteFile(password, []byte(s.slapd.UserPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.command(0, "directory", "check", "bob", "--password-file", password); !strings.Contains(out, "uid=bob") || strings.Contains(out, s.slapd.UserPassword) {
		t.Errorf("check bob: %s", out)
	}
	// The replica can be counted while the directory is away.
	s.slapd.Stop()
	if out := s.command(0, "directory", "check"); !strings.Contains(out, "takes mail") || !strings.Contains(out, "directory away") {
		t.Errorf("check while the directory is away: %s", out)
	}
	s.slapd.Start(t)
}
