package ldap

import (
	"reflect"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

const ldifSample = `version: 1
# What leaves and what comes,
 in two lines of a comment.
dn: uid=bob,ou=people,dc=corp,
 dc=example
changetype: modify
replace: mail
mail: robert@corp.example
-
delete: title
-
add: description
description:: 546L5Lyf
description: b

dn:: dWlkPWRhdmUsb3U9cGVvcGxlLGRjPWNvcnAsZGM9ZXhhbXBsZQ==
changetype: delete

dn: uid=new,ou=people,dc=corp,dc=example
objectClass: inetOrgPerson
objectClass: top
mail: new@corp.example

dn: ou=people,dc=corp,dc=example
control: 1.2.3 true
changetype: modrdn
newrdn: ou=Leute
deleteoldrdn: 1
newsuperior: dc=example
`

func TestParseLDIF(t *testing.T) {
	t.Parallel()
	got, err := ParseLDIF(ldifSample)
	if err != nil {
		t.Fatal(err)
	}
	want := []LDIFChange{
		{Line: 4, DN: "uid=bob,ou=people,dc=corp,dc=example", Type: "modify", Mods: []LDIFMod{
			{"replace", LDIFAttribute{"mail", []string{"robert@corp.example"}}},
			{"delete", LDIFAttribute{"title", nil}},
			{"add", LDIFAttribute{"description", []string{"王伟", "b"}}},
		}},
		{Line: 16, DN: "uid=dave,ou=people,dc=corp,dc=example", Type: "delete"},
		{Line: 19, DN: "uid=new,ou=people,dc=corp,dc=example", Type: "add", Attributes: []LDIFAttribute{
			{"objectClass", []string{"inetOrgPerson", "top"}}, {"mail", []string{"new@corp.example"}}}},
		{Line: 24, DN: "ou=people,dc=corp,dc=example", Type: "modrdn", NewDN: "ou=Leute,dc=example"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	for text, want := range map[string]string{
		"dn: a=b\njpegPhoto:< file:///etc/shadow\n":       "is not opened",
		"dn: a=b\nchangetype: burn\n":                     "line 1",
		"dn: a=b\nchangetype: modify\nput: x\n":           "want add, delete or replace",
		"mail: x\n":                                       "begins with dn:",
		"\n\ndn: a=b\nno colon\n":                         "line 3",
		"dn: a=b\nchangetype: modrdn\n":                   "without newrdn",
		"dn: a=b\nchangetype: modify\nadd: x\nmail: y\n-": "a value of mail",
		"dn:: ***\n":                                      "base64",
	} {
		if _, err := ParseLDIF(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestTreeApply(t *testing.T) {
	t.Parallel()
	e := func(dn string, mail ...string) *ldap.Entry {
		return ldap.NewEntry(dn, map[string][]string{"mail": mail, "title": {"x"}})
	}
	tr := tree{
		"uid=bob,ou=people,dc=corp,dc=example":  e("uid=bob,ou=people,dc=corp,dc=example", "bob@corp.example"),
		"uid=dave,ou=people,dc=corp,dc=example": e("uid=dave,ou=people,dc=corp,dc=example"),
		"ou=people,dc=corp,dc=example":          e("ou=people,dc=corp,dc=example"),
	}
	changes, err := ParseLDIF(ldifSample)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if _, err := tr.apply(c); err != nil {
			t.Fatal(err)
		}
	}
	if len(tr) != 3 || tr["uid=new,ou=leute,dc=example"] == nil || tr["ou=leute,dc=example"] == nil {
		t.Errorf("%v", tr)
	}
	bob := tr["uid=bob,ou=leute,dc=example"]
	if bob == nil || bob.DN != "uid=bob,ou=Leute,dc=example" || bob.GetAttributeValue("mail") != "robert@corp.example" || bob.GetAttributeValue("title") != "" ||
		len(bob.GetAttributeValues("description")) != 2 {
		t.Errorf("bob is %+v", bob)
	}
	if _, err := tr.apply(LDIFChange{Type: "add", DN: "UID=new, ou=Leute, dc=example"}); err == nil {
		t.Error("an entry is added twice")
	}
}

func FuzzParseLDIF(f *testing.F) {
	f.Add(ldifSample)
	f.Add("dn: a=b\nchangetype: modify\nadd: x\n")
	f.Fuzz(func(t *testing.T, text string) {
		changes, err := ParseLDIF(text)
		if err != nil {
			return
		}
		tr := tree{}
		for _, c := range changes {
			if c.DN == "" && c.Type == "" {
				t.Errorf("%q: an empty change", text)
			}
			_, _ = tr.apply(c)
		}
	})
}
