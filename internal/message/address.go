package message

import (
	"bytes"
	"iter"

	"dirpost/internal/envelope"
)

// Mailbox is one mailbox of an address field, as it is written: Name may hold
// encoded words (see DecodeHeader), Local and Domain may be anything.
type Mailbox struct {
	Name   string
	Local  string // unquoted
	Domain string // "" if there is none
}

// Address returns the address as the envelope knows it; the error says that
// no mail can be sent there.
func (m Mailbox) Address() (envelope.Address, error) {
	domain, err := envelope.ParseDomain(m.Domain)
	if err != nil {
		return envelope.Address{}, err
	}
	return envelope.ParseAddress(envelope.Address{Local: m.Local, Domain: domain}.String())
}

// ParseMailboxes yields the mailboxes of an address list, those of groups
// included (RFC 5322 §3.4, and the obsolete forms of §4.4). It never fails:
// what is broken is given as well as it can be understood.
func ParseMailboxes(value string) iter.Seq[Mailbox] {
	return func(yield func(Mailbox) bool) {
		var p addressParser
		p.parse(unfold([]byte(value)))
		for _, a := range p.list {
			if a.kind == isMailbox && !yield(Mailbox{string(a.name), string(a.local), string(a.domain)}) {
				return
			}
		}
	}
}

// AddressList returns the usable addresses of all fields of that name, in
// order. Mailboxes that are no valid address are left out.
func AddressList(h Header, name string) []envelope.Address {
	var list []envelope.Address
	for _, v := range h.Values(name) {
		for m := range ParseMailboxes(v) {
			if a, err := m.Address(); err == nil {
				list = append(list, a)
			}
		}
	}
	return list
}

// address is an element of an address list; its slices share memory with the
// field where they can.
type address struct {
	kind                       addressKind
	name, route, local, domain []byte // nil: absent
}

type addressKind uint8

const (
	isMailbox addressKind = iota
	isGroup               // begins the group name
	isGroupEnd
)

// addressParser reads an address list. Work is linear in the length of the
// list, whatever it holds.
type addressParser struct {
	v       []byte // what is left
	list    []address
	comment []byte // the last comment, without parentheses
	inGroup bool
}

// maxAddresses bounds a list: an address of two octets in the field is one of
// forty in the ENVELOPE.
const maxAddresses = 10_000

// parse reads the list v and appends its elements to p.list.
func (p *addressParser) parse(v []byte) {
	p.v, p.inGroup = v, false
	for len(p.list) < maxAddresses {
		p.comment = nil
		p.skip()
		if len(p.v) == 0 {
			break
		}
		switch p.v[0] {
		case ',':
			p.v = p.v[1:]
		case ';':
			p.v = p.v[1:]
			p.endGroup()
		default:
			p.element()
		}
	}
	p.endGroup()
}

func (p *addressParser) endGroup() {
	if p.inGroup {
		p.inGroup = false
		p.list = append(p.list, address{kind: isGroupEnd})
	}
}

// skip skips white space and comments and remembers the last comment.
func (p *addressParser) skip() {
	for len(p.v) > 0 {
		switch {
		case isSpace(p.v[0]):
			p.v = p.v[1:]
		case p.v[0] == '(':
			n := commentLen(p.v)
			p.comment = trim(bytes.TrimSuffix(p.v[1:n], []byte{')'}))
			p.v = p.v[n:]
		default:
			return
		}
	}
}

// element reads a mailbox or the beginning of a group.
func (p *addressParser) element() {
	start := p.v
	w := p.words()
	if len(p.v) == 0 {
		p.bare(w)
		return
	}
	switch p.v[0] {
	case '<':
		p.angle(w.text)
	case ':':
		p.v = p.v[1:]
		p.endGroup()
		p.inGroup = true
		p.list = append(p.list, address{kind: isGroup, name: w.text})
	case '@':
		p.v = p.v[1:]
		a := address{local: w.tight, domain: p.domain()}
		p.skip()
		if len(p.v) > 0 && p.v[0] == '<' {
			// alice@corp.example <alice@corp.example>: a name that should
			// have been quoted.
			p.angle(trim(start[:len(start)-len(p.v)]))
			return
		}
		a.name = p.comment
		p.list = append(p.list, a)
		p.junk()
	default:
		p.bare(w)
	}
}

// bare takes words that no "@" or "<" follows: one is a local-part without
// domain, several are a name without address.
func (p *addressParser) bare(w words) {
	switch {
	case len(w.text) == 0:
		p.junk()
		return
	case w.n > 1:
		p.list = append(p.list, address{name: w.text})
	default:
		p.list = append(p.list, address{local: w.tight, name: p.comment})
	}
}

// junk skips what cannot be understood, up to the next element.
func (p *addressParser) junk() {
	for len(p.v) > 0 && p.v[0] != ',' && p.v[0] != ';' {
		switch p.v[0] {
		case '(':
			p.v = p.v[commentLen(p.v):]
		case '"':
			_, n := unquote(p.v)
			p.v = p.v[max(n, 1):]
		default:
			p.v = p.v[1:]
		}
	}
}

