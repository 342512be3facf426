package message

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// The set finds what a comparison with every open boundary finds.
func TestBoundarySet(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	word := func(n int) []byte {
		b := make([]byte, 1+r.IntN(n))
		for i := range b {
			b[i] = "abc"[r.IntN(3)]
		}
		return b
	}
	for range 2000 {
		var s Scanner
		for range 1 + r.IntN(10) {
			b := word(4)
			s.open = append(s.open, openPart{boundary: b})
			s.set.add(b, len(s.open)-1)
		}
		for len(s.open) > 0 {
			for range 5 {
				text := word(8)
				want, size := -1, 0
				for i, o := range s.open {
					if bytes.HasPrefix(text, o.boundary) && len(o.boundary) >= size {
						want, size = i, len(o.boundary)
					}
				}
				if got, n := s.set.match(text); got != want || n != size {
					t.Fatalf("match(%s) = %d, %d, want %d, %d of %v", text, got, n, want, size, s.open)
				}
			}
			s.closeBoundary(len(s.open) - 1)
			s.open = s.open[:len(s.open)-1]
		}
	}
}

// A hundred open boundaries cost no more than one: with a comparison of each
// line with each of them this takes minutes.
func TestBoundariesHostile(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 99 {
		boundary := "a" + strings.Repeat("b", i%10) + string(appendInt(nil, int64(i)))
		b.WriteString("Content-Type: multipart/mixed; boundary=" + boundary + "\r\n\r\n--" + boundary + "\r\n")
	}
	s := NewScanner(Limits{})
	s.Write([]byte(b.String() + "\r\n"))
	lines := []byte(strings.Repeat("--abbX\r\n", 1<<17))
	for range 5 {
		s.Write(lines)
	}
	if p := s.Close(); p.Defects != DefectNotClosed {
		t.Errorf("defects %v", p.Defects)
	}
}
