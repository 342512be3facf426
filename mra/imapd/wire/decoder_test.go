package wire

import (
	"bufio"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// source is a connection whose input is that of r, in a buffer of n octets.
type source struct{ r *bufio.Reader }

func newSource(r io.Reader, n int) source { return source{bufio.NewReaderSize(r, n)} }
func (s source) Reader() *bufio.Reader    { return s.r }

var testLimits = Limits{Line: 1024, Literal: 64, Command: 96, Skip: 256}

// decoderOn returns a Decoder that has read the first line of in, and counts
// the continuations it asked for.
func decoderOn(t testing.TB, in string) (*Decoder, *int) {
	t.Helper()
	r := newSource(iotest.OneByteReader(strings.NewReader(in)), 16)
	n := new(int)
	d := NewDecoder(r, func() error { *n++; return nil })
	d.SetLimits(testLimits)
	if err := d.Next(); err != nil {
		t.Fatalf("Next: %v", err)
	}
	return d, n
}

func TestAString(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		proceeds int
		bad      bool
	}{
		{in: "abc\r\n", want: "abc"},
		{in: "a]b\r\n", want: "a]b"},
		{in: "abc\n", want: "abc"},
		{in: `"a b"` + "\r\n", want: "a b"},
		{in: `"a\"\\b"` + "\r\n", want: `a"\b`},
		{in: `""` + "\r\n", want: ""},
		{in: "\"caf\xc3\xa9\"\r\n", want: "café"},
		{in: "{3}\r\na\r\n\r\n", want: "a\r\n", proceeds: 1},
		{in: "{3+}\r\nabc\r\n", want: "abc"},
		{in: "{0}\r\n\r\n", want: "", proceeds: 1},
		{in: `"abc` + "\r\n", bad: true},
		{in: `"a\bc"` + "\r\n", bad: true},
		{in: "\"a\x00\"\r\n", bad: true},
		{in: "\"a\rb\"\r\n", bad: true},
		{in: "{3+}\r\na\x00b\r\n", bad: true},
		{in: "{x}\r\n", bad: true},
		{in: "{}\r\n", bad: true},
		{in: "{-1}\r\n", bad: true},
		{in: "{3+} \r\nabc\r\n", bad: true},
		{in: "{99999999999999999999}\r\n", bad: true},
		{in: "(\r\n", bad: true},
		{in: "\r\n", bad: true},
	} {
		d, n := decoderOn(t, tt.in)
		got := d.AString()
		err := d.End()
		if tt.bad {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Errorf("AString(%q): error %v, want a syntax error", tt.in, err)
			}
			continue
		}
		if err != nil || got != tt.want || *n != tt.proceeds {
			t.Errorf("AString(%q) = %q, %v, %d continuations; want %q, %d", tt.in, got, err, *n, tt.want, tt.proceeds)
		}
	}
}

// After an error the next command is found: a non-synchronising literal is
// skipped, a synchronising one was never sent (RFC 7888 §4).
func TestFinish(t *testing.T) {
	for _, tt := range []struct {
		name, in, next string
		want           error
	}{
		{"plain", "x y z\r\nb NOOP\r\n", "b", nil},
		{"synchronising literal", "x {5}\r\nb NOOP\r\n", "b", nil},
		{"non-synchronising literal", "x {7+}\r\nb NOOP\r\n\r\nc NOOP\r\n", "", nil},
		{"two literals", "x {3+}\r\nabc {2+}\r\nde f\r\nb NOOP\r\n", "b", nil},
		{"too much", "x {257+}\r\n", "", ErrOverrun},
		{"line that is no literal", "x }\r\nb NOOP\r\n", "b", nil},
	} {
		d, _ := decoderOn(t, tt.in)
		d.Fail("wrong")
		if err := d.Finish(); !errors.Is(err, tt.want) {
			t.Errorf("%s: Finish: %v, want %v", tt.name, err, tt.want)
			continue
		}
		if tt.next == "" {
			continue
		}
		if err := d.Next(); err != nil {
			t.Errorf("%s: Next: %v", tt.name, err)
		}
		if tag := d.Tag(); tag != tt.next {
			t.Errorf("%s: next command %q, want %q", tt.name, tag, tt.next)
		}
	}
}

// A literal beyond its limit is refused before memory is taken for it; all
// literals of a command have a limit of their own.
func TestLiteralLimits(t *testing.T) {
	d, n := decoderOn(t, "{65}\r\n")
	d.AString()
	if !errors.Is(d.Err(), ErrLiteralTooBig) || *n != 0 {
		t.Errorf("literal of 65: %v, %d continuations", d.Err(), *n)
	}
	full := "{60+}\r\n" + strings.Repeat("x", 60)
	d, _ = decoderOn(t, full+" "+full+"\r\nb NOOP\r\n")
	d.AString()
	d.Space()
	d.AString()
	if !errors.Is(d.Err(), ErrLiteralTooBig) {
		t.Errorf("second literal: %v", d.Err())
	}
	if err := d.Finish(); err != nil {
		t.Fatal(err)
	}
	if d.Next(); d.Tag() != "b" {
		t.Error("next command not found")
	}
}

