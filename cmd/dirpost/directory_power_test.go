package main

import (
	"strings"
	"testing"
)

// TestDirectoryCheckAsksServers: directory check says who may change the groups that
// carry rights, and which indexes lack, with the change that adds them; status and sync
// say how the directory is read.
func TestDirectoryCheckAsksServers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "")
	sales := "cn=sales,ou=groups," + s.slapd.Base
	s.slapd.ShowConfig(t, "access to dn.children=\"ou=groups,"+s.slapd.Base+"\" attrs=member by dnattr=owner write by users read\n")
	s.change("\n[auth]\n", "\nfilter = \"(|(objectClass=inetOrgPerson)(objectClass=groupOfNames)(employeeType=internal))\"\n[[policy]]\ngroup = \""+sales+"\"\nquota = \"5GiB\"\n[auth]\n")
	s.confirm()
	s.start()
	s.eventually("the directory was read", func() bool {
		out := s.command(0, "directory", "status")
		return strings.Contains(out, "read as") && strings.Contains(out, "openldap: ")
	})
	out := s.command(0, "directory", "check")
	for _, want := range []string{
		"missing index", "olcDbIndex: employeetype eq", "for ldapmodify",
		"groups that carry rights", sales, "policy", "by dnattr=owner write",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out := s.command(0, "directory", "check", "--json"); !strings.Contains(out, `"ldif":"dn: olcDatabase={1}mdb,cn=config\n`) || !strings.Contains(out, `"gives":["open","policy","send as"]`) {
		t.Errorf("--json:\n%s", out)
	}
	if out := s.command(0, "directory", "sync", "--profile", "auto"); !strings.Contains(out, "corp: compared, 0 changes found") || !strings.Contains(out, "corp: read as openldap, since ") {
		t.Errorf("sync --profile auto: %s", out)
	}
	s.command(1, "directory", "sync", "--profile", "qmail")
}
