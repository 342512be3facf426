package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
)

// SyntaxError reports a command that the grammar does not allow; the client
// gets BAD with its words.
type SyntaxError struct{ Text string }

// Error implements error.
func (e *SyntaxError) Error() string { return e.Text }

// Errors of a command that is well-formed as such.
var (
	// ErrLiteralTooBig reports a literal beyond its limit. A synchronising one
	// has not been sent; any other is skipped by Finish.
	ErrLiteralTooBig = errors.New("literal too big")
	// ErrMailboxName reports a text that is no mailbox name: not modified
	// UTF-7, or with characters that no name may have.
	ErrMailboxName = errors.New("not a mailbox name")
	// ErrOverrun reports more to be skipped than the Limits allow; the
	// connection must be closed.
	ErrOverrun = errors.New("too much input to skip")
)

// Limits bound what one command may hold, in octets.
type Limits struct {
	Line    int   // one line, without the literals
	Literal int   // one literal that is kept in memory
	Command int   // all literals of one command that are kept in memory
	Skip    int64 // input read and dropped after an error
}

// Decoder reads commands. Its methods take tokens from the front of what is
// left of the command; the first error sticks, after it they return zero values
// and Err tells. Byte slices that they return are valid until the next literal.
type Decoder struct {
	src      Source
	limits   Limits
	proceed  func() error
	line     []byte // rest of the current fragment
	kept     int    // octets of literals kept
	open     *literalReader
	err      error
	finished bool
	utf8     bool
}

// NewDecoder returns a Decoder of commands read from src. proceed asks the
// client to send a synchronising literal ("+ …") and flushes.
func NewDecoder(src Source, proceed func() error) *Decoder {
	return &Decoder{src: src, proceed: proceed, finished: true}
}

// SetLimits replaces the limits, from the next command on.
func (d *Decoder) SetLimits(l Limits) { d.limits = l }

// AcceptUTF8 allows 8-bit characters in quoted strings and UTF-8 mailbox names
// (RFC 9755 §3).
func (d *Decoder) AcceptUTF8(on bool) { d.utf8 = on }

// Next reads the first line of a command. An error is one of the connection.
func (d *Decoder) Next() error {
	line, err := readLine(d.src, d.limits.Line)
	d.line, d.err, d.kept, d.open, d.finished = line, err, 0, nil, false
	return err
}

// Line reads one line that is no command: a response to a SASL challenge, DONE.
// It is valid until the next read.
func (d *Decoder) Line(max int) ([]byte, error) {
	line, err := readLine(d.src, max)
	d.line, d.err, d.finished = nil, err, true
	return line, err
}

// Err is the first error of this command.
func (d *Decoder) Err() error { return d.err }

