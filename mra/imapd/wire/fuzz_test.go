package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// drain decodes a whole session, each command with the parsers that fit its
// name, and returns what it saw as text.
func drain(r io.Reader) string {
	var out strings.Builder
	in := newSource(r, 32)
	d := NewDecoder(in, func() error { return nil })
	d.SetLimits(Limits{Line: 512, Literal: 64, Command: 128, Skip: 512})
	for d.Next() == nil {
		out.WriteString(d.Tag())
		d.Space()
		switch string(d.Word()) {
		case "FETCH":
			d.Space()
			s := d.Set()
			d.Space()
			f := d.Fetch()
			for i := range f.Sections {
				out.Write(AppendSection(nil, &f.Sections[i]))
			}
			s.Resolve(100)
		case "SEARCH":
			d.Space()
			out.WriteString(describe(d.Search().Key))
		case "STORE":
			d.Space()
			d.Set()
			d.Space()
			d.Word()
			d.Space()
			out.Write(AppendFlags(nil, d.Flags()))
		case "APPEND":
			d.Space()
			out.WriteString(d.Mailbox())
			d.Space()
			if d.Peek() == '(' {
				d.FlagList()
				d.Space()
			}
			if d.Peek() == '"' {
				d.DateTime()
				d.Space()
			}
			if l := d.AnnouncedLiteral(); d.Err() == nil && l.Size < 1000 {
				io.Copy(&out, d.OpenLiteral(l))
				d.CloseLiteral()
			}
		case "LIST":
			d.Space()
			d.Mailbox()
			d.Space()
			d.ListMailbox()
		default:
			for !d.AtEnd() {
				d.Space()
				d.AString()
			}
		}
		if err := d.End(); err != nil {
			out.WriteString(err.Error())
		}
		if d.Finish() != nil {
			break
		}
	}
	return out.String()
}

// A session of any octets ends, and is understood the same however it is cut
// into segments.
func FuzzSession(f *testing.F) {
	f.Add([]byte("a LOGIN bob {4+}\r\npass\r\nb SELECT \"INBOX\"\r\n"))
	f.Add([]byte("c FETCH 1:*,$ (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (A B)]<0.9>) (CHANGEDSINCE 9)\r\n"))
	f.Add([]byte("d UID SEARCH RETURN (MIN) CHARSET UTF-8 OR (NOT SEEN TEXT {3}\r\nabc) SINCE 1-Jan-2000\r\n"))
	f.Add([]byte("e APPEND x (\\Seen) \" 1-Jan-2000 00:00:00 +0000\" {5+}\r\nhello\r\nf NOOP {9+}\r\n123456789\r\n"))
	f.Add([]byte("g STORE 1 +FLAGS (\\Seen a]\r\nh LIST \"\" {999999+}\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole := drain(bytes.NewReader(in))
		if cut := drain(iotest.OneByteReader(bytes.NewReader(in))); cut != whole {
			t.Errorf("octet by octet:\n%q\nat once:\n%q", cut, whole)
		}
	})
}

// Every name of the wire has one form: what is decoded encodes to the same.
func FuzzMailbox(f *testing.F) {
	for _, s := range []string{"INBOX", "&U,BTFw-/&ZeVnLIqe-", "&-", "a&AOk-b", "&2D3cqQ-", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := DecodeMailbox(s, false)
		if err == nil {
			if !utf8.ValidString(name) {
				t.Fatalf("DecodeMailbox(%q) = %q, not UTF-8", s, name)
			}
			if again := EncodeMailbox(name); again != s {
				t.Fatalf("EncodeMailbox(DecodeMailbox(%q)) = %q", s, again)
			}
		}
		if utf8.ValidString(s) && checkName(s) == nil {
			if again, err := DecodeMailbox(EncodeMailbox(s), false); err != nil || again != s {
				t.Fatalf("DecodeMailbox(EncodeMailbox(%q)) = %q, %v", s, again, err)
			}
		}
	})
}

// Every string that the server sends is one that a decoder reads back.
func FuzzString(f *testing.F) {
	for _, s := range []string{"", "a", `a"\`, "é", "a\r\nb", "NIL", "{3}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.IndexByte(s, 0) >= 0 {
			return
		}
		for name, enc := range map[string][]byte{"string": AppendString(nil, s), "astring": AppendAString(nil, s)} {
			r := newSource(bytes.NewReader(append(enc, "\r\n"...)), 64)
			d := NewDecoder(r, func() error { return nil })
			d.SetLimits(Limits{Line: 4096, Literal: 1 << 20, Command: 1 << 20})
			if err := d.Next(); err != nil {
				if errors.Is(err, ErrLineTooLong) {
					return
				}
				t.Fatal(err)
			}
			if got := d.AString(); d.End() != nil || got != s {
				t.Fatalf("%s %q read back as %q, %v", name, s, got, d.Err())
			}
		}
	})
}

// A set that was resolved, written and read again is the same set.
func FuzzSet(f *testing.F) {
	f.Add("1:*,5", uint32(9))
	f.Add("*:2,4294967295", uint32(0))
	f.Fuzz(func(t *testing.T, s string, largest uint32) {
		r := newSource(strings.NewReader(s+"\r\n"), 64)
		d := NewDecoder(r, nil)
		d.SetLimits(testLimits)
		if d.Next() != nil {
			return
		}
		set := d.Set()
		if d.End() != nil {
			return
		}
		last := uint32(0)
		for i, r := range set.Resolve(largest) {
			if r.From == 0 || r.From > r.To || i > 0 && r.From-1 <= last {
				t.Fatalf("Resolve(%q, %d) = %v", s, largest, set.Resolve(largest))
			}
			last = r.To
		}
	})
}
