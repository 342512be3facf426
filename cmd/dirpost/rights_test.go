package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"dirpost/internal/testenv"

	"github.com/go-ldap/ldap/v3"
)

// rightsLDIF is a group that has its members in four ways, and a mailbox for each
// right that the group has.
const rightsLDIF = `
dn: ou=rights,dc=corp,dc=example
objectClass: organizationalUnit
ou: rights

dn: cn=top,ou=rights,dc=corp,dc=example
objectClass: groupOfNames
cn: top
member: uid=alice,ou=people,dc=corp,dc=example
member: cn=inner,ou=rights,dc=corp,dc=example
member: cn=logins,ou=rights,dc=corp,dc=example
member: cn=filter,ou=rights,dc=corp,dc=example

dn: cn=inner,ou=rights,dc=corp,dc=example
objectClass: groupOfNames
cn: inner
member: uid=bob,ou=people,dc=corp,dc=example
member: cn=top,ou=rights,dc=corp,dc=example

dn: cn=logins,ou=rights,dc=corp,dc=example
objectClass: posixGroup
cn: logins
gidNumber: 4711
memberUid: wangwei

dn: cn=filter,ou=rights,dc=corp,dc=example
objectClass: groupOfURLs
cn: filter
memberURL: ldap:///ou=people,dc=corp,dc=example??sub?(title=account manager emea)

dn: uid=m-access,ou=rights,dc=corp,dc=example
objectClass: inetOrgPerson
objectClass: dirpostMailbox
uid: m-access
cn: m-access
sn: m
mail: m-access@corp.example
dirpostMailboxKind: shared
dirpostFullAccess: cn=top,ou=rights,dc=corp,dc=example

dn: uid=m-sendas,ou=rights,dc=corp,dc=example
objectClass: inetOrgPerson
objectClass: dirpostMailbox
uid: m-sendas
cn: m-sendas
sn: m
mail: m-sendas@corp.example
dirpostMailboxKind: shared
dirpostSendAs: cn=top,ou=rights,dc=corp,dc=example

dn: uid=m-behalf,ou=rights,dc=corp,dc=example
objectClass: inetOrgPerson
objectClass: dirpostMailbox
uid: m-behalf
cn: m-behalf
sn: m
mail: m-behalf@corp.example
dirpostMailboxKind: shared
dirpostSendOnBehalf: cn=top,ou=rights,dc=corp,dc=example
`

// TestRightsOpenLDAP: what the directory says of rights is the same wherever it is
// asked.
func TestRightsOpenLDAP(t *testing.T) {
	t.Parallel()
	const schema = "include /etc/ldap/schema/nis.schema\ninclude /etc/ldap/schema/dyngroup.schema\n"
	s := newSystemIn(t, databaseURL(t), "", testenv.SlapdWith(t, schema, rightsLDIF))
	s.confirm()
	s.start()
	s.checkRights(map[string]string{"alice": "direct", "bob": "nested", "wangwei": "by login", "carol": "by filter", "lina": ""})
}

