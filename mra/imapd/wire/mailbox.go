package wire

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// base64UTF7 is the modified BASE64 of mailbox names: "," for "/", no padding
// (RFC 3501 §5.1.3, RFC 9051 §A.1).
var base64UTF7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding).Strict()

// DecodeMailbox returns the mailbox name s of the wire in UTF-8. s is modified
// UTF-7, and must be in its only valid form; with allowUTF8 it is UTF-8
// (RFC 9755 §3). Control characters and what deceives the eye's order are in
// no name.
func DecodeMailbox(s string, allowUTF8 bool) (string, error) {
	if allowUTF8 && !isASCII(s) {
		return s, checkName(s)
	}
	if strings.IndexByte(s, '&') < 0 {
		if !isASCII(s) {
			return "", ErrMailboxName
		}
		return s, checkName(s)
	}
	if allowUTF8 {
		return s, checkName(s) // "&" is a character like any other
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] >= utf8.RuneSelf {
			return "", ErrMailboxName
		}
		if s[i] != '&' {
			b.WriteByte(s[i])
			i++
			continue
		}
		end := strings.IndexByte(s[i:], '-')
		if end < 0 {
			return "", ErrMailboxName
		}
		shift := s[i+1 : i+end]
		i += end + 1
		if shift == "" {
			b.WriteByte('&')
			continue
		}
		if err := decodeShift(&b, shift); err != nil {
			return "", err
		}
		if i < len(s) && s[i] == '&' && !(i+1 < len(s) && s[i+1] == '-') {
			return "", ErrMailboxName // a superfluous shift
		}
	}
	name := b.String()
	return name, checkName(name)
}

// decodeShift appends the characters of one BASE64 run.
func decodeShift(b *strings.Builder, shift string) error {
	raw, err := base64UTF7.DecodeString(shift)
	if err != nil || len(raw)%2 != 0 {
		return ErrMailboxName
	}
	for i := 0; i < len(raw); i += 2 {
		r := rune(raw[i])<<8 | rune(raw[i+1])
		if utf16.IsSurrogate(r) {
			if i += 2; i >= len(raw) {
				return ErrMailboxName
			}
			if r = utf16.DecodeRune(r, rune(raw[i])<<8|rune(raw[i+1])); r == utf8.RuneError {
				return ErrMailboxName
			}
		}
		if r >= 0x20 && r < 0x7f {
			return ErrMailboxName // printable characters stand for themselves
		}
		b.WriteRune(r)
	}
	return nil
}

// checkName refuses what no mailbox name may hold (RFC 5198 §2, RFC 9051 §5.1).
func checkName(s string) error {
	for i, r := range s {
		switch {
		case r < 0x20, r >= 0x7f && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff,
			r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return ErrMailboxName
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return ErrMailboxName
			}
		}
	}
	return nil
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// EncodeMailbox returns name in modified UTF-7. name is valid UTF-8.
func EncodeMailbox(name string) string {
	if isASCII(name) && strings.IndexByte(name, '&') < 0 {
		return name
	}
	var b strings.Builder
	var run []byte
	flush := func() {
		if len(run) > 0 {
			b.WriteByte('&')
			b.WriteString(base64UTF7.EncodeToString(run))
			b.WriteByte('-')
			run = run[:0]
		}
	}
	for _, r := range name {
		switch {
		case r == '&':
			flush()
			b.WriteString("&-")
		case r >= 0x20 && r < 0x7f:
			flush()
			b.WriteByte(byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			run = append(run, byte(hi>>8), byte(hi), byte(lo>>8), byte(lo))
		default:
			run = append(run, byte(r>>8), byte(r))
		}
	}
	flush()
	return b.String()
}
