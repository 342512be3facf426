package imapd

import (
	"context"
	"sort"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"

	"github.com/emersion/go-imap/v2"
)

// resync is the QRESYNC parameter of SELECT (RFC 7162 §3.2.5): what the client
// knew when it left the mailbox.
type resync struct {
	asked    bool
	validity uint32
	modSeq   store.ModSeq
	known    *wire.Set // nil: all below the next UID
}

// parse takes the argument of QRESYNC. The sequence match data would save the
// client some UIDs of messages that it knows to be gone, when our log does not
// reach back; it is read and not used.
func (r *resync) parse(dec *wire.Decoder) {
	dec.Space()
	dec.Byte('(')
	r.asked, r.validity = true, dec.Number()
	dec.Space()
	r.modSeq = store.ModSeq(dec.Number63())
	if dec.Skip(' ') && dec.Peek() != '(' {
		known := dec.Set()
		r.known = &known
		dec.Skip(' ')
	}
	if dec.Skip('(') {
		dec.Set()
		dec.Space()
		dec.Set()
		dec.Byte(')')
	}
	dec.Byte(')')
}

// answer tells what has vanished and what has changed since. After another
// UIDVALIDITY nothing that the client knows means anything.
func (c *conn) answerResync(ctx context.Context, r resync) error {
	m := c.sel
	if !r.asked || r.validity != m.view.UIDValidity() {
		return nil
	}
	ranges := []wire.Range{{From: 1, To: uint32(m.view.UIDNext() - 1)}}
	if r.known != nil {
		ranges = r.known.Resolve(m.largestUID())
	}
	if err := c.putVanishedEarlier(ctx, r.modSeq, ranges); err != nil {
		return err
	}
	for _, rg := range ranges {
		for i := m.view.Search(imap.UID(rg.From)); i < m.after(rg.To); i++ {
			if m.view.ModSeq(i) <= r.modSeq {
				continue
			}
			if err := c.putFlags(ctx, i, m.view.UIDAt(i), true); err != nil {
				return err
			}
		}
	}
	return c.broken
}

// putVanishedEarlier tells which UIDs of ranges vanished after since (RFC 7162
// §3.2.10.1). Where the log does not reach back so far, every UID that is not
// there has.
func (c *conn) putVanishedEarlier(ctx context.Context, since store.ModSeq, ranges []wire.Range) error {
	m := c.sel
	uids, all, err := c.srv.store.Vanished(ctx, m.key.Account, m.key.Mailbox, since)
	if err != nil {
		return err
	}
	set := wire.NewSetBuilder(append(c.buf(), "* VANISHED (EARLIER) "...))
	if all {
		for _, uid := range uids {
			// What vanished since the view was made is told later.
			if _, here := m.view.Index(uid); !here && contains(ranges, uint32(uid)) {
				set.Add(uint32(uid))
			}
		}
	} else {
		m.addMissing(&set, ranges)
	}
	if !set.Empty() {
		c.put(append(set.Bytes(), "\r\n"...))
	}
	return nil
}

// addMissing adds the UIDs of ranges below the next one that no message of the
// view has.
func (m *mailbox) addMissing(set *wire.SetBuilder, ranges []wire.Range) {
	for _, r := range ranges {
		from, to := r.From, min(r.To, uint32(m.view.UIDNext()-1))
		for i := m.view.Search(imap.UID(from)); from <= to && from != 0; i++ {
			next := to + 1
			if i < m.view.Len() {
				next = min(uint32(m.view.UIDAt(i)), next)
			}
			if from < next {
				set.AddRange(from, next-1)
			}
			if next > to {
				break
			}
			from = next + 1
		}
	}
}

// contains reports whether one of the ascending ranges holds n.
func contains(ranges []wire.Range, n uint32) bool {
	i := sort.Search(len(ranges), func(i int) bool { return ranges[i].To >= n })
	return i < len(ranges) && ranges[i].From <= n
}

// vanishedGhosts tells the ghosts by their UIDs, as a client wants it that has
// enabled QRESYNC (RFC 7162 §3.2.10.2).
func (c *conn) vanishedGhosts() {
	c.put(append(appendUIDs(append(c.buf(), "* VANISHED "...), c.sel.ghosts), "\r\n"...))
	c.sel.ghosts = nil
}
