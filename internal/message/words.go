package message

import (
	"strings"
	"unicode/utf8"
)

// DecodeHeader returns the text of an unstructured field or phrase in UTF-8:
// encoded words decoded (RFC 2047, RFC 2231 §5), raw 8-bit text taken as
// UTF-8 or guessed. It never fails; what is no proper encoded word stays.
func DecodeHeader(s string) string {
	if isASCIIString(s) && !strings.Contains(s, "=?") {
		return s
	}
	var out strings.Builder
	out.Grow(len(s))
	for s != "" {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		out.WriteString(decodeRaw(s[:i]))
		s = s[i:]
		n := decodeWords(&out, s)
		if n == 0 {
			out.WriteString(s[:2])
			n = 2
		}
		s = s[n:]
	}
	out.WriteString(decodeRaw(s))
	return out.String()
}

// decodeRaw returns text without encoded words as UTF-8.
func decodeRaw(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return decodeCharset("", []byte(s))
}

// decodeWords decodes the encoded words that s begins with and the white space
// between them, and returns their length. Neighbours of one charset are decoded
// together: many programs cut characters in two, though RFC 2047 §5 forbids it.
func decodeWords(out *strings.Builder, s string) int {
	charset, text, n := encodedWord(s)
	if n == 0 {
		return 0
	}
	for {
		gap := len(s[n:]) - len(strings.TrimLeft(s[n:], " \t\r\n"))
		next, more, size := encodedWord(s[n+gap:])
		if size == 0 {
			break
		}
		if !strings.EqualFold(next, charset) {
			out.WriteString(decodeCharset(charset, text))
			charset, text = next, nil
		}
		text = append(text, more...)
		n += gap + size
	}
	out.WriteString(decodeCharset(charset, text))
	return n
}

const maxEncodedWord = 4096

// encodedWord takes an encoded word from the front of s and returns its
// charset, its octets, and its length, 0 if there is none.
func encodedWord(s string) (charset string, text []byte, n int) {
	if !strings.HasPrefix(s, "=?") {
		return "", nil, 0
	}
	i := strings.IndexByte(s[2:min(len(s), 80)], '?')
	if i <= 0 || len(s) < 2+i+3 || s[2+i+2] != '?' {
		return "", nil, 0
	}
	charset, encoding := s[2:2+i], s[2+i+1]|0x20
	// A word may hold 75 characters; some write whole subjects as one. The
	// bound keeps the work linear.
	body := s[2+i+3:]
	end := strings.Index(body[:min(len(body), maxEncodedWord)], "?=")
	if end < 0 || strings.ContainsAny(charset, " \t\"()<>@,;:/[]") {
		return "", nil, 0
	}
	switch encoding {
	case 'b':
		text = base64Lenient([]byte(body[:end]))
	case 'q':
		text = decodeQ(body[:end])
	default:
		return "", nil, 0
	}
	return charset, text, 2 + i + 3 + end + 2
}

// decodeQ decodes the Q encoding (RFC 2047 §4.2).
func decodeQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0:
			out = append(out, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
