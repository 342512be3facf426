package imapd

import (
	"context"
	"slices"
	"strconv"

	"dirpost/internal/message"
	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"

	"github.com/emersion/go-imap/v2"
)

func fetch(ctx context.Context, c *conn, dec *wire.Decoder) error { return c.fetch(ctx, dec, false) }

func uidFetch(ctx context.Context, c *conn, dec *wire.Decoder) error { return c.fetch(ctx, dec, true) }

// fetchJob is one FETCH command.
type fetchJob struct {
	*wire.Fetch
	items     store.Items // that must be read from the store
	fromStore bool
	setsSeen  bool
	// structured: a section is found by the part tree.
	structured bool
	// streamed: a section needs octets of the body.
	streamed bool
}

// fromView are the data items that the session's view answers.
const fromView = wire.FetchFlags | wire.FetchUID | wire.FetchModSeq

// unsupported are data items of extensions that are not announced.
const unsupported = wire.FetchEmailID | wire.FetchThreadID

// newFetchJob works out what f needs.
func newFetchJob(f *wire.Fetch) (*fetchJob, error) {
	j := &fetchJob{Fetch: f, fromStore: f.Atts&^fromView != 0 || len(f.Sections) > 0}
	if f.Atts&unsupported != 0 {
		return nil, bad("Data item not supported")
	}
	if f.Atts&wire.FetchEnvelope != 0 {
		j.items |= store.ItemEnvelope
	}
	if f.Atts&(wire.FetchBody|wire.FetchBodyStructure) != 0 {
		j.items |= store.ItemStructure
	}
	for i := range f.Sections {
		s := &f.Sections[i]
		if s.Kind == wire.KindBinary || s.Kind == wire.KindBinarySize {
			return nil, bad("BINARY is not supported")
		}
		j.setsSeen = j.setsSeen || s.SetsSeen()
		header := s.Specifier == wire.SectionHeader || s.Specifier == wire.SectionHeaderFields || s.Specifier == wire.SectionHeaderFieldsNot
		if len(s.Part) > 0 {
			j.structured, j.streamed = true, true
			j.items |= store.ItemStructure | store.ItemHeader | store.ItemBody
		} else if header {
			j.items |= store.ItemHeader
		} else {
			j.streamed = true
			j.items |= store.ItemHeader | store.ItemBody
		}
	}
	return j, nil
}

// fetch is FETCH and UID FETCH (RFC 9051 §6.4.5).
func (c *conn) fetch(ctx context.Context, dec *wire.Decoder, byUID bool) error {
	dec.Space()
	set := dec.Set()
	dec.Space()
	f := dec.Fetch()
	if err := dec.End(); err != nil {
		return err
	}
	if byUID {
		f.Atts |= wire.FetchUID // RFC 9051 §6.4.9
	}
	if f.Atts&wire.FetchModSeq != 0 {
		c.enableCondstore() // RFC 7162 §3.1
	}
	if f.Vanished && (!byUID || f.ChangedSince == 0 || !c.qresync) {
		return bad("VANISHED needs UID FETCH, CHANGEDSINCE and QRESYNC") // RFC 7162 §3.2.6
	}
	j, err := newFetchJob(f)
	if err != nil {
		return err
	}
	m := c.sel
	spans, missing, err := m.resolve(set, byUID)
	if err != nil {
		return err
	}
	if missing {
		c.gone()
	}
	if f.Vanished {
		if err := c.putVanishedEarlier(ctx, store.ModSeq(f.ChangedSince), set.Resolve(m.largestUID())); err != nil {
			return err
		}
	}
	if f.ChangedSince > 0 {
		spans = m.changedSince(spans, store.ModSeq(f.ChangedSince))
	}
	switch {
	case len(spans) == 0:
		return nil
	case !j.fromStore:
		return c.fetchFromView(ctx, j, spans)
	}
	return c.fetchFromStore(ctx, j, m.uids(spans))
}

