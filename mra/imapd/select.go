package imapd

import (
	"context"
	"strconv"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"
)

func selectMailbox(ctx context.Context, c *conn, dec *wire.Decoder) error {
	return c.selectOrExamine(ctx, dec, false)
}

func examine(ctx context.Context, c *conn, dec *wire.Decoder) error {
	return c.selectOrExamine(ctx, dec, true)
}

// selectOrExamine leaves the mailbox that was selected before it tries the new
// one: after a failure none is selected (RFC 9051 §6.3.2).
func (c *conn) selectOrExamine(ctx context.Context, dec *wire.Decoder, readOnly bool) error {
	dec.Space()
	name := dec.Mailbox()
	var r resync
	condstore := false
	if dec.Skip(' ') {
		dec.List(func() {
			switch string(dec.Word()) { // RFC 4466 §2.1
			case "CONDSTORE": // RFC 7162 §3.1.8
				condstore = true
			case "QRESYNC":
				r.parse(dec)
			default:
				dec.Fail("unknown parameter")
			}
		})
	}
	if err := dec.End(); err != nil {
		return err
	}
	if r.asked && !c.qresync {
		return bad("QRESYNC is not enabled") // RFC 7162 §3.2.5
	}
	if c.sel != nil {
		c.closeMailbox()
		c.untagged("OK [CLOSED] Previous mailbox closed")
	}
	c.condstore = c.condstore || condstore
	p, mb, err := c.open(ctx, name, errNoMailbox)
	if err != nil {
		return err
	}
	m := &mailbox{key: store.MailboxKey{Account: p.account.ID, Mailbox: mb.ID}, readOnly: readOnly}
	if p.shared {
		m.shared = p.entry.Key
	}
	if err := c.enter(ctx, m); err != nil {
		m.unwatch()
		return err
	}
	c.sel, c.state = m, selected
	c.describe()
	return c.answerResync(ctx, r)
}

// enter reads the view of m. The watch begins first, so that no change between
// the two is missed.
func (c *conn) enter(ctx context.Context, m *mailbox) error {
	m.unwatch = c.srv.watch.WatchMailbox(m.key.Account, m.key.Mailbox, func(store.ModSeq) {
		m.stale.Store(true)
		if c.idling.Load() {
			c.mc.Wake()
		}
	})
	if !m.readOnly {
		first, next, err := c.srv.store.ClaimRecent(ctx, m.key.Account, m.key.Mailbox)
		if err != nil {
			return err
		}
		m.addRecent(first, next)
	}
	var err error
	if m.view, err = c.srv.store.Open(ctx, m.key.Account, m.key.Mailbox); err != nil {
		return err
	}
	if m.readOnly { // takes \Recent from nobody (RFC 3501 §6.3.2)
		first, err := c.srv.store.FirstRecent(ctx, m.key.Account, m.key.Mailbox)
		if err != nil {
			return err
		}
		m.addRecent(first, m.view.UIDNext())
	}
	m.keywords, err = c.srv.store.KeywordsFor(ctx, m.key.Account, 0)
	return err
}

// describe sends what SELECT says of the mailbox (RFC 9051 §6.3.2, and the
// RECENT and UNSEEN of RFC 3501 §6.3.1).
func (c *conn) describe() {
	m := c.sel
	c.putFlagLists()
	c.untagged(strconv.Itoa(m.view.Len()) + " EXISTS")
	c.untagged(strconv.Itoa(m.countRecent()) + " RECENT")
	if i, ok := m.view.FirstUnseen(); ok {
		c.untagged("OK [UNSEEN " + strconv.Itoa(i+1) + "] First unseen")
	}
	c.untagged("OK [UIDVALIDITY " + strconv.FormatUint(uint64(m.view.UIDValidity()), 10) + "] UIDs valid")
	c.untagged("OK [UIDNEXT " + strconv.FormatUint(uint64(m.view.UIDNext()), 10) + "] Predicted next UID")
	c.untagged("OK [HIGHESTMODSEQ " + strconv.FormatInt(int64(m.view.HighestModSeq()), 10) + "] Highest")
	c.code = "READ-WRITE"
	if m.readOnly {
		c.code = "READ-ONLY"
	}
}

// closeMailbox leaves the selected mailbox, if any.
func (c *conn) closeMailbox() {
	if c.sel == nil {
		return
	}
	c.sel.unwatch()
	c.sel, c.state = nil, authenticated
}
