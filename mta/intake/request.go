package intake

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
)

// request is the question to the moderators as a message: what it is about, how to
// answer, and the message itself as an attachment.
type request struct {
	door   *Door
	t      *Transaction
	p      *plan
	q      *question
	parsed *message.Parsed
}

// writeAs writes the message, which has the queue id of its own id.
func (r *request) writeAs(w io.Writer, id envelope.QueueID) error {
	body, err := r.door.Blobs.Open(context.Background(), r.p.content.Body)
	if err != nil {
		return fmt.Errorf("read the held message: %w", err)
	}
	defer body.Close()
	reply := directory.DecisionAddress(r.q.Token, r.q.address.Domain)
	var h message.Header
	for _, f := range [][2]string{
		{"From", message.FormatAddress("Moderation of "+r.q.address.Unicode(), reply)},
		{"To", "moderators:;"},
		{"Subject", message.EncodeHeader("Please decide: " + oneLine(message.DecodeHeader(r.parsed.Header.Get("Subject")), 200))},
		{"Date", r.door.now().Format(receivedLayout)},
		{"Message-ID", "<" + id.String() + ".moderation@" + r.door.cfg.Hostname + ">"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834 §5
		{moderationField, r.q.address.String()},
	} {
		if err := h.Append(f[0], f[1]); err != nil {
			return err
		}
	}
	text := message.TextPiece(r.text(reply))
	return message.Compose(w, message.Composition{
		Header: h, Type: "multipart/mixed", Boundary: "=_" + id.String(),
		Pieces: []message.Piece{text, r.original(body)},
	})
}

// text is what the moderators read.
func (r *request) text(reply envelope.Address) string {
	var b strings.Builder
	line := func(name, value string) {
		if value = oneLine(value, 200); value != "" {
			fmt.Fprintf(&b, "    %-9s%s\n", name+":", value)
		}
	}
	fmt.Fprintf(&b, "A message to the list %s waits for a moderator.\n\n", r.q.address.Unicode())
	line("From", message.DecodeHeader(r.parsed.Header.Get("From")))
	if from, ok := r.t.env.ReversePath.Address(); ok {
		line("Sender", from.Unicode())
	}
	if r.t.sender == nil {
		line("Came", "from outside; who wrote it has not logged in")
	}
	line("Subject", message.DecodeHeader(r.parsed.Header.Get("Subject")))
	line("Id", r.q.QueueID.String())
	link := func(word string) string {
		return "mailto:" + strings.TrimSuffix(strings.TrimPrefix(mailtoURL(reply), "<mailto:"), ">") + "?subject=" + url.QueryEscape(word)
	}
	fmt.Fprintf(&b, `
It is attached. Please answer this message, and begin with one of the words

    APPROVE    to let it through to the members
    REJECT     to send it back; what you write behind the word is for the author

or follow one of these links, and send what opens:

    %s
    %s

The first answer counts. If nobody answers until
%s, the message goes back to its author.
`, link("approve"), link("reject"), r.door.now().Add(r.q.Expires).Format("Monday, 2 January 2006, 15:04 MST"))
	return b.String()
}

// original is the held message as a part (RFC 2046 §5.2.1).
func (r *request) original(body *blob.Reader) message.Piece {
	header := r.p.content.Header
	p := message.Piece{Type: "message/rfc822", Description: "The message", Disposition: "attachment", Encoding: "7bit",
		Body: io.MultiReader(bytes.NewReader(header), io.NewSectionReader(body, 0, body.Size()))}
	eightBit := bytes.ContainsFunc(header, func(c rune) bool { return c >= 0x80 })
	if eightBit {
		p.Type = "message/global" // RFC 6532 §3.7
	}
	if eightBit || r.p.has8Bit {
		p.Encoding = "8bit"
	}
	return p
}

// oneLine is text from elsewhere as one line of at most about n octets.
func oneLine(text string, n int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(c rune) bool { return c <= ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 }), " ")
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}