func TestLineLimit(t *testing.T) {
	r := newSource(strings.NewReader(strings.Repeat("x", 1025)+"\r\n"), 64)
	d := NewDecoder(r, nil)
	d.SetLimits(testLimits)
	if err := d.Next(); !errors.Is(err, ErrLineTooLong) {
		t.Errorf("Next: %v, want ErrLineTooLong", err)
	}
	r = newSource(strings.NewReader(strings.Repeat("x", 1024)+"\r\n"), 64)
	d = NewDecoder(r, nil)
	d.SetLimits(testLimits)
	if err := d.Next(); err != nil {
		t.Errorf("Next: %v", err)
	}
}

// A message literal is streamed; what stands behind it is read after it.
func TestStreamedLiteral(t *testing.T) {
	const in = "~{5}\r\nab\r\nc) next\r\n"
	d, n := decoderOn(t, in)
	l := d.AnnouncedLiteral()
	if want := (Literal{Size: 5, Sync: true, Binary: true}); l != want {
		t.Fatalf("announced %+v, want %+v", l, want)
	}
	b, err := io.ReadAll(d.OpenLiteral(l))
	if err != nil || string(b) != "ab\r\nc" || *n != 1 {
		t.Fatalf("read %q, %v, %d continuations", b, err, *n)
	}
	d.CloseLiteral()
	d.Byte(')')
	d.Space()
	if w := d.Atom(); w != "next" || d.End() != nil {
		t.Errorf("behind the literal: %q, %v", w, d.Err())
	}

	d, _ = decoderOn(t, "{5+}\r\nabcde\r\nb NOOP\r\n")
	io.ReadFull(d.OpenLiteral(d.AnnouncedLiteral()), make([]byte, 2))
	if err := d.Finish(); err != nil {
		t.Fatal(err)
	}
	if d.Next(); d.Tag() != "b" {
		t.Error("next command not found behind a literal given up")
	}

	d, _ = decoderOn(t, "{5+}\r\nabc")
	if _, err := io.ReadAll(d.OpenLiteral(d.AnnouncedLiteral())); !errors.Is(err, io.ErrUnexpectedEOF) || d.Err() == nil {
		t.Errorf("cut literal: %v, %v", err, d.Err())
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want string
		bad  bool
	}{
		{in: `(\Seen \FLAGGED $Forwarded)`, want: `(\Seen \Flagged $Forwarded)`},
		{in: `()`, want: `()`},
		{in: `\seen \Deleted`, want: `(\Seen \Deleted)`},
		{in: `(work Work \Seen \seen)`, want: `(work \Seen)`},
		{in: `(\Recent)`, bad: true},
		{in: `(\*)`, bad: true},
		{in: `(\)`, bad: true},
		{in: `(a  b)`, bad: true},
		{in: `(a`, bad: true},
		{in: `a]`, bad: true},
	} {
		d, _ := decoderOn(t, tt.in+"\r\n")
		got := string(AppendFlags(nil, d.Flags()))
		if err := d.End(); (err != nil) != tt.bad || !tt.bad && got != tt.want {
			t.Errorf("Flags(%q) = %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
}

func TestDateTime(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`" 7-Feb-1994 21:52:25 -0800"`, `" 7-Feb-1994 21:52:25 -0800"`},
		{`"17-jul-1996 02:44:25 +0000"`, `"17-Jul-1996 02:44:25 +0000"`},
		{`"07-FEB-1994 21:52:25 +0530"`, `" 7-Feb-1994 21:52:25 +0530"`},
		{`"31-Feb-1994 21:52:25 +0000"`, ""},
		{`"17-Jul-1996"`, ""},
		{`17-Jul-1996`, ""},
	} {
		d, _ := decoderOn(t, tt.in+"\r\n")
		v := d.DateTime()
		if tt.want == "" {
			if d.End() == nil {
				t.Errorf("DateTime(%q) = %v, want an error", tt.in, v)
			}
			continue
		}
		if got := string(AppendDateTime(nil, v)); d.End() != nil || got != tt.want {
			t.Errorf("DateTime(%q) = %s, %v; want %s", tt.in, got, d.Err(), tt.want)
		}
	}
}

func TestSet(t *testing.T) {
	for _, tt := range []struct {
		in      string
		largest uint32
		want    []Range
		within  bool
		bad     bool
	}{
		{in: "1", largest: 5, want: []Range{{1, 1}}, within: true},
		{in: "2,4:7,9,12:*", largest: 15, want: []Range{{2, 2}, {4, 7}, {9, 9}, {12, 15}}, within: true},
		{in: "*:4,5:7", largest: 10, want: []Range{{4, 10}}, within: true},
		{in: "559:*", largest: 10, want: []Range{{10, 559}}},
		{in: "3,2,1,5:4", largest: 9, want: []Range{{1, 5}}, within: true},
		{in: "4294967295:1", largest: 9, want: []Range{{1, 4294967295}}},
		{in: "*", largest: 0, want: []Range{}},
		{in: "1:*", largest: 0, want: []Range{{1, 1}}},
		{in: "0", bad: true},
		{in: "1:", bad: true},
		{in: "1,", bad: true},
		{in: "4294967296", bad: true},
		{in: "a", bad: true},
		{in: "-1", bad: true},
	} {
		d, _ := decoderOn(t, tt.in+"\r\n")
		s := d.Set()
		if tt.bad {
			if d.End() == nil {
				t.Errorf("Set(%q) = %v, want an error", tt.in, s)
			}
			continue
		}
		if d.End() != nil || !reflect.DeepEqual(s.Resolve(tt.largest), tt.want) || s.Within(tt.largest) != tt.within {
			t.Errorf("Set(%q) of %d = %v, %v, within %v", tt.in, tt.largest, s.Resolve(tt.largest), d.Err(), s.Within(tt.largest))
		}
	}
}

func TestSetBuilder(t *testing.T) {
	for want, in := range map[string][]uint32{
		"":                        nil,
		"1":                       {1},
		"1:3":                     {1, 2, 3},
		"1:2,4,7:9":               {1, 2, 4, 7, 8, 9},
		"4294967295":              {4294967295},
		"5,4294967294:4294967295": {5, 4294967294, 4294967295},
	} {
		b := NewSetBuilder(nil)
		for _, n := range in {
			b.Add(n)
		}
		if got := string(b.Bytes()); got != want {
			t.Errorf("set of %v = %q, want %q", in, got, want)
		}
	}
}

func TestMailboxName(t *testing.T) {
	for _, tt := range []struct{ wire, name string }{
		{"INBOX", "INBOX"},
		{"Peter's mail", "Peter's mail"},
		{"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"}, // RFC 9051 §A.1
		{"&Jjo-!", "☺!"},
		{"Tom &- Jerry", "Tom & Jerry"},
		{"&2D3cqQ-", "💩"},
		{"Entw&APw-rfe", "Entwürfe"},
		{"a&AOk-&-b", "aé&b"},
		{"&-&AOk-", "&é"},
	} {
		got, err := DecodeMailbox(tt.wire, false)
		if err != nil || got != tt.name {
			t.Errorf("DecodeMailbox(%q) = %q, %v; want %q", tt.wire, got, err, tt.name)
		}
		if got := EncodeMailbox(tt.name); got != tt.wire {
			t.Errorf("EncodeMailbox(%q) = %q, want %q", tt.name, got, tt.wire)
		}
	}
	for _, bad := range []string{
		"&", "&AOk", "&AOk", "&A-", "&AO-", "&AGE-", "&AOk-&AOk-", "&AOk=-", "&2D0-", "&3KnYPQ-",
		"&AAA-", "&AAo-", "a\x01b", "a\x7fb", "\xc3\xa9", "&IC4-", "&AOkA-", "&AOl-",
	} {
		if got, err := DecodeMailbox(bad, false); err == nil {
			t.Errorf("DecodeMailbox(%q) = %q, want an error", bad, got)
		}
	}
	if got, err := DecodeMailbox("Entwürfe & mehr", true); err != nil || got != "Entwürfe & mehr" {
		t.Errorf("UTF-8 name = %q, %v", got, err)
	}
}

func TestEncodeStrings(t *testing.T) {
	long := strings.Repeat("x", maxQuoted+1)
	for in, want := range map[string]string{
		"":       `""`,
		"a b":    `"a b"`,
		`a"\`:    `"a\"\\"`,
		"é":      "{2}\r\né",
		"a\r\nb": "{4}\r\na\r\nb",
		"a\x00b": "{3}\r\na\x80b",
		long:     "{1001}\r\n" + long,
	} {
		if got := string(AppendString(nil, in)); got != want {
			t.Errorf("AppendString(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"": `""`, "a": "a", "NIL": `"NIL"`, "nil": `"nil"`, "nils": "nils", "a b": `"a b"`, "a(": `"a("`, "a]": `"a]"`,
	} {
		if got := string(AppendAString(nil, in)); got != want {
			t.Errorf("AppendAString(%q) = %q, want %q", in, got, want)
		}
	}
}
