package intake

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/mta/queue"
)

// handedOver is the trace field of mail that we hand to the system that has some
// of our mailboxes (Rules.NextHop). A message that has been handed over
// maxHandedOver times goes round between the two.
//
// It counts and does not name recipients: a blind copy stays one, and what a list
// outside sends back to another of our people is no loop.
const (
	handedOver    = "Dirpost-Handed-Over"
	maxHandedOver = 5
)

// errSentBack reports that the other system sends us mail for a mailbox that the
// directory says it has. Both think that it is the other's: mail waits until an
// administrator has said whose it is, and goes round not even once.
var errSentBack = envelope.Status{Code: 451, Enhanced: "4.4.6", Text: "The directory says that your system has this mailbox", IMAP: "UNAVAILABLE", POP3: "SYS/TEMP"}

// isOther reports whether a client is the system that has some of our mailboxes.
func (d *Door) isOther(client string) bool {
	if len(d.cfg.OtherClients) == 0 {
		return false
	}
	a, err := netip.ParseAddr(client)
	if err != nil {
		return false
	}
	for _, n := range d.cfg.OtherClients {
		if n.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// sentBack is the answer to the other system for a recipient whom we would hand
// to it, nil where we would not. What neither of us knows is nobody's.
func (t *Transaction) sentBack(r envelope.Recipient, res directory.Resolution) error {
	if res.Home != directory.HomeElsewhere || res.NextHop != t.snap.OtherSystem() || !t.door.isOther(t.client.Addr) {
		return nil
	}
	if res.Entry == nil {
		return envelope.ErrNotFound
	}
	return envelope.Because(errSentBack, fmt.Errorf("%s comes from %s and belongs there by its entry %s", r.Address, t.client.Addr, res.Entry.DN))
}

// verify asks the other system about a recipient whom nobody has here, so that what
// it would return to a sender, who may be forged, is not taken at all. What we write
// ourselves needs no proof.
func (t *Transaction) verify(ctx context.Context, r envelope.Recipient, res directory.Resolution) error {
	if res.Home != directory.HomeElsewhere || res.Entry != nil || t.door.Verifier == nil || t.ours {
		return nil
	}
	return t.door.Verifier.Verify(ctx, r.Address, res.NextHop)
}

// dropRounds takes out recipients of the other system where the message has been
// there too often.
func (t *Transaction) dropRounds(exp *directory.Expansion, h message.Header) {
	other := t.snap.OtherSystem()
	if other == "" || len(h.Values(handedOver)) < maxHandedOver {
		return
	}
	kept := exp.Remote[:0:0]
	for _, r := range exp.Remote {
		if r.NextHop == other {
			exp.Refused = append(exp.Refused, directory.RefusedRecipient{Recipient: r.Recipient, Status: envelope.StatusLoop})
			continue
		}
		kept = append(kept, r)
	}
	exp.Remote = kept
}

// handsOver says whether p hands the message to the other system.
func (t *Transaction) handsOver(p *plan) bool {
	other := t.snap.OtherSystem()
	if other == "" {
		return false
	}
	return slices.ContainsFunc(p.out, func(o *outgoing) bool {
		return slices.ContainsFunc(o.rcpts, func(r queue.Recipient) bool { return r.Local == "" && r.NextHop == other })
	})
}

// markHandedOver returns a complete header, of a queued message, with the field that
// counts how often it was handed to the other system.
func (d *Door) markHandedOver(header []byte) ([]byte, error) {
	field, err := message.FormatField(handedOver, "by "+d.cfg.Hostname)
	if err != nil {
		return nil, fmt.Errorf("trace field: %w", err)
	}
	return append(append(make([]byte, 0, len(field)+len(header)), field...), header...), nil
}
