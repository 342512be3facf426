package message

import (
	"encoding/base64"
	"io"

	"golang.org/x/text/transform"
)

// encoder returns a writer that takes the content of p as it is and writes it in
// another encoding, "base64" or "quoted-printable". last says that nothing comes
// behind it.
func (p *Part) encoder(w io.Writer, encoding string, last bool) io.WriteCloser {
	var e io.WriteCloser
	if encoding == "base64" {
		lines := &lineBreaker{w: w, end: last}
		e = &base64Encoder{base64.NewEncoder(base64.StdEncoding, lines), lines}
	} else {
		e = &quotedPrintableEncoder{w: w}
	}
	var decoder transform.Transformer
	switch p.Encoding {
	case "base64":
		decoder = &base64Decoder{}
	case "quoted-printable":
		decoder = &quotedPrintableDecoder{}
	default:
		return e
	}
	return &recoder{transform.NewWriter(e, decoder), e}
}

// recoder decodes what is written to it on its way to an encoder.
type recoder struct {
	*transform.Writer
	encoder io.Closer
}

// Close implements io.Closer.
func (r *recoder) Close() error {
	if err := r.Writer.Close(); err != nil {
		return err
	}
	return r.encoder.Close()
}

// encodedLine is the length of lines of encoded content, without CRLF
// (RFC 2045 §6.7 (5), §6.8).
const encodedLine = 76

type base64Encoder struct {
	io.WriteCloser
	lines *lineBreaker
}

// Close implements io.Closer.
func (e *base64Encoder) Close() error {
	if err := e.WriteCloser.Close(); err != nil {
		return err
	}
	return e.lines.close()
}

// lineBreaker breaks a stream into lines. Between two there is a line end, and at
// the end if it is the end of the message.
type lineBreaker struct {
	w      io.Writer
	column int
	end    bool
}

// Write implements io.Writer.
func (l *lineBreaker) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if l.column == encodedLine {
			if _, err := io.WriteString(l.w, "\r\n"); err != nil {
				return 0, err
			}
			l.column = 0
		}
		n := min(len(rest), encodedLine-l.column)
		if _, err := l.w.Write(rest[:n]); err != nil {
			return 0, err
		}
		l.column += n
		rest = rest[n:]
	}
	return len(p), nil
}

func (l *lineBreaker) close() error {
	if !l.end || l.column == 0 {
		return nil
	}
	_, err := io.WriteString(l.w, "\r\n")
	return err
}

// quotedPrintableEncoder writes text as quoted-printable (RFC 2045 §6.7). That of
// the standard library does not keep a soft line break from making a line that
// looks like a delimiter of a multipart.
type quotedPrintableEncoder struct {
	w      io.Writer
	buf    []byte
	column int
	space  byte // white space that may stand before a line end
	cr     bool // a CR that may be part of one
}

// Write implements io.Writer.
func (e *quotedPrintableEncoder) Write(p []byte) (int, error) {
	for _, c := range p {
		e.put(c)
	}
	return len(p), e.flush()
}

// Close implements io.Closer.
func (e *quotedPrintableEncoder) Close() error {
	if e.cr {
		e.plain()
		e.code('\r')
	} else if e.space != 0 {
		e.code(e.space)
	}
	return e.flush()
}

func (e *quotedPrintableEncoder) flush() error {
	_, err := e.w.Write(e.buf)
	e.buf = e.buf[:0]
	return err
}

func (e *quotedPrintableEncoder) put(c byte) {
	if e.cr {
		e.cr = false
		if c == '\n' {
			if e.space != 0 {
				e.code(e.space)
				e.space = 0
			}
			e.buf = append(e.buf, '\r', '\n')
			e.column = 0
			return
		}
		e.plain()
		e.code('\r')
	}
	switch {
	case c == '\r':
		e.cr = true
	case c == ' ' || c == '\t':
		e.plain()
		e.space = c
	case c > ' ' && c < 0x7f && c != '=':
		e.plain()
		if e.room(1); e.column == 0 && (c == '-' || c == '.') {
			e.code(c) // no delimiter, and no dot for those who stumble over it
			return
		}
		e.buf = append(e.buf, c)
		e.column++
	default:
		e.plain()
		e.code(c)
	}
}

// plain writes the white space that was held back, as it is.
func (e *quotedPrintableEncoder) plain() {
	if e.space == 0 {
		return
	}
	e.room(1)
	e.buf = append(e.buf, e.space)
	e.column++
	e.space = 0
}

func (e *quotedPrintableEncoder) code(c byte) {
	const digits = "0123456789ABCDEF"
	e.room(3)
	e.buf = append(e.buf, '=', digits[c>>4], digits[c&15])
	e.column += 3
}

// room makes room for n octets on the line, and for a soft line break behind.
func (e *quotedPrintableEncoder) room(n int) {
	if e.column+n > encodedLine-1 {
		e.buf = append(e.buf, "=\r\n"...)
		e.column = 0
	}
}
