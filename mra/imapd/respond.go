package imapd

// buf returns the free end of the output buffer, to be appended to and handed
// to put.
func (c *conn) buf() []byte { return c.mc.Writer().AvailableBuffer() }

// put writes b. The first error sticks: it ends the session after the command.
func (c *conn) put(b []byte) {
	if _, err := c.mc.Writer().Write(b); err != nil && c.broken == nil {
		c.broken = err
	}
}

// untagged writes an untagged response.
func (c *conn) untagged(s string) {
	b := append(c.buf(), "* "...)
	b = append(b, s...)
	c.put(append(b, "\r\n"...))
}

// bye announces the end of the session.
func (c *conn) bye(text string) { c.untagged("BYE " + text) }

// tagged writes the tagged response of the current command; code may be "".
func (c *conn) tagged(status, code, text string) {
	b := append(c.buf(), c.tag...)
	b = append(b, ' ')
	b = append(b, status...)
	b = append(b, ' ')
	if code != "" {
		b = append(b, '[')
		b = append(b, code...)
		b = append(b, "] "...)
	}
	b = append(b, text...)
	c.put(append(b, "\r\n"...))
}
