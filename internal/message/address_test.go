package message

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseMailboxes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "alice@corp.example", "|alice|corp.example"},
		{"name", "Alice Example <alice@corp.example>", "Alice Example|alice|corp.example"},
		{"quoted name", `"Example, Alice" <alice@corp.example>`, "Example, Alice|alice|corp.example"},
		{"escapes", `"A \"B\" \\ C" <a@b.example>`, `A "B" \ C|a|b.example`},
		{"comment is the name", "alice@corp.example (Alice (A.) Example)", "Alice (A.) Example|alice|corp.example"},
		{"comment within", "pete(his account)@silly.test(his host)", "his host|pete|silly.test"},
		{"group", "Team: a@x.example, B <b@x.example>;, c@x.example", "|a|x.example;B|b|x.example;|c|x.example"},
		{"empty group", "undisclosed-recipients:;", ""},
		{"group without end", "Team: a@x.example", "|a|x.example"},
		{"obsolete route", "<@a.example,@b.example:c@d.example>", "|c|d.example"},
		{"quoted local-part", `"john doe"@x.example`, "|john doe|x.example"},
		{"empty local-part", `""@x.example`, "||x.example"},
		{"literal", "a@[192.0.2.1], b@[IPv6:2001:db8::1]", "|a|[192.0.2.1];|b|[IPv6:2001:db8::1]"},
		{"dots and spaces", "j . m @ example . org", "|j.m|example.org"},
		{"dots in the name", "John Q. Public <j@x.example>", "John Q. Public|j|x.example"},
		{"address as name", "a@x.example <b@y.example>", "a@x.example|b|y.example"},
		{"encoded word", "=?utf-8?Q?J=C3=BCrgen?= <j@x.example>", "=?utf-8?Q?J=C3=BCrgen?=|j|x.example"},
		{"encoded word and comma", "=?utf-8?Q?a,b?= <j@x.example>", "|=?utf-8?Q?a|;b?=|j|x.example"},
		{"utf-8", "王伟 <王伟@例子.example>", "王伟|王伟|例子.example"},
		{"no domain", "alice", "|alice|"},
		{"words only", "Alice Example", "Alice Example||"},
		{"nothing", "", ""},
		{"null", "<>", "||"},
		{"no end of angle", "Alice <alice@x.example, bob@y.example", "Alice|alice|x.example;|bob|y.example"},
		{"no end of quote", `"Alice <alice@x.example>`, "Alice|alice|x.example"},
		{"two at signs", "a@b@c.example", "|a|b"},
		{"two angles", "A <a@x.example> <b@y.example>, c@z.example", "A|a|x.example;|c|z.example"},
		{"semicolons", "a@x.example; b@y.example", "|a|x.example;|b|y.example"},
		{"commas", ",,a@x.example,,", "|a|x.example"},
		{"folded", "Alice\r\n Example <alice@x.example>,\r\n\tbob@y.example", "Alice Example|alice|x.example;|bob|y.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for m := range ParseMailboxes(tt.in) {
				got = append(got, m.Name+"|"+m.Local+"|"+m.Domain)
			}
			if g := strings.Join(got, ";"); g != tt.want {
				t.Errorf("ParseMailboxes(%q) = %q, want %q", tt.in, g, tt.want)
			}
		})
	}
}

func TestAddressList(t *testing.T) {
	t.Parallel()
	h := ParseHeader([]byte("To: A <alice@CORP.example>, bad, <>, x@-y-\r\nTo: \"b c\"@[192.0.2.1]\r\n\r\n"))
	got := fmt.Sprint(AddressList(h, "to"))
	if want := `[alice@corp.example "b c"@[192.0.2.1]]`; got != want {
		t.Errorf("AddressList = %s, want %s", got, want)
	}
}

// A hostile list costs no more than its length allows: each of these takes
// hours if the parser looks for the same end again and again.
func TestAddressListHostile(t *testing.T) {
	t.Parallel()
	for _, piece := range []string{"(", `"`, `"\`, "<", "@", ":", ";", ",", "a(", "<@", "<@a:", "[", `\"(`, "a@[", "=?", "a ", ". "} {
		n := 0
		for range ParseMailboxes(strings.Repeat(piece, 1<<18/len(piece))) {
			n++
		}
		var p Part
		p.contentType([]byte("a/b;" + strings.Repeat(piece, 1<<18/len(piece))))
		p.contentType([]byte(strings.Repeat(piece+";a=", 1<<18/len(piece))))
		p.contentType([]byte("a/b;" + strings.Repeat("a*0=b;", 1<<15)))
		p.AppendBodyStructure(nil, true)
		p.Filename()
		DecodeHeader(strings.Repeat("=?"+piece+"?q?", 1<<16))
		ParseDate(strings.Repeat(piece, 1<<16))
		BaseSubject(strings.Repeat("[fwd:"+piece, 1<<15) + strings.Repeat("]", 1<<15))
	}
}

func FuzzParseMailboxes(f *testing.F) {
	f.Add(`Team: "A, \"B\"" <@x,@y:a.b@[192.0.2.1]> (c), d(e)@f . g;, h`)
	f.Add("a@b <c@d>, =?utf-8?b?4p2k?= <e@f> \xff")
	f.Fuzz(func(t *testing.T, in string) {
		size := 0
		for m := range ParseMailboxes(in) {
			size += len(m.Local) + len(m.Domain)
			if a, err := m.Address(); err == nil && a.IsZero() {
				t.Fatalf("%q is the zero address", m)
			}
		}
		if size > len(in) {
			t.Fatalf("addresses of %d octets in %d", size, len(in))
		}
		h := ParseHeader([]byte("From: " + strings.NewReplacer("\r", "", "\n", "").Replace(in) + "\r\n\r\n"))
		env := h.Envelope(nil)
		if rest, err := parseIMAP(env); err != nil || len(rest) > 0 {
			t.Fatalf("envelope %q is no IMAP: %v", env, err)
		}
	})
}
