package imapd

import (
	"slices"
	"sort"
	"sync/atomic"

	"dirpost/directory"
	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"

	"github.com/emersion/go-imap/v2"
)

// mailbox is the selected mailbox as this session sees it.
//
// Message sequence numbers count what the client was told of: the messages of
// view together with ghosts, in UID order. The view is only replaced by sync,
// which announces what is new in it at once, so both always are what the client
// knows.
type mailbox struct {
	key      store.MailboxKey
	readOnly bool
	// shared is the owner of a shared mailbox, "" for one's own; checked is the
	// directory by which the person may open it.
	shared  directory.Key
	checked *directory.Snapshot
	view    *store.View
	// ghosts are the messages, ascending, that have vanished from view and
	// whose EXPUNGE the client has not been sent.
	ghosts []imap.UID
	// recent are the messages, ascending, that this session was the first to
	// be told of (RFC 9051 §2.3.2: \Recent of RFC 3501 §2.3.2).
	recent []imap.UIDRange
	// keywords are those announced in FLAGS.
	keywords *store.Keywords
	// saved is the result of the last SEARCH that was to be saved (RFC 5182),
	// ascending.
	saved []imap.UID

	stale   atomic.Bool // a hint came: the view may be old
	unwatch func()
}

// count is the number of messages that the client knows of.
func (m *mailbox) count() uint32 { return uint32(m.view.Len() + len(m.ghosts)) }

// seqAt returns the message sequence number of message i of the view, whose UID
// is uid.
func (m *mailbox) seqAt(i int, uid imap.UID) uint32 {
	if len(m.ghosts) == 0 {
		return uint32(i + 1)
	}
	g, _ := slices.BinarySearch(m.ghosts, uid)
	return uint32(i + g + 1)
}

// at returns the index in the view of the message with a sequence number; ok is
// false for one that has vanished.
func (m *mailbox) at(seq uint32) (i int, ok bool) {
	g := sort.Search(len(m.ghosts), func(g int) bool { return m.ghostSeq(g) >= seq })
	if g < len(m.ghosts) && m.ghostSeq(g) == seq {
		return 0, false
	}
	return int(seq) - 1 - g, true
}

// ghostSeq is the sequence number of ghost g.
func (m *mailbox) ghostSeq(g int) uint32 { return uint32(m.view.Search(m.ghosts[g]) + g + 1) }

// first returns the index in the view of the first message with at least the
// sequence number seq that has not vanished.
func (m *mailbox) first(seq uint32) int {
	g := sort.Search(len(m.ghosts), func(g int) bool { return m.ghostSeq(g) >= seq })
	return int(seq) - 1 - g
}

// largestUID is what "*" stands for in a set of UIDs.
func (m *mailbox) largestUID() uint32 {
	last := uint32(0)
	if n := m.view.Len(); n > 0 {
		last = uint32(m.view.UIDAt(n - 1))
	}
	if n := len(m.ghosts); n > 0 {
		last = max(last, uint32(m.ghosts[n-1]))
	}
	return last
}

// span is a run of messages of the view, by index: [from, to).
type span struct{ from, to int }

// select resolves the set of a command to messages of the view, ascending.
// missing reports that some of them have vanished without the client knowing.
// A sequence number beyond the mailbox is an error of the client (RFC 9051 §9,
// seq-number); a UID that does not exist is not (RFC 9051 §6.4.9).
func (m *mailbox) resolve(s wire.Set, byUID bool) (spans []span, missing bool, err error) {
	switch {
	case s.Saved:
		return m.savedSpans(), false, nil
	case byUID:
		for _, r := range s.Resolve(m.largestUID()) {
			spans = appendSpan(spans, span{m.view.Search(imap.UID(r.From)), m.after(r.To)})
		}
		return spans, false, nil
	}
	if !s.Within(m.count()) {
		return nil, false, bad("Message sequence number beyond the mailbox")
	}
	for _, r := range s.Resolve(m.count()) {
		sp := span{m.first(r.From), m.first(r.To)}
		if _, ok := m.at(r.To); ok {
			sp.to++
		}
		missing = missing || uint32(sp.to-sp.from) != r.To-r.From+1
		spans = appendSpan(spans, sp)
	}
	return spans, missing, nil
}

// after returns the index of the first message with a UID above uid.
func (m *mailbox) after(uid uint32) int {
	if uid == 1<<32-1 {
		return m.view.Len()
	}
	return m.view.Search(imap.UID(uid + 1))
}

// savedSpans are the messages of the saved result that are still there.
func (m *mailbox) savedSpans() []span {
	var spans []span
	for _, uid := range m.saved {
		if i, ok := m.view.Index(uid); ok {
			spans = appendSpan(spans, span{i, i + 1})
		}
	}
	return spans
}

// appendSpan appends s unless it is empty.
func appendSpan(spans []span, s span) []span {
	if s.from >= s.to {
		return spans
	}
	if n := len(spans); n > 0 && spans[n-1].to == s.from {
		spans[n-1].to = s.to
		return spans
	}
	return append(spans, s)
}

// uids returns the UIDs of spans.
func (m *mailbox) uids(spans []span) []imap.UID {
	n := 0
	for _, s := range spans {
		n += s.to - s.from
	}
	uids := make([]imap.UID, 0, n)
	for _, s := range spans {
		for i := s.from; i < s.to; i++ {
			uids = append(uids, m.view.UIDAt(i))
		}
	}
	return uids
}

// isRecent reports whether uid has \Recent in this session.
func (m *mailbox) isRecent(uid imap.UID) bool {
	for _, r := range m.recent {
		if r.Start <= uid && uid <= r.Stop {
			return true
		}
	}
	return false
}

// countRecent is the number of messages with \Recent.
func (m *mailbox) countRecent() int {
	n := 0
	for _, r := range m.recent {
		n += m.after(uint32(r.Stop)) - m.view.Search(r.Start)
	}
	return n
}

// addRecent makes the messages from first up to but not including next recent,
// whether they are in the view already or not.
func (m *mailbox) addRecent(first, next imap.UID) {
	if first >= next {
		return
	}
	if k := len(m.recent); k > 0 && m.recent[k-1].Stop+1 >= first {
		m.recent[k-1].Stop = max(m.recent[k-1].Stop, next-1)
		return
	}
	m.recent = append(m.recent, imap.UIDRange{Start: first, Stop: next - 1})
}
