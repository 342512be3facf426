package dsn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"dirpost/internal/envelope"
	"dirpost/internal/message"
)

// MaxReturn is the size, in octets, up to which a message is returned whole
// when the sender asked for that (RET=FULL).
const MaxReturn = 1 << 20

// maxReturnUnasked is the same where the sender asked for nothing.
const maxReturnUnasked = 64 << 10

// Action is what has become of a message for one recipient (RFC 3464 §2.3.3).
type Action uint8

// The actions.
const (
	Failed    Action = iota + 1 // given up
	Delayed                     // still being tried
	Delivered                   // in the mailbox
	Relayed                     // handed to a system that sends no DSN on success
	Expanded                    // handed to the members of a list
)

// String returns the action as RFC 3464 writes it.
func (a Action) String() string {
	switch a {
	case Failed:
		return "failed"
	case Delayed:
		return "delayed"
	case Delivered:
		return "delivered"
	case Relayed:
		return "relayed"
	case Expanded:
		return "expanded"
	}
	return "Action(" + strconv.Itoa(int(a)) + ")"
}

// Recipient is what has become of the message for one recipient. Texts may be
// anything: Compose cleans them.
type Recipient struct {
	// Address is the recipient that the report is about. A forward that must
	// not be known outside is given by the address that was written to.
	Address envelope.Address
	// Original and OriginalType are those of envelope.Recipient: the address
	// as the sender knew it. Without a type the sender gave no ORCPT.
	Original, OriginalType string
	Action                 Action
	Status                 string    // enhanced status code; "" is x.0.0
	Diagnostic             string    // reply of the remote server, "550 5.1.1 …"; "" if it was us
	RemoteMTA              string    // host that said so, "" if it was us
	Moderated              bool      // a moderator of the list has decided; Diagnostic has the words
	Returned               bool      // likewise an administrator, who had held it
	LastAttempt            time.Time // zero: unknown
	WillRetryUntil         time.Time // of Delayed; zero: unknown
}

// Report is one DSN: what one sender is told about one message. Several
// recipients stand in one report.
type Report struct {
	ReportingMTA string           // our host name
	From         envelope.Address // postmaster of ours, who reads answers
	To           envelope.ReversePath
	Date         time.Time
	Recipients   []Recipient

	// What the queue knows of the message.
	QueueID  envelope.QueueID
	EnvID    string
	Arrival  time.Time
	Return   envelope.Return
	Body8Bit bool
	Header   message.Header
	Body     io.ReaderAt // the octets after the empty line; nil returns the header alone
	BodySize int64
}

// ErrNullReversePath reports that there is nobody to tell: a report about a
// report would never end (RFC 5321 §4.5.5).
var ErrNullReversePath = errors.New("no DSN to the null reverse-path")

// errNoRecipients reports an empty report.
var errNoRecipients = errors.New("no recipients to report")

// Compose writes the report r as a message to w, with CRLF line ends.
func Compose(w io.Writer, r *Report) error {
	to, ok := r.To.Address()
	if !ok {
		return ErrNullReversePath
	}
	if len(r.Recipients) == 0 {
		return errNoRecipients
	}
	header, err := r.header(to)
	if err != nil {
		return fmt.Errorf("compose DSN: %w", err)
	}
	text := message.TextPiece(r.text())
	text.Description = "Notification"
	return message.Compose(w, message.Composition{
		Header:   header,
		Type:     "multipart/report", // RFC 6522 §3
		Params:   []message.Param{{Name: "report-type", Value: r.reportType()}},
		Boundary: "=_" + r.id(),
		Pieces:   []message.Piece{text, r.status(), r.returned()},
	})
}

// NeedsUTF8 reports whether the report can only travel with SMTPUTF8: it goes
// to an internationalized address, or returns an internationalized header.
func (r *Report) NeedsUTF8() bool {
	to, _ := r.To.Address()
	return !to.IsASCII() || !r.From.IsASCII() || r.utf8Header()
}

// id is new in each report about a message.
func (r *Report) id() string {
	return r.QueueID.String() + "." + r.worst().String() + "." + strconv.FormatInt(r.Date.UnixNano(), 36)
}

