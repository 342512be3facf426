package message

import (
	"hash/fnv"
	"strings"
)

// Index is what search, sort and thread need of a header. It has the fields of
// store.Index, so one converts to the other.
type Index struct {
	// Subject is the whole decoded subject, normalised; BaseSubject makes the
	// form of RFC 5256 of it.
	Subject string
	// From is the decoded text of the From fields, normalised.
	From string
	// Recipients is the decoded text of the To, Cc and Bcc fields, normalised,
	// with IndexSeparator between the three. The separator can stand in no
	// normalised text.
	Recipients string
	// MessageIDHash and ThreadID are hashes of message identifiers: of this
	// message, and of the first one of its thread (the oldest reference). 0 if
	// there is none.
	MessageIDHash, ThreadID int64
}

// IndexSeparator separates To, Cc and Bcc in Index.Recipients.
const IndexSeparator = "\x01"

// IndexOf returns the index values of h.
func IndexOf(h Header) Index {
	x := Index{
		Subject: Normalize(DecodeHeader(h.Get("subject"))),
		From:    h.normalizedAddresses("from"),
		Recipients: h.normalizedAddresses("to") + IndexSeparator + h.normalizedAddresses("cc") + IndexSeparator +
			h.normalizedAddresses("bcc"),
	}
	id, _ := firstMessageID(h, "message-id")
	x.MessageIDHash = HashMessageID(id)
	for _, name := range [...]string{"references", "in-reply-to"} {
		if first, ok := firstMessageID(h, name); ok {
			x.ThreadID = HashMessageID(first)
			return x
		}
	}
	x.ThreadID = x.MessageIDHash
	return x
}

// normalized returns the text of all fields of that name.
func (h Header) normalized(name string) string {
	i := h.index(name, 0)
	if i < 0 {
		return ""
	}
	text := Normalize(DecodeHeader(string(h.valueAt(i))))
	for i = h.index(name, i+1); i >= 0; i = h.index(name, i+1) {
		text += " " + Normalize(DecodeHeader(string(h.valueAt(i))))
	}
	return text
}

// normalizedAddresses is normalized for a field of addresses. SEARCH FROM looks
// at the ENVELOPE (RFC 9051 §6.4.4), where an address has no comments: one that
// is written with them stands behind the text once more, without.
func (h Header) normalizedAddresses(name string) string {
	text := h.normalized(name)
	if !strings.ContainsRune(text, '(') {
		return text
	}
	for _, a := range AddressList(h, name) {
		if plain := Normalize(a.String()); !strings.Contains(text, plain) {
			text += " " + plain
		}
	}
	return text
}

// firstMessageID returns the first msg-id of the field, without brackets.
func firstMessageID(h Header, name string) (string, bool) {
	v := h.Get(name)
	start := strings.IndexByte(v, '<')
	if start < 0 {
		return "", false
	}
	end := strings.IndexByte(v[start:], '>')
	if end <= 1 {
		return "", false
	}
	return v[start+1 : start+end], true
}

// HashMessageID returns the hash of a message identifier without brackets, 0
// for "". It only finds candidates: a search compares the field itself.
func HashMessageID(id string) int64 {
	if id == "" {
		return 0
	}
	f := fnv.New64a()
	f.Write([]byte(id))
	return int64(f.Sum64())
}
