package imapd

import (
	"context"

	"dirpost/mra/imapd/wire"
)

// closeSelected removes what has \Deleted without a word and leaves the mailbox
// (RFC 9051 §6.4.1); one that was opened read-only is only left.
func closeSelected(ctx context.Context, c *conn, dec *wire.Decoder) error {
	if err := dec.End(); err != nil {
		return err
	}
	m := c.sel
	c.closeMailbox()
	if m.readOnly {
		return nil
	}
	_, err := c.srv.store.Expunge(ctx, m.key.Account, m.key.Mailbox, nil)
	return err
}

// unselect leaves the mailbox and removes nothing (RFC 3691 §2).
func unselect(_ context.Context, c *conn, dec *wire.Decoder) error {
	if err := dec.End(); err != nil {
		return err
	}
	c.closeMailbox()
	return nil
}
