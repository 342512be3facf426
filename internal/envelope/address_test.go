package envelope

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63) + "."
	for _, tt := range []struct {
		in, local, domain string // "" and "": an error
	}{
		{"a@b.example", "a", "b.example"},
		{"Alice.Example@CORP.Example", "Alice.Example", "corp.example"},
		{"!#$%&'*+-/=?^_`{|}~@b.example", "!#$%&'*+-/=?^_`{|}~", "b.example"},
		{"a+b@b.example", "a+b", "b.example"},
		{"user%other.example@b.example", "user%other.example", "b.example"},
		{"other.example!user@b.example", "other.example!user", "b.example"},
		{"a@localhost", "a", "localhost"},
		{"a@1.2.3.4", "a", "1.2.3.4"},
		{"a@mail_out.example", "a", "mail_out.example"},
		// Quoted local-parts (RFC 5321 §4.1.2).
		{`"alice"@b.example`, "alice", "b.example"},
		{`"a b"@b.example`, "a b", "b.example"},
		{`"a@b"@c.example`, "a@b", "c.example"},
		{`"a\"b\\c"@b.example`, `a"b\c`, "b.example"},
		{`"\a"@b.example`, "a", "b.example"},
		{`".a..b."@b.example`, ".a..b.", "b.example"},
		{`">"@b.example`, ">", "b.example"},
		{`""@b.example`, "", ""},
		{`"a`, "", ""},
		{`"a"`, "", ""},
		{`"a\`, "", ""},
		{`"a"b@b.example`, "", ""},
		{`a"b"@b.example`, "", ""},
		{"\"a\tb\"@b.example", "", ""},
		{"\"a\x00b\"@b.example", "", ""},
		{"\"a\r\nb\"@b.example", "", ""},
		{"\"a\\\x07b\"@b.example", "", ""},
		{"\"\xff\"@b.example", "", ""},
		// Dots stand between atoms only.
		{".a@b.example", "", ""},
		{"a.@b.example", "", ""},
		{"a..b@b.example", "", ""},
		// Not in an atom.
		{"a b@b.example", "", ""},
		{"a@b@c.example", "", ""},
		{"a<b@b.example", "", ""},
		{"a,b@b.example", "", ""},
		{"a(b)@b.example", "", ""},
		{"a:b@b.example", "", ""},
		{"a\x00@b.example", "", ""},
		{"a\x7f@b.example", "", ""},
		{"a\\b@b.example", "", ""},
		{"a[b]@b.example", "", ""},
		// No address.
		{"", "", ""},
		{"@", "", ""},
		{"a", "", ""},
		{"a@", "", ""},
		{"@b.example", "", ""},
		{"<a@b.example>", "", ""},
		{" a@b.example", "", ""},
		{"a@b.example ", "", ""},
		// Domains (RFC 5321 §2.3.5).
		{"a@b..example", "", ""},
		{"a@.b.example", "", ""},
		{"a@b.example.", "", ""},
		{"a@-b.example", "", ""},
		{"a@b-.example", "", ""},
		{"a@b c.example", "", ""},
		{"a@b/c.example", "", ""},
		{"a@b\x00.example", "", ""},
		{"a@" + strings.Repeat("x", 63) + ".example", "a", strings.Repeat("x", 63) + ".example"},
		{"a@" + strings.Repeat("x", 64) + ".example", "", ""},
		// Literals (RFC 5321 §4.1.3).
		{"a@[192.0.2.1]", "a", "[192.0.2.1]"},
		{"a@[IPv6:2001:DB8::1]", "a", "[IPv6:2001:db8::1]"},
		{"a@[ipv6:2001:db8:0:0:0:0:0:1]", "a", "[IPv6:2001:db8::1]"},
		{"a@[IPv6:::ffff:192.0.2.1]", "a", "[IPv6:::ffff:192.0.2.1]"},
		{"a@[IPv6:192.0.2.1]", "", ""},
		{"a@[2001:db8::1]", "", ""},
		{"a@[IPv6:fe80::1%eth0]", "", ""},
		{"a@[192.0.2.256]", "", ""},
		{"a@[192.0.2.01]", "", ""},
		{"a@[192.0.2]", "", ""},
		{"a@[]", "", ""},
		{"a@[", "", ""},
		{"a@[192.0.2.1", "", ""},
		{"a@[192.0.2.1]x", "", ""},
		{"a@[x400:c=de]", "", ""},
		// Internationalized (RFC 6531 §3.3).
		{"王伟@corp.example", "王伟", "corp.example"},
		{"josé@bücher.example", "josé", "xn--bcher-kva.example"},
		{"a@BÜCHER.example", "a", "xn--bcher-kva.example"},
		{"a@xn--bcher-kva.example", "a", "xn--bcher-kva.example"},
		{"a@XN--BCHER-KVA.example", "a", "xn--bcher-kva.example"},
		{"a@例子。example", "a", "xn--fsqu00a.example"},
		{"a@xn--a.example", "", ""},
		{"a@xn--.example", "", ""},
		{"a@b＠c.example", "", ""},
		{"jos\xe9@b.example", "", ""},
		{"a\u0085@b.example", "", ""},
		{"a\u202eb@b.example", "", ""},
		{"a\u2028b@b.example", "", ""},
		{"\ufeffa@b.example", "", ""},
		// Lengths (RFC 5321 §4.5.3.1).
		{strings.Repeat("a", 64) + "@b.example", strings.Repeat("a", 64), "b.example"},
		{strings.Repeat("a", 65) + "@b.example", "", ""},
		{"a@" + long + long + long + strings.Repeat("b", 60), "a", long + long + long + strings.Repeat("b", 60)},
		{"abc@" + long + long + long + strings.Repeat("b", 60), "", ""},
	} {
		a, err := ParseAddress(tt.in)
		if want := (Address{tt.local, tt.domain}); a != want || (err != nil) != want.IsZero() {
			t.Errorf("ParseAddress(%q) = %q, %q, %v; want %q, %q", tt.in, a.Local, a.Domain, err, tt.local, tt.domain)
		}
		if err != nil && !errors.Is(err, ErrSyntax) && !errors.Is(err, ErrTooLong) {
			t.Errorf("ParseAddress(%q): error %v is none that is documented", tt.in, err)
		}
	}
}

func TestParsePath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, want, rest string // want "": an error
	}{
		{"<a@b.example>", "a@b.example", ""},
		{"<a@b.example> SIZE=1", "a@b.example", " SIZE=1"},
		{"<a@b.example>SIZE=1", "a@b.example", "SIZE=1"},
		{`<"a>b"@b.example> X`, `"a>b"@b.example`, " X"},
		{`<"a b"@[192.0.2.1]>`, `"a b"@[192.0.2.1]`, ""},
		// Source routes are accepted and dropped (RFC 5321 appendix F.2).
		{"<@x.example:a@b.example>", "a@b.example", ""},
		{"<@x.example,@[192.0.2.1],@[IPv6:::1]:a@b.example>", "a@b.example", ""},
		{"<@[IPv6:::1]:a@b.example>", "a@b.example", ""},
		{"<@x.example:@y.example:a@b.example>", "", ""},
		{"<@x.example,y.example:a@b.example>", "", ""},
		{"<@x.example,:a@b.example>", "", ""},
		{"<@:a@b.example>", "", ""},
		{"<@x.example a@b.example>", "", ""},
		{"<@x.example:>", "", ""},
		{"<@x.example>", "", ""},
		{"<@[IPv6::a@b.example>", "", ""},
		{"<Postmaster>", "Postmaster@corp.example", ""},
		{"<postMASTER> X", "postMASTER@corp.example", " X"},
		{"<@x.example:postmaster>", "postmaster@corp.example", ""},
		{`<"postmaster">`, "postmaster@corp.example", ""},
		{"<postmaster@b.example>", "postmaster@b.example", ""},
		{"<someone>", "", ""},
		{"<>", "", ""},
		{"<", "", ""},
		{"", "", ""},
		{"a@b.example", "", ""},
		{"<a@b.example", "", ""},
		{"<a@b.example x>", "", ""},
		{"<<a@b.example>>", "", ""},
		{"<a@b.example\x00>", "", ""},
	} {
		a, rest, err := ParseForwardPath(tt.in, "corp.example")
		if a.String() != tt.want || rest != tt.rest || (err != nil) != (tt.want == "") {
			t.Errorf("ParseForwardPath(%q) = %q, %q, %v; want %q, %q", tt.in, a, rest, err, tt.want, tt.rest)
		}
	}
	if _, _, err := ParseReversePath("<postmaster>"); err == nil {
		t.Error("<postmaster> is no reverse-path")
	}
	p, rest, err := ParseReversePath("<> X")
	if !p.IsNull() || rest != " X" || err != nil {
		t.Errorf("null reverse-path: %v, %q, %v", p, rest, err)
	}
	if p, _, err := ParseReversePath("<a@b.example>"); p.IsNull() || p.String() != "a@b.example" || err != nil {
		t.Errorf("reverse-path: %v, %v", p, err)
	}
}

func TestAddressString(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ local, want string }{
		{"a", "a@b.example"}, {"a b", `"a b"@b.example`}, {"a@b", `"a@b"@b.example`}, {`a"b`, `"a\"b"@b.example`},
		{`a\b`, `"a\\b"@b.example`}, {".a", `".a"@b.example`}, {"a..b", `"a..b"@b.example`}, {"a.", `"a."@b.example`},
		{`"a"`, `"\"a\""@b.example`}, {"王", "王@b.example"}, {"王 伟", `"王 伟"@b.example`},
	} {
		if got := (Address{tt.local, "b.example"}).String(); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.local, got, tt.want)
		}
	}
	if got := (Address{}).String(); got != "" {
		t.Errorf("zero address: %q", got)
	}
	if got := (Address{"josé", "xn--bcher-kva.example"}).Unicode(); got != "josé@bücher.example" {
		t.Errorf("Unicode: %q", got)
	}
	if got := (Address{"a", "[IPv6:::1]"}).Unicode(); got != "a@[IPv6:::1]" {
		t.Errorf("Unicode of a literal: %q", got)
	}
}

func TestAddressKey(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{"Alice@corp.example", "alice@CORP.example", `"ALICE"@corp.example`},
		{"JOSÉ@corp.example", "jose\u0301@corp.example", "Jose\u0301@corp.example"},
		{"straße@corp.example", "STRASSE@corp.example"},
		{"a@bücher.example", "A@xn--bcher-kva.example"},
	} {
		first, err := ParseAddress(same[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range same[1:] {
			a, err := ParseAddress(s)
			if err != nil || a.Key() != first.Key() {
				t.Errorf("%q has key %q, %q has %q (%v)", same[0], first.Key(), s, a.Key(), err)
			}
		}
	}
}

// An address that was understood can be written and is understood the same; its
// parts hold nothing that could break out of a line, a list or angle brackets.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{
		"a@b.example", `"a b"@b.example`, `"a\"\\"@[192.0.2.1]`, "a@[IPv6:2001:db8::1]", "王伟@例子.example", "a@xn--bcher-kva.example",
		"<@x.example,@[IPv6:::1]:a@b.example> SIZE=1", "<Postmaster>", "<>", "a%b@c.example", "a@b_c.example", "K@b.example",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		check := func(a Address) {
			t.Helper()
			w := a.String()
			again, err := ParseAddress(w)
			if err != nil || again != a {
				t.Errorf("%q gives %q, which gives %q (%v)", s, w, again, err)
			}
			if strings.ContainsAny(w, "\r\n\x00") || !utf8.ValidString(w) || len(a.Local) > MaxLocalPart || len(a.Local)+1+len(a.Domain) > MaxPath {
				t.Errorf("%q gives %q", s, w)
			}
			if strings.Trim(a.Domain, "abcdefghijklmnopqrstuvwxyz0123456789-._") != "" && !strings.HasPrefix(a.Domain, "[") {
				t.Errorf("%q gives domain %q", s, a.Domain)
			}
			if d, err := ParseDomain(a.Domain); err != nil || d != a.Domain {
				t.Errorf("%q gives domain %q, which gives %q (%v)", s, a.Domain, d, err)
			}
			if k := (Address{a.Local, a.Domain}).Key(); !strings.HasSuffix(k, "@"+a.Domain) || k == "" {
				t.Errorf("%q has key %q", s, k)
			}
			a.Unicode()
		}
		if a, err := ParseAddress(s); err == nil {
			check(a)
		}
		if a, rest, err := ParseForwardPath(s, "corp.example"); err == nil {
			check(a)
			if !strings.HasSuffix(s, rest) || !strings.HasSuffix(s[:len(s)-len(rest)], ">") {
				t.Errorf("%q leaves %q", s, rest)
			}
		}
		if p, _, err := ParseReversePath(s); err == nil {
			if a, ok := p.Address(); ok {
				check(a)
			}
		}
	})
}

func BenchmarkParseForwardPath(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseForwardPath("<alice.example@corp.example>", "corp.example"); err != nil {
			b.Fatal(err)
		}
	}
}
