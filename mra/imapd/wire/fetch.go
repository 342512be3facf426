package wire

import (
	"strconv"
	"strings"
)

// FetchAtts is a set of FETCH data items without arguments.
type FetchAtts uint16

// The data items of RFC 9051 §6.4.5; MODSEQ: RFC 7162 §3.1.4, EMAILID and
// THREADID: RFC 8474 §5, SAVEDATE: RFC 8514 §4.2.
const (
	FetchFlags FetchAtts = 1 << iota
	FetchUID
	FetchInternalDate
	FetchSize
	FetchEnvelope
	FetchBody          // BODY without section: structure without extension data
	FetchBodyStructure // BODYSTRUCTURE
	FetchModSeq
	FetchEmailID
	FetchThreadID
	FetchSaveDate
)

// Fetch is what a FETCH command asks for of each message.
type Fetch struct {
	Atts     FetchAtts
	Sections []Section
	// ChangedSince is the FETCH modifier (RFC 7162 §3.1.4.1), 0 if absent.
	ChangedSince int64
	Vanished     bool // RFC 7162 §3.2.6
}

// Specifier says which part of a section is meant.
type Specifier uint8

// The specifiers of a section (RFC 9051 §6.4.5.1).
const (
	SectionAll Specifier = iota // BODY[], BODY[1.2]
	SectionHeader
	SectionHeaderFields
	SectionHeaderFieldsNot
	SectionText
	SectionMIME
)

// SectionKind says by which data item a section was asked for.
type SectionKind uint8

// The kinds. The RFC822 ones are the old names of three sections and are
// answered under these names.
const (
	KindBody SectionKind = iota
	KindBinary
	KindBinarySize
	KindRFC822
	KindRFC822Header
	KindRFC822Text
)

// Section is a part of the text of a message.
type Section struct {
	Kind      SectionKind
	Peek      bool     // does not set \Seen
	Part      []uint32 // part numbers, none for the message itself
	Specifier Specifier
	Fields    []string // field names, as the client wrote them
	Partial   bool
	Offset    int64 // of Partial
	Count     int64 // of Partial, at least 1
}

// SetsSeen reports whether fetching s sets \Seen (RFC 9051 §6.4.5).
func (s *Section) SetsSeen() bool { return !s.Peek }

// maxParts bounds the depth of a part number; message.Limits bounds the depth
// of what it could name.
const maxParts = 128

// Fetch takes the data items of FETCH, a macro, one item or a list, and the
// modifiers.
func (d *Decoder) Fetch() *Fetch {
	f := &Fetch{}
	if d.Peek() == '(' {
		d.List(func() { d.fetchItem(f, false) })
		if d.err == nil && f.Atts == 0 && len(f.Sections) == 0 {
			d.Fail("empty list of data items")
		}
	} else {
		d.fetchItem(f, true)
	}
	if d.err == nil && len(d.line) > 1 && d.line[0] == ' ' && d.line[1] == '(' {
		d.Skip(' ')
		d.List(func() { d.fetchModifier(f) })
	}
	return f
}

func (d *Decoder) fetchModifier(f *Fetch) {
	switch string(d.Word()) {
	case "CHANGEDSINCE":
		d.Space()
		if f.ChangedSince = d.Number63(); f.ChangedSince == 0 {
			d.Fail("CHANGEDSINCE must not be 0")
		}
		f.Atts |= FetchModSeq
	case "VANISHED":
		f.Vanished = true
	default:
		d.Fail("unknown FETCH modifier")
	}
}

func (d *Decoder) fetchItem(f *Fetch, macros bool) {
	name := d.keyword()
	switch string(name) {
	case "ALL", "FAST", "FULL":
		if !macros {
			d.Fail("a macro must stand alone")
			return
		}
		f.Atts |= fetchMacro(string(name))
	case "FLAGS":
		f.Atts |= FetchFlags
	case "UID":
		f.Atts |= FetchUID
	case "INTERNALDATE":
		f.Atts |= FetchInternalDate
	case "RFC822.SIZE":
		f.Atts |= FetchSize
	case "ENVELOPE":
		f.Atts |= FetchEnvelope
	case "BODYSTRUCTURE":
		f.Atts |= FetchBodyStructure
	case "MODSEQ":
		f.Atts |= FetchModSeq
	case "EMAILID":
		f.Atts |= FetchEmailID
	case "THREADID":
		f.Atts |= FetchThreadID
	case "SAVEDATE":
		f.Atts |= FetchSaveDate
	case "RFC822":
		f.Sections = append(f.Sections, Section{Kind: KindRFC822})
	case "RFC822.HEADER":
		f.Sections = append(f.Sections, Section{Kind: KindRFC822Header, Peek: true, Specifier: SectionHeader})
	case "RFC822.TEXT":
		f.Sections = append(f.Sections, Section{Kind: KindRFC822Text, Specifier: SectionText})
	case "BODY":
		if d.Peek() != '[' {
			f.Atts |= FetchBody
			return
		}
		f.Sections = append(f.Sections, d.section(Section{}))
	case "BODY.PEEK":
		f.Sections = append(f.Sections, d.section(Section{Peek: true}))
	case "BINARY":
		f.Sections = append(f.Sections, d.section(Section{Kind: KindBinary}))
	case "BINARY.PEEK":
		f.Sections = append(f.Sections, d.section(Section{Kind: KindBinary, Peek: true}))
	case "BINARY.SIZE":
		f.Sections = append(f.Sections, d.section(Section{Kind: KindBinarySize, Peek: true}))
	default:
		d.Fail("unknown data item")
	}
}

