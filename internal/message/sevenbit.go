package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrSevenBit reports a message that cannot be brought into 7-bit form without
// breaking something: what was signed, a header in UTF-8, a structure that is
// not seen through.
var ErrSevenBit = errors.New("it cannot be converted to 7 bits")

// SevenBit says how a message becomes one for a server without 8BITMIME
// (RFC 6152 §3): parts with octets above 127, or with lines that are too long,
// are sent as quoted-printable or base64, and everything that says 8bit or binary
// says what is so. The decoded content of each part stays as it was.
type SevenBit struct {
	Header Header // of the converted message

	regions []region
	signed  []span // of multiparts whose content must stay as it is
	size    int64  // of the body as it is
}

// span is a part of the body.
type span struct{ start, end int64 }

// region is a piece of the body that is treated in one way. What lies between
// regions, delimiters and the text around parts that nobody shows
// (RFC 2046 §5.1.1), is copied.
type region struct {
	start, end int64
	part       *Part
	isHeader   bool // of part, else its content
	root       bool // part is the root of a message: its header is a message header
	frozen     bool // within something signed

	// Found by a look at the content.
	raw              []byte // of a header
	high, long       bool   // octets above 127, a line of more than 998 octets
	octets, specials int64

	header   []byte // instead of a header; nil: as it is
	encoding string // that content is given, "" for none
}

// PlanSevenBit looks at a message and decides how to convert it. read writes the
// body, the same each time, and is called twice; its error is returned. Memory is
// that of a Scanner and does not grow with the body.
func PlanSevenBit(header Header, read func(io.Writer) error) (*SevenBit, error) {
	scanner := NewScanner(Limits{})
	scanner.Scan(header.Bytes())
	if err := read(scanner); err != nil {
		return nil, err
	}
	parsed := scanner.Close()
	const unseen = DefectBareCR | DefectBareLF | Defect8BitHeader | DefectHeaderTooBig | DefectTooDeep | DefectTooManyParts | DefectNoBoundary | DefectNoEmptyLine
	if d := parsed.Defects & unseen; d != 0 {
		return nil, fmt.Errorf("%w: %v", ErrSevenBit, d)
	}
	s := &SevenBit{Header: parsed.Header, size: parsed.BodySize}
	star := false
	parsed.Root.All(func(p *Part) bool {
		star = star || p.Type == "multipart" && strings.ContainsRune(p.param("boundary"), mask)
		return true
	})
	if err := s.divide(parsed.Root, true, false); err != nil {
		return nil, err
	}
	look := &looker{s: s, d: dispatcher{regions: s.regions}}
	if err := read(look); err != nil {
		return nil, err
	}
	if look.high && star || look.signed {
		return nil, fmt.Errorf("%w: octets above 127 between parts", ErrSevenBit)
	}
	if err := s.decide(); err != nil {
		return nil, err
	}
	return s, s.relabel(parsed.Root)
}

// divide lists the regions of p and what is below it.
func (s *SevenBit) divide(p *Part, root, frozen bool) error {
	add := func(start, size int64, isHeader bool) error {
		if n := len(s.regions); start < 0 || size < 0 || start+size > s.size || n > 0 && start < s.regions[n-1].end {
			return fmt.Errorf("%w: parts overlap", ErrSevenBit)
		}
		if size > 0 {
			s.regions = append(s.regions, region{start: start, end: start + size, part: p, isHeader: isHeader, root: root, frozen: frozen})
		}
		return nil
	}
	if p.HeaderSize > 0 {
		if err := add(p.HeaderOffset, p.HeaderSize, true); err != nil {
			return err
		}
	}
	if p.Type == "multipart" && p.Subtype == "signed" && !frozen { // RFC 1847 §2.1
		frozen = true
		s.signed = append(s.signed, span{p.BodyOffset, p.BodyOffset + p.BodySize})
	}
	switch {
	case p.Embedded != nil:
		return s.divide(p.Embedded.Root, true, frozen)
	case p.Type == "multipart":
		for _, c := range p.Children {
			if err := s.divide(c, false, frozen); err != nil {
				return err
			}
		}
		return nil
	}
	return add(p.BodyOffset, p.BodySize, false)
}

