package message

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// Errors of the editing methods of Header: the text cannot stand in a header
// field. They mean a bug or an attempt to inject fields, never a bad message.
var (
	ErrFieldName  = errors.New("not a header field name")
	ErrFieldValue = errors.New("control character in header field value")
)

// Header is the header of a message or of a MIME part: its raw fields in
// order, as they came. Lines that are no field (an mbox "From " line, garbage)
// are kept in their place and have no name.
//
// A Header is a value: editing methods leave copies made before untouched. The
// zero value is an empty header.
type Header struct {
	raw    []byte // complete, with the empty line at its end
	fields []field
}

// field is one field in Header.raw: name at [start, name), value at
// [value, end) including the line end. start == name for a line without name.
type field struct{ start, name, value, end int32 }

// Field is one field of a header.
type Field struct {
	Name string // as written, "" for a line that is no field
	Raw  []byte // the whole field, folded as it is, with its line end; not to be changed
}

// ParseHeader reads a header. It never fails: what cannot be understood is
// kept. Parsing ends at the first empty line; a missing one is added. raw must
// not be changed afterwards.
func ParseHeader(raw []byte) Header {
	h := Header{raw: raw, fields: make([]field, 0, bytes.Count(raw, newline))}
	for i := 0; i < len(raw); {
		end := len(raw)
		if n := bytes.IndexByte(raw[i:], '\n'); n >= 0 {
			end = i + n + 1
		}
		line := raw[i:end]
		if isEmptyLine(line) {
			h.raw = raw[:end:end]
			return h
		}
		if n := len(h.fields); n > 0 && isWSP(line[0]) {
			h.fields[n-1].end = int32(end)
		} else {
			h.fields = append(h.fields, splitField(raw, i, end))
		}
		i = end
	}
	h.raw = endHeader(raw)
	if n := len(h.fields); n > 0 {
		h.fields[n-1].end = int32(len(h.raw) - 2)
	}
	return h
}

// endHeader returns raw with the line end and the empty line that it lacks.
func endHeader(raw []byte) []byte {
	out := make([]byte, 0, len(raw)+4)
	out = append(out, raw...)
	if len(raw) > 0 && raw[len(raw)-1] != '\n' {
		out = append(out, '\r', '\n')
	}
	return append(out, '\r', '\n')
}

var newline = []byte{'\n'}

func isWSP(c byte) bool { return c == ' ' || c == '\t' }

func isEmptyLine(line []byte) bool {
	return len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

// splitField finds the name in a line. White space before the colon is
// obsolete but occurs (RFC 5322 §4.5).
func splitField(raw []byte, start, end int) field {
	f := field{int32(start), int32(start), int32(start), int32(end)}
	colon := bytes.IndexByte(raw[start:end], ':')
	if colon <= 0 {
		return f
	}
	name := start + colon
	for name > start && isWSP(raw[name-1]) {
		name--
	}
	for _, c := range raw[start:name] {
		if c <= ' ' || c >= 0x7f {
			return f
		}
	}
	f.name, f.value = int32(name), int32(start+colon+1)
	return f
}

// Bytes returns the header with the empty line at its end. It must not be
// changed.
func (h Header) Bytes() []byte {
	if len(h.raw) == 0 {
		return []byte("\r\n")
	}
	return h.raw
}

// Len returns the number of fields.
func (h Header) Len() int { return len(h.fields) }

// Fields yields the fields from the top to the bottom.
func (h Header) Fields() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for _, f := range h.fields {
			if !yield(Field{string(h.raw[f.start:f.name]), h.raw[f.start:f.end:f.end]}) {
				return
			}
		}
	}
}

// Value returns the unfolded value of f, without white space around it.
func (f Field) Value() string {
	v := f.Raw
	if f.Name != "" {
		v = v[bytes.IndexByte(v, ':')+1:]
	}
	return string(unfold(v))
}

// Get returns the value of the first field of that name, unfolded
// (RFC 5322 §2.2.3) and without white space around it; "" if there is none.
// Encoded words are left as they are, see DecodeHeader.
func (h Header) Get(name string) string {
	v, _ := h.value(name)
	return string(v)
}

// Values returns the values of all fields of that name, from the top.
func (h Header) Values(name string) []string {
	var values []string
	for i := h.index(name, 0); i >= 0; i = h.index(name, i+1) {
		values = append(values, string(h.valueAt(i)))
	}
	return values
}

// Has reports whether there is a field of that name.
func (h Header) Has(name string) bool { return h.index(name, 0) >= 0 }

// index returns the first field of that name at or after from, -1 for none.
func (h Header) index(name string, from int) int {
	for i := from; i < len(h.fields) && name != ""; i++ {
		f := h.fields[i]
		if int(f.name-f.start) == len(name) && equalFoldASCII(h.raw[f.start:f.name], name) {
			return i
		}
	}
	return -1
}

