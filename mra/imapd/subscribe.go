package imapd

import (
	"context"

	"dirpost/mra/imapd/wire"
)

// subscribe is SUBSCRIBE. The mailbox need not exist: a name stays subscribed
// when its mailbox goes (RFC 9051 §6.3.7). The list belongs to the person, with
// the names of shared mailboxes in it as the person sees them.
func subscribe(ctx context.Context, c *conn, dec *wire.Decoder) error {
	name, err := c.subscription(ctx, dec)
	if err != nil {
		return err
	}
	return c.srv.store.Subscribe(ctx, c.account.ID, name)
}

func unsubscribe(ctx context.Context, c *conn, dec *wire.Decoder) error {
	name, err := c.subscription(ctx, dec)
	if err != nil {
		return err
	}
	return c.srv.store.Unsubscribe(ctx, c.account.ID, name)
}

// subscription takes the argument, a name as the client sees it.
func (c *conn) subscription(ctx context.Context, dec *wire.Decoder) (string, error) {
	dec.Space()
	name := dec.Mailbox()
	if err := dec.End(); err != nil {
		return "", err
	}
	if err := c.own(ctx); err != nil {
		return "", err
	}
	p, err := c.locate(ctx, name)
	if err != nil {
		return "", err
	}
	if p.shared {
		return fullName(p.entry, p.name), nil
	}
	return p.name, nil
}
