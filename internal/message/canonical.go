package message

import "io"

// CanonicalWriter turns what arrives by a door that is not SMTP (a pipe,
// sendmail, a script, an import) into the one form that may leave: every line
// ends in CRLF, and neither CR nor LF stands alone (RFC 5322 §2.3). Over SMTP a
// bare CR or LF is refused instead, since there it can only be a trick.
//
// A lone LF and a lone CR each become CRLF; a last line without an end gets one
// at Close.
type CanonicalWriter struct {
	w       io.Writer
	buf     []byte
	pending bool // the last octet was CR, not written yet
	open    bool // the last line has no end yet
}

// NewCanonicalWriter returns a writer that passes canonical text on to w.
func NewCanonicalWriter(w io.Writer) *CanonicalWriter { return &CanonicalWriter{w: w} }

// Write implements io.Writer. It returns len(p) unless w fails.
func (c *CanonicalWriter) Write(p []byte) (int, error) {
	c.buf = c.buf[:0]
	for i := 0; i < len(p); {
		if c.pending {
			c.pending, c.open = false, false
			c.buf = append(c.buf, '\r', '\n')
			if p[i] == '\n' {
				i++
				continue
			}
		}
		j := i
		for j < len(p) && p[j] != '\r' && p[j] != '\n' {
			j++
		}
		if j > i {
			c.buf, c.open = append(c.buf, p[i:j]...), true
		}
		if j < len(p) {
			if p[j] == '\r' {
				c.pending = true
			} else {
				c.buf, c.open = append(c.buf, '\r', '\n'), false
			}
			j++
		}
		i = j
	}
	if _, err := c.w.Write(c.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the last line. It does not close w.
func (c *CanonicalWriter) Close() error {
	if !c.pending && !c.open {
		return nil
	}
	c.pending, c.open = false, false
	_, err := io.WriteString(c.w, "\r\n")
	return err
}
