package wire

import (
	"bytes"
	"errors"
	"io"
)

// ErrLineTooLong reports a line beyond its limit. What follows on the
// connection cannot be trusted to begin with a command; it must be closed.
var ErrLineTooLong = errors.New("line too long")

// Reader is a buffered reader whose buffer is borrowed: the owner takes it away
// while nothing is expected, so that an idle session holds none.
type Reader struct {
	src  io.Reader
	buf  []byte
	r, w int
}

// NewReader returns a Reader of src without a buffer; Attach one before use.
func NewReader(src io.Reader) *Reader { return &Reader{src: src} }

// Reset makes the Reader read from src and forgets what was buffered: after
// STARTTLS nothing that came in clear may be read as a command
// (RFC 9051 §6.2.1, §11.1).
func (r *Reader) Reset(src io.Reader) { r.src, r.r, r.w = src, 0, 0 }

// Attach gives the Reader its buffer.
func (r *Reader) Attach(buf []byte) { r.buf, r.r, r.w = buf, 0, 0 }

// Attached reports whether the Reader has a buffer.
func (r *Reader) Attached() bool { return r.buf != nil }

// Detach takes the buffer away. It must be empty (Buffered is 0).
func (r *Reader) Detach() []byte {
	buf := r.buf
	r.buf, r.r, r.w = nil, 0, 0
	return buf
}

// Feed puts octets that the owner has read himself behind those buffered. They
// must fit.
func (r *Reader) Feed(p []byte) { r.w += copy(r.buf[r.w:], p) }

// Space is the free end of the buffer, for an owner who reads into it himself
// and says how much with Filled.
func (r *Reader) Space() []byte { return r.buf[r.w:] }

// Filled says that n octets of Space now hold input.
func (r *Reader) Filled(n int) { r.w += n }

// Buffered is the number of octets that were received and not read yet.
func (r *Reader) Buffered() int { return r.w - r.r }

// fill reads at least one octet more behind those buffered, in a buffer that
// may grow up to max octets.
func (r *Reader) fill(max int) error {
	if r.r > 0 {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if r.w == len(r.buf) {
		if r.w >= max {
			return ErrLineTooLong
		}
		bigger := make([]byte, min(2*len(r.buf)+512, max))
		copy(bigger, r.buf[:r.w])
		r.buf = bigger
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// Line reads a line of at most max octets and returns it without its end. It is
// valid until the next call. A bare LF ends a line too, as people at a terminal
// send it.
func (r *Reader) Line(max int) ([]byte, error) {
	searched := 0
	for {
		if i := bytes.IndexByte(r.buf[r.r+searched:r.w], '\n'); i >= 0 {
			end := r.r + searched + i
			line := r.buf[r.r:end]
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			if len(line) > max {
				return nil, ErrLineTooLong
			}
			r.r = end + 1
			return line, nil
		}
		searched = r.w - r.r
		if err := r.fill(max + 2); err != nil {
			if err == io.EOF && searched > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// Read implements io.Reader: buffered octets first, then the source itself.
func (r *Reader) Read(p []byte) (int, error) {
	if r.r < r.w {
		n := copy(p, r.buf[r.r:r.w])
		r.r += n
		return n, nil
	}
	return r.src.Read(p)
}

// discard skips n octets.
func (r *Reader) discard(n int64) error {
	for n > 0 {
		if r.r == r.w {
			r.r, r.w = 0, 0
			if err := r.fill(len(r.buf)); err != nil {
				return err
			}
		}
		k := min(n, int64(r.w-r.r))
		r.r += int(k)
		n -= k
	}
	return nil
}
