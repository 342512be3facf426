package ldap

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// lines reads "attribute: value" lines; "attribute:: hex" is for octets.
func lines(text string) *ldap.Entry {
	e := &ldap.Entry{}
	for _, line := range strings.Split(text, "\n") {
		name, value, ok := strings.Cut(line, ": ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if name == "dn" {
			e.DN = value
			continue
		}
		value = strings.ReplaceAll(value, `\n`, "\n")
		if name == "objectGUID" {
			value = string([]byte{0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff})
		}
		if name == "objectSid" {
			value = "\x01\x05\x00\x00\x00\x00\x00\x05\x15\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\xff\xff\xff\xff\x51\x04\x00\x00"
		}
		found := false
		for _, a := range e.Attributes {
			if a.Name == name {
				a.Values, a.ByteValues, found = append(a.Values, value), append(a.ByteValues, []byte(value)), true
			}
		}
		if !found {
			e.Attributes = append(e.Attributes, &ldap.EntryAttribute{Name: name, Values: []string{value}, ByteValues: [][]byte{[]byte(value)}})
		}
	}
	return e
}

// Each testdata/NN-name.PRESET.entry is an entry as a directory holds it, the
// .want beside it what mail makes of it and what could not be read.
func TestMapping(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.entry")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no entries")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			must(t, err)
			cfg := Config{Name: "corp", Base: "DC=corp,DC=example", Domain: "CORP"}
			cfg.Preset = strings.Split(filepath.Base(file), ".")[1]
			m, err := newMapper(cfg)
			must(t, err)
			le := lines(string(text))
			c := &Client{cfg: cfg}
			c.mapping.Store(m)
			id, err := (&base{client: c}).id(le)
			must(t, err)
			e, problems := m.entry(le, id)
			got, err := json.MarshalIndent(e, "", "\t")
			must(t, err)
			for _, p := range problems {
				got = append(got, "\nproblem: "+p.Error()...)
			}
			got = append(dropEmpty(got), '\n')
			want := strings.TrimSuffix(file, ".entry") + ".want"
			if *update {
				must(t, os.WriteFile(want, got, 0o644))
			}
			if b, err := os.ReadFile(want); err != nil || !bytes.Equal(b, got) {
				t.Errorf("%v\n%s", err, got)
			}
		})
	}
}

// dropEmpty leaves out the fields that say nothing.
func dropEmpty(b []byte) []byte {
	var out [][]byte
	for _, line := range bytes.Split(b, []byte("\n")) {
		v := strings.TrimSuffix(strings.TrimSpace(string(line)), ",")
		if strings.HasSuffix(v, ": null") || strings.HasSuffix(v, `: ""`) || strings.HasSuffix(v, ": 0") || strings.HasSuffix(v, ": false") || strings.Contains(v, "0001-01-01") {
			continue
		}
		out = append(out, line)
	}
	return bytes.Join(out, []byte("\n"))
}

