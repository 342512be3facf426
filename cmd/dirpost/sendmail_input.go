package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"dirpost/internal/message"
)

// maxHeader bounds the header that is read before anything is sent.
const maxHeader = 1 << 20

// readHeader reads up to and with the empty line. What does not begin with a
// field is a message without a header, as scripts send it: all of it is body.
func readHeader(r *bufio.Reader) (message.Header, error) {
	if _, err := r.Peek(1); err != nil {
		return message.ParseHeader([]byte("\r\n")), nil
	}
	var b bytes.Buffer
	canonical := message.NewCanonicalWriter(&b)
	for fields := 0; ; fields++ {
		start, err := r.Peek(min(r.Size(), 998))
		if err != nil && len(start) == 0 {
			break
		}
		line, _, _ := bytes.Cut(start, []byte("\n"))
		continued := fields > 0 && len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
		if len(bytes.TrimRight(line, "\r")) > 0 && !continued && !isField(line) {
			break // no field: the body begins without an empty line
		}
		whole, err := r.ReadBytes('\n')
		if _, werr := canonical.Write(whole); werr != nil {
			return message.Header{}, werr
		}
		if b.Len() > maxHeader {
			return message.Header{}, usageError{fmt.Errorf("the header is larger than %d octets", maxHeader)}
		}
		if len(bytes.TrimRight(whole, "\r\n")) == 0 || err != nil {
			break
		}
	}
	if err := canonical.Close(); err != nil {
		return message.Header{}, err
	}
	return message.ParseHeader(b.Bytes()), nil
}

// isField reports whether a line begins with a field name and a colon (RFC 5322
// §2.2).
func isField(line []byte) bool {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return false
	}
	for _, c := range bytes.TrimRight(line[:i], " \t") {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// dotReader ends at a line that is a dot alone.
type dotReader struct {
	r    *bufio.Reader
	line []byte
	done bool
	mid  bool // within a line longer than the buffer
}

func (d *dotReader) Read(p []byte) (int, error) {
	for len(d.line) == 0 {
		if d.done {
			return 0, io.EOF
		}
		line, err := d.r.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !long {
			d.done = true
			if !errors.Is(err, io.EOF) {
				return 0, err
			}
		}
		if !d.mid && (string(line) == ".\n" || string(line) == ".\r\n" || string(line) == ".") {
			d.done = true
			return 0, io.EOF
		}
		d.line, d.mid = line, long
	}
	n := copy(p, d.line)
	d.line = d.line[n:]
	return n, nil
}
