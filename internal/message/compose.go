package message

import (
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"dirpost/internal/envelope"

	gomessage "github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
)

// Composition is a message that Dirpost itself originates: a report, a notice.
type Composition struct {
	// Header has all fields but those of MIME, which Compose adds.
	Header Header
	// Type and Params are the content type of the multipart, "" if the one
	// piece is the whole message.
	Type   string
	Params []Param
	// Boundary separates the pieces. It must not occur in them, so it is made
	// from something that is new in this message, its queue id.
	Boundary string
	Pieces   []Piece
}

// Piece is a part of a Composition.
type Piece struct {
	Type        string // "text/plain"
	Params      []Param
	Description string
	Disposition string // "inline", "attachment" or ""
	// Encoding is the Content-Transfer-Encoding that Compose gives the body:
	// 7bit, 8bit, quoted-printable, base64.
	Encoding string
	Body     io.Reader
}

// TextPiece returns a text/plain piece; lines of text end in LF.
func TextPiece(text string) Piece {
	p := Piece{Type: "text/plain", Params: []Param{{"charset", "utf-8"}}, Encoding: "7bit"}
	text = strings.ReplaceAll(text, "\n", "\r\n")
	if !isASCIIString(text) {
		p.Encoding = "quoted-printable"
	}
	p.Body = strings.NewReader(text)
	return p
}

// Compose writes c to w, with CRLF line ends. The bodies are streamed.
func Compose(w io.Writer, c Composition) error {
	head := textproto.Header{}
	fields := append([]Field(nil), mimeVersion)
	for f := range c.Header.Fields() {
		fields = append(fields, f)
	}
	multipart := c.Type != ""
	if !multipart && len(c.Pieces) != 1 {
		return fmt.Errorf("compose %d pieces without multipart", len(c.Pieces))
	}
	// textproto.Header.AddRaw puts a field above those that are there.
	if multipart {
		params := append([]Param{{"boundary", c.Boundary}}, c.Params...)
		line, err := FormatField("Content-Type", FormatParams(c.Type, params))
		if err != nil {
			return err
		}
		head.AddRaw(line)
	} else if err := addPieceFields(&head, c.Pieces[0]); err != nil {
		return err
	}
	head.AddRaw(fields[0].Raw)
	for i := len(fields) - 1; i > 0; i-- {
		head.AddRaw(fields[i].Raw)
	}
	mw, err := gomessage.CreateWriter(w, gomessage.Header{Header: head})
	if err != nil {
		return fmt.Errorf("compose: %w", err)
	}
	if !multipart {
		return finishPiece(mw, c.Pieces[0])
	}
	for _, p := range c.Pieces {
		var h gomessage.Header
		if err := addPieceFields(&h.Header, p); err != nil {
			return err
		}
		pw, err := mw.CreatePart(h)
		if err != nil {
			return fmt.Errorf("compose part: %w", err)
		}
		if err := finishPiece(pw, p); err != nil {
			return err
		}
	}
	return mw.Close()
}

var mimeVersion = Field{Name: "MIME-Version", Raw: []byte("MIME-Version: 1.0\r\n")}

func addPieceFields(h *textproto.Header, p Piece) error {
	for _, f := range [...]struct{ name, value string }{ // from the bottom
		{"Content-Transfer-Encoding", p.Encoding},
		{"Content-Disposition", p.Disposition},
		{"Content-Description", EncodeHeader(p.Description)},
		{"Content-Type", FormatParams(p.Type, p.Params)},
	} {
		if f.value == "" {
			continue
		}
		line, err := FormatField(f.name, f.value)
		if err != nil {
			return err
		}
		h.AddRaw(line)
	}
	return nil
}

func finishPiece(w *gomessage.Writer, p Piece) error {
	if _, err := io.Copy(w, p.Body); err != nil {
		return fmt.Errorf("compose %s: %w", p.Type, err)
	}
	return w.Close()
}

// FormatParams returns a value with its parameters, "text/plain;
// charset=utf-8", quoted where needed; text that is not ASCII is encoded as
// RFC 2231 §4 says.
func FormatParams(value string, list []Param) string {
	var b strings.Builder
	b.WriteString(value)
	for _, a := range list {
		b.WriteString("; ")
		b.WriteString(a.Name)
		switch {
		case !isASCIIString(a.Value):
			b.WriteString("*=utf-8''" + percentEncode(a.Value))
		case a.Value != "" && len(token([]byte(a.Value))) == len(a.Value):
			b.WriteString("=" + a.Value)
		default:
			b.WriteString("=" + quote(a.Value))
		}
	}
	return b.String()
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// EncodeHeader returns text as it stands in an unstructured field: with
// encoded words if it is not ASCII (RFC 2047). Controls become spaces, so that
// text from elsewhere can start no field.
func EncodeHeader(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if isASCIIString(text) && !strings.Contains(text, "=?") {
		return text
	}
	if 3*utf8.RuneCountInString(text) < 2*len(text) {
		return mime.BEncoding.Encode("utf-8", text)
	}
	return mime.QEncoding.Encode("utf-8", text)
}

// FormatAddress returns a mailbox as it stands in From or To: the name, if
// any, as a phrase.
func FormatAddress(name string, a envelope.Address) string {
	if name == "" {
		return a.String()
	}
	encoded := EncodeHeader(name)
	if encoded == name && strings.ContainsFunc(name, func(r rune) bool {
		return strings.ContainsRune(`()<>[]:;@\,."`, r)
	}) {
		encoded = quote(name)
	}
	return encoded + " <" + a.String() + ">"
}