func TestDecoders(t *testing.T) {
	t.Parallel()
	m, err := newMapper(Config{Name: "corp", Preset: PresetOpenLDAP, Base: "dc=corp,DC=example", Domain: "CORP"})
	must(t, err)
	tests := []struct {
		decoder, in, want string
		fails             bool
	}{
		{"", " text ", "text", false},
		{"", "\xff", "", true},
		{"", "a\x00b", "", true},
		{"uuid", "00112233-4455-6677-8899-AABBCCDDEEFF", "00112233-4455-6677-8899-aabbccddeeff", false},
		{"uuid", "0011223344556677-8899aabb-ccddeeff", "00112233-4455-6677-8899-aabbccddeeff", false}, // nsUniqueId
		{"uuid", "x", "", true},
		{"guid", "short", "", true},
		{"smtp", "smtp:a@b.example", "a@b.example", false},
		{"smtp", "SMTP:a@b.example", "a@b.example", false},
		{"smtp", "x500:/o=Corp", "", false},
		{"smtp-primary", "smtp:a@b.example", "", false},
		{"smtp-primary", "SMTP:a@b.example", "a@b.example", false},
		{"kib", "1024", "1048576", false},
		{"kib", "-1", "", true},
		{"kib", "9223372036854775807", "", true},
		{"mib", "2", "2097152", false},
		{"time", "20261121103000Z", "2026-11-21T10:30:00Z", false},
		{"time", "20261121103000.0Z", "2026-11-21T10:30:00Z", false},
		{"time", "20261121123000+0200", "2026-11-21T10:30:00Z", false},
		{"time", "yesterday", "", true},
		{"csn", "20261121103000.123456Z#000000#000#000000", "2026-11-21T10:30:00.123456Z", false},
		{"csn", "20261121103000.123456Z#00000f#001#000000", "2026-11-21T10:30:00.123456015Z", false},
		{"csn", "20261121103000Z#x#001#000000", "", true},
		{"csn", "now", "", true},
		{"filetime", "0", "", false},
		{"filetime", "9223372036854775807", "", false},
		{"filetime", "116444736000000000", "1970-01-01T00:00:00Z", false},
		{"filetime", "1", "1970-01-01T00:00:01Z", false},
		{"filetime", "never", "", true},
		{"days", "-1", "", false},
		{"days", "19000", "2022-01-08T00:00:00Z", false},
		{"bool", "TRUE", "true", false},
		{"bool", "maybe", "", true},
		{"not", "TRUE", "false", false},
		{"uac", "514", "disabled", false},
		{"uac", "512", "", false},
		{"uac", "x", "", true},
		{"must-change", "0", "must-change", false},
		{"must-change", "133000000000000000", "", false},
		{"locked-time", "000001010000Z", "disabled", false},
		{"locked-time", "20261121103000Z", "locked", false},
		{"account-status", "noaccess", "disabled", false},
		{"account-status", "active", "", false},
		{"enabled-login", "NoLogin", "disabled", false},
		{"enabled-delivery", "nologin", "", false},
		{"enabled-delivery", "hold", "held", false},
		{"policy", "Open", "open", false},
		{"policy", "mail-policy: members", "members", false},
		{"policy", "Our list.\nmail-policy: owners\nCall Bob.", "owners", false},
		{"policy", "open\nsomething", "", false}, // not alone: a text, no policy
		{"policy", "mail-policy: everybody", "", true},
		{"policy", "a note", "", false},
		{"unique-member", "cn=a,dc=x#'0101'B", "cn=a,dc=x", false},
		{"unique-member", "cn=a#b,dc=x", "cn=a#b,dc=x", false},
		{"sid", "\x01\x01\x00\x00\x00\x00\x00\x05\x12\x00\x00\x00", "S-1-5-18", false},
		{"sid", "\x01\x02\x00\x00\x00\x00\x00\x05\x12\x00\x00\x00", "", true},
		{"sid", "\x01\xff\x00\x00\x00\x00\x00\x05\x12\x00\x00\x00", "", true},
		{"sid", "\x02\x00\x00\x00\x00\x00\x00\x05", "", true},
		{"sid", "S-1-5-21-1-2-3-513", "S-1-5-21-1-2-3-513", false},
		{"sid", "S-1-5-21-x", "", true},
		{"sid", "", "", true},
		{"rid", "513", "513", false},
		{"rid", "-1", "", true},
		{"x500", "X500:/o=A/cn=b", "/o=A/cn=b", false},
		{"x500", "smtp:a@b.example", "", false},
		{"filter", "l=Bonn", "(l=Bonn)", false},
		{"require-auth", "TRUE", "internal", false},
		{"require-auth", "FALSE", "open", false},
		{"moderated", "FALSE", "", false},
		{"elsewhere", "\xff\x00", "elsewhere", false},
		{"netbios", "alice", `CORP\alice`, false},
		{"implicit-upn", "alice", "alice@corp.example", false},
		{"exchange-kind", "4", "shared", false},
		{"exchange-kind", "1", "", false},
	}
	all := m.decoders()
	for _, tt := range tests {
		got, err := all[tt.decoder](tt.in)
		if got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s(%q) = %q, %v; want %q", tt.decoder, tt.in, got, err, tt.want)
		}
	}
	for hop, ok := range map[string]bool{"mail.example": true, "mail.example:26": true, "[2001:db8::1]:25": true, "a b": false, "x:0": false, "x:99999": false, "": false, "|sh": false} {
		if _, err := nextHop(hop); (err == nil) != ok {
			t.Errorf("nextHop(%q): %v", hop, err)
		}
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, name string
		next     int
		more     bool
	}{
		{"member", "member", 0, false},
		{"member;range=0-1499", "member", 1500, true},
		{"member;range=1500-*", "member", 0, false},
		{"member;range=", "member", 0, false},
	}
	for _, tt := range tests {
		if name, next, more := rangeOf(tt.in); name != tt.name || next != tt.next || more != tt.more {
			t.Errorf("rangeOf(%q) = %q %d %v", tt.in, name, next, more)
		}
	}
}

