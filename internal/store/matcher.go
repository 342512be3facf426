package store

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"dirpost/internal/message"

	"golang.org/x/text/unicode/norm"
)

// errMatched ends a stream in which every key was found.
var errMatched = errors.New("all found")

// matchPiece is how much text a matcher normalises at a time.
const matchPiece = 32 << 10

// matcher looks for normalised keys in a stream of text, in bounded memory. Its
// Write fails with errMatched when there is nothing left to look for.
//
// The text is normalised piece by piece. A piece ends before white space, or,
// in a long text without any, where no normalisation reaches across; the end of
// the one before is kept, as long as the longest key.
type matcher struct {
	keys    []string // not found yet
	longest int
	pending []byte // text not normalised yet
	window  []byte // normalised: the end of what was searched, then the new piece
	gap     bool   // white space stood behind the last piece
}

func newMatcher(keys []string) *matcher {
	m := &matcher{keys: slices.Clone(keys)}
	for _, k := range keys {
		m.longest = max(m.longest, len(k))
	}
	return m
}

// missing returns the keys that were not found.
func (m *matcher) missing() []string { return m.keys }

// Write is io.Writer.
func (m *matcher) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(m.keys) == 0 {
			return n - len(p), errMatched
		}
		k := min(len(p), matchPiece-len(m.pending))
		m.pending = append(m.pending, p[:k]...)
		p = p[k:]
		if len(m.pending) == matchPiece {
			m.search(cut(m.pending))
		}
	}
	if len(m.keys) == 0 {
		return n, errMatched
	}
	return n, nil
}

// end searches what is left. More text may follow, after white space.
func (m *matcher) end() {
	if len(m.keys) > 0 {
		m.search(len(m.pending))
	}
}

// cut returns where to end a piece of text.
func cut(text []byte) int {
	if i := bytes.LastIndexAny(text, " \n\t\r"); i > 0 {
		return i
	}
	if i := norm.NFKC.LastBoundary(text); i > 0 {
		return i
	}
	return len(text) // a run of combining marks is no text
}

// search normalises the first n octets of the pending text and looks for the
// keys in them.
func (m *matcher) search(n int) {
	if n == 0 {
		return
	}
	piece := message.Normalize(string(m.pending[:n]))
	head, _ := utf8.DecodeRune(m.pending[:n])
	tail, _ := utf8.DecodeLastRune(m.pending[:n])
	if m.gap = m.gap || isBlank(head); m.gap && piece != "" && len(m.window) > 0 {
		m.window = append(m.window, ' ')
	}
	m.gap = isBlank(tail)
	m.pending = append(m.pending[:0], m.pending[n:]...)
	m.window = append(m.window, piece...)
	text := string(m.window)
	m.keys = slices.DeleteFunc(m.keys, func(k string) bool { return strings.Contains(text, k) })
	if keep := m.longest; len(m.window) > keep {
		m.window = append(m.window[:0], m.window[len(m.window)-keep:]...)
	}
}

// isBlank reports whether r is what Normalize makes a space of, and drops at the
// ends.
func isBlank(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
