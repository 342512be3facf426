package message

import "bytes"

const (
	maxLine     = 998 // octets without CRLF
	maxBoundary = 200 // octets of a boundary; RFC 2046 §5.1.1 allows 70
	// keepLine is how much of a body line is kept when it comes in pieces:
	// enough to see a boundary.
	keepLine = 2 + maxBoundary
)

// Scanner reads a message in one pass over a stream and never fails. Its
// memory is the header and the part tree; the body passes through.
//
// Use it as an io.Writer, or by Scan, which tells header from body; then call
// Close. It is not safe for concurrent use.
type Scanner struct {
	limits Limits
	state  scanState
	out    Parsed

	offset int64 // of the body: octets consumed so far
	lines  int64 // line ends in them
	budget int   // octets of part headers that may still be kept

	head    []byte // header being read, of the message or of a part
	partial []byte // beginning of a line that came in pieces
	lineLen int64  // octets of that line so far
	lastCR  bool   // its last octet was CR
	eol     int64  // octets of the last line end: 0, 1, 2

	open  []openPart
	parts int
	set   boundarySet // of the boundaries in open
}

type scanState uint8

const (
	inHeader     scanState = iota // of the message
	inPartHeader                  // of a part or an embedded message
	inBody                        // content, preamble, epilogue
)

// openPart is a part whose end has not been seen.
type openPart struct {
	part     *Part
	boundary []byte // of an unfinished multipart, else nil
	lines    int64  // Scanner.lines at the start of its body
	embedded bool   // root of an embedded message: its header is a message header
}

// NewScanner returns a Scanner. Fields of limits that are 0 are as in
// DefaultLimits.
func NewScanner(limits Limits) *Scanner {
	std := DefaultLimits()
	if limits.MaxHeader <= 0 {
		limits.MaxHeader = std.MaxHeader
	}
	if limits.MaxDepth <= 0 {
		limits.MaxDepth = std.MaxDepth
	}
	if limits.MaxParts <= 0 {
		limits.MaxParts = std.MaxParts
	}
	return &Scanner{limits: limits, budget: limits.MaxHeader}
}

// Write implements io.Writer. It takes everything and never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	s.Scan(p)
	return len(p), nil
}

// Scan takes the next octets of the message and returns those of them that
// belong to its body; they share memory with p.
func (s *Scanner) Scan(p []byte) (body []byte) {
	if bytes.IndexByte(p, 0) >= 0 {
		s.out.Defects |= DefectNUL
	}
	if s.state == inHeader {
		n := s.scanHeader(p)
		p = p[n:]
	}
	if len(p) > 0 {
		if s.out.Defects&Defect8Bit == 0 && !isASCII(p) {
			s.out.Defects |= Defect8Bit
		}
		s.scanBody(p)
	}
	return p
}

// Header returns the header of the message and whether its end has been seen.
func (s *Scanner) Header() (Header, bool) { return s.out.Header, s.state != inHeader }

// Close ends the message and returns its description. The Scanner must not be
// used afterwards.
func (s *Scanner) Close() *Parsed {
	switch s.state {
	case inHeader:
		s.out.Defects |= DefectNoEmptyLine
		s.out.HeaderSize = int64(len(s.head))
		s.endHeader()
	default:
		if s.lineLen > 0 {
			s.endLine(s.partial, s.lineLen, 0)
			if s.lastCR {
				s.out.Defects |= DefectBareCR
			}
		}
	}
	s.closeTo(0, s.offset, s.lines)
	s.out.BodySize, s.out.BodyLines = s.offset, s.lines
	return &s.out
}

// scanHeader takes octets of the message header and returns how many there
// were in p.
func (s *Scanner) scanHeader(p []byte) int {
	start := len(s.head)
	for n := 0; n < len(p); {
		end := len(p)
		i := bytes.IndexByte(p[n:], '\n')
		if i >= 0 {
			end = n + i + 1
		}
		if len(s.head)+end > s.limits.MaxHeader {
			s.head = append(s.head, p[:n]...)
			s.out.Defects |= DefectHeaderTooBig
			s.out.HeaderSize = int64(len(s.head))
			s.endHeader()
			return n
		}
		if i < 0 {
			break
		}
		empty := isEmptyLine(p[n:end])
		if n == 0 && start > 0 && s.head[start-1] != '\n' {
			// The line began in an earlier piece; only a CR can have stood
			// there if this is the empty line.
			cr := s.head[start-1] == '\r' && (start == 1 || s.head[start-2] == '\n')
			empty = cr && end == 1
		}
		if empty {
			s.head = append(s.head, p[:end]...)
			s.out.HeaderSize = int64(len(s.head))
			s.endHeader()
			return end
		}
		n = end
	}
	s.head = append(s.head, p...)
	return len(p)
}

