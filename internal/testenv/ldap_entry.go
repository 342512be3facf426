package testenv

import (
	"fmt"
	"strconv"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
)

// limitEntry makes of an entry what a client of the behaviour sees.
func limitEntry(m *ber.Packet, q *proxySearch, b LDAPBehaviour) *ber.Packet {
	op := m.Children[1]
	if len(op.Children) < 2 {
		return m
	}
	dn := text(op.Children[0])
	list := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "attributes")
	universal := isUniversal(op.Children[1])
	for _, a := range op.Children[1].Children {
		if len(a.Children) < 2 {
			continue
		}
		name := text(a.Children[0])
		plain, _, _ := strings.Cut(name, ";")
		switch {
		case b.GlobalCatalog && strings.EqualFold(plain, "proxyAddresses"),
			b.GlobalCatalog && strings.EqualFold(plain, "member") && !universal,
			q.hideType && strings.EqualFold(plain, "groupType"):
			continue
		}
		values := a.Children[1].Children
		if b.MaxValRange > 0 && !q.dirsync && len(values) > b.MaxValRange {
			values = values[:b.MaxValRange]
			name = rangeName(name, b.MaxValRange)
		}
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "values")
		for _, v := range values {
			value := text(v)
			if b.Value != nil {
				value = string(b.Value(dn, plain, []byte(value)))
			}
			set.AppendChild(octets(value))
		}
		attribute := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "attribute")
		attribute.AppendChild(octets(name))
		attribute.AppendChild(set)
		list.AppendChild(attribute)
	}
	return rebuild(m, 1, op.Children[0], list)
}

// rangeName is the name under which the first n of more values come, which begin
// where the name says.
func rangeName(name string, n int) string {
	plain, option, _ := strings.Cut(name, ";range=")
	low, _, _ := strings.Cut(option, "-")
	first, _ := strconv.Atoi(low) // 0 without a range
	return fmt.Sprintf("%s;range=%d-%d", plain, first, first+n-1)
}

// isUniversal reports whether attributes are those of a universal group, whose
// members are in the global catalog (MS-ADTS §2.2.12).
func isUniversal(attributes *ber.Packet) bool {
	const universal = 0x8
	for _, a := range attributes.Children {
		if len(a.Children) == 2 && strings.EqualFold(text(a.Children[0]), "groupType") && len(a.Children[1].Children) == 1 {
			bits, err := strconv.ParseInt(text(a.Children[1].Children[0]), 10, 64)
			return err == nil && bits&universal != 0
		}
	}
	return false
}

// asks reports whether a list of attributes has one.
func asks(list *ber.Packet, attribute string) bool {
	for _, a := range list.Children {
		if name := text(a); name == "*" || strings.EqualFold(name, attribute) {
			return true
		}
	}
	return false
}

// controls are the OIDs of the controls of a message.
func controls(m *ber.Packet) []string {
	var oids []string
	if len(m.Children) > 2 {
		for _, c := range m.Children[2].Children {
			if len(c.Children) > 0 {
				oids = append(oids, text(c.Children[0]))
			}
		}
	}
	return oids
}

// limitPages returns m with at most size entries asked for in its control at i, for
// pages (RFC 2696).
func limitPages(m *ber.Packet, i, size int) *ber.Packet {
	control := m.Children[2].Children[i]
	value := control.Children[len(control.Children)-1]
	asked, err := ber.DecodePacketErr(value.Data.Bytes())
	if err != nil || len(asked.Children) != 2 {
		return m
	}
	if n, ok := asked.Children[0].Value.(int64); !ok || n <= int64(size) {
		return m
	}
	pages := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "pages")
	pages.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, size, "size"))
	pages.AppendChild(asked.Children[1])
	changed := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "control")
	for _, c := range control.Children[:len(control.Children)-1] {
		changed.AppendChild(c)
	}
	changed.AppendChild(octets(string(pages.Bytes())))
	list := append(m.Children[2].Children[:i:i], changed)
	return rebuild(m, 2, append(list, m.Children[2].Children[i+1:]...)...)
}

// text is the content of an octet string.
func text(p *ber.Packet) string { return p.Data.String() }

func octets(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

// message is a message with one operation.
func message(id int64, op *ber.Packet) *ber.Packet {
	m := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "message")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, "id"))
	m.AppendChild(op)
	return m
}

// result is an answer with a result code (RFC 4511 §4.1.9).
func result(id int64, tag ber.Tag, code int, diagnostic string) *ber.Packet {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "result")
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, "code"))
	op.AppendChild(octets(""))
	op.AppendChild(octets(diagnostic))
	return message(id, op)
}

func reference(url string) *ber.Packet {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, opReference, nil, "reference")
	op.AppendChild(octets(url))
	return op
}

// rebuild returns m with other children in the operation at n: a packet that was
// read does not notice that its children have changed.
func rebuild(m *ber.Packet, n int, children ...*ber.Packet) *ber.Packet {
	out := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "message")
	for i, c := range m.Children {
		if i == n {
			op := ber.Encode(c.ClassType, c.TagType, c.Tag, nil, "operation")
			for _, child := range children {
				op.AppendChild(child)
			}
			c = op
		}
		out.AppendChild(c)
	}
	return out
}
