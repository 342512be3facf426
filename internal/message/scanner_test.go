package message

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// scan reads msg in pieces as cut says: the size of the next piece.
func scan(msg []byte, limits Limits, cut func(left int) int) (*Parsed, []byte) {
	s := NewScanner(limits)
	var body []byte
	for rest := msg; len(rest) > 0; {
		n := cut(len(rest))
		piece := bytes.Clone(rest[:n]) // the scanner must not keep it
		body = append(body, s.Scan(piece)...)
		clear(piece)
		rest = rest[n:]
	}
	return s.Close(), body
}

func whole(left int) int { return left }

// checkTree reports what is wrong with the offsets of the parsed message.
func checkTree(p *Parsed, body []byte) error {
	if p.Root == nil || p.BodySize != int64(len(body)) || p.BodyLines != int64(bytes.Count(body, newline)) {
		return fmt.Errorf("sizes: %d octets, %d lines of %d", p.BodySize, p.BodyLines, len(body))
	}
	if p.Root.BodyOffset != 0 || p.Root.BodySize != p.BodySize || p.Root.BodyLines != p.BodyLines {
		return fmt.Errorf("root is not the body: %+v", p.Root)
	}
	return checkPart(p.Root, 0, p.BodySize, body)
}

func checkPart(p *Part, from, to int64, body []byte) error {
	switch {
	case p.HeaderOffset < from || p.HeaderSize < 0 || p.BodySize < 0:
		return fmt.Errorf("%s/%s begins at %d before %d", p.Type, p.Subtype, p.HeaderOffset, from)
	case p.HeaderOffset+p.HeaderSize != p.BodyOffset || p.BodyOffset+p.BodySize > to:
		return fmt.Errorf("%s/%s: header %d+%d, body %d+%d beyond %d", p.Type, p.Subtype, p.HeaderOffset, p.HeaderSize, p.BodyOffset, p.BodySize, to)
	case p.Type == "" || p.Subtype == "" || p.Encoding == "":
		return fmt.Errorf("part without type: %+v", p)
	}
	if n := int64(bytes.Count(body[p.BodyOffset:p.BodyOffset+p.BodySize], newline)); n != p.BodyLines {
		return fmt.Errorf("%s/%s at %d: %d lines, counted %d", p.Type, p.Subtype, p.BodyOffset, p.BodyLines, n)
	}
	at := p.BodyOffset
	for _, c := range p.Children {
		if err := checkPart(c, at, p.BodyOffset+p.BodySize, body); err != nil {
			return err
		}
		at = c.BodyOffset + c.BodySize
	}
	if p.Embedded != nil {
		return checkPart(p.Embedded.Root, p.BodyOffset, p.BodyOffset+p.BodySize, body)
	}
	return nil
}

func emlFiles(t testing.TB) map[string][]byte {
	names, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no messages in testdata: %v", err)
	}
	files := make(map[string][]byte)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(filepath.Base(name), ".eml")] = b
	}
	return files
}

// However a message is cut into pieces, its description is the same.
func FuzzScanner(f *testing.F) {
	for _, msg := range emlFiles(f) {
		f.Add(msg, uint64(1))
	}
	f.Fuzz(checkMessage)
}

// Messages made of the lines that matter, in any order.
func TestScannerRandom(t *testing.T) {
	t.Parallel()
	lines := []string{"--a", "--b", "--ab", "--a--", "--b--", "--ab-- ", "", "", "text", "-", "--",
		"Content-Type: multipart/mixed; boundary=a", "Content-Type: multipart/digest; boundary=b",
		"Content-Type: multipart/mixed; boundary=\"ab\"", "Content-Type: message/rfc822",
		"Content-Type: text/html; charset=x", "From: a@b.example", "\tfolded", "no field", "\x00\xff"}
	ends := []string{"\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", ""}
	r := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		var msg []byte
		for range r.IntN(40) {
			msg = append(msg, lines[r.IntN(len(lines))]...)
			end := ends[0]
			if r.IntN(5) == 0 {
				end = ends[r.IntN(len(ends))]
			}
			msg = append(msg, end...)
		}
		checkMessage(t, msg, r.Uint64())
		if t.Failed() {
			t.Fatalf("message %q", msg)
		}
	}
}

