package message

import (
	"strings"
	"testing"
)

// The example of RFC 9051 §6.4.5.1, as far as it has parts that can be told
// apart: each part holds its own number.
const sectionMessage = "Subject: outer\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n" +
	"--a\r\nX: 1\r\n\r\n1\r\n" +
	"--a\r\nContent-Type: application/octet-stream\r\n\r\n2\r\n" +
	"--a\r\nContent-Type: message/rfc822\r\n\r\n" +
	"Subject: three\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
	"--b\r\n\r\n3.1\r\n" +
	"--b\r\nContent-Type: application/octet-stream\r\n\r\n3.2\r\n" +
	"--b--\r\n" +
	"--a\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n" +
	"--c\r\nContent-Type: image/gif\r\nX: 4.1\r\n\r\n4.1\r\n" +
	"--c\r\nContent-Type: message/rfc822\r\nX: 4.2\r\n\r\n" +
	"Subject: four two\r\n\r\n4.2.1\r\n" +
	"--c--\r\n--a--\r\n"

func TestSection(t *testing.T) {
	t.Parallel()
	p, body := scan([]byte(sectionMessage), Limits{}, whole)
	const own = "the message's own header"
	for _, tt := range []struct {
		name string
		path []int
		kind SectionKind
		want string // "-": does not exist
	}{
		{"TEXT", nil, SectionText, string(body)},
		{"HEADER", nil, SectionHeader, own},
		{"1", []int{1}, SectionBody, "1"},
		{"1.MIME", []int{1}, SectionMIME, "X: 1\r\n\r\n"},
		{"1.HEADER", []int{1}, SectionHeader, "-"},
		{"1.TEXT", []int{1}, SectionText, "-"},
		{"1.1", []int{1, 1}, SectionBody, "-"},
		{"2", []int{2}, SectionBody, "2"},
		{"3.HEADER", []int{3}, SectionHeader, "Subject: three\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"},
		{"3.MIME", []int{3}, SectionMIME, "Content-Type: message/rfc822\r\n\r\n"},
		{"3.TEXT", []int{3}, SectionText, "--b\r\n\r\n3.1\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n3.2\r\n--b--"},
		{"3.1", []int{3, 1}, SectionBody, "3.1"},
		{"3.2", []int{3, 2}, SectionBody, "3.2"},
		{"3.2.MIME", []int{3, 2}, SectionMIME, "Content-Type: application/octet-stream\r\n\r\n"},
		{"3.3", []int{3, 3}, SectionBody, "-"},
		{"4.1", []int{4, 1}, SectionBody, "4.1"},
		{"4.1.MIME", []int{4, 1}, SectionMIME, "Content-Type: image/gif\r\nX: 4.1\r\n\r\n"},
		{"4.2", []int{4, 2}, SectionBody, "Subject: four two\r\n\r\n4.2.1"},
		{"4.2.HEADER", []int{4, 2}, SectionHeader, "Subject: four two\r\n\r\n"},
		{"4.2.TEXT", []int{4, 2}, SectionText, "4.2.1"},
		{"4.2.1", []int{4, 2, 1}, SectionBody, "4.2.1"},
		{"4.2.1.MIME", []int{4, 2, 1}, SectionMIME, "Subject: four two\r\n\r\n"},
		{"4.2.2", []int{4, 2, 2}, SectionBody, "-"},
		{"4.2.1.1", []int{4, 2, 1, 1}, SectionBody, "-"},
		{"5", []int{5}, SectionBody, "-"},
		{"0", []int{0}, SectionBody, "-"},
	} {
		s, ok := p.Root.Section(tt.path, tt.kind)
		got := "-"
		switch {
		case ok && s.OfMessage:
			got = own
		case ok:
			got = string(body[s.Offset : s.Offset+s.Size])
		}
		if got != tt.want {
			t.Errorf("BODY[%s] = %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A message that is no multipart has one part, 1, whose MIME header is its own.
func TestSectionSinglePart(t *testing.T) {
	t.Parallel()
	p, _ := scan([]byte("Subject: a\r\n\r\nhello\r\n"), Limits{}, whole)
	if s, ok := p.Root.Section([]int{1}, SectionBody); !ok || s.Size != 7 {
		t.Errorf("BODY[1] = %+v, %t", s, ok)
	}
	if s, ok := p.Root.Section([]int{1}, SectionMIME); !ok || !s.OfMessage {
		t.Errorf("BODY[1.MIME] = %+v, %t", s, ok)
	}
	for _, path := range [][]int{{2}, {1, 1}} {
		if s, ok := p.Root.Section(path, SectionBody); ok {
			t.Errorf("BODY[%v] = %+v", path, s)
		}
	}
}

// RFC 9051 §6.4.5.1: below message/rfc822 as the whole message, 1.1 is the
// text inside.
func TestSectionEmbeddedRoot(t *testing.T) {
	t.Parallel()
	p, body := scan([]byte("Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ntext"), Limits{}, whole)
	for _, tt := range []struct {
		path []int
		kind SectionKind
		want string
	}{
		{[]int{1}, SectionBody, "Subject: in\r\n\r\ntext"},
		{[]int{1}, SectionHeader, "Subject: in\r\n\r\n"},
		{[]int{1}, SectionText, "text"},
		{[]int{1, 1}, SectionBody, "text"},
	} {
		s, ok := p.Root.Section(tt.path, tt.kind)
		if got := string(body[s.Offset : s.Offset+s.Size]); !ok || got != tt.want {
			t.Errorf("section %v %d = %q, want %q", tt.path, tt.kind, got, tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	nest := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString("Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", i%60+1) + "\r\n\r\n--" + strings.Repeat("b", i%60+1) + "\r\n")
		}
		return b.String()
	}
	for _, tt := range []struct {
		name, msg string
		want      Defects
		maxParts  int
	}{
		{"multiparts in multiparts", nest(2000), DefectTooDeep | DefectNotClosed, 10_000},
		{"messages in messages", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 2000), DefectTooDeep, 101},
		{"many parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n", 30_000), DefectTooManyParts | DefectNotClosed, 10_000},
		{"digest of digests", "Content-Type: multipart/digest; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n", 2000), DefectNotClosed, 10_000},
		{"header", "Subject: " + strings.Repeat("a\r\n b", 1<<19) + "\r\n\r\n", DefectHeaderTooBig, 1},
		{"header of one line", "Subject: " + strings.Repeat("a", 1<<21), DefectHeaderTooBig | DefectLongLine, 1},
		{"part headers", "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nX: "+strings.Repeat("a", 900)+"\r\n\r\n", 5000), DefectHeaderTooBig | DefectNotClosed, 10_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, body := scan([]byte(tt.msg), Limits{}, func(left int) int { return min(left, 4096) })
			if err := checkTree(p, body); err != nil {
				t.Error(err)
			}
			if p.Defects&tt.want != tt.want {
				t.Errorf("defects %v, want %v", p.Defects, tt.want)
			}
			parts, depth := 0, 0
			p.Root.All(func(*Part) bool { parts++; return true })
			for q := p.Root; q != nil; depth++ {
				q = q.first()
			}
			if parts > tt.maxParts || depth > 101 {
				t.Errorf("%d parts, depth %d", parts, depth)
			}
			p.Header.Envelope(nil)
			if enc := EncodeStructure(p.Root); len(enc) > 4<<20 {
				t.Errorf("structure of %d octets", len(enc))
			}
			if _, err := DecodeStructure(EncodeStructure(p.Root)); err != nil {
				t.Error(err)
			}
		})
	}
}

func (p *Part) first() *Part {
	if p.Embedded != nil {
		return p.Embedded.Root
	}
	if len(p.Children) > 0 {
		return p.Children[0]
	}
	return nil
}

func FuzzDecodeStructure(f *testing.F) {
	for _, msg := range emlFiles(f) {
		p, _ := scan(msg, Limits{}, whole)
		f.Add(EncodeStructure(p.Root))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodeStructure(b)
		if err != nil {
			return
		}
		again, err := DecodeStructure(EncodeStructure(p))
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		if string(EncodeStructure(again)) != string(EncodeStructure(p)) {
			t.Fatal("encoding is not stable")
		}
		again.AppendBodyStructure(nil, true)
		again.Find([]int{1, 1})
	})
}