// worst returns the action that matters most to the sender.
func (r *Report) worst() Action {
	worst := r.Recipients[0].Action
	for _, rcpt := range r.Recipients {
		worst = min(worst, rcpt.Action)
	}
	return worst
}

func (r *Report) header(to envelope.Address) (message.Header, error) {
	var h message.Header
	fields := [][2]string{
		{"From", message.FormatAddress("Mail Delivery System", r.From)},
		{"To", to.String()},
		{"Subject", message.EncodeHeader(r.subject())},
		{"Date", r.Date.Format(time.RFC1123Z)},
		{"Message-ID", "<" + r.id() + "@" + r.ReportingMTA + ">"},
		{"Auto-Submitted", "auto-replied"}, // RFC 3834 §5
	}
	if id := r.Header.Get("Message-ID"); validMessageID(id) {
		fields = append(fields, [2]string{"In-Reply-To", id}, [2]string{"References", id})
	}
	for _, f := range fields {
		if err := h.Append(f[0], f[1]); err != nil {
			return h, err
		}
	}
	return h, nil
}

// validMessageID reports whether id can be copied into a field of ours.
func validMessageID(id string) bool {
	if len(id) < 5 || len(id) > 500 || id[0] != '<' || id[len(id)-1] != '>' {
		return false
	}
	for i := 1; i < len(id)-1; i++ {
		if c := id[i]; c <= ' ' || c >= 0x7f || c == '<' || c == '>' {
			return false
		}
	}
	return true
}

// subject says what happened and to which message.
func (r *Report) subject() string {
	what := map[Action]string{
		Failed: "Not delivered", Delayed: "Delayed", Delivered: "Delivered", Relayed: "Passed on", Expanded: "Delivered to list",
	}[r.worst()]
	subject := cut(clean(message.DecodeHeader(r.Header.Get("Subject")), true), 200)
	if subject == "" {
		return what + ": your message"
	}
	return what + ": " + subject
}

// reportType is "delivery-status" for both variants (RFC 6533 §4).
func (r *Report) reportType() string { return "delivery-status" }

// utf8Header reports whether the header that is returned holds UTF-8.
func (r *Report) utf8Header() bool {
	for _, c := range r.Header.Bytes() {
		if c >= utf8.RuneSelf {
			return utf8.Valid(r.Header.Bytes())
		}
	}
	return false
}

// returned is the third part: the message or its header.
//
// RFC 3461 §4.3: RET counts where something failed; else only the header
// returns. A message that is too large to return is not cut, which would break
// its structure, but returned by its header.
func (r *Report) returned() message.Piece {
	limit := int64(maxReturnUnasked)
	switch {
	case r.worst() != Failed || r.Return == envelope.ReturnHeaders || r.Body == nil:
		limit = -1
	case r.Return == envelope.ReturnFull:
		limit = MaxReturn
	}
	header := r.Header.Bytes()
	global := r.utf8Header()
	encoding := "7bit"
	if global || bytes.ContainsFunc(header, func(c rune) bool { return c >= utf8.RuneSelf }) {
		encoding = "8bit"
	}
	if int64(len(header))+r.BodySize > limit {
		p := message.Piece{Type: "text/rfc822-headers", Description: "Header of your message", Encoding: encoding, Body: bytes.NewReader(header)}
		if global {
			p.Type = "message/global-headers" // RFC 6533 §5
		}
		return p
	}
	if r.Body8Bit {
		encoding = "8bit"
	}
	p := message.Piece{Type: "message/rfc822", Description: "Your message", Encoding: encoding,
		Body: io.MultiReader(bytes.NewReader(header), &bodyReader{io.NewSectionReader(r.Body, 0, r.BodySize), r.BodySize})}
	if global {
		p.Type = "message/global"
	}
	return p
}

// bodyReader reads a body and says so if it ends early: half a message must not
// look like a whole one.
type bodyReader struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// clean makes text from elsewhere one line without controls. Other scripts
// stay only where they may stand.
func clean(text string, utf8Allowed bool) string {
	text = strings.Map(func(c rune) rune {
		switch {
		case c < ' ' || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029:
			return ' '
		case c >= utf8.RuneSelf && !utf8Allowed:
			return '?'
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
	return strings.Join(strings.Fields(text), " ")
}

// cut shortens text to about n octets, between characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "..."
}
