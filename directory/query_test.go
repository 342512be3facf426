package directory

import (
	"slices"
	"strings"
	"testing"
)

func TestParseQuery(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in   string
		base       string
		scope      Scope
		attributes string // "" with fails
		fails      bool
	}{
		{"all of it", "ldap:///OU=People,dc=x??sub?(&(department=Sales)(!(title=Boss*)))", "ou=people,dc=x", ScopeSubtree, "department title", false},
		{"no parentheses", "ldap:///dc=x??one?department=Sales", "dc=x", ScopeOne, "department", false},
		{"no filter", "ldap:///dc=x", "dc=x", ScopeBase, "objectclass", false},
		{"attributes are not used", "ldap:///dc=x?mail,cn?sub?(l=Bonn)", "dc=x", ScopeSubtree, "l", false},
		{"escapes", "ldap:///ou=a%2cb,dc=x??sub?(l=%42onn)", "ou=a,b,dc=x", ScopeSubtree, "l", false},
		{"another server", "ldap://other.example/dc=x??sub?(l=Bonn)", "", 0, "", true},
		{"no URL", "(l=Bonn)", "", 0, "", true},
		{"a file", "file:///etc/passwd", "", 0, "", true},
		{"critical extension", "ldap:///dc=x??sub?(l=Bonn)?!bindname=cn=x", "", 0, "", true},
		{"scope", "ldap:///dc=x??children?(l=Bonn)", "", 0, "", true},
		{"question marks", "ldap:///dc=x??sub?(l=Bonn)?x?y", "", 0, "", true},
		{"bad percent", "ldap:///dc=%zz??sub?(l=Bonn)", "", 0, "", true},
		{"matching rule", "ldap:///dc=x??sub?(l:2.5.13.2:=Bonn)", "", 0, "", true},
		{"open", "ldap:///dc=x??sub?(l=Bonn", "", 0, "", true},
		{"behind", "ldap:///dc=x??sub?(l=Bonn)(l=Ulm)", "", 0, "", true},
		{"empty not", "ldap:///dc=x??sub?(!)", "", 0, "", true},
		{"bad escape", `ldap:///dc=x??sub?(l=\zz)`, "", 0, "", true},
		{"deep", "ldap:///dc=x??sub?" + strings.Repeat("(!", 100) + "(l=Bonn)" + strings.Repeat(")", 100), "", 0, "", true},
		{"wide", "ldap:///dc=x??sub?(|" + strings.Repeat("(l=b)", 1000) + ")", "", 0, "", true},
		{"long", "ldap:///dc=x??sub?(l=" + strings.Repeat("x", maxQuery) + ")", "", 0, "", true},
	}
	for _, tt := range tests {
		q, err := ParseQuery(tt.in)
		if (err != nil) != tt.fails {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil {
			continue
		}
		if got := strings.Join(q.Attributes(), " "); q.Base != tt.base || q.Scope != tt.scope || got != tt.attributes {
			t.Errorf("%s: base %q scope %d attributes %s", tt.name, q.Base, q.Scope, got)
		}
	}
}

func TestQueryMatches(t *testing.T) {
	t.Parallel()
	alice := &Entry{Key: "corp:1", DN: "uid=alice,ou=people,dc=x", Kind: KindPerson, Facts: []string{"department=Sales  North", "employeetype=7", "manager=uid=bob,ou=people,dc=x", "objectclass=inetOrgPerson"}}
	group := &Entry{Key: "corp:2", DN: "cn=Staff,dc=x", Kind: KindList, Members: []string{"uid=alice,ou=people,dc=x"}}
	s := NewSnapshot([]string{"x.example"}, []*Entry{alice, group})
	tests := []struct {
		base, scope, filter string
		want                bool
	}{
		{"dc=x", "sub", "(department=sales north)", true},
		{"dc=x", "sub", "(department=sales*)", true},
		{"dc=x", "sub", "(department=*les*th)", true},
		{"dc=x", "sub", "(department=*th*les*)", false},
		{"dc=x", "sub", "(department=salesssss*north)", false},
		{"dc=x", "sub", "(title=*)", false},
		{"dc=x", "sub", "(!(title=*))", true},
		{"dc=x", "sub", "(employeeType>=10)", false},
		{"dc=x", "sub", "(employeeType<=10)", true},
		{"dc=x", "sub", "(manager=UID=Bob, OU=People, DC=X)", true},
		{"dc=x", "sub", "(memberOf=CN=staff,DC=x)", true},
		{"dc=x", "sub", "(memberOf=CN=other,DC=x)", false},
		{"dc=x", "sub", "(|(l=Bonn)(&(department~=sales north)(objectClass=inetorgperson)))", true},
		{"dc=x", "sub", "(|)", false},
		{"dc=x", "sub", "(&)", true},
		{"dc=x", "one", "(&)", false},
		{"ou=people,dc=x", "one", "(&)", true},
		{"ou=people,dc=x", "base", "(&)", false},
		{"uid=alice,ou=people,dc=x", "base", "(&)", true},
		{"uid=alice,ou=people,dc=x", "one", "(&)", false},
		{"le,dc=x", "sub", "(&)", false},
		{"", "sub", "(&)", true},
		{"", "one", "(&)", false},
	}
	for _, tt := range tests {
		q, err := ParseQuery("ldap:///" + tt.base + "??" + tt.scope + "?" + tt.filter)
		if err != nil {
			t.Fatal(tt.filter, err)
		}
		if got := s.Matches(q, alice); got != tt.want {
			t.Errorf("%s %s %s: %v", tt.base, tt.scope, tt.filter, got)
		}
	}
}

// FuzzQuery: whatever stands in a directory as the filter of a list, reading it
// ends, and what was read can be asked.
func FuzzQuery(f *testing.F) {
	f.Add("ldap:///ou=People,dc=x??sub?(&(department=Sa*s)(!(title=\\42oss)))")
	f.Add("ldap:///dc=x??one?(|(memberOf=cn=a,dc=x)(l>=3))")
	f.Add("ldap:///??sub?(((")
	f.Add("ldap://host/??sub?(l=x)")
	e := &Entry{Key: "corp:1", DN: "uid=a,ou=people,dc=x", Facts: []string{"department=Sales", "l=5"}}
	s := NewSnapshot(nil, []*Entry{e})
	f.Fuzz(func(t *testing.T, text string) {
		q, err := ParseQuery(text)
		if err != nil {
			return
		}
		names := q.Attributes()
		if !slices.IsSorted(names) || slices.Contains(names, "") {
			t.Errorf("attributes %q", names)
		}
		s.Matches(q, e)
		if again, err := FilterQuery("ou=a?b,dc=x", "(l=x)"); err != nil {
			t.Error(err)
		} else if q, err := ParseQuery(again); err != nil || q.Base != "ou=a?b,dc=x" {
			t.Errorf("%v %v", q, err)
		}
	})
}
