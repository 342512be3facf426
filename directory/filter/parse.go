package filter

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Parse reads a filter. As people write them, its outermost parentheses may be
// missing, and there may be spaces between conditions. The error is ErrSyntax with
// the place.
func Parse(text string) (Filter, error) {
	if len(text) > MaxSize {
		return Filter{}, fmt.Errorf("%w: %d octets, at most %d", ErrSyntax, len(text), MaxSize)
	}
	if text = strings.TrimSpace(text); !strings.HasPrefix(text, "(") {
		text = "(" + text + ")"
	}
	p := parser{text: text}
	n, err := p.filter(0)
	if err == nil && p.at < len(text) {
		err = p.fail("text behind the filter")
	}
	if err != nil {
		return Filter{}, err
	}
	return Filter{n}, nil
}

type parser struct {
	text  string
	at    int
	nodes int
}

func (p *parser) fail(what string) error {
	return fmt.Errorf("%w: %s at octet %d", ErrSyntax, what, p.at)
}

// spaces skips spaces.
func (p *parser) spaces() {
	for p.take(' ') {
	}
}

// take reads c and reports whether it stood there.
func (p *parser) take(c byte) bool {
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

// filter reads "(" filtercomp ")".
func (p *parser) filter(depth int) (*node, error) {
	if depth >= MaxDepth {
		return nil, p.fail("too deep")
	}
	if p.nodes++; p.nodes > MaxConditions {
		return nil, p.fail("too many conditions")
	}
	if !p.take('(') {
		return nil, p.fail(`"(" expected`)
	}
	var n *node
	var err error
	switch {
	case p.take('&'):
		n, err = p.list(and, depth)
	case p.take('|'):
		n, err = p.list(or, depth)
	case p.take('!'):
		n = &node{kind: not, of: make([]*node, 1)}
		n.of[0], err = p.filter(depth + 1)
	default:
		n, err = p.condition()
	}
	if err != nil {
		return nil, err
	}
	if !p.take(')') {
		return nil, p.fail(`")" expected`)
	}
	p.spaces()
	return n, nil
}

// list reads the filters behind "&" or "|"; there may be none (RFC 4526 §2).
func (p *parser) list(k kind, depth int) (*node, error) {
	n := &node{kind: k}
	p.spaces()
	for p.at < len(p.text) && p.text[p.at] == '(' {
		c, err := p.filter(depth + 1)
		if err != nil {
			return nil, err
		}
		n.of = append(n.of, c)
	}
	return n, nil
}

// condition reads an attribute, an operator and a value.
func (p *parser) condition() (*node, error) {
	n := &node{}
	begin := p.at
	for p.at < len(p.text) && isAttributeChar(p.text[p.at]) {
		p.at++
	}
	n.attribute, _, _ = strings.Cut(strings.ToLower(p.text[begin:p.at]), ";") // RFC 4512 §2.5: without options
	if n.attribute == "" {
		return nil, p.fail("attribute expected")
	}
	rest := p.text[p.at:]
	rule := ""
	switch {
	case strings.HasPrefix(rest, ">="):
		n.kind, p.at = atLeast, p.at+2
	case strings.HasPrefix(rest, "<="):
		n.kind, p.at = atMost, p.at+2
	case strings.HasPrefix(rest, "~="):
		n.kind, p.at = equal, p.at+2
	case strings.HasPrefix(rest, "="):
		n.kind, p.at = equal, p.at+1
	case strings.HasPrefix(rest, ":"):
		end := strings.Index(rest, ":=")
		if end < 2 {
			return nil, p.fail("operator expected")
		}
		rule, p.at = rest[1:end], p.at+end+2
	default:
		return nil, p.fail("operator expected")
	}
	parts, err := p.value()
	if err != nil {
		return nil, err
	}
	return n, p.finish(n, rule, parts)
}

func isAttributeChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == ';'
}

// finish puts the value into n: its parts are what stands between asterisks.
func (p *parser) finish(n *node, rule string, parts []string) error {
	switch {
	case rule == oidBitsAll || rule == oidBitsAny:
		n.kind = bitsAll
		if rule == oidBitsAny {
			n.kind = bitsAny
		}
		i, err := strconv.ParseInt(strings.TrimSpace(parts[0]), 10, 64)
		if err != nil || len(parts) != 1 {
			return p.fail("number expected")
		}
		n.number, n.isNumber, n.value = i, true, strconv.FormatInt(i, 10)
		return nil
	case rule != "":
		return p.fail("matching rule not supported")
	case len(parts) == 1:
		n.value = fold(parts[0])
		i, err := strconv.ParseInt(n.value, 10, 64)
		n.number, n.isNumber = i, err == nil
		return nil
	case n.kind != equal:
		return p.fail(`"*" in an ordering`)
	case len(parts) == 2 && parts[0] == "" && parts[1] == "":
		n.kind = present
		return nil
	}
	n.kind = substrings
	for i, part := range parts {
		if part = collapse(part); part != "" || i == 0 || i == len(parts)-1 {
			n.parts = append(n.parts, part)
		}
	}
	return nil
}

// value reads up to the ")", split at asterisks, with escapes removed.
func (p *parser) value() ([]string, error) {
	parts := []string{}
	var b strings.Builder
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case ')':
			return append(parts, b.String()), nil
		case '*':
			parts = append(parts, b.String())
			b.Reset()
		case '\\':
			if p.at+3 > len(p.text) {
				return nil, p.fail("escape expected")
			}
			raw, err := hex.DecodeString(p.text[p.at+1 : p.at+3])
			if err != nil {
				return nil, p.fail("escape expected")
			}
			b.Write(raw)
			p.at += 2
		case '(', 0:
			return nil, p.fail("character to be escaped")
		default:
			b.WriteByte(c)
		}
	}
	return nil, p.fail(`")" expected`)
}