// gone says in the tagged response that messages asked for were expunged by
// another session (RFC 5530 §3).
func (c *conn) gone() {
	c.code, c.text = "EXPUNGEISSUED", "Some of the messages are gone already"
}

// changedSince keeps what has a higher modseq (RFC 7162 §3.1.4.1).
func (m *mailbox) changedSince(spans []span, since store.ModSeq) []span {
	var kept []span
	for _, s := range spans {
		for i := s.from; i < s.to; i++ {
			if m.view.ModSeq(i) > since {
				kept = appendSpan(kept, span{i, i + 1})
			}
		}
	}
	return kept
}

// roomy is how much room a response may need before the output is flushed
// rather than the buffer made to grow.
const roomy = 4 << 10

// makeRoom flushes the output when it is nearly full.
func (c *conn) makeRoom() {
	if c.mc.Writer().Available() < roomy {
		if err := c.mc.Flush(); err != nil && c.broken == nil {
			c.broken = err
		}
	}
}

// fetchFromView answers without asking the store: what a client does after
// SELECT with all messages of a mailbox.
func (c *conn) fetchFromView(ctx context.Context, j *fetchJob, spans []span) error {
	m := c.sel
	for _, s := range spans {
		for i := s.from; i < s.to && c.broken == nil; i++ {
			if j.Atts&wire.FetchFlags != 0 {
				if err := c.announceKeywords(ctx, m.view.Flags(i)); err != nil {
					return err
				}
			}
			c.makeRoom()
			uid := m.view.UIDAt(i)
			b := m.appendFetch(c.buf(), i, uid)
			b = m.appendViewItems(b, j.Atts, i, uid)
			c.put(append(b, ")\r\n"...))
		}
	}
	return c.broken
}

// appendFetch begins a FETCH response.
func (m *mailbox) appendFetch(b []byte, i int, uid imap.UID) []byte {
	b = append(b, "* "...)
	b = strconv.AppendUint(b, uint64(m.seqAt(i, uid)), 10)
	return append(b, " FETCH ("...)
}

// appendViewItems appends the items of the view, a space between them.
func (m *mailbox) appendViewItems(b []byte, atts wire.FetchAtts, i int, uid imap.UID) []byte {
	n := len(b)
	if atts&wire.FetchUID != 0 {
		b = append(b, "UID "...)
		b = strconv.AppendUint(b, uint64(uid), 10)
		b = append(b, ' ')
	}
	if atts&wire.FetchFlags != 0 {
		b = append(b, "FLAGS "...)
		b = m.appendFlags(b, m.view.Flags(i), m.isRecent(uid))
		b = append(b, ' ')
	}
	if atts&wire.FetchModSeq != 0 {
		b = append(b, "MODSEQ ("...)
		b = strconv.AppendInt(b, int64(m.view.ModSeq(i)), 10)
		b = append(b, ") "...)
	}
	if len(b) > n {
		b = b[:len(b)-1]
	}
	return b
}

// seenAtOnce is how many messages get \Seen before they are sent. A connection
// that breaks leaves that many seen at most that nobody saw.
const seenAtOnce = 50

// fetchFromStore sends the messages of uids.
func (c *conn) fetchFromStore(ctx context.Context, j *fetchJob, uids []imap.UID) error {
	if !j.setsSeen || c.sel.readOnly {
		return c.fetchPage(ctx, j, uids, nil)
	}
	for page := range slices.Chunk(uids, seenAtOnce) {
		seen, err := c.setSeen(ctx, page)
		if err != nil {
			return err
		}
		if err := c.fetchPage(ctx, j, page, seen); err != nil {
			return err
		}
	}
	return nil
}