// checkMessage holds what is true of every message.
func checkMessage(t *testing.T, msg []byte, seed uint64) {
	limits := Limits{MaxDepth: 5, MaxParts: 20, MaxHeader: 2000}
	want, body := scan(msg, limits, whole)
	if err := checkTree(want, body); err != nil {
		t.Fatalf("%q: %v", msg, err)
	}
	if head := msg[:want.HeaderSize]; !bytes.Equal(append(bytes.Clone(head), body...), msg) {
		t.Fatalf("header %d and body %d are not the message of %d octets", len(head), len(body), len(msg))
	}
	if got := want.Header.Bytes(); !bytes.HasPrefix(got, msg[:want.HeaderSize]) || len(got) > int(want.HeaderSize)+4 {
		t.Fatalf("header %q became %q", msg[:want.HeaderSize], got)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for _, size := range []int{1, 3, 100} {
		got, cutBody := scan(msg, limits, func(left int) int { return min(left, 1+r.IntN(size)) })
		if !bytes.Equal(body, cutBody) {
			t.Fatalf("body differs when cut")
		}
		if want.Defects&DefectHeaderTooBig != 0 && got.HeaderSize != want.HeaderSize {
			continue // where a header that is too long ends depends on the pieces
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q cut into pieces of up to %d:\n%s %+v\nwhole:\n%s %+v", msg, size, EncodeStructure(got.Root), got, EncodeStructure(want.Root), want)
		}
	}
	enc := EncodeStructure(want.Root)
	dec, err := DecodeStructure(enc)
	if err != nil {
		t.Fatalf("%q: %v", msg, err)
	}
	if again := EncodeStructure(dec); !bytes.Equal(again, enc) {
		t.Fatalf("encoded again: %q, want %q", again, enc)
	}
	for _, extended := range []bool{false, true} {
		a, b := dec.AppendBodyStructure(nil, extended), want.Root.AppendBodyStructure(nil, extended)
		if !bytes.Equal(a, b) {
			t.Fatalf("structure after decoding %q, before %q", a, b)
		}
		if rest, err := parseIMAP(b); err != nil || len(rest) > 0 {
			t.Fatalf("structure %q is no IMAP: %v, left %q", b, err, rest)
		}
	}
	env := want.Header.Envelope(nil)
	if rest, err := parseIMAP(env); err != nil || len(rest) > 0 {
		t.Fatalf("envelope %q is no IMAP: %v, left %q", env, err, rest)
	}
}

// parseIMAP takes a value of RFC 9051 §9: a list, string, number or NIL.
func parseIMAP(b []byte) (rest []byte, err error) {
	bad := func() ([]byte, error) { return b, fmt.Errorf("syntax error at %.40q", b) }
	switch {
	case len(b) == 0:
		return bad()
	case b[0] == '(':
		b = b[1:]
		for first := true; ; first = false {
			if len(b) > 0 && b[0] == ')' && !first {
				return b[1:], nil
			}
			// Between addresses and between parts no space stands.
			if !first && len(b) > 0 && b[0] == ' ' {
				b = b[1:]
			} else if !first && (len(b) == 0 || b[0] != '(') {
				return bad()
			}
			if b, err = parseIMAP(b); err != nil {
				return b, err
			}
		}
	case b[0] == '"':
		for i := 1; i < len(b); i++ {
			switch c := b[i]; {
			case c == '"':
				return b[i+1:], nil
			case c == '\\':
				i++
				if i == len(b) || b[i] != '"' && b[i] != '\\' {
					return bad()
				}
			case c >= 0x80 || c == '\r' || c == '\n' || c == 0:
				return bad()
			}
		}
		return bad()
	case b[0] == '{':
		var n int
		if _, err := fmt.Sscanf(string(b[:min(len(b), 20)]), "{%d}\r\n", &n); err != nil {
			return bad()
		}
		b = b[bytes.IndexByte(b, '\n')+1:]
		if n > len(b) || bytes.IndexByte(b[:n], 0) >= 0 {
			return bad()
		}
		return b[n:], nil
	case bytes.HasPrefix(b, []byte("NIL")):
		return b[3:], nil
	}
	i := 0
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	if i == 0 {
		return bad()
	}
	return b[i:], nil
}

// A body of any size costs no memory: the scanner keeps the header and the
// tree.
func TestScannerMemory(t *testing.T) {
	lines := []byte(strings.Repeat(strings.Repeat("QUFB", 19)+"\r\n", 1000))
	allocs := testing.AllocsPerRun(1, func() {
		s := NewScanner(Limits{})
		s.Write([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/zip\r\n\r\n"))
		for range 1000 {
			s.Write(lines[:len(lines)-7]) // lines come in pieces
			s.Write(lines[len(lines)-7:])
		}
		if p := s.Close(); p.Root.Children[0].BodyLines != 1_000_000 {
			t.Errorf("%d lines", p.Root.Children[0].BodyLines)
		}
	})
	if allocs > 50 {
		t.Errorf("%v allocations for 78 MB", allocs)
	}
}
