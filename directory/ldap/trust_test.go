package ldap

import (
	"slices"
	"strings"
	"testing"

	"dirpost/directory"
	"dirpost/internal/testenv"
)

func TestTrust(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		mapping map[string][]string
		trusted []string
		wrong   string // part of the error, "" for none
	}{
		{"quota that people give themselves", map[string][]string{"quota": {"msDS-cloudExtensionAttribute1:mib"}}, nil, "msDS-cloudExtensionAttribute1"},
		{"the same, trusted", map[string][]string{"quota": {"msDS-cloudExtensionAttribute1:mib"}}, []string{"quota"}, ""},
		{"another is trusted", map[string][]string{"quota": {"info:mib"}}, []string{"alias"}, "info"},
		{"an address", map[string][]string{"alias": {"mail", "wWWHomePage"}}, nil, "wWWHomePage"},
		{"in any spelling, with options", map[string][]string{"forward": {"WWWHOMEPAGE;lang-en"}}, nil, "forward"},
		{"a name is harmless", map[string][]string{"name": {"info"}, "hidden": {"info:bool"}}, nil, ""},
		{"of lists, which nobody is", map[string][]string{"list_policy": {"info:policy"}}, nil, ""},
		{"of the administrator", map[string][]string{"quota": {"extensionAttribute1:mib"}}, nil, ""},
		{"no field", nil, []string{"quotas"}, "quotas"},
	}
	for _, tt := range tests {
		err := Config{Name: "corp", URLs: []string{"ldaps://x.example"}, Base: "dc=x", Mapping: tt.mapping, Trusted: tt.trusted}.Validate()
		if (err != nil) != (tt.wrong != "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	// No profile reads power from what people write, but of lists.
	for _, p := range profiles {
		for field, sources := range p.sources() {
			level, ok := levelOf(field)
			if !ok {
				t.Errorf("%s: no field %s", p.name, field)
			}
			for _, s := range sources {
				attribute, _, _ := strings.Cut(s, ":")
				if level == Power && SelfWritable(attribute) && !slices.Contains(ofLists, field) {
					t.Errorf("%s: %s from %s", p.name, field, attribute)
				}
			}
		}
	}
}

// writable returns the attributes that a check has found.
func writable(c SelfCheck) []string {
	var out []string
	for _, w := range c.Writable {
		out = append(out, w.Attribute)
	}
	return out
}

// TestCheckSelfOpenLDAP: a real slapd tells, by a change that it does not make, what
// a person could write of the own entry.
func TestCheckSelfOpenLDAP(t *testing.T) {
	t.Parallel()
	s := testenv.Slapd(t)
	c := client(t, config(t, s))
	alice := &directory.Entry{Key: "corp:1", Kind: directory.KindPerson, DN: "uid=alice,ou=people," + s.Base}
	check, err := c.CheckSelf(t.Context(), alice, s.UserPassword)
	if err != nil || check.How != "no-op" || len(check.Writable) > 0 || len(check.Unknown) > 0 {
		t.Fatalf("with nothing to write: %v %+v", err, check)
	}
	before := entries(t, c)
	s.Stop()
	s.Allow(t, "access to attrs=mail,displayName by self write by users read\n")
	check, err = c.CheckSelf(t.Context(), alice, s.UserPassword)
	if err != nil || !slices.Equal(writable(check), []string{"displayName", "mail"}) {
		t.Fatalf("%v %+v", err, check)
	}
	if check.Writable[0].Level != Harmless || check.Writable[1].Level != Power || !slices.Contains(check.Writable[1].Fields, "alias") {
		t.Errorf("%+v", check.Writable)
	}
	if after := entries(t, c); len(after) != len(before) || !slices.EqualFunc(before, after, (*directory.Entry).Same) {
		t.Error("asking has changed the directory")
	}
	if _, err := c.CheckSelf(t.Context(), alice, "wrong"); err == nil {
		t.Error("a wrong password is taken")
	}
}

// TestCheckSelfAD: a real domain tells what people could write of their own entry:
// by default info and its like, and nothing that mail is read from.
func TestCheckSelfAD(t *testing.T) {
	t.Parallel()
	s, configs := adConfigs(t)
	cfg := configs["ldaps"]
	check, err := client(t, cfg).CheckSelf(t.Context(), person(s, "Alice Archer"), s.UserPassword)
	if err != nil || check.How != "allowedAttributesEffective" || len(check.Writable) > 0 {
		t.Fatalf("%v %+v", err, check)
	}
	cfg.Mapping, cfg.Trusted = map[string][]string{"quota": {"msDS-cloudExtensionAttribute1:mib"}}, []string{"quota"}
	check, err = client(t, cfg).CheckSelf(t.Context(), person(s, "Alice Archer"), s.UserPassword)
	if err != nil || !slices.Equal(writable(check), []string{"msDS-cloudExtensionAttribute1"}) {
		t.Errorf("a domain as it is found lets people write their quota: %v %+v", err, check)
	}
}

func TestAttributeRights(t *testing.T) {
	t.Parallel()
	r := attributeRights("mail:rscwo, Uid:rsc,  cn:none")
	if r["mail"] != "rscwo" || r["uid"] != "rsc" || r["cn"] != "" || len(attributeRights("")) != 0 {
		t.Errorf("%q", r)
	}
}
