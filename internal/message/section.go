package message

// SectionKind is the last word of a section specifier (RFC 9051 §6.4.5.1).
type SectionKind uint8

// The kinds of section. SectionBody is a part number alone.
const (
	SectionBody   SectionKind = iota
	SectionMIME               // MIME: the header of the part itself
	SectionHeader             // HEADER, HEADER.FIELDS…: of the embedded message
	SectionText               // TEXT: body of the embedded message
)

// Section says where the octets of a section are.
type Section struct {
	// Offset and Size are octets of the message's body, unless OfMessage.
	Offset, Size int64
	// OfMessage: the section is the header of the message itself.
	OfMessage bool
}

// Find returns the part with the number path, nil if there is none. p is the
// root of a message; an empty path is the root itself.
//
// RFC 9051 §6.4.5: a message that is no multipart has one part, 1. Below a
// message/rfc822 part the numbers are those of the message inside.
func (p *Part) Find(path []int) *Part {
	for i, n := range path {
		if i > 0 {
			if p = p.inside(); p == nil {
				return nil
			}
		}
		switch {
		case p.Type == "multipart":
			if n < 1 || n > len(p.Children) {
				return nil
			}
			p = p.Children[n-1]
		case n != 1:
			return nil
		}
	}
	return p
}

// inside returns the part whose children the next number counts.
func (p *Part) inside() *Part {
	switch {
	case p.Type == "multipart":
		return p
	case p.Embedded != nil:
		return p.Embedded.Root
	}
	return nil
}

// Section returns where the section kind of the part path is, ok false if it
// does not exist: IMAP answers NIL. p is the root of a message. An empty path
// means the message itself.
func (p *Part) Section(path []int, kind SectionKind) (s Section, ok bool) {
	part := p.Find(path)
	switch {
	case part == nil:
		return Section{}, false
	case kind == SectionBody:
		return Section{Offset: part.BodyOffset, Size: part.BodySize}, true
	case kind == SectionMIME:
		return part.header(p), true
	}
	root := p
	if len(path) > 0 {
		if part.Embedded == nil {
			return Section{}, false
		}
		root = part.Embedded.Root
	}
	if kind == SectionHeader {
		return root.header(p), true
	}
	return Section{Offset: root.BodyOffset, Size: root.BodySize}, true
}

// header returns where the header of p is, the message's own if p is its root.
func (p *Part) header(root *Part) Section {
	if p == root {
		return Section{OfMessage: true}
	}
	return Section{Offset: p.HeaderOffset, Size: p.HeaderSize}
}

// All calls f for p and every part under it, embedded messages included, in
// the order of the message, until f returns false.
func (p *Part) All(f func(*Part) bool) bool {
	if !f(p) {
		return false
	}
	for _, c := range p.Children {
		if !c.All(f) {
			return false
		}
	}
	return p.Embedded == nil || p.Embedded.Root.All(f)
}
