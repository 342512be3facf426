package directory

import (
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"

	"dirpost/internal/envelope"
)

// FoldLogin returns the form under which login names are compared: lower case
// for ASCII, else UsernameCaseMapped of RFC 8265 §3.3, and for names with
// spaces, which Active Directory allows, the Nickname profile of RFC 8266. The
// domain behind the last "@" is kept in A-labels, so that both spellings of an
// internationalized domain find the same person. "" means that no login can
// have that name.
func FoldLogin(name string) string {
	name = strings.TrimSpace(name)
	if name == "" || len(name) > maxLogin || !utf8.ValidString(name) {
		return ""
	}
	if isPrintable(name) {
		return strings.ToLower(name)
	}
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		if d, err := envelope.ParseDomain(name[i+1:]); err == nil {
			if name = foldName(name[:i]); name == "" {
				return ""
			}
			return name + "@" + d
		}
	}
	return foldName(name)
}

// otherSpelling returns how directories have a folded name that was typed in the
// other of two ways: domain\user for domain/user and user@domain, and user@domain
// for either where the domain is that of DNS. "" if there is no other.
func otherSpelling(name string) string {
	domain, user, ok := strings.Cut(name, `\`)
	stored := ok
	if !ok {
		domain, user, ok = strings.Cut(name, "/")
	}
	if !ok {
		i := strings.LastIndexByte(name, '@')
		if i < 0 || strings.IndexByte(name[i:], '.') >= 0 {
			return ""
		}
		return name[i+1:] + `\` + name[:i]
	}
	if strings.IndexByte(domain, '.') < 0 {
		if stored {
			return ""
		}
		return domain + `\` + user
	}
	if d, err := envelope.ParseDomain(domain); err == nil {
		return user + "@" + d
	}
	return ""
}

// maxLogin bounds a login name, in octets: an address with DOMAIN\ before it.
const maxLogin = 512

func foldName(name string) string {
	if isPrintable(name) {
		return strings.ToLower(name)
	}
	if s, err := precis.UsernameCaseMapped.String(name); err == nil {
		return s
	}
	if s, err := precis.Nickname.CompareKey(name); err == nil {
		return s
	}
	return ""
}

// FoldX500 returns the form under which addresses of Exchange are compared
// (legacyExchangeDN, /o=Example/ou=…/cn=Recipients/cn=alice): lower case, without
// the spaces around it. "" means that it is none, or longer than any is.
func FoldX500(address string) string {
	address = strings.TrimSpace(address)
	if !strings.HasPrefix(address, "/") || len(address) > maxX500 || !utf8.ValidString(address) {
		return ""
	}
	return strings.ToLower(norm.NFC.String(address))
}

// maxX500 bounds an address of Exchange, in octets.
const maxX500 = 1 << 10

// MailName returns what stands in a list of DNs (Owners, Senders and their like)
// for somebody whom a directory names there by an address instead: "mailto:" and
// the address. No DN looks like it.
func MailName(a envelope.Address) string { return mailScheme + a.Key() }

const mailScheme = "mailto:"

// isPrintable reports whether s is printable ASCII.
func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// NormalizeDN returns dn in one form for comparison: types and values in lower
// case (folded and NFC beyond ASCII), no spaces around separators, special
// characters escaped as RFC 4514 §2.4 writes them with "\" and the character.
// The naming attributes of people and groups match without regard to case;
// that two entries differ only in the case of a name, no directory allows.
//
// A text that is no DN is folded and otherwise left alone: it equals itself
// and no entry.
func NormalizeDN(dn string) string {
	if isNormalDN(dn) {
		return dn
	}
	var out strings.Builder
	out.Grow(len(dn) + 8)
	rest := dn
	for {
		typ, after, ok := strings.Cut(rest, "=")
		if !ok {
			return foldDN(dn)
		}
		value, sep, next, ok := dnValue(after)
		if !ok {
			return foldDN(dn)
		}
		out.WriteString(strings.ToLower(strings.TrimSpace(typ)))
		out.WriteByte('=')
		writeDNValue(&out, foldDN(value))
		if sep == 0 {
			return out.String()
		}
		if sep == ';' { // RFC 2253 §4: as LDAPv2 wrote it
			sep = ','
		}
		out.WriteByte(sep)
		rest = next
	}
}

// isNormalDN is the quick way for what most directories send already in normal
// form or what has been normalised before.
func isNormalDN(dn string) bool {
	for i := 0; i < len(dn); i++ {
		switch c := dn[i]; {
		case c >= utf8.RuneSelf, 'A' <= c && c <= 'Z', c == '\\', c == '"', c == '#', c == ';', c == '<', c == '>', c < ' ':
			return false
		case c == ' ':
			if i == 0 || i+1 == len(dn) || isDNSeparator(dn[i-1]) || isDNSeparator(dn[i+1]) || dn[i+1] == ' ' {
				return false
			}
		}
	}
	return strings.IndexByte(dn, '=') > 0
}

func isDNSeparator(c byte) bool { return c == ',' || c == '+' || c == '=' }

// dnValue takes an attribute value from the front of s up to an unescaped
// separator, which it returns (0 at the end), with escapes removed
// (RFC 4514 §3; quoted values of RFC 2253 §4 too).
func dnValue(s string) (value string, sep byte, rest string, ok bool) {
	s = strings.TrimLeft(s, " ")
	if strings.HasPrefix(s, "#") {
		return dnHexValue(s[1:])
	}
	var b strings.Builder
	quoted := strings.HasPrefix(s, `"`)
	i := 0
	if quoted {
		i = 1
	}
	end := -1 // length of b without unescaped trailing spaces
	for i < len(s) {
		c := s[i]
		switch {
		case c == '\\':
			if i+1 == len(s) {
				return "", 0, "", false
			}
			if i+2 < len(s) {
				if raw, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
					b.WriteByte(raw[0])
					i += 3
					end = b.Len()
					continue
				}
			}
			b.WriteByte(s[i+1])
			i += 2
			end = b.Len()
			continue
		case quoted && c == '"':
			after := strings.TrimLeft(s[i+1:], " ")
			if after == "" {
				return b.String(), 0, "", true
			}
			return b.String(), after[0], after[1:], after[0] == ',' || after[0] == '+' || after[0] == ';'
		case !quoted && (c == ',' || c == '+' || c == ';'):
			return trimmedValue(b.String(), end), c, s[i+1:], true
		}
		b.WriteByte(c)
		if c != ' ' {
			end = b.Len()
		}
		i++
	}
	return trimmedValue(b.String(), end), 0, "", !quoted
}

