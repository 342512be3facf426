package intake

import (
	"strings"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

// receivedLayout is the date-time of RFC 5322 §3.3.
const receivedLayout = "Mon, 2 Jan 2006 15:04:05 -0700"

// received renders the Received field that says how the message reached us
// (RFC 5321 §4.4), folded, with its line end. The recipient is named only where
// there is just one, so that nobody learns of a blind copy.
//
// Everything that the client chose (its HELO name above all) is reduced to
// characters that can neither end the field nor open a comment.
func received(hostname string, c *envelope.Client, id envelope.QueueID, recipients []envelope.Recipient, at time.Time) []byte {
	b := make([]byte, 0, 320)
	b = append(b, "Received: from "...)
	helo := traceWord(c.Helo)
	if helo == "" {
		helo = "unknown"
	}
	b = append(b, helo...)
	if c.Addr != "" {
		b = append(b, " ("...)
		if name := traceWord(c.Name); name != "" {
			b = append(b, name...)
			b = append(b, ' ')
		}
		b = append(b, '[')
		if strings.IndexByte(c.Addr, ':') >= 0 {
			b = append(b, "IPv6:"...)
		}
		b = append(b, traceWord(c.Addr)...)
		b = append(b, "])"...)
	}
	if c.TLS != "" {
		b = append(b, "\r\n\t("...)
		b = append(b, traceText(c.TLS)...)
		b = append(b, ')')
	}
	b = append(b, "\r\n\tby "...)
	b = append(b, hostname...)
	b = append(b, " with "...)
	b = append(b, c.Protocol...)
	b = append(b, " id "...)
	b = append(b, id.String()...)
	if len(recipients) == 1 {
		b = append(b, "\r\n\tfor <"...)
		b = append(b, recipients[0].Address.String()...)
		b = append(b, '>')
	}
	b = append(b, ";\r\n\t"...)
	b = at.AppendFormat(b, receivedLayout)
	return append(b, "\r\n"...)
}

// traceWord keeps of s what may stand in a domain or address literal.
func traceWord(s string) string {
	const max = 255
	if len(s) > max {
		s = s[:max]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune(".-_:[]", r):
			return r
		}
		return '?'
	}, s)
}

// traceText keeps of s what may stand in a comment.
func traceText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '(' || r == ')' || r == '\\' {
			return '?'
		}
		return r
	}, s)
}

// mailboxAddress is the address under which a copy is delivered: the one that
// was given where it is the mailbox's own, else, behind a list or a forward, the
// mailbox's primary address. So what a member sends back to the list is no loop
// for the others.
func mailboxAddress(r directory.LocalRecipient) envelope.Address {
	given, e := r.Recipient.Address, r.Entry
	if e.Primary.IsZero() || given.Key() == e.Primary.Key() {
		return given
	}
	base := given
	if r.Detail != "" {
		base.Local = strings.TrimSuffix(given.Local, r.Detail)
		base.Local = base.Local[:max(0, len(base.Local)-1)]
	}
	for _, own := range append([]envelope.Address{e.Primary}, e.Aliases...) {
		if own.Key() == base.Key() {
			return given
		}
	}
	return e.Primary
}

// copyFields renders the fields that only one copy has: Return-Path, which the
// last hop writes (RFC 5321 §4.4), and Delivered-To, by which a loop through
// another system's forwarding is recognised.
func copyFields(reverse envelope.ReversePath, to envelope.Address) []byte {
	b := make([]byte, 0, 128)
	b = append(b, "Return-Path: <"...)
	b = append(b, reverse.String()...)
	b = append(b, ">\r\nDelivered-To: "...)
	b = append(b, to.String()...)
	return append(b, "\r\n"...)
}
