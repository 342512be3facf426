package imapd

import (
	"context"

	"dirpost/mra/imapd/wire"

	"github.com/emersion/go-imap/v2"
)

// expunge is EXPUNGE; the responses come from the sync that follows.
func expunge(ctx context.Context, c *conn, dec *wire.Decoder) error {
	if err := dec.End(); err != nil {
		return err
	}
	return c.expungeUIDs(ctx, nil)
}

// uidExpunge removes only what has \Deleted and is in the set (RFC 4315 §2.1).
func uidExpunge(ctx context.Context, c *conn, dec *wire.Decoder) error {
	dec.Space()
	set := dec.Set()
	if err := dec.End(); err != nil {
		return err
	}
	spans, _, err := c.sel.resolve(set, true)
	if err != nil || len(spans) == 0 {
		return err
	}
	return c.expungeUIDs(ctx, c.sel.uids(spans))
}

// expungeUIDs removes the messages of uids (nil: all) that have \Deleted.
func (c *conn) expungeUIDs(ctx context.Context, uids []imap.UID) error {
	m := c.sel
	if m.readOnly {
		return errReadOnly
	}
	r, err := c.srv.store.Expunge(ctx, m.key.Account, m.key.Mailbox, uids)
	if err == nil && c.condstore && r.ModSeq > 0 {
		c.code = highestModSeq(r.ModSeq) // RFC 7162 §3.2.7 recommends it
	}
	return err
}
