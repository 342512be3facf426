package wire

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// decodeXtext decodes xtext: printable ASCII but "+" and "=", and "+" with two
// upper-case hexadecimal digits (RFC 3461 §4). Lower-case digits are tolerated.
func decodeXtext(s string) (string, bool) {
	if strings.IndexByte(s, '+') < 0 {
		return s, xchars(s)
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			if !xchars(s[i : i+1]) {
				return "", false
			}
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), true
}

// xchars reports whether s needs no decoding. "=" is no xchar, but clients leave
// it in AUTH=<a=b@c>.
func xchars(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' || s[i] == '+' {
			return false
		}
	}
	return true
}

// decodeUnitext decodes utf-8-addr-xtext and utf-8-addr-unitext: characters
// stand for themselves or as \x{HEX} (RFC 6533 §3). The result is valid UTF-8
// without controls.
func decodeUnitext(s string) (string, bool) {
	var b strings.Builder
	for s != "" {
		if !strings.HasPrefix(s, `\`) {
			r, n := utf8.DecodeRuneInString(s)
			if r == utf8.RuneError && n == 1 || !unicode.IsGraphic(r) {
				return "", false
			}
			b.WriteString(s[:n])
			s = s[n:]
			continue
		}
		end := strings.IndexByte(s, '}')
		if !strings.HasPrefix(s, `\x{`) || end < 5 || end > 9 {
			return "", false
		}
		n, err := strconv.ParseUint(s[3:end], 16, 32)
		if err != nil || !utf8.ValidRune(rune(n)) || !unicode.IsGraphic(rune(n)) {
			return "", false
		}
		b.WriteRune(rune(n))
		s = s[end+1:]
	}
	return b.String(), true
}