// endHeader parses the message header and begins the root part.
func (s *Scanner) endHeader() {
	h := ParseHeader(s.head)
	s.head = nil
	s.out.Header = h
	s.headerDefects(h.raw[:min(int(s.out.HeaderSize), len(h.raw))])
	for _, f := range h.fields {
		if f.start == f.name {
			s.out.Defects |= DefectBadHeaderLine
			break
		}
	}
	s.out.Root = &Part{}
	s.parts = 1
	s.open = append(make([]openPart, 0, 4), openPart{part: s.out.Root})
	s.begin(h, "text", "plain")
}

// headerDefects looks at the octets of the message header.
func (s *Scanner) headerDefects(raw []byte) {
	if !isASCII(raw) {
		s.out.Defects |= Defect8BitHeader
	}
	crlf := 0
	for i := 0; i < len(raw); {
		n := bytes.IndexByte(raw[i:], '\n')
		if n < 0 {
			break
		}
		if n > 0 && raw[i+n-1] == '\r' {
			crlf++
			n--
			if n > maxLine {
				s.out.Defects |= DefectLongLine
			}
			n++
		} else {
			s.out.Defects |= DefectBareLF
		}
		i += n + 1
	}
	if bytes.Count(raw, []byte{'\r'}) != crlf {
		s.out.Defects |= DefectBareCR
	}
}

// scanBody takes octets after the empty line.
func (s *Scanner) scanBody(p []byte) {
	cr := bytes.Count(p, []byte{'\r'})
	if s.lineLen > 0 && s.lastCR && p[0] != '\n' {
		s.out.Defects |= DefectBareCR
	}
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n')
		if n < 0 {
			s.keep(p)
			if s.lastCR {
				cr--
			}
			break
		}
		line, eol := p[:n+1], int64(1)
		switch {
		case n > 0 && p[n-1] == '\r':
			eol = 2
			cr--
		case n == 0 && s.lineLen > 0 && s.lastCR:
			eol = 2
		default:
			s.out.Defects |= DefectBareLF
		}
		if s.lineLen == 0 {
			s.endLine(line, int64(n+1), eol)
		} else {
			s.keep(line)
			s.endLine(s.partial, s.lineLen, eol)
			s.partial, s.lineLen = s.partial[:0], 0
		}
		p = p[n+1:]
	}
	if cr > 0 {
		s.out.Defects |= DefectBareCR
	}
}

// keep remembers a piece of a line: all of it in a part's header, else as much
// as a boundary may need.
func (s *Scanner) keep(p []byte) {
	s.lineLen += int64(len(p))
	s.lastCR = p[len(p)-1] == '\r'
	room := keepLine - len(s.partial)
	if s.state == inPartHeader {
		room = s.limits.MaxHeader - len(s.partial)
	}
	s.partial = append(s.partial, p[:max(0, min(room, len(p)))]...)
}

// endLine takes a line of size octets that ends in eol octets of line end, 0
// at the end of the message. line is its beginning, whole in a part header.
func (s *Scanner) endLine(line []byte, size, eol int64) {
	if size-eol > maxLine {
		s.out.Defects |= DefectLongLine
	}
	if len(line) > 2 && line[0] == '-' && line[1] == '-' && s.boundary(line, size, eol) {
		return
	}
	s.offset += size
	if eol > 0 {
		s.lines++
	}
	if s.state == inPartHeader {
		s.headerLine(line, size)
	}
	s.eol = eol
}

// headerLine takes a line of a part's header, already counted.
func (s *Scanner) headerLine(line []byte, size int64) {
	if isEmptyLine(line) {
		s.startBody(s.offset, s.lines)
		return
	}
	if int64(len(line)) < size || len(line) > s.budget {
		s.out.Defects |= DefectHeaderTooBig
		s.budget = 0
		return
	}
	s.budget -= len(line)
	s.head = append(s.head, line...)
}

// startBody ends the header of the innermost part at offset end, which has
// lines line ends before it.
func (s *Scanner) startBody(end, lines int64) {
	top := &s.open[len(s.open)-1]
	p := top.part
	p.HeaderSize = end - p.HeaderOffset
	p.BodyOffset = end
	top.lines = lines
	head := append(make([]byte, 0, len(s.head)+2), s.head...)
	s.head = s.head[:0]
	h := ParseHeader(append(head, '\r', '\n'))
	typ, subtype := "text", "plain"
	if len(s.open) > 1 {
		// RFC 2046 §5.1.5: the parts of a digest are messages.
		if up := s.open[len(s.open)-2]; up.boundary != nil && up.part.Subtype == "digest" {
			typ, subtype = "message", "rfc822"
		}
	}
	if top.embedded {
		s.open[len(s.open)-2].part.Embedded.Envelope = h.Envelope(nil)
	}
	s.begin(h, typ, subtype)
}

// begin describes the innermost part from its header and opens what its type
// says that follows.
func (s *Scanner) begin(h Header, typ, subtype string) {
	s.state = inBody
	top := &s.open[len(s.open)-1]
	p := top.part
	p.describe(h, typ, subtype)
	multipart := p.Type == "multipart"
	message := p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global")
	if !multipart && !message {
		return
	}
	if len(s.open) >= s.limits.MaxDepth || s.parts >= s.limits.MaxParts {
		s.out.Defects |= DefectTooDeep
		p.opaque()
		return
	}
	// RFC 2045 §6.4 forbids an encoding here. On a multipart it is a lie and
	// ignored, as everybody does; an embedded message is really encoded
	// (RFC 6532 §3.5 allows it), so its structure cannot be seen.
	if p.Encoding == "base64" || p.Encoding == "quoted-printable" {
		s.out.Defects |= DefectEncodedMessage
		if message {
			p.opaque()
			return
		}
	}
	if message {
		p.Embedded = &Embedded{Root: &Part{HeaderOffset: p.BodyOffset}}
		s.parts++
		s.open = append(s.open, openPart{part: p.Embedded.Root, lines: top.lines, embedded: true})
		s.state = inPartHeader
		return
	}
	b := p.param("boundary")
	if b == "" || len(b) > maxBoundary {
		// RFC 2045 §5.2: a Content-Type that cannot be used is text/plain.
		s.out.Defects |= DefectNoBoundary
		p.Type, p.Subtype, p.Params = "text", "plain", nil
		return
	}
	top.boundary = []byte(b)
	s.set.add(top.boundary, len(s.open)-1)
}

// boundary looks whether line is a delimiter of an open multipart and if so
// acts on it. RFC 2046 §5.1.1: the line must only begin with it; where one
// boundary begins with another, the longest that fits is meant, and of equal
// ones the innermost.
func (s *Scanner) boundary(line []byte, size, eol int64) bool {
	best, n := s.set.match(line[2:])
	if best < 0 {
		return false
	}
	rest := line[2+n:]
	last := len(rest) >= 2 && rest[0] == '-' && rest[1] == '-'
	if !last && s.parts >= s.limits.MaxParts {
		s.out.Defects |= DefectTooManyParts
		return false
	}
	s.closeTo(best+1, s.offset-s.eol, s.lines-min(s.eol, 1))
	s.offset += size
	if eol > 0 {
		s.lines++
	}
	s.eol = eol
	top := &s.open[best]
	if last {
		s.closeBoundary(best)
		s.state = inBody
		return true
	}
	p := &Part{HeaderOffset: s.offset, BodyOffset: s.offset}
	top.part.Children = append(top.part.Children, p)
	s.parts++
	s.open = append(s.open, openPart{part: p, lines: s.lines})
	s.state = inPartHeader
	return true
}

// closeBoundary ends the boundary of the open part at depth.
func (s *Scanner) closeBoundary(depth int) {
	closed := s.open[depth].boundary
	s.open[depth].boundary = nil
	if len(s.set.nodes) > maxBoundaryNodes {
		s.set = boundarySet{}
		for i, o := range s.open {
			if o.boundary != nil {
				s.set.add(o.boundary, i)
			}
		}
		return
	}
	outer := -1 // the same boundary further out counts again
	for i, o := range s.open[:depth] {
		if bytes.Equal(o.boundary, closed) {
			outer = i
		}
	}
	s.set.replace(closed, outer)
}

// closeTo ends the open parts from index n on at offset end, which has lines
// line ends before it. A part that begins behind end, since the line end
// there belongs to two delimiters, is empty, and what holds it reaches to it.
func (s *Scanner) closeTo(n int, end, lines int64) {
	for s.state == inPartHeader {
		// The header has no empty line and the part no body.
		if p := s.open[len(s.open)-1].part; p.HeaderOffset > end {
			s.startBody(s.offset, s.lines)
		} else {
			s.startBody(end, lines)
		}
	}
	for i := len(s.open) - 1; i >= n; i-- {
		o := &s.open[i]
		p := o.part
		if end < p.BodyOffset {
			end, lines = p.BodyOffset, o.lines
		}
		p.BodySize, p.BodyLines = end-p.BodyOffset, lines-o.lines
		if o.boundary != nil {
			s.out.Defects |= DefectNotClosed
			s.closeBoundary(i)
		}
	}
	s.open = s.open[:n]
}