// FuzzEntry: whatever a directory holds, mapping it gives an entry that can be
// kept, with valid text and parsed addresses, or none.
func FuzzEntry(f *testing.F) {
	f.Add("mail", []byte("alice@corp.example"), "objectClass", []byte("inetOrgPerson"), true)
	f.Add("proxyAddresses", []byte("SMTP:\xff@x"), "accountExpires", []byte("-9223372036854775808"), false)
	f.Add("member", []byte(`cn=Doe\, "John"#,dc=x`), "objectclass", []byte("group"), false)
	f.Add("dirpostForward", []byte("|/bin/sh"), "dirpostQuotaBytes", []byte("999999999999999999999"), true)
	f.Add("memberURL", []byte("ldap:///dc=x??sub?(l=Bonn)"), "objectClass", []byte("groupOfURLs"), true)
	f.Add("objectSid", []byte("\x01\x01\x00\x00\x00\x00\x00\x05\x12\x00\x00\x00"), "msExchDynamicDLFilter", []byte("(|(l=a)(l=b))"), false)
	f.Fuzz(func(t *testing.T, a string, av []byte, b string, bv []byte, openldap bool) {
		class := "user"
		if openldap {
			class = "inetOrgPerson"
		}
		for _, p := range profiles {
			if p.ad == openldap {
				continue
			}
			m, err := newMapper(Config{Name: "corp", Preset: p.name, Base: "dc=x"})
			if err != nil {
				t.Fatal(err)
			}
			fuzzEntry(t, m, class, a, av, b, bv)
		}
	})
}

// fuzzEntry maps an entry of a class with two attributes.
func fuzzEntry(t *testing.T, m *mapper, class, a string, av []byte, b string, bv []byte) {
	t.Helper()
	le := &ldap.Entry{DN: "cn=x,dc=x", Attributes: []*ldap.EntryAttribute{
		{Name: "objectClass", Values: []string{class}},
		{Name: a, Values: []string{string(av), "second@corp.example"}},
		{Name: b, Values: []string{string(bv)}},
	}}
	e, _ := m.entry(le, "00112233-4455-6677-8899-aabbccddeeff")
	if e == nil {
		return
	}
	back, err := directory.Unpack(e.Pack())
	if err != nil || !back.Same(e) {
		t.Errorf("not kept: %v", err)
	}
	for _, s := range append(append([]string{e.DisplayName, e.NextHop}, e.Logins...), e.Services...) {
		if !utf8.ValidString(s) || len(s) > maxValue+100 {
			t.Errorf("value %q", s)
		}
	}
	for _, addr := range append(append(e.Aliases, e.Forward...), e.ExternalMembers...) {
		if addr.Local == "" || addr.Domain == "" || strings.ContainsAny(addr.Domain, " |/") {
			t.Errorf("address %q", addr)
		}
	}
	if e.Quota < 0 {
		t.Errorf("quota %d", e.Quota)
	}
}