// TestRightsAD: the same of a domain without Exchange, where groups with the name of
// the mailbox carry the rights.
func TestRightsAD(t *testing.T) {
	t.Parallel()
	ad := testenv.AD(t)
	rightsInAD(t, ad)
	s := newSystemOn(t, databaseURL(t), "")
	ca := filepath.Join(s.dir, "ad-ca.pem")
	password := filepath.Join(s.dir, "ad-password")
	for path, text := range map[string]string{ca: ad.CA, password: ad.ServicePass} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(string(text), "[directory.corp]")
	_, after, _ = strings.Cut(after, "[auth]")
	section := fmt.Sprintf("[directory.corp]\npreset = \"ad\"\nurls = [%q]\nserver_name = %q\nca = %q\nbase = %q\nbind_dn = %q\nbind_password = \"file:%s\"\n"+
		"access_group = \"CN=mail-access-{name},OU=Rights,%[4]s\"\nsend_as_group = \"CN=mail-sendas-{name},OU=Rights,%[4]s\"\non_behalf_group = \"CN=mail-behalf-{name},OU=Rights,%[4]s\"\n",
		ad.TLSURL, ad.Host, ca, ad.Base, ad.ServiceDN, password)
	if err := os.WriteFile(s.config, []byte(before+section+"[auth]"+after), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.file, err = readConfig(s.config); err != nil {
		t.Fatal(err)
	}
	s.slapd.UserPassword = ad.UserPassword
	s.confirm()
	s.start()
	s.checkRights(map[string]string{"rdirect": "direct", "rnested": "nested", "rprimary": "by primary group", "rnone": ""})
}

// checkRights asks for the rights of people to m-access, m-sendas and m-behalf at
// every place where they matter. how says by what way each is in the group, "" for who is not.
func (s *system) checkRights(how map[string]string) {
	t := s.t
	t.Helper()
	for who, way := range how {
		member := way != ""
		own := who + "@corp.example"
		for _, right := range []string{"access", "sendas", "behalf"} {
			name := fmt.Sprintf("%s (%s), %s", who, way, right)
			mailbox := "m-" + right + "@corp.example"
			may := member && right != "access"
			if err := s.submit(who, mailbox, []string{own}, "From: "+own+"\r\nSubject: envelope "+right+"\r\n\r\nx\r\n"); (err == nil) != may {
				t.Errorf("%s: MAIL FROM: %v, want allowed %v", name, err, may)
			}
			if err := s.submit(who, own, []string{own}, "From: "+mailbox+"\r\nSubject: header "+right+"\r\n\r\nx\r\n"); (err == nil) != may {
				t.Errorf("%s: From: %v, want allowed %v", name, err, may)
			}
			c := s.login(who)
			list, err := c.List("", "Shared/*", nil).Collect()
			if err != nil {
				t.Fatal(err)
			}
			var shared []string
			for _, m := range list {
				shared = append(shared, m.Mailbox)
			}
			opens := member && right == "access"
			if slices.Contains(shared, "Shared/"+mailbox) != opens {
				t.Errorf("%s: LIST has %v, want it there %v", name, shared, opens)
			}
			if _, err := c.Select("Shared/"+mailbox, nil).Wait(); (err == nil) != opens {
				t.Errorf("%s: SELECT: %v, want allowed %v", name, err, opens)
			}
			if err := c.Append("Shared/"+mailbox, 5, nil).Close(); (err == nil) && !opens {
				t.Errorf("%s: APPEND is allowed", name)
			}
		}
		for _, msg := range s.read(s.login(who), "INBOX") {
			header, _, _ := strings.Cut(msg, "\r\n\r\n")
			hasSender := strings.Contains(header, "\r\nSender: ") && strings.Contains(header, "<"+own+">")
			if strings.Contains(header, "Subject: header") && hasSender != strings.Contains(header, "header behalf") {
				t.Errorf("%s: Sender stands there: %v\n%s", who, hasSender, header)
			}
		}
	}
}

// rightsInAD makes the people, groups and mailboxes of checkRights in a domain.
func rightsInAD(t *testing.T, ad *testenv.ADServer) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ad.CA))
	c, err := ldap.DialURL(ad.TLSURL, ldap.DialWithTLSConfig(&tls.Config{RootCAs: pool, ServerName: ad.Host}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Bind(ad.AdminDN, ad.AdminPassword))
	base := "OU=Rights," + ad.Base
	add := func(dn string, attributes ...string) {
		t.Helper()
		r := ldap.NewAddRequest(dn, nil)
		for _, a := range attributes {
			name, value, _ := strings.Cut(a, "=")
			r.Attribute(name, []string{value})
		}
		must(c.Add(r))
	}
	modify := func(dn, attribute string, values ...string) {
		t.Helper()
		r := ldap.NewModifyRequest(dn, nil)
		r.Replace(attribute, values)
		must(c.Modify(r))
	}
	user := func(name string) string {
		dn := "CN=" + name + "," + base
		add(dn, "objectClass=user", "sAMAccountName="+name, "mail="+name+"@corp.example", "unicodePwd="+quotedUTF16(ad.UserPassword))
		return dn
	}
	group := func(name string, members ...string) string {
		dn := "CN=" + name + "," + base
		add(dn, "objectClass=group", "sAMAccountName="+name)
		if len(members) > 0 {
			modify(dn, "member", members...)
		}
		return dn
	}
	add(base, "objectClass=organizationalUnit")
	people := map[string]string{}
	for _, name := range []string{"rdirect", "rnested", "rprimary", "rnone"} {
		people[name] = user(name)
		modify(people[name], "userAccountControl", "66048") // normal, the password does not expire
	}
	primary := group("rprimarygroup", people["rprimary"])
	found, err := c.Search(ldap.NewSearchRequest(primary, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"objectSid"}, nil))
	must(err)
	sid := found.Entries[0].GetRawAttributeValue("objectSid")
	modify(people["rprimary"], "primaryGroupID", fmt.Sprint(binary.LittleEndian.Uint32(sid[len(sid)-4:])))
	top := group("rtop", people["rdirect"], group("rinner", people["rnested"]), primary)
	for _, right := range []string{"access", "sendas", "behalf"} {
		user("m-" + right) // without an account that is enabled, as shared mailboxes are
		group("mail-"+right+"-m-"+right, top)
	}
}

// quotedUTF16 is a password as unicodePwd takes it (MS-ADTS 3.1.1.3.1.5).
func quotedUTF16(password string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(`"` + password + `"`)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}
