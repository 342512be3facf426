package ldap

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
)

// TestProfiles: a real server with the schema of each family, and entries of it,
// is known for what it is, and its people are read in its units.
func TestProfiles(t *testing.T) {
	t.Parallel()
	const people = ",ou=people,dc=corp,dc=example"
	tests := []struct {
		profile, entries string
		quota            int64  // of pia@
		alias            string // of her
		list             string // that she is in, "" for none
	}{
		{PresetQmail, `
dn: uid=pia` + people + `
objectClass: inetOrgPerson
objectClass: qmailUser
uid: pia
cn: Pia
sn: Pia
mail: pia@corp.example
mailAlternateAddress: p@corp.example
mailQuotaSize: 1048576
deliveryProgramPath: /bin/false

dn: cn=club,ou=groups,dc=corp,dc=example
objectClass: organizationalRole
objectClass: qmailGroup
cn: club
mail: club@corp.example
dnmember: uid=pia` + people + `
`, 1 << 20, "p@corp.example", "club@corp.example"},
		{PresetPostfixBook, `
dn: uid=pia` + people + `
objectClass: inetOrgPerson
objectClass: PostfixBookMailAccount
uid: pia
cn: Pia
sn: Pia
mail: pia@corp.example
mailAlias: p@corp.example
mailQuota: 1024
mailEnabled: TRUE
mailGroupMember: sales@corp.example
`, 1 << 20, "p@corp.example", "sales@corp.example"},
		{PresetIRedMail, `
dn: uid=pia` + people + `
objectClass: inetOrgPerson
objectClass: mailUser
uid: pia
cn: Pia
sn: Pia
mail: pia@corp.example
shadowAddress: p@corp.example
mailQuota: 1048576
accountStatus: active
memberOfGroup: club@corp.example

dn: mail=club@corp.example,ou=groups,dc=corp,dc=example
objectClass: mailList
mail: club@corp.example
accessPolicy: domain
`, 1 << 20, "p@corp.example", "club@corp.example"},
		{PresetKolab, `
dn: uid=pia` + people + `
objectClass: inetOrgPerson
objectClass: mailRecipient
objectClass: kolabInetOrgPerson
uid: pia
cn: Pia
sn: Pia
mail: pia@corp.example
alias: p@corp.example
mailQuota: 1024
`, 1 << 20, "p@corp.example", ""},
		{PresetUCS, `
dn: uid=pia` + people + `
objectClass: inetOrgPerson
objectClass: univentionMail
uid: pia
cn: Pia
sn: Pia
mailPrimaryAddress: pia@corp.example
mailAlternativeAddress: p@corp.example
univentionMailUserQuota: 1

dn: cn=club,ou=groups,dc=corp,dc=example
objectClass: univentionMailList
cn: club
mailPrimaryAddress: club@corp.example
univentionMailMember: pia@corp.example
`, 1 << 20, "p@corp.example", "club@corp.example"},
		{Preset389DS, `
dn: uid=pia` + people + `
objectClass: inetOrgPerson
objectClass: mailRecipient
uid: pia
cn: Pia
sn: Pia
mail: pia@corp.example
mailAlternateAddress: p@corp.example
mailQuota: 1048576

dn: cn=club,ou=groups,dc=corp,dc=example
objectClass: groupOfUniqueNames
objectClass: mailGroup
cn: club
mail: club@corp.example
uniqueMember: uid=pia` + people + `
`, 1 << 20, "p@corp.example", "club@corp.example"},
		{PresetFreeIPA, `
dn: uid=pia` + people + `
objectClass: inetOrgPerson
objectClass: ipaObject
ipaUniqueID: 00112233-4455-6677-8899-aabbccddeeff
uid: pia
cn: Pia
sn: Pia
mail: pia@corp.example
mail: p@corp.example
krbPrincipalName: pia@CORP.EXAMPLE
`, 0, "p@corp.example", ""},
	}
	for _, tt := range tests {
		t.Run(tt.profile, func(t *testing.T) {
			t.Parallel()
			schema, err := os.ReadFile("testdata/schema/" + tt.profile + ".schema")
			must(t, err)
			s := testenv.SlapdWith(t, string(schema), tt.entries)
			cfg := config(t, s)
			cfg.Preset = PresetAuto
			if tt.profile == Preset389DS {
				cfg.Preset = Preset389DS // what it is, only its vendorName says
			}
			c := client(t, cfg)
			choice, err := c.Choice(t.Context())
			if err != nil || choice.Profile != tt.profile || len(choice.Notes) > 0 {
				t.Fatalf("%v %+v", err, choice)
			}
			t.Log(choice.Why)
			all := entries(t, c)
			snap := directory.NewSnapshot([]string{"corp.example"}, all)
			pia := snap.ByAddress(address(t, "pia@corp.example"))
			if pia == nil || pia.Primary.Local != "pia" || pia.Quota != tt.quota || snap.ByLogin("pia@corp.example") == nil {
				t.Fatalf("%+v", pia)
			}
			if e := snap.ByAddress(address(t, tt.alias)); e == nil || e.Key != pia.Key {
				t.Errorf("%s leads to %+v", tt.alias, e)
			}
			if snap.ByAddress(address(t, "alice@corp.example")) == nil && tt.profile != PresetUCS {
				t.Error("the others of the directory are not there")
			}
			if tt.list == "" {
				return
			}
			x := snap.Expand([]envelope.Recipient{{Address: address(t, tt.list)}}, directory.Terms{Sender: pia})
			if !slices.ContainsFunc(x.Local, func(l directory.LocalRecipient) bool { return l.Entry.Key == pia.Key }) {
				t.Errorf("%s does not lead to her: %+v", tt.list, x)
			}
		})
	}
}

