package notice

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"dirpost/internal/envelope"
	"dirpost/internal/message"
)

// Message is the mail of a notice.
type Message struct {
	Config
	To    envelope.Address
	Name  string // of the person, for the greeting
	Kind  Kind
	Lines []string
	Date  time.Time
}

// WriteTo implements io.WriterTo: it writes the message with CRLF line ends.
func (m *Message) WriteTo(w io.Writer) (int64, error) {
	t, ok := texts[m.Kind]
	if !ok {
		return 0, fmt.Errorf("no notice of kind %q", m.Kind)
	}
	var id [12]byte
	rand.Read(id[:])
	var h message.Header
	for _, f := range [][2]string{
		{"From", message.FormatAddress(sender, m.Postmaster)},
		{"To", m.To.String()},
		{"Subject", message.EncodeHeader(t.subject)},
		{"Date", m.Date.UTC().Format(time.RFC1123Z)},
		{"Message-ID", "<" + hex.EncodeToString(id[:]) + "@" + m.Host + ">"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834 §5
	} {
		if err := h.Append(f[0], f[1]); err != nil {
			return 0, err
		}
	}
	c := &counter{w: w}
	err := message.Compose(c, message.Composition{Header: h, Pieces: []message.Piece{message.TextPiece(m.text(t))}})
	return c.n, err
}

// text is the body.
func (m *Message) text(t words) string {
	var b strings.Builder
	name := oneLine(m.Name)
	if name != "" {
		name = " " + name
	}
	fmt.Fprintf(&b, greeting, name)
	b.WriteString(t.intro + "\n\n")
	for i, line := range m.Lines {
		if i == maxLines {
			b.WriteString("  " + more + "\n")
			break
		}
		b.WriteString("  " + oneLine(line) + "\n")
	}
	b.WriteString("\n" + wasYou + t.advice + "\n")
	if m.Page != "" {
		fmt.Fprintf(&b, page, m.Page)
	}
	fmt.Fprintf(&b, footer, m.Host, m.Postmaster.Unicode())
	return b.String()
}

// oneLine is a text of somebody else as one line of printable characters.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))), " ")
	if len(s) > maxLine {
		s = strings.ToValidUTF8(s[:maxLine], "")
	}
	return s
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
