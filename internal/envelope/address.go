package envelope

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Limits of RFC 5321 §4.5.3.1, in octets.
const (
	MaxLocalPart = 64
	MaxDomain    = 255
	MaxPath      = 254 // without the angle brackets (RFC 3696 erratum 1690)
)

// Errors of the address parsers. All of them mean that the text is no
// address; the caller answers 501 5.1.3 or 553 5.1.3.
var (
	ErrSyntax  = errors.New("not a valid address")
	ErrTooLong = errors.New("address too long")
	// ErrUTF8 reports a non-ASCII address where SMTPUTF8 was not asked for.
	ErrUTF8 = errors.New("internationalized address without SMTPUTF8")
)

// Address is a mailbox address, local-part@domain (RFC 5321 §4.1.2, extended
// by RFC 6531 §3.3). The zero value is no address.
//
// Local is the local-part without quoting, exactly as it was given (its case
// is kept, RFC 5321 §2.4). Domain is in lower case with A-labels, or an address
// literal in brackets in canonical form.
type Address struct {
	Local  string
	Domain string
}

// ParseAddress parses a Mailbox of RFC 5321 §4.1.2. Non-ASCII characters are
// accepted as RFC 6531 allows; whether they were announced is the caller's
// question (see IsASCII). Source routes, comments and white space are errors.
//
// The bare local-part "postmaster" is not accepted here: its domain depends on
// who asks (RFC 5321 §4.5.1), see ParseForwardPath.
func ParseAddress(s string) (Address, error) {
	if len(s) > MaxLocalPart*2+2+1+MaxDomain {
		return Address{}, ErrTooLong
	}
	local, rest, err := parseLocalPart(s)
	if err != nil {
		return Address{}, err
	}
	if len(rest) < 2 || rest[0] != '@' {
		return Address{}, ErrSyntax
	}
	domain, err := ParseDomain(rest[1:])
	if err != nil {
		return Address{}, err
	}
	a := Address{Local: local, Domain: domain}
	if len(local) > MaxLocalPart || len(local)+1+len(domain) > MaxPath {
		return Address{}, ErrTooLong
	}
	return a, nil
}