func address(t testing.TB, text string) envelope.Address {
	t.Helper()
	a, err := envelope.ParseAddress(text)
	must(t, err)
	return a
}

// TestProfileOfPlainOpenLDAP: a server with nothing but what it ships is read as
// such; the preset of the configuration wins, and what it names in vain is said.
func TestProfileOfPlainOpenLDAP(t *testing.T) {
	t.Parallel()
	s := testenv.SlapdWith(t, "attributetype ( 1.3.6.1.4.1.47049.1.1.2 NAME 'mailQuota' SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )\n", "")
	cfg := config(t, s)
	cfg.Preset = ""
	choice, err := client(t, cfg).Choice(t.Context())
	if err != nil || choice.Profile != PresetOpenLDAP {
		t.Fatalf("%v %+v", err, choice)
	}
	if len(choice.Notes) != 1 || !strings.Contains(choice.Notes[0], "1.3.6.1.4.1.47049.1.1.2") {
		t.Errorf("the unit of mailQuota: %q", choice.Notes)
	}
	cfg.Preset, cfg.Mapping = PresetQmail, map[string][]string{"alias": {"mail", "mailAlternateAddress"}}
	choice, err = client(t, cfg).Choice(t.Context())
	if err != nil || choice.Profile != PresetQmail || len(choice.Notes) != 1 || !strings.Contains(choice.Notes[0], "mailAlternateAddress") {
		t.Errorf("%v %+v", err, choice)
	}
}