// equalFoldASCII compares texts of the same length without regard to case.
func equalFoldASCII(b []byte, s string) bool {
	for i := 0; i < len(b); i++ {
		if c, d := b[i], s[i]; c != d && (c|0x20 != d|0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// value returns the unfolded value of the first field of that name; it shares
// memory with the header where nothing had to be unfolded.
func (h Header) value(name string) ([]byte, bool) {
	i := h.index(name, 0)
	if i < 0 {
		return nil, false
	}
	return h.valueAt(i), true
}

func (h Header) valueAt(i int) []byte {
	f := h.fields[i]
	return unfold(h.raw[f.value:f.end])
}

// unfold removes line ends and the white space around the value. A NUL goes
// too: it can stand neither in IMAP nor in Postgres.
func unfold(v []byte) []byte {
	v = trim(v)
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 && bytes.IndexByte(v, 0) < 0 {
		return v
	}
	out := make([]byte, 0, len(v))
	for _, c := range v {
		if c != '\r' && c != '\n' && c != 0 {
			out = append(out, c)
		}
	}
	return out
}

// trim returns v without the white space and line ends around it.
func trim(v []byte) []byte {
	for len(v) > 0 && isSpace(v[0]) {
		v = v[1:]
	}
	for len(v) > 0 && isSpace(v[len(v)-1]) {
		v = v[:len(v)-1]
	}
	return v
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// Prepend puts a field at the top. The value is folded at its spaces where a
// line would be longer than 78 characters (RFC 5322 §2.1.1). A value with a CR,
// LF or NUL is refused, whatever follows it.
func (h *Header) Prepend(name, value string) error {
	line, err := FormatField(name, value)
	if err != nil {
		return err
	}
	h.splice(0, line)
	return nil
}

// Append puts a field below all others, folded as Prepend does it.
func (h *Header) Append(name, value string) error {
	line, err := FormatField(name, value)
	if err != nil {
		return err
	}
	at := 0
	if n := len(h.fields); n > 0 {
		at = int(h.fields[n-1].end)
	}
	h.splice(at, line)
	return nil
}

// PrependLines puts complete fields at the top, each with CRLF at the end of
// its lines: what FormatField, a signer or a filter made.
func (h *Header) PrependLines(lines []byte) error {
	for rest := lines; len(rest) > 0; {
		n := bytes.IndexByte(rest, '\n')
		if n < 1 || rest[n-1] != '\r' || n == 1 {
			return ErrFieldValue
		}
		line := rest[:n-1]
		if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
			return ErrFieldValue
		}
		if isWSP(line[0]) {
			if len(rest) == len(lines) {
				return ErrFieldName
			}
		} else if f := splitField(line, 0, len(line)); f.name == f.start {
			return ErrFieldName
		}
		rest = rest[n+1:]
	}
	h.splice(0, lines)
	return nil
}

// splice makes a new header with lines at the offset at.
func (h *Header) splice(at int, lines []byte) {
	old := h.Bytes()
	raw := make([]byte, 0, len(old)+len(lines))
	raw = append(raw, old[:at]...)
	raw = append(raw, lines...)
	raw = append(raw, old[at:]...)
	*h = ParseHeader(raw)
}

// Remove takes all fields of that name out and reports whether there were any.
func (h *Header) Remove(name string) bool {
	if !h.Has(name) {
		return false
	}
	raw, from := make([]byte, 0, len(h.raw)), 0
	for i := h.index(name, 0); i >= 0; i = h.index(name, i+1) {
		raw = append(raw, h.raw[from:h.fields[i].start]...)
		from = int(h.fields[i].end)
	}
	*h = ParseHeader(append(raw, h.raw[from:]...))
	return true
}

// Set replaces all fields of that name by one at the place of the first, or
// appends it.
func (h *Header) Set(name, value string) error {
	line, err := FormatField(name, value)
	if err != nil {
		return err
	}
	i := h.index(name, 0)
	if i < 0 {
		return h.Append(name, value)
	}
	at := int(h.fields[i].start)
	h.Remove(name)
	h.splice(at, line)
	return nil
}

// foldAt is the length of line that should not be exceeded, without CRLF
// (RFC 5322 §2.1.1).
const foldAt = 78

// FormatField returns a complete field with CRLF, folded at spaces. It refuses
// names and values that could end the field early or start another.
func FormatField(name, value string) ([]byte, error) {
	if name == "" {
		return nil, ErrFieldName
	}
	for i := 0; i < len(name); i++ {
		if name[i] <= ' ' || name[i] >= 0x7f || name[i] == ':' {
			return nil, fmt.Errorf("%w: %q", ErrFieldName, name)
		}
	}
	if strings.ContainsAny(value, "\r\n\x00") {
		return nil, fmt.Errorf("%w: field %s", ErrFieldValue, name)
	}
	value = strings.Trim(value, " \t")
	line := make([]byte, 0, len(name)+len(value)+8+3*len(value)/foldAt)
	line = append(line, name...)
	line = append(line, ':')
	if value == "" {
		return append(line, ' ', '\r', '\n'), nil
	}
	return append(foldValue(line, " "+value, len(name)+1), '\r', '\n'), nil
}

// foldValue appends value to dst, breaking lines before white space that has
// a word after it. A word longer than a line stands on its own.
func foldValue(dst []byte, value string, column int) []byte {
	first := true
	for value != "" {
		n := len(value) - len(strings.TrimLeft(value, " \t"))
		if w := strings.IndexAny(value[n:], " \t"); w >= 0 {
			n += w
		} else {
			n = len(value)
		}
		width := utf8.RuneCountInString(value[:n])
		if column+width > foldAt && !first {
			dst = append(dst, '\r', '\n')
			column = 0
		}
		dst = append(dst, value[:n]...)
		value, column, first = value[n:], column+width, false
	}
	return dst
}
