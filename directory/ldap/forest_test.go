package ldap

import (
	"slices"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
)

func TestDomainHolding(t *testing.T) {
	t.Parallel()
	ref := func(context, name string) *ldap.Entry {
		return ldap.NewEntry("CN="+name, map[string][]string{"nCName": {context}, "nETBIOSName": {name}})
	}
	refs := []*ldap.Entry{ref("DC=corp,DC=example", "CORP"), ref("DC=child,DC=corp,DC=example", "CHILD"), ref("DC=p,DC=example", "P"), ref("", "NONE"), ref("DC=odd,DC=example", `O\DD`)}
	for dn, want := range map[string]string{
		"dc=Corp, dc=example": "CORP", "OU=x,DC=corp,DC=example": "CORP", "OU=x,DC=child,DC=corp,DC=example": "CHILD",
		"DC=notcorp,DC=example": "", "DC=corp,DC=example,DC=org": "", "DC=example": "", "DC=odd,DC=example": "",
	} {
		if got := domainHolding(dn, refs); got != want {
			t.Errorf("%s: %q, want %q", dn, got, want)
		}
	}
}

// TestADForest: two domains side by side, with people of the same names: each logs
// in with the name of the domain, by itself, and with every suffix; a member of the
// other domain is a member; a name that both have is nobody's.
func TestADForest(t *testing.T) {
	t.Parallel()
	corp, other := testenv.ADForest(t)
	var all []*directory.Entry
	clients := map[string]*Client{}
	read := func() *directory.Snapshot {
		t.Helper()
		all = nil
		for name, s := range map[string]*testenv.ADServer{"corp": corp, "other": other} {
			c := client(t, Config{Name: name, Preset: PresetAD, Follow: FollowPoll, URLs: []string{s.TLSURL}, CA: s.CA, ServerName: s.Host, Base: s.Base, BindDN: s.ServiceDN, BindPassword: s.ServicePass})
			clients[name] = c
			all = append(all, entries(t, c)...)
		}
		return directory.NewSnapshot([]string{"corp.example", "other.example"}, all)
	}
	s := read()
	for login, want := range map[string]string{
		`CORP\alice`: "CN=Alice Archer,OU=Staff," + corp.Base, `other\ALICE`: "CN=Alice Archer,OU=Staff," + other.Base,
		"alice@corp.example": "CN=Alice Archer,OU=Staff," + corp.Base, "alice@other.example": "CN=Alice Archer,OU=Staff," + other.Base,
		"alice": "",
	} {
		e := s.ByLogin(login)
		if e == nil && want != "" || e != nil && e.DN != want {
			t.Errorf("%s logs in as %+v, want %s", login, e, want)
			continue
		}
		if e != nil {
			must(t, clients[e.Directory].Verify(t.Context(), e, corp.UserPassword))
		}
	}

	// A suffix that the forest has besides the names of its domains.
	mine := newADUnit(t)
	dn := mine.person("suffix")
	req := ldap.NewModifyRequest("CN=Partitions,CN=Configuration,"+corp.Base, nil)
	req.Replace("uPNSuffixes", []string{"brand.example"})
	must(t, mine.Modify(req))
	req = ldap.NewModifyRequest(dn, nil)
	req.Replace("userPrincipalName", []string{"suffix@brand.example"})
	must(t, mine.Modify(req))
	// A member of the other domain stands in the group as a foreign security principal,
	// which the domain makes since it trusts the other one.
	alice := s.ByLogin(`OTHER\alice`)
	foreign := "<SID=" + alice.SID + ">"
	// The group is domain-local: only those take members of elsewhere.
	group := "CN=foreign," + mine.base
	mine.add(group, map[string][]string{"objectClass": {"group"}, "sAMAccountName": {"foreign" + mine.name}, "mail": {mine.address("foreign")}, "groupType": {"-2147483644"}, "member": {dn, foreign}})
	s = read()
	if e := s.ByLogin("suffix@brand.example"); e == nil || e.DN != dn {
		t.Errorf("suffix: %+v", e)
	}
	principal := directory.NormalizeDN("CN=" + alice.SID + ",CN=ForeignSecurityPrincipals," + corp.Base)
	if e := s.ByDN(group); e == nil || !slices.Contains(e.Members, principal) {
		t.Errorf("no foreign security principal is a member: %+v", e)
	}
	x := s.Expand([]envelope.Recipient{{Address: addr(mine.address("foreign"))}}, directory.Terms{Released: true})
	var got []string
	for _, r := range x.Local {
		got = append(got, r.Entry.Directory+" "+r.Entry.DN)
	}
	slices.Sort(got)
	want := []string{"corp " + dn, "other " + alice.DN}
	if !slices.Equal(got, want) || len(x.Refused) > 0 {
		t.Errorf("members %q, want %q; refused %v", got, want, x.Refused)
	}
}
