package directory

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// filter is a search filter (RFC 4515). Every attribute that it names is one
// that is known of each entry, so that it is true or false and never undefined.
type filter struct {
	op        byte     // & | ! for filters; = * ~ > < for one attribute, * being presence
	attribute string   // in lower case
	value     string   // op =, without asterisk, ~ > <
	parts     []string // op =, with asterisks: what stands between them
	of        []filter // op & | !
}

// The bounds of a filter.
const (
	maxFilterDepth = 24
	maxFilterNodes = 256
)

var errFilter = errors.New("not a filter (RFC 4515)")

// parseFilter reads the text of a filter. The outermost parentheses may be
// missing, as people leave them out.
func parseFilter(text string) (filter, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxQuery || !utf8.ValidString(text) {
		return filter{}, errFilter
	}
	if !strings.HasPrefix(text, "(") {
		text = "(" + text + ")"
	}
	p := filterParser{s: text}
	f, err := p.filter(0)
	if err == nil && p.s != "" {
		err = fmt.Errorf("%w: %.40q stands behind it", errFilter, p.s)
	}
	return f, err
}

type filterParser struct {
	s     string
	nodes int
}

// filter reads one filter in parentheses.
func (p *filterParser) filter(depth int) (filter, error) {
	if p.nodes++; depth > maxFilterDepth || p.nodes > maxFilterNodes {
		return filter{}, fmt.Errorf("%w: too deep, or of too many parts", errFilter)
	}
	if len(p.s) < 2 || p.s[0] != '(' {
		return filter{}, fmt.Errorf("%w: want ( before %.40q", errFilter, p.s)
	}
	p.s = p.s[1:]
	var f filter
	var err error
	switch p.s[0] {
	case '&', '|', '!':
		f, err = p.list(depth)
	default:
		f, err = p.item()
	}
	if err != nil {
		return filter{}, err
	}
	if p.s == "" || p.s[0] != ')' {
		return filter{}, fmt.Errorf("%w: a ) is missing", errFilter)
	}
	p.s = strings.TrimLeft(p.s[1:], " ")
	return f, nil
}

func (p *filterParser) list(depth int) (filter, error) {
	f := filter{op: p.s[0]}
	p.s = strings.TrimLeft(p.s[1:], " ")
	for strings.HasPrefix(p.s, "(") {
		sub, err := p.filter(depth + 1)
		if err != nil {
			return filter{}, err
		}
		f.of = append(f.of, sub)
	}
	if f.op == '!' && len(f.of) != 1 {
		return filter{}, fmt.Errorf("%w: ! takes one filter", errFilter)
	}
	return f, nil
}

// item reads attribute=value and its like, up to the closing parenthesis.
func (p *filterParser) item() (filter, error) {
	end := strings.IndexAny(p.s, "()")
	if end < 0 {
		return filter{}, fmt.Errorf("%w: a ) is missing", errFilter)
	}
	text := p.s[:end]
	p.s = p.s[end:]
	name, value, ok := strings.Cut(text, "=")
	f := filter{op: '='}
	if n := len(name); n > 0 && strings.IndexByte("~<>", name[n-1]) >= 0 {
		f.op, name = name[n-1], name[:n-1]
	}
	f.attribute = strings.ToLower(strings.TrimSpace(name))
	if !ok || f.attribute == "" || strings.ContainsAny(f.attribute, ": \\*=<>~") {
		return filter{}, fmt.Errorf("%w: %.60q; matching rules are not known here", errFilter, text)
	}
	if f.op == '=' && value == "*" {
		f.op = '*'
		return f, nil
	}
	var err error
	if f.op == '=' && strings.Contains(value, "*") {
		for _, part := range strings.Split(value, "*") {
			if part, err = unescapeValue(part); err != nil {
				return filter{}, err
			}
			f.parts = append(f.parts, foldValue(part))
		}
		return f, nil
	}
	if f.value, err = unescapeValue(value); err != nil {
		return filter{}, err
	}
	f.value = foldValue(f.value)
	if isDNValued(f.attribute) {
		f.value = NormalizeDN(f.value)
	}
	return f, nil
}

// unescapeValue replaces \xx by the octet (RFC 4515 §3).
func unescapeValue(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%w: %.40q ends within an escape", errFilter, s)
		}
		raw, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return "", fmt.Errorf("%w: %.40q has a bad escape", errFilter, s)
		}
		b.WriteByte(raw[0])
		i += 2
	}
	return b.String(), nil
}

// foldValue is the form in which values of facts are compared: without regard to
// case and to how many spaces there are.
func foldValue(s string) string { return foldDN(strings.TrimSpace(s)) }

// isDNValued reports whether the values of an attribute are DNs.
func isDNValued(attribute string) bool {
	switch attribute {
	case "memberof", "manager", "secretary", "seealso", "owner", "member":
		return true
	}
	return false
}

// walk calls see for f and all filters in it.
func (f *filter) walk(see func(*filter)) {
	see(f)
	for i := range f.of {
		f.of[i].walk(see)
	}
}

// matches says whether an entry with these values matches (RFC 4511 §4.5.1.7).
func (f *filter) matches(values func(attribute string) []string) bool {
	switch f.op {
	case '&':
		for i := range f.of {
			if !f.of[i].matches(values) {
				return false
			}
		}
		return true
	case '|':
		for i := range f.of {
			if f.of[i].matches(values) {
				return true
			}
		}
		return false
	case '!':
		return !f.of[0].matches(values)
	}
	for _, v := range values(f.attribute) {
		if f.op == '*' || f.matchesValue(v) {
			return true
		}
	}
	return false
}

func (f *filter) matchesValue(v string) bool {
	if isDNValued(f.attribute) {
		v = NormalizeDN(v)
	} else {
		v = foldValue(v)
	}
	switch {
	case f.parts != nil:
		return matchesParts(v, f.parts)
	case f.op == '>':
		return compareValues(v, f.value) >= 0
	case f.op == '<':
		return compareValues(v, f.value) <= 0
	}
	return v == f.value
}

// matchesParts reports whether v begins with the first part, ends with the last
// and has the others between them in their order.
func matchesParts(v string, parts []string) bool {
	first, last := parts[0], parts[len(parts)-1]
	if len(v) < len(first)+len(last) || !strings.HasPrefix(v, first) || !strings.HasSuffix(v, last) {
		return false
	}
	v = v[len(first) : len(v)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(v, part)
		if i < 0 {
			return false
		}
		v = v[i+len(part):]
	}
	return true
}

// compareValues orders two values, numbers as numbers.
func compareValues(a, b string) int {
	x, errx := strconv.ParseInt(a, 10, 64)
	y, erry := strconv.ParseInt(b, 10, 64)
	if errx == nil && erry == nil {
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	return strings.Compare(a, b)
}
