package bus

import (
	"slices"
	"strconv"
	"strings"

	"dirpost/internal/store"
)

const (
	// maxPayload is how much one NOTIFY carries; the database's limit is 7,999.
	maxPayload = 7500
	// maxPublish is the size of topic and payload of one hint.
	maxPublish = 1000
	// maxPending bounds the mailboxes that wait to be told to other nodes while
	// the database is away. What is left out is found by their poll.
	maxPending = 100_000
)

// outbox is what waits to be sent: of a mailbox the newest modseq only, of a
// topic each payload once. The owner's lock guards it.
type outbox struct {
	mailboxes map[store.MailboxKey]store.ModSeq
	topics    []topicHint
}

type topicHint struct{ topic, payload string }

// mailbox adds a hint, and reports whether there is something to send.
func (o *outbox) mailbox(key store.MailboxKey, seq store.ModSeq) bool {
	if o.mailboxes == nil {
		o.mailboxes = make(map[store.MailboxKey]store.ModSeq)
	}
	if old, ok := o.mailboxes[key]; ok && old >= seq || !ok && len(o.mailboxes) >= maxPending {
		return len(o.mailboxes) > 0
	}
	o.mailboxes[key] = seq
	return true
}

func (o *outbox) topic(topic, payload string) {
	if h := (topicHint{topic, payload}); !slices.Contains(o.topics, h) && len(o.topics) < maxPending {
		o.topics = append(o.topics, h)
	}
}

// merge takes back what could not be sent; newer hints win.
func (o *outbox) merge(old outbox) {
	for key, seq := range old.mailboxes {
		o.mailbox(key, seq)
	}
	newer := o.topics
	o.topics = old.topics
	for _, h := range newer {
		o.topic(h.topic, h.payload)
	}
}

// payloads renders the hints for NOTIFY. Each begins with the sender; then a
// line per hint:
//
//	node
//	m account mailbox modseq      in base 36
//	t "topic" "payload"
//	h                             the node is there; it asks who else is
//	i                             the node is there
func (o *outbox) payloads(node string) []string {
	var all []string
	var b strings.Builder
	b.WriteString(node)
	add := func(line string) {
		if b.Len()+1+len(line) > maxPayload {
			all = append(all, b.String())
			b.Reset()
			b.WriteString(node)
		}
		b.WriteByte('\n')
		b.WriteString(line)
	}
	for _, h := range o.topics {
		switch h.topic {
		case topicHello, topicHere:
			add(h.topic)
		default:
			add("t " + strconv.QuoteToASCII(h.topic) + " " + strconv.QuoteToASCII(h.payload))
		}
	}
	var line []byte
	for key, seq := range o.mailboxes {
		line = append(line[:0], "m "...)
		line = strconv.AppendInt(line, int64(key.Account), 36)
		line = strconv.AppendInt(append(line, ' '), int64(key.Mailbox), 36)
		line = strconv.AppendInt(append(line, ' '), int64(seq), 36)
		add(string(line))
	}
	if b.Len() > len(node) {
		all = append(all, b.String())
	}
	return all
}

// Lines about the nodes themselves.
const (
	topicHello = "h"
	topicHere  = "i"
)

// received is what one payload says.
type received struct {
	node      string
	mailboxes map[store.MailboxKey]store.ModSeq
	topics    []topicHint
	hello     bool
}

// parse reads a payload. Lines that it does not understand, of a newer version
// perhaps, are passed over.
func parse(payload string) received {
	lines := strings.Split(payload, "\n")
	r := received{node: lines[0], mailboxes: make(map[store.MailboxKey]store.ModSeq)}
	for _, line := range lines[1:] {
		verb, rest, _ := strings.Cut(line, " ")
		switch verb {
		case topicHello:
			r.hello = true
		case "m":
			if key, seq, ok := parseMailbox(rest); ok {
				r.mailboxes[key] = seq
			}
		case "t":
			if h, ok := parseTopic(rest); ok {
				r.topics = append(r.topics, h)
			}
		}
	}
	return r
}

func parseMailbox(s string) (key store.MailboxKey, seq store.ModSeq, ok bool) {
	f := strings.Split(s, " ")
	if len(f) != 3 {
		return key, 0, false
	}
	var n [3]int64
	for i := range n {
		v, err := strconv.ParseInt(f[i], 36, 64)
		if err != nil {
			return key, 0, false
		}
		n[i] = v
	}
	return store.MailboxKey{Account: store.AccountID(n[0]), Mailbox: store.MailboxID(n[1])}, store.ModSeq(n[2]), true
}

func parseTopic(s string) (h topicHint, ok bool) {
	var words [2]string
	for i := range words {
		q, err := strconv.QuotedPrefix(s)
		if err != nil {
			return h, false
		}
		if words[i], err = strconv.Unquote(q); err != nil {
			return h, false
		}
		s = strings.TrimPrefix(s[len(q):], " ")
	}
	return topicHint{words[0], words[1]}, true
}