// TestProfileOfAD: a real domain controller is known as Active Directory.
func TestProfileOfAD(t *testing.T) {
	t.Parallel()
	s, configs := adConfigs(t)
	cfg := configs["ldaps"]
	cfg.Preset = PresetAuto
	c := client(t, cfg)
	// A node that only judges passwords has not asked what the server is.
	if err := c.Verify(t.Context(), person(s, "Alice Archer"), s.UserPassword); err != nil {
		t.Errorf("before the server is known: %v", err)
	}
	choice, err := c.Choice(t.Context())
	if err != nil || choice.Profile != PresetAD {
		t.Errorf("%v %+v", err, choice)
	}
	if !c.isAD() {
		t.Error("not known as Active Directory")
	}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	none := func(string) (bool, error) { return false, nil }
	of := func(classes ...string) func(string) (bool, error) {
		return func(class string) (bool, error) { return slices.Contains(classes, class), nil }
	}
	both := map[string]string{"qmailuser": "1.3.6.1.4.1.7914.1.2.2.1", "mailuser": "1.3.6.1.4.1.32349.1.2.4.3"}
	tests := []struct {
		name    string
		s       schema
		entries func(string) (bool, error)
		want    string
	}{
		{"domain", schema{ad: true, known: true}, none, PresetAD},
		{"domain with Exchange", schema{ad: true, attributes: map[string]string{"msexchrecipienttypedetails": "1.2.840.113556.1.4.7000.102.50855"}}, none, PresetADExchange},
		{"schema may not be read", schema{}, none, PresetOpenLDAP},
		{"loaded and not used", schema{known: true, classes: both}, none, PresetOpenLDAP},
		{"one of two is used", schema{known: true, classes: both}, of("qmailUser"), PresetQmail},
		{"both are used", schema{known: true, classes: both}, of("qmailUser", "mailUser"), PresetIRedMail},
		{"a class of that name of somebody else", schema{known: true, classes: map[string]string{"mailuser": "1.1.2.2.1.1"}}, of("mailUser"), PresetOpenLDAP},
		{"389", schema{known: true, vendor: "389 Project"}, none, Preset389DS},
		{"389, schema may not be read", schema{vendor: "389 Project"}, none, Preset389DS},
		{"qmail on 389", schema{known: true, vendor: "389 Project", classes: both}, of("qmailUser"), PresetQmail},
		{"FreeIPA", schema{known: true, vendor: "389 Project", classes: map[string]string{"ipaobject": "2.16.840.1.113730.3.8.4.4"}}, of("ipaObject"), PresetFreeIPA},
	}
	for _, tt := range tests {
		p, why, err := detect(&tt.s, tt.entries)
		if err != nil || p.name != tt.want || why == "" {
			t.Errorf("%s: %v %q %v", tt.name, p, why, err)
		}
	}
	failed := errors.New("away")
	if _, _, err := detect(&schema{known: true, classes: both}, func(string) (bool, error) { return false, failed }); !errors.Is(err, failed) {
		t.Errorf("a server that went away: %v", err)
	}
}

func TestParseDefinition(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"( 1.2.3 NAME 'a' DESC 'NAME ''x' SYNTAX 1.2 )": "1.2.3 a",
		"( 1.2.3 NAME ( 'a' 'b-c' ) SUP name )":         "1.2.3 a b-c",
		"(1.2.3 NAME('a''b'))":                          "1.2.3 a b",
		"( nsAccount-oid NAME 'nsAccountLock' )":        "nsAccount-oid nsAccountLock",
		"( 1.2.3 DESC 'no name' SYNTAX 1.2 )":           "1.2.3",
		"( 1.2.3 DESC 'open":                            "1.2.3",
		"":                                              "",
		"1.2.3":                                         "",
		"( 'a' )":                                       "",
		"(":                                             "",
		"( 1.2.3 NAME":                                  "1.2.3",
		"( 1.2.3 NAME (":                                "1.2.3",
		"( 1.2.3 NAME '' )":                             "1.2.3",
		"( 1.2 NAME 'x' " + strings.Repeat("y", maxDefinition): "",
	} {
		oid, names := parseDefinition(text)
		if got := strings.TrimSpace(oid + " " + strings.Join(names, " ")); got != want {
			t.Errorf("%.60q: %q, want %q", text, got, want)
		}
	}
}

// FuzzDefinition: reading what a server says about its schema ends, and takes
// nothing that is not there.
func FuzzDefinition(f *testing.F) {
	f.Add("( 1.2.3 NAME ( 'a' 'b-c' ) SUP name SYNTAX 1.2{64} )")
	f.Add("( 1.2.3 NAME 'a' DESC 'it''s' MAY ( a $ b ) )")
	f.Add("((((''''")
	f.Fuzz(func(t *testing.T, text string) {
		oid, names := parseDefinition(text)
		for _, n := range append(names, oid) {
			if !strings.Contains(text, n) || strings.ContainsAny(n, "'()") {
				t.Errorf("%q in %q", n, text)
			}
		}
		if oid == "" && len(names) > 0 {
			t.Errorf("names without identifier: %q", names)
		}
	})
}