// angle reads "<" [route] local-part "@" domain ">" (RFC 5322 §4.4 obs-route).
func (p *addressParser) angle(name []byte) {
	p.v = p.v[1:]
	p.skip()
	a := address{name: name}
	if len(p.v) > 0 && p.v[0] == '@' {
		end := bytes.IndexAny(p.v, ":>")
		if end >= 0 && p.v[end] == ':' {
			a.route = trim(p.v[:end])
			p.v = p.v[end+1:]
		}
	}
	a.local = p.words().tight
	if len(p.v) > 0 && p.v[0] == '@' {
		p.v = p.v[1:]
		a.domain = p.domain()
	}
	for len(p.v) > 0 && p.v[0] != '>' && p.v[0] != ',' && p.v[0] != ';' {
		p.v = p.v[1:]
	}
	if len(p.v) > 0 && p.v[0] == '>' {
		p.v = p.v[1:]
	}
	p.comment = nil
	p.skip()
	if len(a.name) == 0 {
		a.name = p.comment
	}
	p.list = append(p.list, a)
	p.junk()
}

// domain reads a domain or address literal up to what ends it.
func (p *addressParser) domain() []byte {
	p.skip()
	var out []byte // nil while start[:n] is the domain
	start, n := p.v, 0
	for len(p.v) > 0 {
		c := p.v[0]
		switch {
		case isSpace(c) || c == '(':
			p.skip()
			// a space within a domain is obsolete, before another dot only
			if len(p.v) == 0 || p.v[0] != '.' && (n == 0 || start[n-1] != '.') {
				return pick(out, start[:n])
			}
			out = append(out, start[:n]...)
			start, n = p.v, 0
			continue
		case c == '[':
			end := bytes.IndexByte(p.v, ']')
			if end < 0 {
				end = len(p.v) - 1
			}
			n += end + 1
			p.v = p.v[end+1:]
			continue
		case c == ',' || c == ';' || c == '<' || c == '>' || c == ':' || c == '"' || c == '@' || c == ')':
			return pick(out, start[:n])
		}
		p.v = p.v[1:]
		n++
	}
	return pick(out, start[:n])
}

// pick returns last, after what was gathered before.
func pick(out, last []byte) []byte {
	if out == nil {
		return last
	}
	return append(out, last...)
}

// words are what stands before "<", "@" or ":": read as a phrase and as a
// local-part.
type words struct {
	n     int    // number of words with white space between them
	text  []byte // words with a space where there was white space
	tight []byte // words without white space
}

// words reads atoms, quoted strings and dots up to a special.
func (p *addressParser) words() words {
	p.skip()
	v, i, end := p.v, 0, 0 // end of the last word
	n, quoted, copied := 0, 0, false
	gap := true
scan:
	for i < len(v) {
		switch c := v[i]; {
		case isAddressSpecial(c):
			break scan
		case isSpace(c):
			gap = true
			i++
			continue
		case c == '(':
			size := commentLen(v[i:])
			p.comment = trim(bytes.TrimSuffix(v[i+1:i+size], []byte{')'}))
			gap, copied = true, copied || n > 0
			i += size
			continue
		case c == '"':
			_, size := unquote(v[i:])
			i += max(size, 1)
			quoted++
			copied = copied || quoted > 1 || n > 0 || size == 0
		default:
			copied = copied || quoted > 0 || c == '\\'
			i += wordLen(v[i:])
		}
		if gap {
			n++
			gap = false
		}
		end = i
	}
	p.v = v[i:]
	switch {
	case copied:
		text, tight := joinWords(v[:end])
		return words{n, text, tight}
	case quoted == 1:
		text, _ := unquote(v[:end])
		return words{n, text, text}
	case n > 1:
		_, tight := joinWords(v[:end])
		return words{n, v[:end], tight}
	}
	return words{n, v[:end], v[:end]}
}

// joinWords copies words, unquoted and without comments.
func joinWords(v []byte) (text, tight []byte) {
	text, tight = make([]byte, 0, len(v)), make([]byte, 0, len(v))
	gap := false
	for i := 0; i < len(v); {
		var word []byte
		switch c := v[i]; {
		case isSpace(c):
			gap = true
			i++
			continue
		case c == '(':
			gap = true
			i += commentLen(v[i:])
			continue
		case c == '"':
			value, size := unquote(v[i:])
			word = value
			i += max(size, 1)
		case c == '\\' && i+1 < len(v):
			word = v[i+1 : i+2]
			i += 2
		default:
			size := wordLen(v[i:])
			word = v[i : i+size]
			i += size
		}
		if gap && len(text) > 0 {
			text = append(text, ' ')
		}
		gap = false
		text, tight = append(text, word...), append(tight, word...)
	}
	return text, tight
}

// wordLen returns the length of the atom that v begins with, at least 1; a
// backslash takes the next octet with it.
func wordLen(v []byte) int {
	if v[0] == '\\' {
		return min(2, len(v))
	}
	for n := 1; n < len(v); n++ {
		if c := v[n]; isSpace(c) || isAddressSpecial(c) || c == '(' || c == '"' || c == '\\' {
			return n
		}
	}
	return len(v)
}

func isAddressSpecial(c byte) bool {
	switch c {
	case '<', '>', '@', ',', ':', ';':
		return true
	}
	return false
}
