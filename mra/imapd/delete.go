package imapd

import (
	"context"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"
)

// deleteMailbox is DELETE. A mailbox that has inferiors may be deleted: its name
// stays as \NonExistent (RFC 9051 §6.3.5). Deleting the selected mailbox leaves
// it.
func deleteMailbox(ctx context.Context, c *conn, dec *wire.Decoder) error {
	dec.Space()
	name := dec.Mailbox()
	if err := dec.End(); err != nil {
		return err
	}
	p, mb, err := c.open(ctx, name, nil)
	if err != nil {
		return err
	}
	if mb.ID == 0 {
		return c.notDeletable(ctx, p)
	}
	if err := c.srv.store.DeleteMailbox(ctx, p.account.ID, p.name); err != nil {
		return err
	}
	if c.sel != nil && c.sel.key == (store.MailboxKey{Account: p.account.ID, Mailbox: mb.ID}) {
		c.closeMailbox()
		c.untagged("OK [CLOSED] Mailbox deleted")
	}
	return nil
}

// notDeletable says why a name without a mailbox cannot be deleted.
func (c *conn) notDeletable(ctx context.Context, p place) error {
	all, err := c.srv.store.Mailboxes(ctx, p.account.ID)
	if err != nil {
		return err
	}
	for _, mb := range all {
		if isInferior(mb.Name, p.name) {
			return no("HASCHILDREN", "Mailbox has inferiors")
		}
	}
	return errNoMailbox
}

// isInferior reports whether name is below parent.
func isInferior(name, parent string) bool {
	return len(name) > len(parent) && name[:len(parent)] == parent && name[len(parent)] == separator[0]
}
