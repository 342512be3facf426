package imapd

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"dirpost/internal/store"

	"github.com/emersion/go-imap/v2"
)

// sync brings the view of the selected mailbox up to date and tells the client
// what has changed. With expunge, what has vanished is told too; otherwise it
// waits among the ghosts.
func (c *conn) sync(ctx context.Context, expunge bool) error {
	if err := c.checkAccess(); err != nil {
		return err
	}
	view, err := c.look(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return errMailboxGone
	}
	if err != nil {
		return err
	}
	return c.announce(ctx, view, announcement{expunge: expunge})
}

// look returns the selected mailbox as it is now. The hint that it has changed is
// dealt with by that, unless it fails.
func (c *conn) look(ctx context.Context) (*store.View, error) {
	m := c.sel
	m.stale.Store(false) // before looking, so that no hint is lost
	view, err := c.srv.store.Open(ctx, m.key.Account, m.key.Mailbox)
	if err != nil {
		m.stale.Store(true)
	}
	return view, err
}

// announcement says what announce tells.
type announcement struct {
	expunge bool       // EXPUNGE may be sent
	handled []imap.UID // ascending: the caller tells their flags itself
}

// announce replaces the view by a newer one and tells the client the difference:
// all of it or, when the store cannot be asked what that takes, nothing; then the
// next look finds the same difference again.
func (c *conn) announce(ctx context.Context, view *store.View, a announcement) error {
	m, known := c.sel, c.sel.count()
	var diff store.Diff
	if view != m.view {
		diff = view.Diff(m.view)
	}
	if err := c.prepare(ctx, view, diff, a); err != nil {
		m.stale.Store(true)
		return err
	}
	if len(diff.Vanished) > 0 {
		m.ghosts = merge(m.ghosts, diff.Vanished)
	}
	m.view = view
	if a.expunge && len(m.ghosts) > 0 {
		known -= uint32(len(m.ghosts))
		c.expungeGhosts()
	}
	if len(diff.New) > 0 && m.count() != known {
		c.untagged(strconv.FormatUint(uint64(m.count()), 10) + " EXISTS")
		c.untagged(strconv.Itoa(m.countRecent()) + " RECENT")
	}
	for _, uid := range diff.Changed {
		if _, ok := slices.BinarySearch(a.handled, uid); ok {
			continue
		}
		if i, ok := view.Index(uid); ok {
			if err := c.putFlags(ctx, i, uid, false); err != nil {
				return err
			}
		}
	}
	return c.broken
}

// prepare asks the store for what announce needs: which messages are \Recent here,
// and the names of keywords.
func (c *conn) prepare(ctx context.Context, view *store.View, diff store.Diff, a announcement) error {
	m := c.sel
	if len(diff.New) > 0 && !m.readOnly {
		first, next, err := c.srv.store.ClaimRecent(ctx, m.key.Account, m.key.Mailbox)
		if err != nil {
			return err
		}
		m.addRecent(first, next)
	}
	var flags store.Flags
	for _, uid := range diff.Changed {
		if _, ok := slices.BinarySearch(a.handled, uid); ok {
			continue
		}
		if i, ok := view.Index(uid); ok {
			flags |= view.Flags(i)
		}
	}
	return c.announceKeywords(ctx, flags)
}

// expungeGhosts sends the EXPUNGE responses that were held back, from the last
// message to the first, so that no number shifts another (RFC 9051 §7.5.1).
func (c *conn) expungeGhosts() {
	if c.qresync {
		c.vanishedGhosts()
		return
	}
	m := c.sel
	for g := len(m.ghosts) - 1; g >= 0; g-- {
		b := append(c.buf(), "* "...)
		b = strconv.AppendUint(b, uint64(m.ghostSeq(g)), 10)
		c.put(append(b, " EXPUNGE\r\n"...))
	}
	m.ghosts = nil
}

// merge returns the union of two ascending lists.
func merge(a, b []imap.UID) []imap.UID {
	if len(a) == 0 {
		return slices.Clone(b)
	}
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// announceKeywords makes sure that the client was told of every keyword in f
// before it sees one in a FETCH response: FLAGS and PERMANENTFLAGS come first
// (RFC 9051 §7.3.5).
func (c *conn) announceKeywords(ctx context.Context, f store.Flags) error {
	m := c.sel
	if m.keywords.Knows(f) {
		return nil
	}
	k, err := c.srv.store.KeywordsFor(ctx, m.key.Account, f)
	if err != nil {
		return err
	}
	m.keywords = k
	c.putFlagLists()
	return nil
}

// putFlagLists writes FLAGS and PERMANENTFLAGS.
func (c *conn) putFlagLists() {
	m := c.sel
	b := append(c.buf(), `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft`...)
	for _, k := range m.keywords.All() {
		b = append(append(b, ' '), k...)
	}
	b = append(b, ")\r\n"...)
	if m.readOnly {
		b = append(b, "* OK [PERMANENTFLAGS ()] Read-only mailbox\r\n"...)
		c.put(b)
		return
	}
	b = append(b, `* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft`...)
	for _, k := range m.keywords.All() {
		b = append(append(b, ' '), k...)
	}
	if !m.keywords.Full() {
		b = append(b, ` \*`...)
	}
	c.put(append(b, ")] Flags permitted\r\n"...))
}

// putFlags writes a FETCH response with the flags of message i of the view.
func (c *conn) putFlags(ctx context.Context, i int, uid imap.UID, withUID bool) error {
	m := c.sel
	if err := c.announceKeywords(ctx, m.view.Flags(i)); err != nil {
		return err
	}
	b := append(c.buf(), "* "...)
	b = strconv.AppendUint(b, uint64(m.seqAt(i, uid)), 10)
	b = append(b, " FETCH ("...)
	if withUID || c.qresync { // RFC 7162 §3.2.4
		b = append(b, "UID "...)
		b = strconv.AppendUint(b, uint64(uid), 10)
		b = append(b, ' ')
	}
	b = append(b, "FLAGS "...)
	b = m.appendFlags(b, m.view.Flags(i), m.isRecent(uid))
	if c.condstore {
		b = append(b, " MODSEQ ("...)
		b = strconv.AppendInt(b, int64(m.view.ModSeq(i)), 10)
		b = append(b, ')')
	}
	c.put(append(b, ")\r\n"...))
	return nil
}

// appendFlags appends a list of flags. Their keywords have been announced.
func (m *mailbox) appendFlags(b []byte, f store.Flags, recent bool) []byte {
	b = append(b, '(')
	n := len(b)
	for _, s := range [...]struct {
		bit  store.Flags
		name string
	}{
		{store.FlagAnswered, `\Answered `}, {store.FlagFlagged, `\Flagged `}, {store.FlagDeleted, `\Deleted `},
		{store.FlagSeen, `\Seen `}, {store.FlagDraft, `\Draft `},
	} {
		if f&s.bit != 0 {
			b = append(b, s.name...)
		}
	}
	if f >>= 8; f != 0 {
		for _, k := range m.keywords.Names(f << 8) {
			b = append(append(b, k...), ' ')
		}
	}
	if recent {
		b = append(b, `\Recent `...)
	}
	if len(b) > n {
		b = b[:len(b)-1]
	}
	return append(b, ')')
}