// decide chooses the encoding of each part that needs one.
func (s *SevenBit) decide() error {
	for i := range s.regions {
		r := &s.regions[i]
		if !r.high && !r.long {
			continue
		}
		switch {
		case r.isHeader && r.high:
			return fmt.Errorf("%w: header of a part holds octets above 127", ErrSevenBit)
		case r.isHeader, r.frozen && !r.high:
			continue // a long line is no reason to break what is signed
		case r.frozen:
			return fmt.Errorf("%w: it is signed", ErrSevenBit)
		case r.part.Type == "message" && r.part.Subtype != "global" && !strings.HasPrefix(r.part.Subtype, "global-"):
			if !r.high {
				continue
			}
			// RFC 2045 §6.4 lets such parts have no encoding, RFC 6532 §3.5 the
			// global ones.
			return fmt.Errorf("%w: message/%s holds octets above 127", ErrSevenBit, r.part.Subtype)
		}
		switch r.part.Encoding {
		case "7bit", "8bit", "binary":
			r.encoding = "base64"
			if r.part.Type == "text" && r.specials*6 <= r.octets {
				r.encoding = "quoted-printable"
			}
		case "quoted-printable", "base64": // a lie: what it decodes to is encoded again
			r.encoding = "base64"
		default:
			return fmt.Errorf("%w: encoding %q is not known", ErrSevenBit, r.part.Encoding)
		}
	}
	return nil
}

// relabel writes the headers anew that say what is not so any more.
func (s *SevenBit) relabel(root *Part) error {
	var err error
	if s.Header, _, err = s.relabelled(s.Header, root, true, s.encodingOf(root)); err != nil {
		return err
	}
	unlabelled := 0 // parts whose encoding stands nowhere
	if s.encodingOf(root) != "" {
		unlabelled--
	}
	for i := range s.regions {
		r := &s.regions[i]
		if r.encoding != "" {
			unlabelled++
		}
		if !r.isHeader || r.frozen {
			continue
		}
		if s.encodingOf(r.part) != "" {
			unlabelled--
		}
		h, changed, err := s.relabelled(ParseHeader(r.raw), r.part, r.root, s.encodingOf(r.part))
		if err != nil {
			return err
		}
		if changed {
			r.header = h.Bytes()
		}
		r.raw = nil
	}
	if unlabelled != 0 {
		return fmt.Errorf("%w: a part has no header", ErrSevenBit)
	}
	return nil
}

// encodingOf is what the content of p is given.
func (s *SevenBit) encodingOf(p *Part) string {
	i, found := slices.BinarySearchFunc(s.regions, p.BodyOffset, func(r region, at int64) int {
		switch {
		case r.start < at:
			return -1
		case r.start > at:
			return 1
		}
		return 0
	})
	if !found || s.regions[i].part != p || s.regions[i].isHeader {
		return ""
	}
	return s.regions[i].encoding
}

// relabelled returns h, the header of p, for the encoding that its content is
// given.
func (s *SevenBit) relabelled(h Header, p *Part, root bool, encoding string) (_ Header, changed bool, err error) {
	switch {
	case encoding == "" && p.Encoding != "8bit" && p.Encoding != "binary":
		return h, false, nil
	case encoding == "":
		encoding = "7bit"
	case root && !h.Has("MIME-Version"):
		// Without it the rest means nothing (RFC 2045 §4). Text of before MIME
		// is in a charset that nobody knows (RFC 1428 §3).
		if err := h.Append("MIME-Version", "1.0"); err != nil {
			return h, false, err
		}
		if !h.Has("Content-Type") {
			if err := h.Append("Content-Type", "text/plain; charset=unknown-8bit"); err != nil {
				return h, false, err
			}
		}
	}
	err = h.Set("Content-Transfer-Encoding", encoding)
	return h, true, err
}

