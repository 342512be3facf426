package wire

import (
	"strconv"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
)

// maxQuoted is the longest string that is quoted; longer ones become literals,
// which readers need not search for their end.
const maxQuoted = 1000

// AppendString appends s as a quoted string where it is 7-bit, short and on one
// line, else as a literal (RFC 9051 §4.3).
func AppendString(dst []byte, s string) []byte {
	if len(s) > maxQuoted {
		return AppendLiteral(dst, s)
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || c == '\r' || c == '\n' || c == 0 {
			return AppendLiteral(dst, s)
		}
	}
	return AppendQuoted(dst, s)
}

// AppendQuoted appends s, which must have no CR, LF or NUL, as a quoted string.
// 8-bit characters are for clients that have asked for UTF-8 (RFC 9755 §3).
func AppendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// AppendLiteral appends s as a literal. NUL, which a literal cannot hold, is
// replaced as AppendLiteralSize's callers do it.
func AppendLiteral(dst []byte, s string) []byte {
	dst = AppendLiteralSize(dst, int64(len(s)))
	n := len(dst)
	dst = append(dst, s...)
	ReplaceNUL(dst[n:])
	return dst
}

// AppendLiteralSize appends the announcement of a literal of n octets, which
// the caller sends next.
func AppendLiteralSize(dst []byte, n int64) []byte {
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "}\r\n"...)
}

// ReplaceNUL replaces each NUL by 0x80 in place: CHAR8 has no NUL (RFC 9051
// §9), and the length of a part must remain what BODYSTRUCTURE says.
func ReplaceNUL(b []byte) {
	for i, c := range b {
		if c == 0 {
			b[i] = 0x80
		}
	}
}

// AppendAString appends s as an atom where it is one, else as a string.
func AppendAString(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, `""`...)
	}
	for i := 0; i < len(s); i++ {
		if charClasses[s[i]]&atomChar == 0 {
			return AppendString(dst, s)
		}
	}
	if len(s) == 3 && (s[0]|0x20) == 'n' && (s[1]|0x20) == 'i' && (s[2]|0x20) == 'l' {
		return AppendQuoted(dst, s) // not to be taken for NIL
	}
	return append(dst, s...)
}

// AppendNString appends s as a string, NIL when it is empty and absent.
func AppendNString(dst []byte, s string, present bool) []byte {
	if !present {
		return append(dst, "NIL"...)
	}
	return AppendString(dst, s)
}

// AppendMailbox appends the mailbox name, in modified UTF-7 unless the client
// has asked for UTF-8 (RFC 9755 §3).
func AppendMailbox(dst []byte, name string, allowUTF8 bool) []byte {
	if allowUTF8 {
		if isASCII(name) {
			return AppendAString(dst, name)
		}
		return AppendQuoted(dst, name)
	}
	return AppendAString(dst, EncodeMailbox(name))
}

// AppendFlags appends a parenthesised list of flags.
func AppendFlags(dst []byte, flags []imap.Flag) []byte {
	dst = append(dst, '(')
	for i, f := range flags {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, f...)
	}
	return append(dst, ')')
}