// parseLocalPart takes a Dot-string or Quoted-string from the front of s
// (RFC 5321 §4.1.2) and returns its unquoted value and what follows.
func parseLocalPart(s string) (local, rest string, err error) {
	if s == "" {
		return "", "", ErrSyntax
	}
	if s[0] == '"' {
		var b strings.Builder
		for i := 1; i < len(s); {
			c := s[i]
			switch {
			case c == '"':
				if b.Len() == 0 {
					return "", "", ErrSyntax
				}
				return b.String(), s[i+1:], nil
			case c == '\\':
				i++
				if i == len(s) || s[i] < 0x20 || s[i] > 0x7e {
					return "", "", ErrSyntax
				}
				b.WriteByte(s[i])
				i++
			case c < 0x20 || c == 0x7f:
				return "", "", ErrSyntax
			case c < utf8.RuneSelf:
				b.WriteByte(c)
				i++
			default:
				r, n := utf8.DecodeRuneInString(s[i:])
				if !utf8Allowed(r, n) {
					return "", "", ErrSyntax
				}
				b.WriteString(s[i : i+n])
				i += n
			}
		}
		return "", "", ErrSyntax
	}
	i := 0
	for i < len(s) && s[i] != '@' {
		c := s[i]
		if c == '.' {
			if i == 0 || i+1 == len(s) || s[i+1] == '.' || s[i+1] == '@' {
				return "", "", ErrSyntax
			}
			i++
			continue
		}
		if c < utf8.RuneSelf {
			if !isAtext(c) {
				return "", "", ErrSyntax
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if !utf8Allowed(r, n) {
			return "", "", ErrSyntax
		}
		i += n
	}
	if i == 0 {
		return "", "", ErrSyntax
	}
	return s[:i], s[i:], nil
}

// utf8Allowed says whether r may stand in an internationalized local-part:
// valid UTF-8, no C1 control, no byte order mark or bidi override, which exist
// in an address only to deceive.
func utf8Allowed(r rune, n int) bool {
	switch {
	case r == utf8.RuneError && n == 1, r < 0xa0, r == 0xfeff:
		return false
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x2028, r == 0x2029:
		return false
	}
	return true
}

func isAtext(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// domainProfile maps a domain to A-labels as look-up software does (RFC 5891
// §5), and checks hyphens, joiners and length.
var domainProfile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true), idna.Transitional(false))

// ParseDomain returns the canonical form of a Domain or address-literal: lower
// case, A-labels, no trailing dot; literals as "[192.0.2.1]" or
// "[IPv6:2001:db8::1]" (RFC 5321 §4.1.2, §4.1.3).
func ParseDomain(s string) (string, error) {
	if s == "" || len(s) > MaxDomain*4 {
		return "", ErrSyntax
	}
	if s[0] == '[' {
		if s[len(s)-1] != ']' {
			return "", ErrSyntax
		}
		inner := s[1 : len(s)-1]
		if len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:") {
			ip, err := netip.ParseAddr(inner[5:])
			if err != nil || !ip.Is6() || ip.Zone() != "" {
				return "", ErrSyntax
			}
			return "[IPv6:" + ip.String() + "]", nil
		}
		ip, err := netip.ParseAddr(inner)
		if err != nil || !ip.Is4() {
			return "", ErrSyntax
		}
		return "[" + ip.String() + "]", nil
	}
	if plainDomain(s) {
		return strings.ToLower(s), nil
	}
	a, err := domainProfile.ToASCII(s)
	if err != nil || a == "" || strings.HasSuffix(a, ".") || !utf8.ValidString(s) {
		return "", ErrSyntax
	}
	// The mapping can give A-labels that are themselves no names, such as that of
	// U+FFFD.
	if again, err := domainProfile.ToASCII(a); err != nil || again != a {
		return "", ErrSyntax
	}
	if len(a) > MaxDomain {
		return "", ErrTooLong
	}
	return strings.ToLower(a), nil
}

// plainDomain is the quick way for what nearly every domain is: letters,
// digits and inner hyphens in labels of at most 63 octets, no A-label.
// Underscores are let through: RFC 5321 §2.3.5 has none, but there are hosts with
// one in their name that send mail, and DNS does not mind (RFC 2181 §11).
func plainDomain(s string) bool {
	if len(s) > MaxDomain-2 {
		return false
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			n := i - start
			if n == 0 || n > 63 || s[start] == '-' || s[i-1] == '-' {
				return false
			}
			if n > 3 && s[start+2] == '-' && s[start+3] == '-' {
				return false // an A-label: idna checks it
			}
			start = i + 1
			continue
		}
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// ParseReversePath parses what stands after "MAIL FROM:" up to the parameters:
// "<>" or a path in angle brackets. A source route is accepted and dropped
// (RFC 5321 §4.1.1.2, appendix F.2). rest begins with the parameters.
func ParseReversePath(s string) (p ReversePath, rest string, err error) {
	if strings.HasPrefix(s, "<>") {
		return ReversePath{}, s[2:], nil
	}
	a, rest, err := parsePath(s, "")
	if err != nil {
		return ReversePath{}, "", err
	}
	return ReversePathOf(a), rest, nil
}

// ParseForwardPath parses what stands after "RCPT TO:" up to the parameters.
// "<Postmaster>", in any case, stands for postmaster at postmasterDomain
// (RFC 5321 §4.1.1.3, §4.5.1).
func ParseForwardPath(s, postmasterDomain string) (a Address, rest string, err error) {
	return parsePath(s, postmasterDomain)
}

// parsePath parses "<" [ A-d-l ":" ] Mailbox ">" from the front of s.
func parsePath(s, postmasterDomain string) (Address, string, error) {
	if s == "" || s[0] != '<' {
		return Address{}, "", ErrSyntax
	}
	s = s[1:]
	if strings.HasPrefix(s, "@") {
		// A source route is "@a,@b:". It must be recognised but is ignored;
		// the colon can stand in no Domain, only within a literal.
		i := strings.IndexByte(s, ':')
		for i >= 0 && strings.Count(s[:i], "[") > strings.Count(s[:i], "]") {
			j := strings.IndexByte(s[i+1:], ':')
			if j < 0 {
				return Address{}, "", ErrSyntax
			}
			i += 1 + j
		}
		if i < 0 {
			return Address{}, "", ErrSyntax
		}
		for _, hop := range strings.Split(s[:i], ",") {
			if !strings.HasPrefix(hop, "@") {
				return Address{}, "", ErrSyntax
			}
			if _, err := ParseDomain(hop[1:]); err != nil {
				return Address{}, "", err
			}
		}
		s = s[i+1:]
	}
	local, rest, err := parseLocalPartBefore(s)
	if err != nil {
		return Address{}, "", err
	}
	if strings.HasPrefix(rest, ">") && postmasterDomain != "" && strings.EqualFold(local, "postmaster") {
		return Address{Local: local, Domain: postmasterDomain}, rest[1:], nil
	}
	if !strings.HasPrefix(rest, "@") {
		return Address{}, "", ErrSyntax
	}
	end := strings.IndexByte(rest, '>')
	if end < 0 {
		return Address{}, "", ErrSyntax
	}
	a, err := ParseAddress(s[:len(s)-len(rest)+end])
	if err != nil {
		return Address{}, "", err
	}
	return a, rest[end+1:], nil
}

// parseLocalPartBefore is parseLocalPart for a text that goes on with ">".
func parseLocalPartBefore(s string) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return parseLocalPart(s)
	}
	end := strings.IndexAny(s, "@>")
	if end < 0 {
		return "", "", ErrSyntax
	}
	local, left, err := parseLocalPart(s[:end])
	if err != nil || left != "" {
		return "", "", ErrSyntax
	}
	return local, s[end:], nil
}

