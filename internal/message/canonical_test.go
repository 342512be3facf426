package message

import (
	"bytes"
	"regexp"
	"testing"
)

func canonical(chunks ...[]byte) string {
	var b bytes.Buffer
	w := NewCanonicalWriter(&b)
	for _, c := range chunks {
		w.Write(c)
	}
	w.Close()
	return b.String()
}

func TestCanonicalWriter(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"a\r\nb\r\n", "a\r\nb\r\n"},
		{"a\nb\n", "a\r\nb\r\n"},
		{"a\rb\r", "a\r\nb\r\n"},
		{"a", "a\r\n"},
		{"a\r", "a\r\n"},
		{"\n.\n", "\r\n.\r\n"},
		{"\r\r\n", "\r\n\r\n"},
		{"\n\r", "\r\n\r\n"},
		{"\r\n\r\n", "\r\n\r\n"},
	} {
		if got := canonical([]byte(tt.in)); got != tt.want {
			t.Errorf("canonical(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// What leaves has CRLF only, however the input is cut into writes.
func FuzzCanonicalWriter(f *testing.F) {
	f.Add([]byte("a\r\n.\r\nb\n.\n\r"), uint8(3))
	f.Add([]byte("\r\r\n\n"), uint8(1))
	bare := regexp.MustCompile(`(?s)\r(?:[^\n]|$)|(?:^|[^\r])\n`)
	f.Fuzz(func(t *testing.T, in []byte, at uint8) {
		whole := canonical(in)
		if m := bare.FindString(whole); m != "" {
			t.Fatalf("canonical(%q) = %q holds %q", in, whole, m)
		}
		n := int(at) % (len(in) + 1)
		if cut := canonical(in[:n], in[n:]); cut != whole {
			t.Fatalf("cut at %d: %q, want %q", n, cut, whole)
		}
	})
}
