package main

import (
	"context"
	"fmt"
	"net/netip"

	"dirpost/internal/envelope"
	"dirpost/mda/lmtpd"
	"dirpost/mta/intake"
)

// lmtp builds an LMTP server, for a site that has another MTA in front.
func (n *node) lmtp(l *ListenerSection, count *lmtpd.Metrics) (serveFunc, error) {
	c := lmtpd.DefaultConfig(n.file.Server.Name)
	c.MaxSize, c.MaxRecipients = int64(n.file.MTA.MaxSize), n.file.MTA.MaxRecipients
	if len(l.Clients) > 0 {
		c.Clients = nil
	}
	for _, p := range l.Clients {
		c.Clients = append(c.Clients, netip.MustParsePrefix(p)) // checked by validate
	}
	s, err := lmtpd.New(c, lmtpDoor{n.door}, n.events, n.log)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	s.Count(count)
	return s.Serve, nil
}

// lmtpDoor lets lmtpd in, as a client that has not logged in: for our own domains
// only.
type lmtpDoor struct{ door *intake.Door }

func (d lmtpDoor) Start(c *envelope.Client, env envelope.Envelope) (lmtpd.Transaction, error) {
	t, err := d.door.Start(c, nil, env)
	if err != nil {
		return nil, err
	}
	return lmtpTransaction{t}, nil
}

// lmtpTransaction answers all recipients alike: a message that intake accepts is
// delivered to each of them or queued for it.
type lmtpTransaction struct{ *intake.Transaction }

func (t lmtpTransaction) Commit(ctx context.Context) ([]error, error) {
	_, err := t.Transaction.Commit(ctx)
	return nil, err
}