// dispatcher tells which region the octets of a stream belong to.
type dispatcher struct {
	regions []region
	i       int
	at      int64
}

// next returns the region of the octets that p begins with, nil for none, and how
// many belong to it.
func (d *dispatcher) next(p []byte) (r *region, n int) {
	if d.i < len(d.regions) && d.at == d.regions[d.i].end {
		d.i++
	}
	n = len(p)
	if d.i == len(d.regions) {
		d.at += int64(n)
		return nil, n
	}
	limit := d.regions[d.i].start
	if d.at >= limit {
		r = &d.regions[d.i]
		limit = r.end
	}
	n = int(min(int64(n), limit-d.at))
	d.at += int64(n)
	return r, n
}

// looker is the look at the content of each region.
type looker struct {
	s      *SevenBit
	d      dispatcher
	high   bool // octets above 127 outside of the regions
	signed bool // within something signed
	last   *region
	line   int64 // octets of the line so far
}

// Write implements io.Writer.
func (l *looker) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		r, n := l.d.next(rest)
		piece := rest[:n]
		rest = rest[n:]
		if r == nil {
			l.between(piece)
			continue
		}
		if r != l.last {
			l.last, l.line = r, 0
		}
		r.high = r.high || !isASCII(piece)
		if r.isHeader {
			r.raw = append(r.raw, piece...)
			continue
		}
		r.octets += int64(n)
		for _, c := range piece {
			switch {
			case c == '\n':
				l.line = 0
				continue
			case c >= 0x7f || c == '=' || c < ' ' && c != '\r' && c != '\t':
				r.specials++
			}
			if c != '\r' {
				l.line++
				r.long = r.long || l.line > maxLine
			}
		}
	}
	return len(p), nil
}

// between takes octets that belong to no region, and have been counted.
func (l *looker) between(piece []byte) {
	if isASCII(piece) {
		return
	}
	l.high = true
	start := l.d.at - int64(len(piece))
	l.signed = l.signed || slices.ContainsFunc(l.s.signed, func(s span) bool { return start < s.end && l.d.at > s.start })
}

// mask stands for octets above 127 in text that belongs to no part. It is no
// character of a boundary (RFC 2046 §5.1.1).
const mask = '*'

// Writer returns a writer that takes the body as it was and writes it converted
// to w. Close ends it and leaves w open.
func (s *SevenBit) Writer(w io.Writer) io.WriteCloser {
	return &converter{s: s, w: w, d: dispatcher{regions: s.regions}}
}

type converter struct {
	s    *SevenBit
	w    io.Writer
	d    dispatcher
	last *region
	part io.WriteCloser // of last, if it is encoded
}

// Write implements io.Writer. An error is for good.
func (c *converter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		r, n := c.d.next(rest)
		if err := c.write(r, rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func (c *converter) write(r *region, piece []byte) error {
	if r != c.last {
		if err := c.enter(r); err != nil {
			return err
		}
	}
	var err error
	switch {
	case c.part != nil:
		_, err = c.part.Write(piece)
	case r == nil && !isASCII(piece):
		_, err = c.w.Write(masked(piece))
	case r == nil || r.header == nil:
		_, err = c.w.Write(piece)
	}
	return err
}

// masked is piece without octets above 127.
func masked(piece []byte) []byte {
	out := bytes.Clone(piece)
	for i, c := range out {
		if c >= 0x80 {
			out[i] = mask
		}
	}
	return out
}

// enter ends the region before and begins r.
func (c *converter) enter(r *region) error {
	if err := c.leave(); err != nil {
		return err
	}
	c.last = r
	switch {
	case r == nil:
	case r.header != nil:
		_, err := c.w.Write(r.header)
		return err
	case r.encoding != "":
		c.part = r.part.encoder(c.w, r.encoding, r.end == c.s.size)
	}
	return nil
}

func (c *converter) leave() error {
	if c.part == nil {
		return nil
	}
	err := c.part.Close()
	c.part = nil
	return err
}

// Close implements io.Closer.
func (c *converter) Close() error { return c.leave() }
