package imapd

import (
	"context"
	"strings"

	"dirpost/mra/imapd/wire"
)

// rename is RENAME. Between the accounts of different owners nothing can be
// renamed; messages can be moved there.
func rename(ctx context.Context, c *conn, dec *wire.Decoder) error {
	dec.Space()
	from := dec.Mailbox()
	dec.Space()
	to := dec.Mailbox()
	if err := dec.End(); err != nil {
		return err
	}
	src, err := c.locate(ctx, from)
	if err != nil {
		return err
	}
	dst, err := c.locate(ctx, strings.TrimSuffix(to, separator))
	if err != nil {
		return err
	}
	if src.account.ID != dst.account.ID {
		return no("CANNOT", "Cannot rename to another owner's mailboxes")
	}
	return c.srv.store.RenameMailbox(ctx, src.account.ID, src.name, dst.name)
}
