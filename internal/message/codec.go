package message

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// structureVersion is the first octet of an encoded structure. It changes with
// the form, and when the scanner learns to see more, so that old structures
// can be told and made again.
const structureVersion = 1

// Errors of DecodeStructure.
var (
	ErrStructure        = errors.New("not an encoded message structure")
	ErrStructureVersion = errors.New("message structure of another version")
)

// maxDecodeDepth is well above Limits.MaxDepth: the decoder only guards its
// stack.
const maxDecodeDepth = 1000

// EncodeStructure returns the binary form of the tree under p, in which it is
// stored: numbers as varints, offsets as distance from the parent's.
func EncodeStructure(p *Part) []byte {
	return appendPart(append(make([]byte, 0, 64), structureVersion), p, 0)
}

// The bits say which fields of a part follow.
const (
	hasParams = 1 << iota
	hasID
	hasDescription
	hasEncoding
	hasMD5
	hasDisposition
	hasLanguage
	hasLocation
	hasChildren
	hasEmbedded
)

func (p *Part) bits() (bits uint64) {
	set := func(yes bool, bit uint64) {
		if yes {
			bits |= bit
		}
	}
	set(len(p.Params) > 0, hasParams)
	set(p.ID != "", hasID)
	set(p.Description != "", hasDescription)
	set(p.Encoding != "7bit", hasEncoding)
	set(p.MD5 != "", hasMD5)
	set(p.Disposition != "" || len(p.DispositionParam) > 0, hasDisposition)
	set(len(p.Language) > 0, hasLanguage)
	set(p.Location != "", hasLocation)
	set(len(p.Children) > 0, hasChildren)
	set(p.Embedded != nil, hasEmbedded)
	return bits
}

func appendPart(dst []byte, p *Part, base int64) []byte {
	bits := p.bits()
	dst = binary.AppendUvarint(dst, bits)
	dst = binary.AppendVarint(dst, p.HeaderOffset-base)
	dst = binary.AppendVarint(dst, p.HeaderSize)
	dst = binary.AppendVarint(dst, p.BodyOffset-p.HeaderOffset-p.HeaderSize)
	dst = binary.AppendVarint(dst, p.BodySize)
	dst = binary.AppendVarint(dst, p.BodyLines)
	dst = appendText(dst, p.Type)
	dst = appendText(dst, p.Subtype)
	if bits&hasParams != 0 {
		dst = encodeParams(dst, p.Params)
	}
	for _, s := range [...]struct {
		bit  uint64
		text string
	}{{hasID, p.ID}, {hasDescription, p.Description}, {hasEncoding, p.Encoding}, {hasMD5, p.MD5}, {hasLocation, p.Location}, {hasDisposition, p.Disposition}} {
		if bits&s.bit != 0 {
			dst = appendText(dst, s.text)
		}
	}
	if bits&hasDisposition != 0 {
		dst = encodeParams(dst, p.DispositionParam)
	}
	if bits&hasLanguage != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(p.Language)))
		for _, l := range p.Language {
			dst = appendText(dst, l)
		}
	}
	if bits&hasChildren != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(p.Children)))
		for _, c := range p.Children {
			dst = appendPart(dst, c, p.BodyOffset)
		}
	}
	if bits&hasEmbedded != 0 {
		dst = appendText(dst, p.Embedded.Envelope)
		dst = appendPart(dst, p.Embedded.Root, p.BodyOffset)
	}
	return dst
}

func encodeParams(dst []byte, list []Param) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, a := range list {
		dst = appendText(appendText(dst, a.Name), a.Value)
	}
	return dst
}

func appendText[T string | []byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// DecodeStructure is the reverse of EncodeStructure. It takes foreign octets
// without harm: memory is in proportion to them.
func DecodeStructure(b []byte) (*Part, error) {
	if len(b) == 0 {
		return nil, ErrStructure
	}
	if b[0] != structureVersion {
		return nil, fmt.Errorf("%w: %d", ErrStructureVersion, b[0])
	}
	d := structureDecoder{b: b[1:]}
	p := d.part(0, 0)
	if d.bad || len(d.b) > 0 {
		return nil, ErrStructure
	}
	return p, nil
}

// structureDecoder reads an encoded structure; after the first error it gives
// zeros.
type structureDecoder struct {
	b   []byte
	bad bool
}

func (d *structureDecoder) fail() { d.b, d.bad = nil, true }

func (d *structureDecoder) uint() uint64 {
	u, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return u
}

func (d *structureDecoder) int() int64 {
	i, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return i
}

func (d *structureDecoder) octets() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	s := d.b[:n:n]
	d.b = d.b[n:]
	return s
}

// word reads a text that is often the same.
func (d *structureDecoder) word() string { return internExact(d.octets()) }

// count reads the number of things that follow, each of at least size octets.
func (d *structureDecoder) count(size int) int {
	n := d.uint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *structureDecoder) params() []Param {
	n := d.count(2)
	if n == 0 {
		return nil
	}
	list := make([]Param, n)
	for i := range list {
		list[i] = Param{d.word(), string(d.octets())}
	}
	return list
}

func (d *structureDecoder) part(base int64, depth int) *Part {
	if depth > maxDecodeDepth {
		d.fail()
		return nil
	}
	bits := d.uint()
	if bits >= hasEmbedded<<1 {
		d.fail()
	}
	p := &Part{Encoding: "7bit"}
	p.HeaderOffset = base + d.int()
	p.HeaderSize = d.int()
	p.BodyOffset = p.HeaderOffset + p.HeaderSize + d.int()
	p.BodySize = d.int()
	p.BodyLines = d.int()
	p.Type, p.Subtype = d.word(), d.word()
	if bits&hasParams != 0 {
		p.Params = d.params()
	}
	for _, s := range [...]struct {
		bit  uint64
		text *string
	}{{hasID, &p.ID}, {hasDescription, &p.Description}, {hasEncoding, &p.Encoding}, {hasMD5, &p.MD5}, {hasLocation, &p.Location}, {hasDisposition, &p.Disposition}} {
		if bits&s.bit != 0 {
			*s.text = d.word()
		}
	}
	if bits&hasDisposition != 0 {
		p.DispositionParam = d.params()
	}
	if bits&hasLanguage != 0 {
		for range d.count(1) {
			p.Language = append(p.Language, string(d.octets()))
		}
	}
	if bits&hasChildren != 0 {
		for range d.count(8) {
			p.Children = append(p.Children, d.part(p.BodyOffset, depth+1))
		}
	}
	if bits&hasEmbedded != 0 {
		e := append([]byte(nil), d.octets()...)
		p.Embedded = &Embedded{Envelope: e, Root: d.part(p.BodyOffset, depth+1)}
	}
	return p
}