// fetchMacro returns the items that a macro stands for (RFC 9051 §6.4.5).
func fetchMacro(name string) FetchAtts {
	fast := FetchFlags | FetchInternalDate | FetchSize
	switch name {
	case "ALL":
		return fast | FetchEnvelope
	case "FULL":
		return fast | FetchEnvelope | FetchBody
	}
	return fast
}

// section takes "[" section-spec "]" ["<" partial ">"].
func (d *Decoder) section(s Section) Section {
	d.Byte('[')
	for c := d.Peek(); c >= '1' && c <= '9'; c = d.Peek() {
		s.Part = append(s.Part, d.Number())
		if len(s.Part) > maxParts {
			d.Fail("part number too deep")
		}
		if !d.Skip('.') {
			break
		}
		if d.Peek() == ']' {
			d.Fail("invalid section")
		}
	}
	if d.Peek() != ']' {
		d.sectionText(&s)
	}
	d.Byte(']')
	if d.Peek() == '<' && s.Kind != KindBinarySize {
		d.partial(&s)
	}
	return s
}

func (d *Decoder) sectionText(s *Section) {
	if s.Kind != KindBody {
		d.Fail("a part number was expected")
		return
	}
	switch string(d.keyword()) {
	case "HEADER":
		s.Specifier = SectionHeader
	case "TEXT":
		s.Specifier = SectionText
	case "MIME":
		s.Specifier = SectionMIME
		if len(s.Part) == 0 {
			d.Fail("MIME needs a part number") // RFC 9051 §9, section-text
		}
	case "HEADER.FIELDS":
		s.Specifier = SectionHeaderFields
		d.headerFields(s)
	case "HEADER.FIELDS.NOT":
		s.Specifier = SectionHeaderFieldsNot
		d.headerFields(s)
	default:
		d.Fail("unknown section")
	}
}

func (d *Decoder) headerFields(s *Section) {
	d.Space()
	d.List(func() { s.Fields = append(s.Fields, d.AString()) })
	if d.err == nil && len(s.Fields) == 0 {
		d.Fail("empty list of header fields")
	}
}

func (d *Decoder) partial(s *Section) {
	d.Byte('<')
	s.Partial = true
	s.Offset = d.Number63()
	d.Byte('.')
	s.Count = d.Number63()
	if d.err == nil && s.Count == 0 {
		d.Fail("partial of no octets") // RFC 9051 §9, partial
	}
	d.Byte('>')
}

// AppendSection appends the data item by which a response names s
// (RFC 9051 §7.5.2): without PEEK, and of a partial only the origin.
func AppendSection(dst []byte, s *Section) []byte {
	switch s.Kind {
	case KindRFC822:
		return append(dst, "RFC822"...)
	case KindRFC822Header:
		return append(dst, "RFC822.HEADER"...)
	case KindRFC822Text:
		return append(dst, "RFC822.TEXT"...)
	case KindBinary:
		dst = append(dst, "BINARY["...)
	case KindBinarySize:
		dst = append(dst, "BINARY.SIZE["...)
	default:
		dst = append(dst, "BODY["...)
	}
	for i, n := range s.Part {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendUint(dst, uint64(n), 10)
	}
	if len(s.Part) > 0 && s.Specifier != SectionAll {
		dst = append(dst, '.')
	}
	switch s.Specifier {
	case SectionHeader:
		dst = append(dst, "HEADER"...)
	case SectionText:
		dst = append(dst, "TEXT"...)
	case SectionMIME:
		dst = append(dst, "MIME"...)
	case SectionHeaderFields:
		dst = appendFields(append(dst, "HEADER.FIELDS ("...), s.Fields)
	case SectionHeaderFieldsNot:
		dst = appendFields(append(dst, "HEADER.FIELDS.NOT ("...), s.Fields)
	}
	dst = append(dst, ']')
	if s.Partial {
		dst = append(dst, '<')
		dst = strconv.AppendInt(dst, s.Offset, 10)
		dst = append(dst, '>')
	}
	return dst
}

func appendFields(dst []byte, fields []string) []byte {
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = AppendAString(dst, strings.ToUpper(f))
	}
	return append(dst, ')')
}