func (d *Decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// Fail records a syntax error found by the caller.
func (d *Decoder) Fail(text string) { d.fail(&SyntaxError{text}) }

func (d *Decoder) expect(what string) { d.fail(&SyntaxError{"expected " + what}) }

// parseNumber parses decimal digits up to max.
func parseNumber(b []byte, max uint64) (uint64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	var v uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if v > (max-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	return v, true
}

// AtEnd reports whether the command has no more tokens.
func (d *Decoder) AtEnd() bool { return d.err != nil || len(d.line) == 0 }

// End checks that the command ends here. Trailing spaces, which some clients
// send, are ignored.
func (d *Decoder) End() error {
	if d.err == nil && len(bytes.TrimRight(d.line, " ")) > 0 {
		d.Fail("unexpected argument at the end of the command")
	}
	if d.err == nil {
		d.line = nil
	}
	return d.err
}

// Peek returns the next octet without taking it, 0 at the end.
func (d *Decoder) Peek() byte {
	if d.AtEnd() {
		return 0
	}
	return d.line[0]
}

// Skip takes the octet c if it is next and reports whether it was.
func (d *Decoder) Skip(c byte) bool {
	if d.Peek() != c {
		return false
	}
	d.line = d.line[1:]
	return true
}

// Byte takes the octet c, which must be next.
func (d *Decoder) Byte(c byte) {
	if !d.Skip(c) {
		d.expect(fmt.Sprintf("%q", string(c)))
	}
}

// Space takes the one space between two arguments.
func (d *Decoder) Space() {
	if !d.Skip(' ') {
		d.Fail("missing argument")
	}
}

// run takes the longest front of the fragment whose octets are all of class.
func (d *Decoder) run(class charClass) []byte {
	if d.err != nil {
		return nil
	}
	i := 0
	for i < len(d.line) && charClasses[d.line[i]]&class != 0 {
		i++
	}
	tok := d.line[:i]
	d.line = d.line[i:]
	return tok
}

// Tag takes the tag of a command (RFC 9051 §9, tag).
func (d *Decoder) Tag() string {
	tok := d.run(tagChar)
	if len(tok) == 0 || len(tok) > maxTag {
		d.Fail("invalid tag")
		return ""
	}
	return string(tok)
}

// maxTag bounds the tag, which is echoed; clients use a handful of octets.
const maxTag = 255

// Word takes an atom and returns it in upper case: a command name, an option.
// It is valid until the next literal.
func (d *Decoder) Word() []byte {
	tok := d.run(atomChar)
	if len(tok) == 0 {
		d.expect("an atom")
		return nil
	}
	upper(tok)
	return tok
}

// Keyword takes a word, upper case, as run of letters, digits, ".", "-" and
// "=": an item name that may be followed by "[" or "<".
func (d *Decoder) keyword() []byte {
	tok := d.run(nameChar)
	if len(tok) == 0 {
		d.expect("an item name")
		return nil
	}
	upper(tok)
	return tok
}

// upper turns the letters of b into upper case in place.
func upper(b []byte) {
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
}

// Atom takes an atom.
func (d *Decoder) Atom() string {
	tok := d.run(atomChar)
	if len(tok) == 0 {
		d.expect("an atom")
	}
	return string(tok)
}

// AString takes an astring (RFC 9051 §9): an atom that may hold "]", or a
// string.
func (d *Decoder) AString() string {
	switch d.Peek() {
	case '"', '{':
		return d.String()
	}
	tok := d.run(astringChar)
	if len(tok) == 0 {
		d.expect("a string")
	}
	return string(tok)
}

// NString takes a string or NIL; ok is false for NIL.
func (d *Decoder) NString() (s string, ok bool) {
	switch d.Peek() {
	case '"', '{':
		return d.String(), d.err == nil
	}
	if tok := d.run(atomChar); !strings.EqualFold(string(tok), "NIL") {
		d.expect("a string or NIL")
	}
	return "", false
}

// String takes a quoted string or a literal.
func (d *Decoder) String() string {
	switch d.Peek() {
	case '"':
		return d.quoted()
	case '{':
		return string(d.literal())
	}
	d.expect("a string")
	return ""
}

// quoted takes a quoted string. 8-bit characters are for RFC 9755 clients; from
// others they are taken too where they are UTF-8, since refusing them would
// only make a password with an accent unusable.
func (d *Decoder) quoted() string {
	b := d.line[1:]
	var esc []byte
	for i := 0; i < len(b); i++ {
		switch c := b[i]; c {
		case '"':
			d.line = b[i+1:]
			if esc != nil {
				return string(esc)
			}
			return string(b[:i])
		case '\\':
			if esc == nil {
				esc = append(make([]byte, 0, len(b)), b[:i]...)
			}
			if i++; i == len(b) || b[i] != '"' && b[i] != '\\' {
				d.Fail("invalid quoted string")
				return ""
			}
			esc = append(esc, b[i])
		case 0, '\r':
			d.Fail("invalid quoted string")
			return ""
		default:
			if esc != nil {
				esc = append(esc, c)
			}
		}
	}
	d.Fail("unterminated quoted string")
	return ""
}

// Number takes a 32-bit number.
func (d *Decoder) Number() uint32 { return uint32(d.number(math.MaxUint32)) }

// Number63 takes a number of 63 bits (RFC 9051 §9, number64).
func (d *Decoder) Number63() int64 { return int64(d.number(math.MaxInt64)) }

func (d *Decoder) number(max uint64) uint64 {
	tok := d.run(digitChar)
	if d.err != nil {
		return 0
	}
	v, ok := parseNumber(tok, max)
	if !ok {
		d.expect("a number")
	}
	return v
}

// List takes "(" item *(SP item) ")" and calls item for each; an empty list is
// taken too. item must take something or fail.
func (d *Decoder) List(item func()) {
	d.Byte('(')
	if d.Skip(')') {
		return
	}
	for d.err == nil {
		item()
		if d.Skip(')') {
			return
		}
		if !d.Skip(' ') {
			d.expect(`" " or ")" in a list`)
		}
	}
}

// Mailbox takes a mailbox name and returns it in UTF-8, INBOX in capitals
// (RFC 9051 §5.1).
func (d *Decoder) Mailbox() string { return d.mailboxName(d.AString()) }

// ListMailbox takes a pattern of LIST or LSUB in UTF-8 (RFC 9051 §9,
// list-mailbox).
func (d *Decoder) ListMailbox() string {
	switch d.Peek() {
	case '"', '{':
		return d.pattern(d.String())
	}
	tok := d.run(astringChar | listChar)
	if len(tok) == 0 {
		d.expect("a mailbox pattern")
	}
	return d.pattern(string(tok))
}

// pattern decodes a pattern. One that is no modified UTF-7 matches no name, and
// is no error.
func (d *Decoder) pattern(s string) string {
	name, err := DecodeMailbox(s, d.utf8)
	if err != nil {
		return s
	}
	return name
}

func (d *Decoder) mailboxName(s string) string {
	if d.err != nil {
		return ""
	}
	name, err := DecodeMailbox(s, d.utf8)
	if err != nil {
		d.fail(err)
	}
	if strings.EqualFold(name, "INBOX") {
		return "INBOX"
	}
	return name
}

// Broken returns the error of the connection that ended this command, nil if
// there was none: a command that the grammar or a limit refuses does not end
// the connection.
func (d *Decoder) Broken() error {
	var syntax *SyntaxError
	if d.err == nil || errors.As(d.err, &syntax) || errors.Is(d.err, ErrLiteralTooBig) || errors.Is(d.err, ErrMailboxName) {
		return nil
	}
	return d.err
}

// Rest takes all that is left of the line.
func (d *Decoder) Rest() string {
	if d.err != nil {
		return ""
	}
	s := string(d.line)
	d.line = nil
	return s
}
