package wire

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// scan passes in, cut into pieces of n octets, through c, and returns what was
// handed on and what is left behind the end.
func scan(c *Content, in string, n int) (out, rest string, end bool) {
	var b strings.Builder
	for len(in) > 0 {
		p := []byte(in[:min(n, len(in))])
		for len(p) > 0 {
			run, used, done := c.Next(p)
			b.Write(run)
			in, p = in[used:], p[used:]
			if done {
				return b.String(), in, true
			}
		}
	}
	return b.String(), "", false
}

func TestContent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, out, rest string
		defects       Defect
	}{
		{".\r\n", "", "", 0},
		{"a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n", 0},
		{"..\r\n.\r\n", ".\r\n", "", 0},
		{"...a\r\n.b\r\nc.\r\n.\r\n", "..a\r\nb\r\nc.\r\n", "", 0},
		{"\r\n\r\n.\r\n", "\r\n\r\n", "", 0},
		{".a.\r\n.\r\n", "a.\r\n", "", 0},
		{"a\n.\r\n.\r\n", "", "", BareLF},
		{"a\r\n.\n.\r\n\r\n.\r\n", "", "", BareLF},
		{"a\r.\r\n.\r\n", "", "", BareCR},
		{"a\r\r\n.\r\n", "", "", BareCR},
		{"a\r\n.\r\r\n.\r\n", "", "", BareCR},
		{"a\r\n.\rb\r\n.\r\n", "", "", BareCR},
		{"\na\r\n.\r\n", "", "", BareLF},
		{"\ra\r\n.\r\n", "", "", BareCR},
		{"\n\r\n.\r\n", "", "", BareLF},
		{"a\x00b\r\n.\r\n", "a\x00b\r\n", "", NUL},
		{"\x00\r\n.\r\n", "\x00\r\n", "", NUL},
		{"12345678\r\n.\r\n", "12345678\r\n", "", 0},
		{"123456789\r\n.\r\n", "123456789\r\n", "", LongLine},
	} {
		for n := 1; n <= len(tt.in); n++ {
			c := Content{Dots: true, MaxLine: 8}
			out, rest, end := scan(&c, tt.in, n)
			if !end {
				t.Errorf("%q by %d: no end", tt.in, n)
				continue
			}
			if c.Defects != tt.defects || rest != tt.rest || out != tt.out && tt.defects&(BareCR|BareLF) == 0 {
				t.Errorf("%q by %d: %q, rest %q, defects %b; want %q, %q, %b", tt.in, n, out, rest, c.Defects, tt.out, tt.rest, tt.defects)
			}
			if c.Size != int64(len(out)) || c.Close() != "" {
				t.Errorf("%q by %d: size %d", tt.in, n, c.Size)
			}
		}
	}
}

// Without dots, everything is content (RFC 3030 §2).
func TestChunks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, end string
		defects Defect
	}{
		{"", "", 0}, {"a\r\n.\r\n..\r\n", "", 0}, {"a", "\r\n", 0}, {"a\r", "\r\n", BareCR}, {"a\n", "\r\n", BareLF}, {".\r\nb", "\r\n", 0},
	} {
		for n := 1; n <= max(1, len(tt.in)); n++ {
			c := Content{MaxLine: 8}
			out, _, end := scan(&c, tt.in, n)
			if got := c.Close(); out != tt.in || end || got != tt.end || c.Defects != tt.defects {
				t.Errorf("%q by %d: %q, end %q, defects %b", tt.in, n, out, got, c.Defects)
			}
		}
	}
}

func TestReceivedFields(t *testing.T) {
	t.Parallel()
	const header = "Received: one\r\nRECEIVED:\r\n\ttwo, folded\r\n received: no\r\nX-Received: no\r\nReceived : no\r\nReceivedx: no\r\nreceived:three\r\n\r\nReceived: body\r\n.\r\n"
	for n := 1; n < len(header); n++ {
		c := Content{Dots: true, MaxLine: 100}
		scan(&c, header, n)
		if c.Received != 3 {
			t.Errorf("by %d: %d", n, c.Received)
		}
	}
}

// stuffed is what a client sends for text that ends with CRLF or is empty.
func stuffed(text string) string {
	s := strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")
	return s[2:] + ".\r\n"
}

// The scanner reverses dot-stuffing whatever the segments; it says that content
// holds a bare CR or LF exactly when it does; and content without one ends where
// the client ended it.
func FuzzContent(f *testing.F) {
	for _, s := range []string{"", "a\r\n", ".\r\n..\r\n", "a\n.\r\n", "\r.\r\n", "\r\n\r\n.", "Received: x\r\n\r\n", "\x00\n", "a\r\n.\rb"} {
		f.Add(s, uint8(1))
		f.Add(s, uint8(3))
	}
	bare := regexp.MustCompile(`(?s)\r([^\n]|$)|(^|[^\r])\n`)
	f.Fuzz(func(t *testing.T, text string, n uint8) {
		size := int(n) + 1
		if text != "" && !strings.HasSuffix(text, "\r\n") {
			text += "\r\n"
		}
		c := Content{Dots: true, MaxLine: 1000}
		out, rest, end := scan(&c, stuffed(text)+"NEXT", size)
		hasBare := bare.MatchString(text)
		if got := c.Defects&(BareCR|BareLF) != 0; got != hasBare {
			t.Fatalf("content %q: defects %b", text, c.Defects)
		}
		if !hasBare && (!end || out != text || rest != "NEXT") {
			t.Fatalf("content %q by %d: %q, rest %q", text, size, out, rest)
		}
		if (c.Defects&NUL != 0) != strings.Contains(out, "\x00") {
			t.Fatalf("content %q: NUL %b", text, c.Defects)
		}
		// Raw octets, in any segments, end at the first CRLF.CRLF and nowhere else.
		raw := Content{Dots: true, MaxLine: 1000}
		_, rest, end = scan(&raw, text, size)
		at := strings.Index("\r\n"+text, "\r\n.\r\n")
		if end != (at >= 0) || end && rest != ("\r\n" + text)[at+5:] {
			t.Fatalf("%q by %d: end %v, rest %q", text, size, end, rest)
		}
	})
}

func BenchmarkContent(b *testing.B) {
	in := bytes.Repeat([]byte(strings.Repeat("x", 74)+"\r\n"), 64<<10/76)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		c := Content{Dots: true, MaxLine: 1000}
		for p := in; len(p) > 0; {
			_, n, _ := c.Next(p)
			p = p[n:]
		}
	}
}
