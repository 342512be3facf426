package message

import "unicode/utf8"

// Dovecot writes these where an address has no local-part or no domain; a NIL
// host would be the mark of a group (RFC 9051 §7.5.2), and clients choke on
// empty strings.
const (
	missingMailbox = "MISSING_MAILBOX"
	missingDomain  = "MISSING_DOMAIN"
)

// Envelope appends the IMAP ENVELOPE of h to dst (RFC 9051 §7.5.2).
//
// Encoded words stay as they are: the client decodes them. Raw 8-bit text is
// written as a literal, which every IMAP4rev1 client must read, and not in
// quotes, where only those may get it that enabled UTF8=ACCEPT (RFC 6855 §3)
// or IMAP4rev2. Dovecot does the same, so mutt, Thunderbird, curl and Python
// know it. The octets are UTF-8 always, guessed where the header is not: so
// what is stored is right for every client.
func (h Header) Envelope(dst []byte) []byte {
	dst = append(dst, '(')
	dst = h.appendField(dst, "date")
	dst = append(dst, ' ')
	dst = h.appendField(dst, "subject")
	dst = append(dst, ' ')
	var p addressParser
	var buf [8]address
	p.list = buf[:0]

	start := len(dst)
	dst = h.appendAddresses(dst, "from", &p)
	end := len(dst)
	for _, name := range [...]string{"sender", "reply-to"} {
		dst = append(dst, ' ')
		at := len(dst)
		dst = h.appendAddresses(dst, name, &p)
		if len(dst)-at == len("NIL") {
			// RFC 9051 §7.5.2: absent or empty, they are the From field.
			dst = append(dst[:at], dst[start:end]...)
		}
	}
	for _, name := range [...]string{"to", "cc", "bcc"} {
		dst = append(dst, ' ')
		dst = h.appendAddresses(dst, name, &p)
	}
	dst = append(dst, ' ')
	dst = h.appendField(dst, "in-reply-to")
	dst = append(dst, ' ')
	dst = h.appendField(dst, "message-id")
	return append(dst, ')')
}

// appendField appends the first field of that name as an nstring.
func (h Header) appendField(dst []byte, name string) []byte {
	v, ok := h.value(name)
	if !ok {
		return append(dst, "NIL"...)
	}
	return appendString(dst, v)
}

// appendAddresses appends the addresses of all fields of that name, NIL if
// there is none.
func (h Header) appendAddresses(dst []byte, name string, p *addressParser) []byte {
	p.list = p.list[:0]
	for i := h.index(name, 0); i >= 0; i = h.index(name, i+1) {
		p.parse(h.valueAt(i))
	}
	if len(p.list) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for _, a := range p.list {
		dst = appendAddress(dst, a)
	}
	return append(dst, ')')
}

func appendAddress(dst []byte, a address) []byte {
	switch a.kind {
	case isGroup:
		dst = append(dst, "(NIL NIL "...)
		dst = appendString(dst, a.name)
		return append(dst, " NIL)"...)
	case isGroupEnd:
		return append(dst, "(NIL NIL NIL NIL)"...)
	}
	dst = append(dst, '(')
	dst = appendNString(dst, a.name)
	dst = append(dst, ' ')
	dst = appendNString(dst, a.route)
	dst = append(dst, ' ')
	dst = appendOr(dst, a.local, missingMailbox)
	dst = append(dst, ' ')
	dst = appendOr(dst, a.domain, missingDomain)
	return append(dst, ')')
}

func appendOr(dst, b []byte, missing string) []byte {
	if len(b) == 0 {
		dst = append(dst, '"')
		dst = append(dst, missing...)
		return append(dst, '"')
	}
	return appendString(dst, b)
}

// appendNString appends b as an IMAP nstring, NIL if it is empty.
func appendNString[T string | []byte](dst []byte, b T) []byte {
	if len(b) == 0 {
		return append(dst, "NIL"...)
	}
	return appendString(dst, b)
}

// appendString appends b as an IMAP string: in quotes, or as a literal where
// it has octets that quotes may not hold. b has no NUL.
func appendString[T string | []byte](dst []byte, b T) []byte {
	escapes := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c >= 0x80 || c == '\r' || c == '\n':
			return appendLiteral(dst, b)
		case c == '"' || c == '\\':
			escapes++
		}
	}
	dst = append(dst, '"')
	if escapes == 0 {
		dst = append(dst, b...)
		return append(dst, '"')
	}
	for i := 0; i < len(b); i++ {
		if c := b[i]; c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, b[i])
	}
	return append(dst, '"')
}

func appendLiteral[T string | []byte](dst []byte, b T) []byte {
	if s := string(b); !utf8.ValidString(s) {
		return appendLiteral(dst, decodeCharset("", []byte(s)))
	}
	dst = append(dst, '{')
	dst = appendInt(dst, int64(len(b)))
	dst = append(dst, '}', '\r', '\n')
	return append(dst, b...)
}