// setSeen sets \Seen on those of uids that lack it, and returns them: their
// FETCH responses tell their flags (RFC 9051 §6.4.5).
func (c *conn) setSeen(ctx context.Context, uids []imap.UID) ([]imap.UID, error) {
	m := c.sel
	var unseen []imap.UID
	for _, uid := range uids {
		if i, ok := m.view.Index(uid); ok && m.view.Flags(i)&store.FlagSeen == 0 {
			unseen = append(unseen, uid)
		}
	}
	if len(unseen) == 0 {
		return nil, nil
	}
	if _, err := c.srv.store.StoreFlags(ctx, m.key.Account, m.key.Mailbox, unseen, store.FlagChange{Add: store.FlagSeen}); err != nil {
		return nil, err
	}
	view, err := c.look(ctx)
	if err != nil {
		return nil, err
	}
	return unseen, c.announce(ctx, view, announcement{handled: unseen})
}

// fetchPage sends the messages of uids; those of seen with their flags.
func (c *conn) fetchPage(ctx context.Context, j *fetchJob, uids, seen []imap.UID) error {
	m, sent := c.sel, 0
	for msg, err := range c.srv.store.Messages(ctx, m.key.Account, m.key.Mailbox, uids, j.items) {
		if err == nil && ctx.Err() != nil { // messages that were read ahead are none of theirs any more
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		i, ok := m.view.Index(msg.UID)
		if !ok {
			continue
		}
		atts := j.Atts
		if _, ok := slices.BinarySearch(seen, msg.UID); ok {
			atts |= wire.FetchFlags
			if c.condstore {
				atts |= wire.FetchModSeq
			}
			if c.qresync {
				atts |= wire.FetchUID
			}
		}
		if err := c.putMessage(ctx, j, atts, i, msg); err != nil {
			return err
		}
		sent++
	}
	if sent < len(uids) {
		c.gone()
	}
	return nil
}

// putMessage writes the FETCH response of one message.
func (c *conn) putMessage(ctx context.Context, j *fetchJob, atts wire.FetchAtts, i int, msg *store.Message) error {
	m := c.sel
	if atts&wire.FetchFlags != 0 {
		if err := c.announceKeywords(ctx, m.view.Flags(i)); err != nil {
			return err
		}
	}
	var root *message.Part
	if j.items&store.ItemStructure != 0 {
		var err error
		if root, err = message.DecodeStructure(msg.Structure); err != nil {
			return err
		}
	}
	c.makeRoom()
	b := m.appendFetch(c.buf(), i, msg.UID)
	n := len(b)
	if b = m.appendViewItems(b, atts, i, msg.UID); len(b) > n {
		b = append(b, ' ')
	}
	b = appendStoreItems(b, atts, msg, root)
	if len(j.Sections) == 0 {
		b[len(b)-1] = ')'
		c.put(append(b, "\r\n"...))
		return c.broken
	}
	c.put(b)
	return c.putSections(ctx, j, msg, root)
}

// appendStoreItems appends the items without octets of the message, a space
// after each.
func appendStoreItems(b []byte, atts wire.FetchAtts, msg *store.Message, root *message.Part) []byte {
	if atts&wire.FetchInternalDate != 0 {
		b = append(b, "INTERNALDATE "...)
		b = append(wire.AppendDateTime(b, msg.InternalDate.UTC()), ' ')
	}
	if atts&wire.FetchSaveDate != 0 {
		b = append(b, "SAVEDATE "...)
		b = append(wire.AppendDateTime(b, msg.SavedAt.UTC()), ' ')
	}
	if atts&wire.FetchSize != 0 {
		b = append(b, "RFC822.SIZE "...)
		b = append(strconv.AppendInt(b, msg.Size, 10), ' ')
	}
	if atts&wire.FetchEnvelope != 0 {
		b = append(b, "ENVELOPE "...)
		b = append(append(b, msg.Envelope...), ' ')
	}
	if atts&wire.FetchBody != 0 {
		b = append(b, "BODY "...)
		b = append(root.AppendBodyStructure(b, false), ' ')
	}
	if atts&wire.FetchBodyStructure != 0 {
		b = append(b, "BODYSTRUCTURE "...)
		b = append(root.AppendBodyStructure(b, true), ' ')
	}
	return b
}