func trimmedValue(s string, end int) string {
	if end < 0 {
		return ""
	}
	return s[:end]
}

// dnHexValue takes "#" and the BER encoding of a value (RFC 4514 §2.4). The
// string types of BER give their text, anything else the hex digits.
func dnHexValue(s string) (value string, sep byte, rest string, ok bool) {
	n := 0
	for n < len(s) && s[n] != ',' && s[n] != '+' && s[n] != ';' {
		n++
	}
	if n < len(s) {
		sep, rest = s[n], s[n+1:]
	}
	raw, err := hex.DecodeString(strings.TrimSpace(s[:n]))
	if err != nil {
		return "", 0, "", false
	}
	if len(raw) >= 2 && int(raw[1]) == len(raw)-2 && raw[1] < 0x80 {
		switch raw[0] {
		case 0x04, 0x0c, 0x13, 0x16: // OctetString, UTF8String, PrintableString, IA5String
			return string(raw[2:]), sep, rest, true
		}
	}
	return "#" + hex.EncodeToString(raw), sep, rest, true
}

// foldDN folds a value for comparison. Runs of spaces count as one
// (RFC 4518 §2.6.1).
func foldDN(s string) string {
	if strings.Contains(s, "  ") {
		s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " ")
	}
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return norm.NFC.String(strings.Map(foldRune, norm.NFC.String(s)))
		}
	}
	return strings.ToLower(s)
}

// foldRune folds one character to itself or one other. It is used in place of
// cases.Fold, which exchanges the two cases of Cherokee.
func foldRune(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }

// writeDNValue writes a value with the characters escaped that would end it or
// change its meaning.
func writeDNValue(out *strings.Builder, s string) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case strings.IndexByte(`,+"\<>;`, c) >= 0,
			c == '#' && i == 0,
			c == ' ' && (i == 0 || i == len(s)-1):
			out.WriteByte('\\')
			out.WriteByte(c)
		case c < ' ':
			const digits = "0123456789abcdef"
			out.WriteByte('\\')
			out.WriteByte(digits[c>>4])
			out.WriteByte(digits[c&15])
		default:
			out.WriteByte(c)
		}
	}
}
