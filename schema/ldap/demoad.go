package ldap

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// ADBase is the DN of the domain.
const ADBase = "DC=corp,DC=example"

// ManyMembers is how many members the list suppliers@ has in the Active Directory:
// more than Windows tells at once.
const ManyMembers = 2000

// DemoAD returns Example Corp as LDIF for a domain controller of Active Directory
// without Exchange's schema: the people, lists, shared mailboxes and contacts of
// demo.ldif, and what only a domain has: an account to lock by wrong passwords
// (lola), one that is expired (eve), one that must change its password (mia), and
// the list suppliers@ with ManyMembers contacts.
//
// That a mailbox is a shared one stands in employeeType, which administrators alone
// may write. Groups give rights and limits: sales opens office@, quota-1g is a quota.
func DemoAD(password string) string {
	var b strings.Builder
	for _, ou := range []string{"people", "groups", "shared", "contacts"} {
		adEntry(&b, "OU="+ou+","+ADBase, "objectClass", "organizationalUnit")
	}
	adStates(&b, password)
	adSuppliers(&b)
	entries := parse(demo)
	names := make(map[string]string, len(entries)) // DN in demo.ldif -> DN in the domain
	for _, e := range entries {
		names[e.dn] = e.adDN()
	}
	// What others name must be there before them.
	isGroup := func(r record) bool { return r.has("objectClass", "groupOfNames") }
	isContact := func(r record) bool { return r.has("dirpostMailboxKind", "contact") }
	for _, e := range entries {
		switch {
		case isContact(e):
			e.adContact(&b)
		case e.has("objectClass", "inetOrgPerson"):
			e.adUser(&b, password)
		}
	}
	for _, e := range entries {
		if isGroup(e) {
			e.adGroup(&b, names)
		}
	}
	limited := []string{"objectClass", "group", "sAMAccountName", "quota-1g", "groupType", "8", "description", "mailboxes of 1 GiB"}
	for _, e := range entries {
		if e.first("dirpostQuotaBytes") == "1073741824" {
			limited = append(limited, "member", names[e.dn])
		}
	}
	adEntry(&b, "CN=quota-1g,OU=groups,"+ADBase, limited...)
	return b.String()
}

// DemoADPeople returns the people u00001, … that load is made with, from first to
// last, for the domain controller.
func DemoADPeople(first, last int, password string) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		uid := fmt.Sprintf("u%05d", i)
		adEntry(&b, fmt.Sprintf("CN=Load User %d,OU=people,%s", i, ADBase), "objectClass", "user", "sAMAccountName", uid, "userPrincipalName", uid+"@corp.example",
			"mail", uid+"@corp.example", "unicodePwd", password, "userAccountControl", "512")
	}
	return b.String()
}

// adStates are people whom a domain refuses, each for a reason of its own.
func adStates(b *strings.Builder, password string) {
	for _, p := range [][]string{
		{"lola", "Lola Lockedout"},
		{"eve", "Eve Expired", "accountExpires", "116444736000000000"}, // 1970
		{"mia", "Mia Mustchange", "pwdLastSet", "0"},
	} {
		uid, name := p[0], p[1]
		adEntry(b, "CN="+name+",OU=people,"+ADBase, append([]string{"objectClass", "user", "sAMAccountName", uid, "userPrincipalName", uid + "@corp.example",
			"displayName", name, "mail", uid + "@corp.example", "proxyAddresses", "SMTP:" + uid + "@corp.example", "unicodePwd", password, "userAccountControl", "512"}, p[2:]...)...)
	}
}

func adSuppliers(b *strings.Builder) {
	list := []string{"objectClass", "group", "sAMAccountName", "suppliers", "groupType", "8", "mail", "suppliers@corp.example", "info", "mail-policy: internal"}
	for i := range ManyMembers {
		dn := fmt.Sprintf("CN=Supplier %04d,OU=contacts,%s", i, ADBase)
		adEntry(b, dn, "objectClass", "contact", "displayName", fmt.Sprintf("Supplier %04d", i), "mail", fmt.Sprintf("s%04d@supplier.example", i))
		list = append(list, "member", dn)
	}
	adEntry(b, "CN=suppliers,OU=groups,"+ADBase, list...)
}

// adEntry writes one entry, given as pairs of attribute and value.
func adEntry(b *strings.Builder, dn string, pairs ...string) {
	fmt.Fprintf(b, "dn:: %s\n", base64.StdEncoding.EncodeToString([]byte(dn)))
	for i := 0; i < len(pairs); i += 2 {
		value := pairs[i+1]
		if pairs[i] == "unicodePwd" {
			value = ADPassword(value)
		}
		fmt.Fprintf(b, "%s:: %s\n", pairs[i], base64.StdEncoding.EncodeToString([]byte(value)))
	}
	b.WriteByte('\n')
}

