package smtpd

import (
	"context"

	"dirpost/auth"
	"dirpost/internal/envelope"
)

// Door is the way in for mail: mta/intake.
type Door interface {
	// Start begins a transaction: MAIL. id is nil for a client that has not
	// logged in. client and params are the caller's again when it returns.
	Start(client *envelope.Client, id *auth.Identity, params envelope.Envelope) (Transaction, error)
}

// Transaction is one message on its way through the door. Its errors are
// answered with envelope.StatusOf.
type Transaction interface {
	// AddRecipient adds a forward-path, or refuses it.
	AddRecipient(ctx context.Context, r envelope.Recipient) error
	// Recipients returns how many were accepted.
	Recipients() int
	// Begin prepares for content.
	Begin(ctx context.Context)
	// Write takes content: whole message, lines ending in CRLF, no transparency
	// dots. It does not keep p. What goes wrong is reported by Commit.
	Write(p []byte) (int, error)
	// MarkJunk says that the message is to be put into Junk, and why.
	MarkJunk(reason string)
	// QueueID names the message.
	QueueID() envelope.QueueID
	// Commit makes the message durable; 250 is said when it returns nil.
	Commit(ctx context.Context) error
	// Abort gives the message up. It may follow anything, Commit too.
	Abort()
}

// Authenticator verifies people: auth.Bridge.
type Authenticator interface {
	// Mechanisms lists the SASL mechanisms that would work now on c.
	Mechanisms(c auth.Conn) []string
	// Start begins an exchange.
	Start(ctx context.Context, c auth.Conn, mechanism string) (auth.Exchange, error)
	// Watch calls f when the person may no longer be logged in.
	Watch(id *auth.Identity, f func(reason string)) (cancel func())
}
