package message

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Normalize returns text in the form in which it is searched: NFKC, case
// folded, white space and controls collapsed to one space, none at the ends.
// It is valid UTF-8 without NUL, so Postgres takes it.
//
// Every Han, Kana and Hangul rune is written as two letters of two disjoint
// alphabets in the Yi block (Yi runes too, so that the code is unambiguous): a
// trigram index then serves keys of two such runes, and a text holds a key if
// and only if the coded text holds the coded key. Text and key must both pass
// here, once.
func Normalize(text string) string {
	i := 0
	for i < len(text) && isNormalASCII(text[i]) && !(text[i] == ' ' && (i == 0 || text[i-1] == ' ' || i+1 == len(text))) {
		i++
	}
	if i == len(text) {
		return text
	}
	if !isASCIIString(text[i:]) {
		if !utf8.ValidString(text) {
			text = strings.ToValidUTF8(text, "\uFFFD")
		}
		if !norm.NFKC.IsNormalString(text) {
			text, i = norm.NFKC.String(text), 0
		}
	}
	return string(appendFolded(make([]byte, 0, len(text)+len(text)/4), text))
}

// NormalizeKey returns a key to be looked for in normalised text: Normalize, but
// white space at its ends stays, as one space. So "art " is found in "art of" and
// not in "party" (RFC 9051 §6.4.4: a key is a substring).
func NormalizeKey(key string) string {
	const edge = "\uFFFC" // neither white space nor composed with anything
	return strings.TrimSuffix(strings.TrimPrefix(Normalize(edge+key+edge), edge), edge)
}

// isNormalASCII reports whether c stays as it is.
func isNormalASCII(c byte) bool { return c >= ' ' && c < 0x7f && !('A' <= c && c <= 'Z') }

func isASCIIString(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func appendFolded(dst []byte, text string) []byte {
	space := false
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			i++
			if c <= ' ' || c == 0x7f {
				space = true
				continue
			}
			if 'A' <= c && c <= 'Z' {
				c |= 0x20
			}
			if space && len(dst) > 0 {
				dst = append(dst, ' ')
			}
			space = false
			dst = append(dst, c)
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		switch {
		case unicode.IsSpace(r) || unicode.IsControl(r):
			space = true
			continue
		case isIgnorable(r):
			continue
		}
		if space && len(dst) > 0 {
			dst = append(dst, ' ')
		}
		space = false
		dst = appendRune(dst, r)
	}
	return dst
}

// isIgnorable reports whether r is invisible and never typed into a search:
// soft hyphen, zero-width and direction marks.
func isIgnorable(r rune) bool {
	return r == 0xAD || r >= 0x200B && r <= 0x200F || r >= 0x202A && r <= 0x202E ||
		r >= 0x2060 && r <= 0x206F || r == 0xFEFF
}

// appendRune appends r folded and coded.
func appendRune(dst []byte, r rune) []byte {
	if r >= 0x2E80 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Yi) {
		dst = utf8.AppendRune(dst, 0xA000+r>>9&511)
		return utf8.AppendRune(dst, 0xA200+r&511)
	}
	switch r {
	case 'ß', 'ẞ':
		return append(dst, "ss"...)
	case 'ς':
		r = 'σ'
	case 'İ':
		return append(dst, "i̇"...)
	default:
		r = unicode.ToLower(r)
	}
	return utf8.AppendRune(dst, r)
}
