package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// describe writes a search program with a function-like notation, so that a
// table can show it.
func describe(k SearchKey) string {
	sub := func() string {
		var s []string
		for _, k := range k.Keys {
			s = append(s, describe(k))
		}
		return strings.Join(s, " ")
	}
	switch k.Op {
	case SearchAll:
		return "all"
	case SearchAnd:
		return "and(" + sub() + ")"
	case SearchOr:
		return "or(" + sub() + ")"
	case SearchNot:
		return "not(" + sub() + ")"
	case SearchSeq:
		return fmt.Sprintf("seq%v", k.Set)
	case SearchUID:
		return fmt.Sprintf("uid%v", k.Set)
	case SearchFlag:
		return string(k.Flag)
	case SearchRecent:
		return "recent"
	case SearchHeader:
		return fmt.Sprintf("%s:%q", k.Field, k.Text)
	}
	if !k.Date.IsZero() {
		return fmt.Sprintf("%d@%s", k.Op, k.Date.Format("2006-01-02"))
	}
	return fmt.Sprintf("%d:%q%d", k.Op, k.Text, k.Number)
}

// RFC 9051 §6.4.4, §9 (search-program).
func TestSearch(t *testing.T) {
	deep := strings.Repeat("NOT ", MaxSearchDepth+2) + "ALL"
	for _, tt := range []struct{ in, want string }{
		{"ALL", "and(all)"},
		{`FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"`, `and(\Flagged 14@1994-02-01 not(FROM:"Smith"))`},
		{`1:5,* UID 4`, `and(seq{[{1 5} {0 0}] false} uid{[{4 4}] false})`},
		{`or SEEN (unseen new) old`, `and(or(\Seen and(not(\Seen) and(recent not(\Seen)))) not(recent))`},
		{`HEADER Message-ID "<a@b>"`, `and(Message-ID:"<a@b>")`},
		{`HEADER X-Spam ""`, `and(X-Spam:"")`},
		{`KEYWORD $Junk UNKEYWORD work`, `and($Junk not(work))`},
		{`TEXT {6+}` + "\r\nstring ALL", `and(10:"string"0 all)`},
		{`LARGER 10 SMALLER 9999999999`, `and(11:""10 12:""9999999999)`},
		{`ON "01-jan-2020" SENTON 1-JAN-2020 SENTBEFORE 2-Jan-2020 SENTSINCE 3-Jan-2020 BEFORE 4-Jan-2020`,
			`and(14@2020-01-01 17@2020-01-01 16@2020-01-02 18@2020-01-03 13@2020-01-04)`},
		{`OLDER 100 YOUNGER 5`, `and(19:""100 20:""5)`},
		{`MODSEQ "/flags/\\draft" all 620162338`, `and(21:""620162338)`},
		{`$`, `and(seq{[] true})`},
		{`FUZZY SUBJECT x`, `and(SUBJECT:"x")`},
		{"", ""},
		{"ALL FOO", ""},
		{"FOO", ""},
		{"NOT", ""},
		{"OR ALL", ""},
		{"()", ""},
		{"(ALL", ""},
		{"SINCE 1994-02-01", ""},
		{"SUBJECT", ""},
		{"0", ""},
		{"OLDER 0", ""},
		{deep, ""},
		{strings.Repeat("(", 500), ""},
	} {
		d, _ := decoderOn(t, tt.in+"\r\n")
		s := d.Search()
		err := d.End()
		var syntax *SyntaxError
		if tt.want == "" {
			if !errors.As(err, &syntax) {
				t.Errorf("Search(%.40q): %v, want a syntax error", tt.in, err)
			}
			continue
		}
		if got := describe(s.Key); err != nil || got != strings.Replace(tt.want, "14@1994", fmt.Sprintf("%d@1994", SearchSince), 1) {
			t.Errorf("Search(%q) = %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
}

// RFC 4731 §3.1, RFC 5182 §2.
func TestSearchReturn(t *testing.T) {
	for _, tt := range []struct {
		in      string
		ret     SearchReturn
		charset string
		bad     bool
	}{
		{in: "ALL"},
		{in: "CHARSET utf-8 ALL", charset: "UTF-8"},
		{in: `RETURN () CHARSET "US-ASCII" ALL`, ret: ReturnExtended | ReturnAll, charset: "US-ASCII"},
		{in: "RETURN (MIN max COUNT) ALL", ret: ReturnExtended | ReturnMin | ReturnMax | ReturnCount},
		{in: "RETURN (SAVE) ALL", ret: ReturnExtended | ReturnSave},
		{in: "RETURN (FOO) ALL", bad: true},
		{in: "RETURN (MIN)", bad: true},
		{in: "CHARSET UTF-8", bad: true},
		{in: "ALL CHARSET UTF-8", bad: true},
	} {
		d, _ := decoderOn(t, tt.in+"\r\n")
		s := d.Search()
		if err := d.End(); (err != nil) != tt.bad || !tt.bad && (s.Return != tt.ret || s.Charset != tt.charset) {
			t.Errorf("Search(%q): return %d, charset %q, %v", tt.in, s.Return, s.Charset, err)
		}
	}
}

// RFC 9051 §6.4.5, §9 (fetch, section).
func TestFetch(t *testing.T) {
	for _, tt := range []struct {
		in       string
		atts     FetchAtts
		sections string // as a response names them; ! after those that set \Seen
		bad      bool
	}{
		{in: "FAST", atts: FetchFlags | FetchInternalDate | FetchSize},
		{in: "ALL", atts: FetchFlags | FetchInternalDate | FetchSize | FetchEnvelope},
		{in: "full", atts: FetchFlags | FetchInternalDate | FetchSize | FetchEnvelope | FetchBody},
		{in: "(UID FLAGS BODY BODYSTRUCTURE)", atts: FetchUID | FetchFlags | FetchBody | FetchBodyStructure},
		{in: "BODY[]", sections: "BODY[]!"},
		{in: "body.peek[]<0.2048>", sections: "BODY[]<0>"},
		{in: "(BODY[HEADER] BODY[TEXT]<5.1>)", sections: "BODY[HEADER]! BODY[TEXT]<5>!"},
		{in: `BODY[HEADER.FIELDS (date "From")]`, sections: "BODY[HEADER.FIELDS (DATE FROM)]!"},
		{in: `BODY.PEEK[1.HEADER.FIELDS.NOT (A)]`, sections: "BODY[1.HEADER.FIELDS.NOT (A)]"},
		{in: "BODY[1.2.MIME]", sections: "BODY[1.2.MIME]!"},
		{in: "BODY[3.TEXT]", sections: "BODY[3.TEXT]!"},
		{in: "BODY[1]", sections: "BODY[1]!"},
		{in: "(RFC822 RFC822.HEADER RFC822.TEXT RFC822.SIZE)", atts: FetchSize, sections: "RFC822! RFC822.HEADER RFC822.TEXT!"},
		{in: "(BINARY.PEEK[1] BINARY[2]<1.2> BINARY.SIZE[3])", sections: "BINARY[1] BINARY[2]<1>! BINARY.SIZE[3]"},
		{in: "FLAGS (CHANGEDSINCE 5)", atts: FetchFlags | FetchModSeq},
		{in: "()", bad: true},
		{in: "(ALL)", bad: true},
		{in: "BODY[MIME]", bad: true},
		{in: "BODY[0]", bad: true},
		{in: "BODY[1.]", bad: true},
		{in: "BODY[.1]", bad: true},
		{in: "BODY[HEADER.1]", bad: true},
		{in: "BODY[HEADER.FIELDS ()]", bad: true},
		{in: "BODY[]<0.0>", bad: true},
		{in: "BODY[]<0>", bad: true},
		{in: "BODY[", bad: true},
		{in: "FOO", bad: true},
		{in: "UID FLAGS", bad: true},
		{in: "BODY[" + strings.Repeat("1.", 200) + "1]", bad: true},
	} {
		d, _ := decoderOn(t, tt.in+"\r\n")
		f := d.Fetch()
		err := d.End()
		if tt.bad {
			if err == nil {
				t.Errorf("Fetch(%q) = %+v, want an error", tt.in, f)
			}
			continue
		}
		var names []string
		for i := range f.Sections {
			name := string(AppendSection(nil, &f.Sections[i]))
			if f.Sections[i].SetsSeen() {
				name += "!"
			}
			names = append(names, name)
		}
		if got := strings.Join(names, " "); err != nil || f.Atts != tt.atts || got != tt.sections {
			t.Errorf("Fetch(%q) = %b, %s, %v; want %b, %s", tt.in, f.Atts, got, err, tt.atts, tt.sections)
		}
	}
}
