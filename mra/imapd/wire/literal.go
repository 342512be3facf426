package wire

import (
	"bytes"
	"io"
	"math"
)

// Finish skips what is left of the command, so that the next one can be read.
// An error is one of the connection, which must then be closed.
func (d *Decoder) Finish() error {
	if d.finished {
		return nil
	}
	d.finished = true
	if err := d.Broken(); err != nil {
		return err
	}
	skipped := int64(0)
	if d.open != nil {
		// A message literal of which the handler did not want the rest.
		skipped += d.open.left
		if skipped > d.limits.Skip {
			return ErrOverrun
		}
		if err := discard(d.src, d.open.left); err != nil {
			return err
		}
		d.open = nil
		if err := d.nextFragment(); err != nil {
			return err
		}
	}
	for {
		n, sync, ok := trailingLiteral(d.line)
		if !ok || sync {
			// A synchronising literal was never asked for, so the client will
			// not send it (RFC 9051 §4.3).
			d.line = nil
			return nil
		}
		if skipped += n; skipped > d.limits.Skip {
			return ErrOverrun
		}
		if err := discard(d.src, n); err != nil {
			return err
		}
		if err := d.nextFragment(); err != nil {
			return err
		}
	}
}

func (d *Decoder) nextFragment() error {
	line, err := readLine(d.src, d.limits.Line)
	d.line = line
	return err
}

// trailingLiteral looks for a literal announced at the end of line.
func trailingLiteral(line []byte) (n int64, sync, ok bool) {
	if len(line) < 3 || line[len(line)-1] != '}' {
		return 0, false, false
	}
	i := bytes.LastIndexByte(line, '{')
	if i < 0 {
		return 0, false, false
	}
	n, sync, err := parseLiteral(line[i:])
	return n, sync, err == nil
}

// parseLiteral parses "{" number ["+"] "}" (RFC 7888 §8).
func parseLiteral(b []byte) (n int64, sync bool, err error) {
	digits := b[1 : len(b)-1]
	sync = true
	if k := len(digits); k > 0 && digits[k-1] == '+' {
		digits, sync = digits[:k-1], false
	}
	v, ok := parseNumber(digits, math.MaxInt64)
	if !ok {
		return 0, false, &SyntaxError{"invalid literal"}
	}
	return int64(v), sync, nil
}

// announced takes a literal's announcement, which must end the fragment.
func (d *Decoder) announced() (n int64, sync bool) {
	if d.err != nil {
		return 0, false
	}
	if len(d.line) < 3 || d.line[0] != '{' || d.line[len(d.line)-1] != '}' {
		d.Fail("invalid literal")
		return 0, false
	}
	n, sync, err := parseLiteral(d.line)
	if err != nil {
		d.fail(err)
	}
	return n, sync
}

// literal takes a literal that is kept in memory.
func (d *Decoder) literal() []byte {
	n, sync := d.announced()
	if d.err != nil {
		return nil
	}
	if n > int64(d.limits.Literal) || d.kept+int(n) > d.limits.Command {
		d.fail(ErrLiteralTooBig)
		return nil
	}
	d.kept += int(n)
	if sync {
		if err := d.proceed(); err != nil {
			d.fail(err)
			return nil
		}
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(d.src.Reader(), b); err != nil {
		d.fail(err)
		return nil
	}
	if err := d.nextFragment(); err != nil {
		d.fail(err)
		return nil
	}
	if bytes.IndexByte(b, 0) >= 0 {
		// CHAR8 has no NUL (RFC 9051 §9); it would end strings elsewhere.
		d.Fail("NUL in a literal")
		return nil
	}
	return b
}

// Literal is the announcement of a literal that its handler streams.
type Literal struct {
	Size   int64
	Sync   bool // the client waits for leave to send
	Binary bool // literal8 (RFC 3516 §4.4): may hold NUL
}

// AnnouncedLiteral takes the announcement of a literal but not the literal. The
// handler then either calls OpenLiteral, or gives the command up: Finish skips
// a literal that is under way anyway.
func (d *Decoder) AnnouncedLiteral() Literal {
	binary := d.Skip('~')
	if d.Peek() != '{' {
		d.expect("a literal")
		return Literal{}
	}
	n, sync := d.announced()
	return Literal{Size: n, Sync: sync, Binary: binary}
}

// OpenLiteral lets the client send l, which AnnouncedLiteral has returned, and
// returns its octets. When all have been read, CloseLiteral goes on with what
// stands after it.
func (d *Decoder) OpenLiteral(l Literal) io.Reader {
	if d.err != nil {
		return &literalReader{d: d}
	}
	if l.Sync {
		if err := d.proceed(); err != nil {
			d.fail(err)
			return &literalReader{d: d}
		}
	}
	d.open = &literalReader{d: d, left: l.Size}
	d.line = nil
	return d.open
}

// CloseLiteral skips what has not been read of the open literal and takes the
// fragment behind it.
func (d *Decoder) CloseLiteral() {
	if d.err != nil || d.open == nil {
		return
	}
	if err := discard(d.src, d.open.left); err != nil {
		d.fail(err)
		return
	}
	d.open = nil
	if err := d.nextFragment(); err != nil {
		d.fail(err)
	}
}

type literalReader struct {
	d    *Decoder
	left int64
}

// Read implements io.Reader. An error of the connection sticks to the Decoder.
func (l *literalReader) Read(p []byte) (int, error) {
	if l.d.err != nil {
		return 0, l.d.err
	}
	if l.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.d.src.Reader().Read(p)
	l.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		l.d.fail(err)
	}
	return n, err
}
