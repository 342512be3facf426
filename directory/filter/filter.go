package filter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Limits of a filter.
const (
	MaxSize       = 8 << 10 // octets
	MaxDepth      = 32
	MaxConditions = 256
)

// ErrSyntax reports a text that is no filter, or one that is not supported.
var ErrSyntax = errors.New("invalid LDAP filter")

// Filter is a search filter, ready to be asked. It is immutable. The zero value
// matches nothing.
type Filter struct{ root *node }

// Lookup calls match with the values that an entry has for an attribute, given in
// lower case, until match returns true, and reports whether it did.
type Lookup func(attribute string, match func(value string) bool) bool

// Match reports whether an entry with these values matches.
func (f Filter) Match(values Lookup) bool { return f.root != nil && f.root.match(values) }

// Attributes returns what f asks for, in lower case, sorted, each once.
func (f Filter) Attributes() []string {
	if f.root == nil {
		return nil
	}
	names := f.root.attributes(nil)
	slices.Sort(names)
	return slices.Compact(names)
}

// String returns f as RFC 4515 writes it, conditions folded as they are compared.
func (f Filter) String() string {
	var b strings.Builder
	if f.root != nil {
		f.root.write(&b)
	}
	return b.String()
}

// kind is what a node of a filter is.
type kind uint8

const (
	and kind = iota + 1
	or
	not
	present
	equal
	atLeast
	atMost
	substrings
	bitsAll // LDAP_MATCHING_RULE_BIT_AND
	bitsAny // LDAP_MATCHING_RULE_BIT_OR
)

// The bit rules of Active Directory.
const (
	oidBitsAll = "1.2.840.113556.1.4.803"
	oidBitsAny = "1.2.840.113556.1.4.804"
)

// node is a condition, or what joins conditions.
type node struct {
	kind      kind
	of        []*node // of and, or, not
	attribute string  // in lower case, without options
	value     string  // folded
	number    int64   // value, where isNumber
	isNumber  bool
	parts     []string // of substrings, folded: initial, any…, final; the outer ones may be ""
}

func (n *node) attributes(names []string) []string {
	if n.attribute != "" {
		names = append(names, n.attribute)
	}
	for _, c := range n.of {
		names = c.attributes(names)
	}
	return names
}

func (n *node) match(values Lookup) bool {
	switch n.kind {
	case and:
		for _, c := range n.of {
			if !c.match(values) {
				return false
			}
		}
		return true
	case or:
		for _, c := range n.of {
			if c.match(values) {
				return true
			}
		}
		return false
	case not:
		return !n.of[0].match(values)
	}
	return values(n.attribute, n.matchValue)
}

// matchValue reports whether one value meets a condition.
func (n *node) matchValue(v string) bool {
	switch n.kind {
	case present:
		return true
	case equal:
		return fold(v) == n.value
	case substrings:
		return n.matchParts(fold(v))
	case bitsAll, bitsAny:
		i, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		if err != nil {
			return false
		}
		return n.kind == bitsAll && i&n.number == n.number || n.kind == bitsAny && i&n.number != 0
	}
	c := strings.Compare(fold(v), n.value)
	if n.isNumber {
		if i, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
			c = 0
			if i < n.number {
				c = -1
			} else if i > n.number {
				c = 1
			}
		}
	}
	return n.kind == atLeast && c >= 0 || n.kind == atMost && c <= 0
}

// matchParts reports whether v begins, goes on and ends as the assertion says
// (RFC 4517 §4.2.6). Taking each part at its first place is right: a later one
// would leave less for the rest.
func (n *node) matchParts(v string) bool {
	last := len(n.parts) - 1
	v, ok := strings.CutPrefix(v, n.parts[0])
	if !ok {
		return false
	}
	for _, p := range n.parts[1:last] {
		i := strings.Index(v, p)
		if i < 0 {
			return false
		}
		v = v[i+len(p):]
	}
	return strings.HasSuffix(v, n.parts[last])
}

func (n *node) write(b *strings.Builder) {
	b.WriteByte('(')
	switch n.kind {
	case and, or, not:
		b.WriteByte("&|!"[n.kind-and])
		for _, c := range n.of {
			c.write(b)
		}
	case present:
		b.WriteString(n.attribute + "=*")
	case substrings:
		b.WriteString(n.attribute + "=")
		for i, p := range n.parts {
			if i > 0 {
				b.WriteByte('*')
			}
			escape(b, p)
		}
	default:
		op := map[kind]string{equal: "=", atLeast: ">=", atMost: "<=", bitsAll: ":" + oidBitsAll + ":=", bitsAny: ":" + oidBitsAny + ":="}[n.kind]
		b.WriteString(n.attribute + op)
		escape(b, n.value)
	}
	b.WriteByte(')')
}

// escape writes a value as RFC 4515 §3 wants it.
func escape(b *strings.Builder, v string) {
	for i := 0; i < len(v); i++ {
		if c := v[i]; c == 0 || strings.IndexByte(`()*\`, c) >= 0 || c >= utf8.RuneSelf && !utf8.ValidString(v) {
			fmt.Fprintf(b, `\%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
}

// fold returns the form in which values are compared: lower case, NFC, runs of
// spaces as one and none around (RFC 4518 §2.6.1), and for what looks like a DN no
// space behind a comma.
func fold(v string) string {
	v = collapse(v)
	if strings.Contains(v, ", ") && strings.Contains(v, "=") {
		v = strings.ReplaceAll(v, ", ", ",")
	}
	return v
}

// collapse is fold for a part of a value.
func collapse(v string) string {
	v = strings.TrimSpace(v)
	plain := true
	for i := 0; i < len(v); i++ {
		c := v[i]
		if c >= utf8.RuneSelf {
			return strings.Join(strings.FieldsFunc(norm.NFC.String(strings.Map(foldRune, norm.NFC.String(v))), isSpace), " ")
		}
		if isSpace(rune(c)) && (c != ' ' || v[i+1] == ' ') { // v does not end in a space
			plain = false
		}
	}
	if !plain {
		v = strings.Join(strings.FieldsFunc(v, isSpace), " ")
	}
	return strings.ToLower(v)
}

func isSpace(r rune) bool { return unicode.IsSpace(r) }

func foldRune(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }
