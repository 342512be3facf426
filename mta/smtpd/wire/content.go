package wire

import "bytes"

// Defect is what content must not hold.
type Defect uint8

// The defects. A message with any of them is refused as a whole, after its end
// was found.
const (
	BareCR Defect = 1 << iota
	BareLF
	NUL
	LongLine
)

// place is where in a line the scanner stands.
type place uint8

const (
	lineStart place = iota // after CRLF
	inLine
	afterCR    // CR seen, LF expected
	afterDot   // a dot began the line
	afterDotCR // dot and CR: LF ends the message
)

const receivedName = "received:"

// Content scans message content as it arrives, in pieces of any size: it removes
// the transparency dots of DATA, finds its end, and notes defects. The octets
// between two removed dots are handed on as they lie in the caller's buffer.
//
// The zero value with MaxLine set is ready for one message sent with BDAT, with
// Dots set for one sent with DATA.
type Content struct {
	Dots    bool // transparency (RFC 5321 §4.5.2): DATA, not BDAT
	MaxLine int  // octets without CRLF; longer lines are a defect

	Defects  Defect
	Received int   // Received fields in the header so far
	Size     int64 // octets handed on

	at      place
	line    int // octets of this line so far
	inBody  bool
	name    [len(receivedName)]byte // how this header line begins
	nameLen int
}

// Next takes octets from the front of p. It returns content to hand on, a piece
// of p that may be empty, how many octets of p it has used, and whether the
// message ended with them; what follows in p then belongs to the next command.
func (c *Content) Next(p []byte) (run []byte, n int, end bool) {
	start, i := 0, 0
	for i < len(p) {
		switch c.at {
		case lineStart:
			if c.Dots && p[i] == '.' {
				if i > start { // hand on what is before the dot first
					return c.handOn(p[start:i]), i, false
				}
				c.at = afterDot
				i++
				start = i
				continue
			}
			c.at = inLine
		case afterDot:
			if p[i] == '\r' {
				c.at = afterDotCR
				i++
				start = i
				continue
			}
			c.at = inLine // the dot was for transparency
		case afterDotCR:
			if p[i] == '\n' {
				c.at = lineStart
				return nil, i + 1, true
			}
			c.Defects |= BareCR
			c.at = inLine
		case afterCR:
			if p[i] == '\n' {
				c.endLine()
				i++
				continue
			}
			c.Defects |= BareCR
			c.at = inLine
		case inLine:
			i += c.restOfLine(p[i:])
		}
	}
	return c.handOn(p[start:i]), i, false
}

// restOfLine scans p, the continuation of a line, and returns how many octets it
// took. Only CRLF ends the line: a bare LF is an octet like others, so that a dot
// behind it does not stand at the start of a line.
func (c *Content) restOfLine(p []byte) int {
	j := bytes.IndexByte(p, '\n')
	text, n := p, len(p)
	switch {
	case j < 0:
		if p[n-1] == '\r' {
			text = p[:n-1]
			c.at = afterCR
		}
	case j > 0 && p[j-1] == '\r':
		text, n = p[:j-1], j+1
	default:
		c.Defects |= BareLF
		text, n = p[:j], j+1
		c.line++
	}
	if bytes.IndexByte(text, '\r') >= 0 {
		c.Defects |= BareCR
	}
	if !c.inBody && c.nameLen < len(c.name) {
		c.nameLen += copy(c.name[c.nameLen:], text)
	}
	if c.line += len(text); c.line > c.MaxLine {
		c.Defects |= LongLine
	}
	if j > 0 && p[j-1] == '\r' {
		c.endLine()
	}
	return n
}

// endLine is called after CRLF.
func (c *Content) endLine() {
	c.at = lineStart
	if !c.inBody {
		if c.line == 0 {
			c.inBody = true
		} else if c.nameLen == len(c.name) && bytes.EqualFold(c.name[:], []byte(receivedName)) {
			c.Received++
		}
	}
	c.line, c.nameLen = 0, 0
}

func (c *Content) handOn(run []byte) []byte {
	if bytes.IndexByte(run, 0) >= 0 {
		c.Defects |= NUL
	}
	c.Size += int64(len(run))
	return run
}

// Close tells that the last chunk has come, and returns what must be added so
// that the message ends with a whole line: "" or CRLF. RFC 3030 §2 lets a message
// end in the middle of a line, RFC 5321 §2.3.8 does not.
func (c *Content) Close() string {
	switch c.at {
	case afterCR:
		c.Defects |= BareCR
	case lineStart:
		return ""
	}
	c.endLine()
	c.Size += 2
	return "\r\n"
}
