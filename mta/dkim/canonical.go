package dkim

import (
	"bytes"
	"crypto/sha256"
	"hash"

	"dirpost/internal/message"
)

// BodyHash computes the hash of a body in relaxed canonical form
// (RFC 6376 §3.4.4) while it is written to it. The zero value is not ready;
// see NewBodyHash.
type BodyHash struct {
	sum   hash.Hash
	buf   []byte // canonical octets, not hashed yet
	empty int64  // empty lines held back: at the end they do not count
	space bool   // white space held back: before a line end it does not count
	cr    bool   // a CR held back: before LF it is part of the line end
	line  bool   // the current line holds something
}

// maxLine is how far a line is looked at as a whole, in octets.
const maxLine = 128

// bodyBuffer is the size of BodyHash.buf, in octets.
const bodyBuffer = 4096

// NewBodyHash returns a BodyHash of the empty body.
func NewBodyHash() *BodyHash {
	return &BodyHash{sum: sha256.New(), buf: make([]byte, 0, bodyBuffer)}
}

// Write implements io.Writer; it never fails.
func (h *BodyHash) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		c := p[i]
		if h.cr && c != '\n' {
			h.cr = false
			h.put('\r') // stands alone: content
		}
		switch c {
		case '\r':
			h.cr = true
		case '\n':
			h.endLine()
		case ' ', '\t':
			h.space = true
		default:
			i += h.run(p[i:])
			continue
		}
		i++
	}
	return len(p), nil
}

// run takes octets up to the next that may not stay as it is.
func (h *BodyHash) run(p []byte) int {
	n := 1
	if !h.line {
		// Most octets of large messages are base64: lines without space.
		line := p[:min(len(p), maxLine)]
		if i := bytes.IndexByte(line, '\r'); i >= 0 {
			line = line[:i]
		}
		if bytes.IndexByte(line, ' ') < 0 && bytes.IndexByte(line, '\t') < 0 && bytes.IndexByte(line, '\n') < 0 {
			n = len(line)
		}
	}
	for n < len(p) {
		c := p[n]
		if c == '\r' || c == '\n' || c == '\t' {
			break
		}
		if c == ' ' && (n+1 == len(p) || p[n+1] == ' ' || p[n+1] == '\t' || p[n+1] == '\r' || p[n+1] == '\n') {
			break
		}
		n++
	}
	h.begin()
	h.append(p[:n])
	return n
}

func (h *BodyHash) put(c byte) {
	h.begin()
	h.append([]byte{c})
}

// begin writes what was held back before content.
func (h *BodyHash) begin() {
	for ; h.empty > 0; h.empty-- {
		h.append(crlf)
	}
	if h.space {
		h.append(space)
		h.space = false
	}
	h.line = true
}

var crlf, space = []byte("\r\n"), []byte(" ")

func (h *BodyHash) endLine() {
	h.cr, h.space = false, false
	if !h.line {
		h.empty++
		return
	}
	h.append(crlf)
	h.line = false
}

func (h *BodyHash) append(p []byte) {
	if len(h.buf)+len(p) > bodyBuffer {
		h.sum.Write(h.buf)
		h.buf = h.buf[:0]
		if len(p) > bodyBuffer {
			h.sum.Write(p)
			return
		}
	}
	h.buf = append(h.buf, p...)
}

// Sum ends the body and returns its hash. Nothing may be written afterwards.
func (h *BodyHash) Sum() [sha256.Size]byte {
	if h.cr {
		h.cr = false
		h.put('\r')
	}
	if h.line {
		h.endLine()
	}
	h.sum.Write(h.buf)
	h.buf = h.buf[:0]
	return [sha256.Size]byte(h.sum.Sum(nil))
}

// relaxedField appends the relaxed canonical form of a field, without its line
// end (RFC 6376 §3.4.2): name in lower case, unfolded, white space reduced.
func relaxedField(dst []byte, f message.Field) []byte {
	for i := 0; i < len(f.Name); i++ {
		c := f.Name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	dst = append(dst, ':')
	value := f.Raw[bytes.IndexByte(f.Raw, ':')+1:]
	start, gap := len(dst), false
	for _, c := range value {
		switch c {
		case ' ', '\t', '\r', '\n':
			gap = true
			continue
		}
		if gap && len(dst) > start {
			dst = append(dst, ' ')
		}
		gap = false
		dst = append(dst, c)
	}
	return dst
}