// IsZero reports whether a is no address at all.
func (a Address) IsZero() bool { return a.Local == "" && a.Domain == "" }

// IsASCII reports whether a can be used without SMTPUTF8. The domain always
// can, since it is kept in A-labels.
func (a Address) IsASCII() bool {
	for i := 0; i < len(a.Local); i++ {
		if a.Local[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// String returns the address as it is written on the wire, the local-part
// quoted where it must be (RFC 5321 §4.1.2). The zero value gives "".
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	if l, rest, err := parseLocalPart(a.Local); err == nil && rest == "" && l == a.Local {
		return a.Local + "@" + a.Domain
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(a.Local); i++ {
		if c := a.Local[i]; c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(a.Local[i])
	}
	b.WriteString(`"@`)
	b.WriteString(a.Domain)
	return b.String()
}

// Unicode returns the address with U-labels, as it is shown to people.
func (a Address) Unicode() string {
	u, err := idna.Display.ToUnicode(a.Domain)
	if err != nil || a.IsZero() {
		return a.String()
	}
	return Address{Local: a.Local, Domain: u}.String()
}

// Key returns the form under which addresses are compared and looked up: NFC,
// case folded. Local-parts of other domains may differ in case only
// (RFC 5321 §2.4), so Key is for the addresses of our own domains.
func (a Address) Key() string {
	if a.IsASCII() {
		return strings.ToLower(a.Local) + "@" + a.Domain
	}
	return norm.NFC.String(cases.Fold().String(norm.NFC.String(a.Local))) + "@" + a.Domain
}

// ReversePath is where delivery status notifications go. The zero value is the
// null reverse-path "<>": such a message must never cause a DSN
// (RFC 5321 §4.5.5).
type ReversePath struct{ addr Address }

// ReversePathOf returns the reverse-path to a; the zero Address gives the null
// reverse-path.
func ReversePathOf(a Address) ReversePath { return ReversePath{a} }

// IsNull reports whether p is the null reverse-path.
func (p ReversePath) IsNull() bool { return p.addr.IsZero() }

// Address returns the address of p and whether there is one.
func (p ReversePath) Address() (Address, bool) { return p.addr, !p.IsNull() }

// String returns the address without angle brackets, "" for the null
// reverse-path.
func (p ReversePath) String() string { return p.addr.String() }
