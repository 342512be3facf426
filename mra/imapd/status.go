package imapd

import (
	"context"
	"strconv"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"
)

// statusItems is a set of STATUS data items.
type statusItems uint16

// The items of RFC 9051 §6.3.11; RECENT: RFC 3501 §6.3.10, HIGHESTMODSEQ: RFC
// 7162 §3.1.7, APPENDLIMIT: RFC 7889 §4.
const (
	statusMessages statusItems = 1 << iota
	statusRecent
	statusUIDNext
	statusUIDValidity
	statusUnseen
	statusDeleted
	statusSize
	statusHighestModSeq
	statusAppendLimit
)

// parseStatusItems takes the list of items.
func parseStatusItems(dec *wire.Decoder) statusItems {
	var items statusItems
	dec.List(func() {
		switch string(dec.Word()) {
		case "MESSAGES":
			items |= statusMessages
		case "RECENT":
			items |= statusRecent
		case "UIDNEXT":
			items |= statusUIDNext
		case "UIDVALIDITY":
			items |= statusUIDValidity
		case "UNSEEN":
			items |= statusUnseen
		case "DELETED":
			items |= statusDeleted
		case "SIZE":
			items |= statusSize
		case "HIGHESTMODSEQ":
			items |= statusHighestModSeq
		case "APPENDLIMIT":
			items |= statusAppendLimit
		default:
			dec.Fail("unknown STATUS item")
		}
	})
	if items == 0 {
		dec.Fail("empty list of STATUS items")
	}
	return items
}

// status is STATUS; it also answers for the selected mailbox, with what the
// store has now.
func status(ctx context.Context, c *conn, dec *wire.Decoder) error {
	dec.Space()
	name := dec.Mailbox()
	dec.Space()
	items := parseStatusItems(dec)
	if err := dec.End(); err != nil {
		return err
	}
	p, mb, err := c.open(ctx, name, errNoMailbox)
	if err != nil {
		return err
	}
	return c.putStatus(ctx, name, p.account.ID, mb, items)
}

// putStatus writes a STATUS response.
func (c *conn) putStatus(ctx context.Context, name string, a store.AccountID, mb store.Mailbox, items statusItems) error {
	var recent int64
	if items&statusRecent != 0 {
		var err error
		if recent, err = c.recentOf(ctx, store.MailboxKey{Account: a, Mailbox: mb.ID}); err != nil {
			return err
		}
	}
	if items&statusHighestModSeq != 0 {
		c.enableCondstore() // RFC 7162 §3.1
	}
	b := append(c.buf(), "* STATUS "...)
	b = wire.AppendMailbox(b, name, c.utf8)
	b = append(b, ' ')
	sep := byte('(')
	for _, it := range [...]struct {
		item  statusItems
		name  string
		value int64
	}{
		{statusMessages, "MESSAGES ", mb.Messages},
		{statusRecent, "RECENT ", recent},
		{statusUIDNext, "UIDNEXT ", int64(mb.UIDNext)},
		{statusUIDValidity, "UIDVALIDITY ", int64(mb.UIDValidity)},
		{statusUnseen, "UNSEEN ", mb.Unseen},
		{statusDeleted, "DELETED ", mb.Deleted},
		{statusSize, "SIZE ", mb.Bytes},
		{statusHighestModSeq, "HIGHESTMODSEQ ", int64(mb.ModSeq)},
		{statusAppendLimit, "APPENDLIMIT ", c.srv.config.MaxMessage},
	} {
		if items&it.item != 0 {
			b = append(append(b, sep), it.name...)
			b = strconv.AppendInt(b, it.value, 10)
			sep = ' '
		}
	}
	c.put(append(b, ")\r\n"...))
	return c.broken
}

// recentOf is the RECENT of a mailbox: that of this session if it is selected,
// else how many messages no session has been told of.
func (c *conn) recentOf(ctx context.Context, key store.MailboxKey) (int64, error) {
	if c.sel != nil && c.sel.key == key {
		return int64(c.sel.countRecent()), nil
	}
	first, err := c.srv.store.FirstRecent(ctx, key.Account, key.Mailbox)
	if err != nil {
		return 0, err
	}
	view, err := c.srv.store.Open(ctx, key.Account, key.Mailbox)
	if err != nil {
		return 0, err
	}
	return int64(view.Len() - view.Search(first)), nil
}
