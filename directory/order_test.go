package directory

import (
	"strings"
	"testing"
)

// TestDirectoryOrder: an address that entries of several directories have is that
// of the directory which comes first for its domain; within it, and without an
// order, nothing is guessed. Login names with a domain go the same way, others not.
func TestDirectoryOrder(t *testing.T) {
	t.Parallel()
	in := func(dir, name, address string) *Entry {
		return entry(KindPerson, name, func(e *Entry) {
			e.Key, e.Directory, e.DN = Key(dir+":"+name), dir, "cn="+name+",dc="+dir
			e.Primary, e.Logins = addr(address), []string{name, address}
		})
	}
	all := []*Entry{
		in("ad", "alice", "alice@corp.example"), in("ldap", "alice", "alice@corp.example"), in("old", "alice", "alice@corp.example"),
		in("ad", "bob", "bob@brand.example"), in("ldap", "bob", "bob@brand.example"),
		in("ad", "carol", "carol@corp.example"), in("ad", "carol2", "carol@corp.example"), in("ldap", "carol", "carol@corp.example"),
		in("old", "dora", "dora@corp.example"), in("older", "dora", "dora@corp.example"),
	}
	tests := []struct {
		name  string
		order map[string][]string
		want  map[string]string // address -> key, "" for nobody
	}{
		{"none", nil, map[string]string{"alice@corp.example": "", "bob@brand.example": "", "carol@corp.example": ""}},
		{"by domain", map[string][]string{"corp.example": {"ldap", "ad"}, "brand.example": {"ad"}},
			map[string]string{"alice@corp.example": "ldap:alice", "bob@brand.example": "ad:bob", "carol@corp.example": "ldap:carol", "dora@corp.example": ""}},
		{"twice in the first", map[string][]string{AnyDomain: {"ad", "ldap"}},
			map[string]string{"alice@corp.example": "ad:alice", "bob@brand.example": "ad:bob", "carol@corp.example": "", "dora@corp.example": ""}},
		{"a domain of its own", map[string][]string{AnyDomain: {"ad"}, "brand.example": {"ldap"}},
			map[string]string{"alice@corp.example": "ad:alice", "bob@brand.example": "ldap:bob"}},
	}
	for _, tt := range tests {
		rules := Rules{Domains: []string{"corp.example", "brand.example"}, Directories: tt.order}.withDefaults()
		if err := rules.Validate(); err != nil {
			t.Fatal(err)
		}
		changes := make([]Change, len(all))
		for i, e := range all {
			changes[i] = Change{Key: e.Key, Entry: e}
		}
		s := newSnapshot(&rules).with(1, changes)
		owner := map[string]string{}
		for c := range s.Contested() {
			owner[c.Address] = ""
			if c.Owner != nil {
				owner[c.Address] = string(c.Owner.Key)
			}
			if c.ByOrder && len(tt.order) == 0 {
				t.Errorf("%s: %s by order", tt.name, c.Address)
			}
		}
		for address, want := range tt.want {
			key := func(e *Entry) string {
				if e == nil {
					return ""
				}
				return string(e.Key)
			}
			a := addr(address)
			if got := key(s.ByAddress(a)); got != want {
				t.Errorf("%s: %s is %q's, want %q", tt.name, address, got, want)
			}
			if got := key(s.ByLogin(strings.ToUpper(address))); got != want {
				t.Errorf("%s: %s logs in as %q, want %q", tt.name, address, got, want)
			}
			r := s.Resolve(a)
			if got := key(r.Entry); got != want || want == "" && !r.Status.IsTemporary() {
				t.Errorf("%s: %s resolves to %q, %v, want %q", tt.name, address, got, r.Status, want)
			}
			if owner[address] != want {
				t.Errorf("%s: %s is contested, owner %q, want %q", tt.name, address, owner[address], want)
			}
		}
		if e := s.ByLogin("alice"); e != nil {
			t.Errorf("%s: a name without domain logs in as %s", tt.name, e.Key)
		}
	}
	for _, bad := range []map[string][]string{{"Corp.example": {"ad"}}, {"no domain": {"ad"}}, {AnyDomain: {"ad", "ldap", "ad"}}} {
		if err := (Rules{Directories: bad}).Validate(); err == nil || !strings.Contains(err.Error(), "directories:") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
