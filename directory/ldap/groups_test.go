package ldap

import (
	"slices"
	"strings"
	"testing"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
)

// everyKind is a list of each kind that OpenLDAP's own schemas have, with the same people
// again and again, and one of all of them that holds itself.
const everyKind = `
dn: cn=nis@corp.example,ou=groups,dc=corp,dc=example
objectClass: nisMailAlias
cn: nis@corp.example
rfc822MailMember: alice@corp.example
rfc822MailMember: friend@far.example
rfc822MailMember: |/bin/sh

dn: cn=nis-local,ou=groups,dc=corp,dc=example
objectClass: nisMailAlias
objectClass: inetLocalMailRecipient
cn: nis-local
mailLocalAddress: nis-local@corp.example
rfc822MailMember: nis@corp.example
rfc822MailMember: a.example@corp.example

dn: cn=names,ou=groups,dc=corp,dc=example
objectClass: groupOfNames
objectClass: inetLocalMailRecipient
cn: names
mailLocalAddress: names@corp.example
member: uid=alice,ou=people,dc=corp,dc=example
member: cn=unique,ou=groups,dc=corp,dc=example

dn: cn=unique,ou=groups,dc=corp,dc=example
objectClass: groupOfUniqueNames
objectClass: inetLocalMailRecipient
cn: unique
mailLocalAddress: unique@corp.example
uniqueMember: uid=alice,ou=people,dc=corp,dc=example
uniqueMember: uid=wangwei,ou=people,dc=corp,dc=example#'0101'B

dn: cn=posix,ou=groups,dc=corp,dc=example
objectClass: posixGroup
objectClass: inetLocalMailRecipient
cn: posix
gidNumber: 4712
mailLocalAddress: posix@corp.example
memberUid: bob
memberUid: alice
memberUid: nobody

dn: cn=urls,ou=groups,dc=corp,dc=example
objectClass: groupOfURLs
objectClass: inetLocalMailRecipient
cn: urls
mailLocalAddress: urls@corp.example
memberURL: ldap:///ou=people,dc=corp,dc=example??sub?(title=account manager emea)

dn: cn=every,ou=groups,dc=corp,dc=example
objectClass: groupOfNames
objectClass: inetLocalMailRecipient
cn: every
mailLocalAddress: every@corp.example
member: cn=nis-local,ou=groups,dc=corp,dc=example
member: cn=names,ou=groups,dc=corp,dc=example
member: cn=posix,ou=groups,dc=corp,dc=example
member: cn=urls,ou=groups,dc=corp,dc=example
member: cn=every,ou=groups,dc=corp,dc=example
member: uid=bob,ou=people,dc=corp,dc=example
`

// TestGroupKinds: each kind of list leads to its members, on a real server, and a list of
// all of them to each mailbox once.
func TestGroupKinds(t *testing.T) {
	t.Parallel()
	const schema = "include /etc/ldap/schema/misc.schema\ninclude /etc/ldap/schema/nis.schema\ninclude /etc/ldap/schema/dyngroup.schema\n"
	s := testenv.SlapdWith(t, schema, everyKind)
	snap := directory.NewSnapshot([]string{"corp.example"}, entries(t, client(t, config(t, s))))
	bob := snap.ByAddress(address(t, "bob@corp.example"))
	for list, want := range map[string]string{
		"nis":       "alice@corp.example friend@far.example",
		"nis-local": "alice@corp.example friend@far.example",
		"names":     "alice@corp.example wangwei@corp.example",
		"unique":    "alice@corp.example wangwei@corp.example",
		"posix":     "alice@corp.example bob@corp.example",
		"urls":      "carol@corp.example",
		"every":     "alice@corp.example bob@corp.example carol@corp.example friend@far.example wangwei@corp.example",
	} {
		x := snap.Expand([]envelope.Recipient{{Address: address(t, list+"@corp.example")}}, directory.Terms{Sender: bob})
		var got []string
		for _, r := range x.Local {
			got = append(got, r.Entry.Primary.String())
		}
		for _, r := range x.Remote {
			got = append(got, r.Recipient.Address.String())
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != want || len(x.Refused) > 0 {
			t.Errorf("%s@ leads to %s, want %s; refused %+v", list, text, want, x.Refused)
		}
	}
}
