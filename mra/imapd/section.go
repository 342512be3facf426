package imapd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"dirpost/internal/message"
	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"
)

// octets are what a section of a message holds: a range of the message, or text
// made from its header.
type octets struct {
	at, size int64
	made     []byte // not nil: the octets themselves
	absent   bool   // there is no such part: NIL
}

// putSections writes the sections of one message and ends its response.
func (c *conn) putSections(ctx context.Context, j *fetchJob, msg *store.Message, root *message.Part) error {
	var r *store.Reader
	if j.streamed {
		var err error
		if r, err = c.srv.store.OpenMessage(ctx, c.sel.key.Account, msg); err != nil {
			// The response has begun and cannot be taken back.
			return &leaving{fmt.Errorf("open message: %w", err)}
		}
		defer r.Close()
	}
	for i := range j.Sections {
		s := &j.Sections[i]
		o, err := locateSection(s, msg, root, r)
		if err != nil {
			return &leaving{err}
		}
		b := c.buf()
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(wire.AppendSection(b, s), ' ')
		if o.absent {
			c.put(append(b, "NIL"...))
			continue
		}
		if s.Partial {
			o = o.cut(s.Offset, s.Count)
		}
		c.put(wire.AppendLiteralSize(b, o.size))
		if err := c.putOctets(o, r); err != nil {
			return &leaving{err}
		}
	}
	c.put(append(c.buf(), ")\r\n"...))
	return c.broken
}

// cut takes a partial; one that begins behind the end is empty (RFC 9051
// §6.4.5).
func (o octets) cut(offset, count int64) octets {
	offset = min(offset, o.size)
	count = min(count, o.size-offset)
	if o.made != nil {
		o.made = o.made[offset : offset+count : offset+count]
	}
	o.at, o.size = o.at+offset, count
	return o
}

// locateSection finds the octets of a section.
func locateSection(s *wire.Section, msg *store.Message, root *message.Part, r io.ReaderAt) (octets, error) {
	if len(s.Part) == 0 {
		return messageSection(s, msg), nil
	}
	path := make([]int, len(s.Part))
	for i, n := range s.Part {
		path[i] = int(n)
	}
	kind := message.SectionBody
	switch s.Specifier {
	case wire.SectionMIME:
		kind = message.SectionMIME
	case wire.SectionHeader, wire.SectionHeaderFields, wire.SectionHeaderFieldsNot:
		kind = message.SectionHeader
	case wire.SectionText:
		kind = message.SectionText
	}
	found, ok := root.Section(path, kind)
	if !ok {
		return octets{absent: true}, nil
	}
	o := octets{at: msg.HeaderSize + found.Offset, size: found.Size}
	if found.OfMessage {
		o = octets{size: msg.HeaderSize}
	}
	if s.Specifier != wire.SectionHeaderFields && s.Specifier != wire.SectionHeaderFieldsNot {
		return o, nil
	}
	raw := make([]byte, o.size)
	if _, err := r.ReadAt(raw, o.at); err != nil && err != io.EOF {
		return octets{}, fmt.Errorf("read part header: %w", err)
	}
	return madeOf(selectFields(raw, s)), nil
}

// messageSection finds the octets of a section without a part number.
func messageSection(s *wire.Section, msg *store.Message) octets {
	switch s.Specifier {
	case wire.SectionHeader:
		return madeOf(msg.Header)
	case wire.SectionHeaderFields, wire.SectionHeaderFieldsNot:
		return madeOf(selectFields(msg.Header, s))
	case wire.SectionText:
		return octets{at: msg.HeaderSize, size: msg.Size - msg.HeaderSize}
	}
	return octets{size: msg.Size}
}

func madeOf(b []byte) octets {
	if b == nil {
		b = []byte{}
	}
	return octets{made: b, size: int64(len(b))}
}

// selectFields returns the fields of a header that s names, or the others, and
// the empty line (RFC 9051 §6.4.5.1).
func selectFields(raw []byte, s *wire.Section) []byte {
	want := s.Specifier == wire.SectionHeaderFields
	out := make([]byte, 0, min(len(raw), 1<<10))
	for f := range message.ParseHeader(raw).Fields() {
		if named(s.Fields, f.Name) == want {
			out = append(out, f.Raw...)
		}
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, "\r\n"...)
	}
	return append(out, "\r\n"...)
}

func named(fields []string, name string) bool {
	for _, f := range fields {
		if strings.EqualFold(f, name) {
			return true
		}
	}
	return false
}

// putOctets writes exactly the octets of o.
func (c *conn) putOctets(o octets, r *store.Reader) error {
	w := &literalWriter{c: c}
	var err error
	switch {
	case o.made != nil:
		_, err = w.Write(o.made)
	case o.at == 0 && o.size == r.Size():
		_, err = r.WriteTo(w)
	default:
		_, err = io.CopyBuffer(w, io.NewSectionReader(r, o.at, o.size), make([]byte, min(o.size+1, 32<<10)))
	}
	if err == nil && w.n != o.size {
		err = fmt.Errorf("section of %d octets has %d", o.size, w.n)
	}
	return err
}

// literalWriter writes the octets of a literal, with each NUL replaced: none can
// stand there (RFC 9051 §9, CHAR8), and the size must remain.
type literalWriter struct {
	c *conn
	n int64
}

// Write implements io.Writer.
func (w *literalWriter) Write(p []byte) (int, error) {
	w.n += int64(len(p))
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, 0)
		if i < 0 {
			w.c.put(rest)
			break
		}
		w.c.put(rest[:i])
		w.c.put([]byte{0x80})
		rest = rest[i+1:]
	}
	return len(p), w.c.broken
}