// ADPassword is a password as Active Directory wants it: quoted, in UTF-16
// ([MS-ADTS] §3.1.1.3.1.5).
func ADPassword(password string) string {
	var raw []byte
	for _, u := range utf16.Encode([]rune(`"` + password + `"`)) {
		raw = append(raw, byte(u), byte(u>>8))
	}
	return string(raw)
}

// record is one entry of demo.ldif.
type record struct {
	dn     string
	values map[string][]string
}

func (r record) has(attribute, value string) bool { return slices.Contains(r.values[attribute], value) }

func (r record) first(attribute string) string {
	if v := r.values[attribute]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// parse reads demo.ldif, which has no continuation lines and no files.
func parse(ldif string) []record {
	var all []record
	for _, block := range strings.Split(ldif, "\n\n") {
		r := record{values: make(map[string][]string)}
		for _, line := range strings.Split(block, "\n") {
			name, value, ok := strings.Cut(line, ":")
			if !ok || strings.HasPrefix(line, "#") {
				continue
			}
			if text, encoded := strings.CutPrefix(value, ":"); encoded {
				raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
				if err != nil {
					panic("demo.ldif: " + line)
				}
				value = string(raw)
			}
			if value = strings.TrimSpace(value); name == "dn" {
				r.dn = value
			} else {
				r.values[name] = append(r.values[name], value)
			}
		}
		if r.dn != "" {
			all = append(all, r)
		}
	}
	return all
}

// adDN is where the entry stands in the domain: below the same unit, under its
// full name, as the tools of Active Directory name people.
func (r record) adDN() string {
	_, unit, _ := strings.Cut(r.dn, ",ou=")
	unit, _, _ = strings.Cut(unit, ",")
	return "CN=" + strings.ReplaceAll(r.first("cn"), ",", `\,`) + ",OU=" + unit + "," + ADBase
}

// adUser writes a person, or a mailbox that belongs to nobody. Who does not log in is
// a disabled user.
func (r record) adUser(b *strings.Builder, password string) {
	uid, kind := r.first("uid"), r.first("dirpostMailboxKind")
	pairs := append([]string{"objectClass", "user", "sAMAccountName", uid, "userPrincipalName", uid + "@corp.example", "mail", r.first("mail")},
		r.copied("sn", "givenName", "displayName", "title")...)
	primary := cmp.Or(r.first("dirpostAddress"), r.first("mail"))
	pairs = append(pairs, "proxyAddresses", "SMTP:"+primary)
	for _, alias := range append(r.values["dirpostAlias"], r.first("mail")) {
		if alias != primary {
			pairs = append(pairs, "proxyAddresses", "smtp:"+alias)
		}
	}
	control := "512"
	if kind != "" || r.has("dirpostEnabled", "nologin") {
		control = "514"
	}
	if kind != "" {
		pairs = append(pairs, "employeeType", kind)
	}
	adEntry(b, r.adDN(), append(pairs, "unicodePwd", password, "userAccountControl", control)...)
}

func (r record) adContact(b *strings.Builder) {
	adEntry(b, r.adDN(), append([]string{"objectClass", "contact", "mail", r.first("mail")}, r.copied("sn", "displayName")...)...)
}

// adGroup writes a list. An address outside becomes a member by its contact.
func (r record) adGroup(b *strings.Builder, names map[string]string) {
	pairs := []string{"objectClass", "group", "sAMAccountName", r.first("cn"), "groupType", "8", "mail", r.first("mail"),
		"proxyAddresses", "SMTP:" + r.first("mail"), "info", "mail-policy: " + r.first("dirpostListPolicy")}
	for _, dn := range r.values["member"] {
		pairs = append(pairs, "member", names[dn])
	}
	for range r.values["dirpostListExternalMember"] {
		pairs = append(pairs, "member", "CN=Friend at Partner,OU=contacts,"+ADBase)
	}
	if owner := r.first("owner"); owner != "" {
		pairs = append(pairs, "managedBy", names[owner])
	}
	adEntry(b, r.adDN(), pairs...)
}

// copied are the pairs of attributes that both kinds of directory have.
func (r record) copied(attributes ...string) []string {
	var pairs []string
	for _, a := range attributes {
		if v := r.first(a); v != "" {
			pairs = append(pairs, a, v)
		}
	}
	return pairs
}
