package intake

import (
	"context"

	"dirpost/directory"
	"dirpost/internal/envelope"
)

// sizeLimits are how large a message may be for its sender and its recipients.
type sizeLimits struct {
	asked     bool  // the sender has been looked at
	send      int64 // of the sender, 0 none
	receive   int64 // the largest of the recipients that have one
	unlimited bool  // a recipient has none
}

// exceeded reports whether a message of size octets may go to nobody. One that is
// too large for some of its recipients only was refused at RCPT if the client has
// said how large it is (RFC 1870); else it goes to all of them.
func (l *sizeLimits) exceeded(size int64) bool {
	return l.send > 0 && size > l.send || l.receive > 0 && !l.unlimited && size > l.receive
}

// checkSender refuses a person whose mailbox is so full that nothing more may be
// sent, and a message that is said to be larger than the person may send.
func (t *Transaction) checkSender(ctx context.Context) error {
	if t.sender == nil || t.ours || t.limits.asked {
		return nil
	}
	l := t.snap.Limits(t.sender)
	if t.limits.send = l.MaxSend; t.limits.exceeded(t.env.Size) {
		return envelope.ErrTooBig
	}
	// The size of this message is not counted: it is sent, not kept.
	if err := t.checkUsage(ctx, t.sender, l.QuotaSend, 0); err != nil {
		return err
	}
	t.limits.asked = true
	return nil
}

// checkSize refuses a message that is said to be larger than the recipient takes:
// a person, or a list, for what is sent to it.
func (t *Transaction) checkSize(e *directory.Entry) error {
	limit := int64(0)
	if !t.ours {
		limit = t.snap.Limits(e).MaxReceive
	}
	switch {
	case limit <= 0:
		t.limits.unlimited = true
	case t.env.Size > limit:
		return envelope.ErrTooBig
	default:
		t.limits.receive = max(t.limits.receive, limit)
	}
	return nil
}
