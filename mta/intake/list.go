package intake

import (
	"strings"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/mta/queue"
)

// list is what a list makes of a message: its bounces go to the owner of the list
// (RFC 5321 §3.9.2), and fields at the top say which list it came by. The body and
// all other fields stay as they are, and so do signatures over them. nil is no
// list, and changes nothing.
//
// It is the list that was addressed, whatever lists are inside it: they are how a
// directory sorts people, while readers and senders know the one address.
type list struct {
	entry   *directory.Entry
	address envelope.Address
	reverse envelope.ReversePath // of the copies
	given   envelope.ReversePath // of the message
	fields  []byte               // complete lines
}

// lists are the lists that one message goes through.
type lists struct {
	snap   *directory.Snapshot
	env    *envelope.Envelope
	header message.Header
	all    []*list
}

// of returns what the list e makes of the message, nil for no list.
func (s *lists) of(e *directory.Entry) *list {
	if e == nil {
		return nil
	}
	for _, l := range s.all {
		if l.entry.Key == e.Key {
			return l
		}
	}
	l := s.make(e)
	s.all = append(s.all, l)
	return l
}

func (s *lists) make(e *directory.Entry) *list {
	l := &list{entry: e, reverse: s.env.ReversePath, given: s.env.ReversePath}
	address, ok := s.snap.ListAddress(e)
	if !ok {
		return l // a list that a forward names by an address elsewhere
	}
	l.address = address
	owner, owned := s.snap.OwnerAddress(e)
	if owned && !l.given.IsNull() { // RFC 5321 §4.5.5: what must not bounce must not bounce to anybody
		l.reverse = envelope.ReversePathOf(owner)
	}
	b := append(l.fields, "Delivered-To: "+address.String()+"\r\n"...)
	add := func(name, value string) {
		if line, err := message.FormatField(name, value); err == nil {
			b = append(b, line...)
		}
	}
	// A message that came by another list keeps the fields of that: they say
	// where its reader has subscribed, and its signature may be over them.
	if !s.header.Has("List-Id") {
		add("List-Id", listID(e, address))
		add("List-Post", listPost(e, address))
		if owned {
			add("List-Owner", mailtoURL(owner))
		}
	}
	if !s.header.Has("Precedence") {
		add("Precedence", "list") // for responders of old, RFC 3834 §2
	}
	l.fields = b
	return l
}

// listID is the name of a list (RFC 2919 §2): its address with a dot for the "@",
// where that makes a name, else its key.
func listID(e *directory.Entry, a envelope.Address) string {
	label := strings.ToLower(a.Local)
	if !isDotAtom(label) {
		label = string(e.Key)[strings.LastIndexByte(string(e.Key), ':')+1:]
	}
	id := "<" + label + "." + a.Domain + ">"
	if e.DisplayName == "" {
		return id
	}
	// The phrase before it is written as that of an address is.
	named := message.FormatAddress(e.DisplayName, envelope.Address{Local: "x", Domain: "x"})
	return strings.TrimSuffix(named, "<x@x>") + id
}

// isDotAtom reports whether s is a dot-atom of ASCII (RFC 5322 §3.2.3).
func isDotAtom(s string) bool {
	if s == "" || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || strings.Contains(s, "..") {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte(`()<>[]:;@\,"`, c) >= 0 {
			return false
		}
	}
	return true
}

// listPost says where to write to the list, or that readers may not
// (RFC 2369 §3.4).
func listPost(e *directory.Entry, a envelope.Address) string {
	switch e.Policy {
	case directory.ListOwners:
		return "NO"
	case directory.ListModerated:
		return mailtoURL(a) + " (moderated)"
	}
	return mailtoURL(a)
}

// mailtoURL is an address as the fields of RFC 2369 have it (RFC 6068 §2).
func mailtoURL(a envelope.Address) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(a.Local); i++ {
		c := a.Local[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$'*+", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return "<mailto:" + b.String() + "@" + a.Domain + ">"
}

// reversePath returns where what cannot be delivered goes back to.
func (l *list) reversePath(given envelope.ReversePath) envelope.ReversePath {
	if l == nil {
		return given
	}
	return l.reverse
}

// lines returns the fields of a copy by the list.
func (l *list) lines() []byte {
	if l == nil {
		return nil
	}
	return l.fields
}

// isOwn reports whether copies have a reverse-path of the list's own.
func (l *list) isOwn() bool {
	if l == nil || l.given.IsNull() {
		return false
	}
	now, _ := l.reverse.Address()
	before, _ := l.given.Address()
	return now != before
}

// success is what the sender hears of it, as queue.Recipient.Local: a list of its
// own has got the message, which is the end of its way for the sender
// (RFC 3461 §5.2.7.1); one whose failures still go to the sender was expanded
// (§5.2.7.4 (c)).
func (l *list) success() string {
	if l.isOwn() {
		return queue.LocalDelivered
	}
	return queue.LocalExpanded
}

// message makes the queued message m the one of the list. What the sender asked to
// be told ends where another is told of failures (RFC 3461 §5.2.7).
func (l *list) message(m *queue.Message) {
	if l == nil {
		return
	}
	m.Header = append(append(make([]byte, 0, len(l.fields)+len(m.Header)), l.fields...), m.Header...)
	if l.isOwn() {
		m.Origin = m.Sender()
		m.ReversePath, m.EnvID, m.Return = l.reverse, "", envelope.ReturnDefault
	}
}

// recipient makes r a recipient of the list.
func (l *list) recipient(r queue.Recipient) queue.Recipient {
	if l.isOwn() {
		r.Notify, r.OriginalType = 0, ""
	}
	return r
}
