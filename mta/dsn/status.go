package dsn

import (
	"strings"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/message"
)

// maxRemoteText bounds what is quoted of a remote server.
const maxRemoteText = 1000

// status is the second part, the one for programs (RFC 3464 §2).
func (r *Report) status() message.Piece {
	var b statusWriter
	p := message.Piece{Type: "message/delivery-status", Description: "Delivery report", Encoding: "7bit"}
	for _, rcpt := range r.Recipients {
		if !rcpt.Address.IsASCII() || !isASCII(rcpt.Original) {
			// RFC 6533 §3: only this type may hold the addresses as they are.
			p.Type, p.Encoding, b.utf8 = "message/global-delivery-status", "8bit", true
		}
	}
	b.field("Reporting-MTA", "dns; "+r.ReportingMTA)
	b.field("Original-Envelope-Id", r.EnvID)
	b.date("Arrival-Date", r.Arrival)
	b.field("X-Dirpost-Queue-Id", r.QueueID.String())
	for _, rcpt := range r.Recipients {
		b.text.WriteString("\r\n")
		b.recipient(rcpt)
	}
	p.Body = strings.NewReader(b.text.String())
	return p
}

// statusWriter writes fields, leaving out those without a value.
type statusWriter struct {
	text strings.Builder
	utf8 bool
}

func (b *statusWriter) recipient(rcpt Recipient) {
	// RFC 3464 §2.3.1: only if the sender gave one.
	if rcpt.OriginalType != "" && rcpt.Original != "" {
		b.field("Original-Recipient", clean(rcpt.OriginalType, false)+"; "+rcpt.Original)
	}
	b.field("Final-Recipient", addressType(rcpt.Address)+"; "+rcpt.Address.String())
	b.field("Action", rcpt.Action.String())
	b.field("Status", rcpt.status())
	by := "X-Dirpost; " // RFC 3464 §2.3.6: "smtp" is for what an SMTP server said
	if rcpt.RemoteMTA != "" {
		b.field("Remote-MTA", "dns; "+rcpt.RemoteMTA)
		by = "smtp; "
	}
	if rcpt.Diagnostic != "" {
		b.field("Diagnostic-Code", by+cut(clean(rcpt.Diagnostic, b.utf8), maxRemoteText))
	}
	b.date("Last-Attempt-Date", rcpt.LastAttempt)
	if rcpt.Action == Delayed {
		b.date("Will-Retry-Until", rcpt.WillRetryUntil)
	}
}

func (b *statusWriter) date(name string, t time.Time) {
	if !t.IsZero() {
		b.field(name, t.Format(time.RFC1123Z))
	}
}

func (b *statusWriter) field(name, value string) {
	value = clean(value, b.utf8)
	if value == "" {
		return
	}
	line, err := message.FormatField(name, value)
	if err != nil {
		return // cannot happen: clean leaves nothing that a field cannot hold
	}
	b.text.Write(line)
}

// addressType is the type of RFC 3464, or that of RFC 6533 §3.
func addressType(a envelope.Address) string {
	if a.IsASCII() {
		return "rfc822"
	}
	return "utf-8"
}

// status returns the enhanced status code, or the undefined one of the class
// if what is there is none (RFC 3463 §2).
func (rcpt Recipient) status() string {
	if validStatus(rcpt.Status) {
		return rcpt.Status
	}
	switch rcpt.Action {
	case Failed:
		return "5.0.0"
	case Delayed:
		return "4.0.0"
	}
	return "2.0.0"
}

func validStatus(s string) bool {
	f := strings.Split(s, ".")
	if len(f) != 3 || f[0] != "2" && f[0] != "4" && f[0] != "5" {
		return false
	}
	for _, n := range f[1:] {
		if len(n) < 1 || len(n) > 3 || strings.Trim(n, "0123456789") != "" {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c >= 0x80 }) < 0
}
