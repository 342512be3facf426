package ldap

import (
	"slices"
	"strings"
	"testing"
)

// The groups of a mailbox are named by its address, whatever stands in it.
func TestRightGroups(t *testing.T) {
	t.Parallel()
	groups := RightGroups{Access: "CN=mail-access-{name},OU=Rights,DC=corp,DC=example", SendAs: "CN={address},OU=Send As,DC=corp,DC=example"}
	m, err := newMapper(Config{Name: "corp", Preset: PresetAD, Base: "DC=corp,DC=example", Rights: groups})
	must(t, err)
	for _, tt := range []struct{ entry, access, sendAs string }{
		{"objectClass: user\nmail: Office@corp.example\n", "cn=mail-access-office,ou=rights,dc=corp,dc=example", "cn=office@corp.example,ou=send as,dc=corp,dc=example"},
		{"objectClass: user\nmail: \"a,b\"@corp.example\n", `cn=mail-access-a\,b,ou=rights,dc=corp,dc=example`, `cn=\"a\,b\"@corp.example,ou=send as,dc=corp,dc=example`},
		{"objectClass: group\nmail: list@corp.example\n", "", "cn=list@corp.example,ou=send as,dc=corp,dc=example"},
		{"objectClass: contact\nmail: x@far.example\n", "", ""},
		{"objectClass: user\ncn: no address\n", "", ""},
	} {
		e, problems := m.entry(lines("dn: CN=x,DC=corp,DC=example\n"+tt.entry), "1")
		if len(problems) > 0 {
			t.Fatalf("%s: %v", tt.entry, problems)
		}
		if got := strings.Join(e.Access, " "); got != tt.access {
			t.Errorf("%s: access %s, want %s", tt.entry, got, tt.access)
		}
		if got := strings.Join(e.SendAs, " "); got != tt.sendAs {
			t.Errorf("%s: send as %s, want %s", tt.entry, got, tt.sendAs)
		}
		if len(e.OnBehalf) != 0 || slices.Contains(e.Origins, "access=access_group") != (tt.access != "") {
			t.Errorf("%s: on behalf %v, origins %v", tt.entry, e.OnBehalf, e.Origins)
		}
	}
	for _, bad := range []RightGroups{{Access: "CN=everybody,DC=x"}, {SendAs: "mail-{name}"}, {OnBehalf: "CN={name}"}} {
		if bad.validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	must(t, groups.validate())
}
