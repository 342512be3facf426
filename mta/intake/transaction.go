package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dirpost/auth"
	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
)

// errTooManyRecipients is 452, not 552, so that the client sends the rest in a
// transaction of its own (RFC 5321 §4.5.3.1.10).
var errTooManyRecipients = envelope.Because(envelope.Status{Code: 452, Enhanced: "4.5.3", Text: "Too many recipients, send the rest separately"}, nil)

// Transaction is one message on its way through the door.
type Transaction struct {
	door      *Door
	client    envelope.Client
	id        *auth.Identity   // nil for a stranger
	sender    *directory.Entry // the person of id
	local     *LocalUser       // the user of this machine, nil for everybody else
	ours      bool             // originated by Dirpost itself: no fix-ups, no limits on the sender
	overQuota bool             // goes into full mailboxes too
	queued    bool             // comes from the queue, where its rows stay if it cannot be delivered
	env       envelope.Envelope
	snap      *directory.Snapshot // the directory as it was at MAIL, to the end, and who was asked for
	queue     envelope.QueueID
	first     *directory.Expansion // of the first recipient, where a header cannot change it

	decision *decision // of a moderator, nil for all other mail

	scanner *message.Scanner
	body    *blob.Writer
	size    int64
	limits  sizeLimits
	err     error  // first failure of Write, reported by Commit
	junk    string // why policy judged the message junk, "" if it did not

	began time.Time // of this machine's clock, for traces
}

// Start begins a transaction: MAIL. id is nil for a stranger (port 25); then
// only mail for our own domains will be let in.
//
// A person may use only addresses that the directory gives them
// (553 5.7.1), or the null reverse-path, which receipts need (RFC 8098 §2.1).
func (d *Door) Start(c *envelope.Client, id *auth.Identity, m MailParams) (*Transaction, error) {
	t := &Transaction{door: d, client: *c, id: id, env: m, snap: d.Directory.Snapshot(), began: time.Now()}
	t.env.Recipients = nil
	if m.Size > d.cfg.MaxSize {
		return nil, envelope.ErrTooBig
	}
	if id != nil {
		t.sender = t.snap.ByKey(id.Person)
		if t.sender == nil {
			return nil, envelope.Because(envelope.StatusDirectory, fmt.Errorf("authenticated person %s is not in the directory snapshot", id.Person))
		}
		if a, ok := m.ReversePath.Address(); ok && t.mayUse(a) == directory.UsageNone {
			return nil, envelope.Because(envelope.StatusNotYours, fmt.Errorf("%s may not send as %s", id.Person, a))
		}
	}
	return t, nil
}

// AddRecipient adds a forward-path: RCPT. It is the only place that decides
// whether mail is relayed.
//
// Errors: 550 5.7.1 for an address that is not ours where the client has not
// authenticated, 550 5.1.1 for nobody, 451 4.4.3 while the directory cannot
// tell either, 451 4.4.1 while the other system cannot, 451 4.4.6 for what that sends back, 452 4.2.2 for a full
// mailbox, 552 5.3.4 for a message that is too large for the recipient or the
// sender, 452 4.5.3 for one recipient too many, and
// what the directory says of lists and disabled recipients.
func (t *Transaction) AddRecipient(ctx context.Context, r envelope.Recipient) error {
	if len(t.env.Recipients) >= t.door.cfg.MaxRecipients {
		return errTooManyRecipients
	}
	if err := t.checkSender(ctx); err != nil {
		return err
	}
	res := t.resolve(ctx, r.Address)
	switch {
	case res.Home == directory.HomeNotOurs && t.sender == nil && !t.ours && t.snap.MayMissDomains():
		return envelope.Because(envelope.StatusDirectory, fmt.Errorf("%s is not known to be ours", r.Address))
	case res.Home == directory.HomeNotOurs && t.sender == nil && !t.ours:
		return envelope.Because(envelope.StatusRelay, fmt.Errorf("%s is not ours and the client has not authenticated", r.Address))
	case !res.OK():
		return envelope.Because(res.Status, nil)
	case res.Home == directory.HomeDecision:
		return t.addDecision(ctx, res.Detail, r)
	}
	if err := t.sentBack(r, res); err != nil {
		return err
	}
	if err := t.verify(ctx, r, res); err != nil {
		return err
	}
	if r.Original == "" {
		r.Original, r.OriginalType = r.Address.String(), "rfc822"
		if !r.Address.IsASCII() {
			r.OriginalType = "utf-8"
		}
	}
	exp := t.expand([]envelope.Recipient{r}, nil)
	plain := len(exp.Held)+len(exp.Refused) == 0
	t.unmoderated(&exp, message.Header{})
	if len(exp.Local)+len(exp.Remote)+len(exp.Held) == 0 {
		return refusalOf(exp)
	}
	if res.Home == directory.HomeHere && len(exp.Local) == 1 && !t.ours {
		to := exp.Local[0]
		if err := t.checkUsage(ctx, to.Entry, to.Quota, t.env.Size); err != nil {
			return err
		}
	}
	if err := t.checkSize(res.Entry); err != nil {
		return err
	}
	if plain && len(t.env.Recipients) == 0 {
		t.first = &exp
	}
	t.env.Recipients = append(t.env.Recipients, r)
	return nil
}

// resolve says where a leads. Who is found in the directory itself, since the snapshot
// is too old to know, belongs to what this transaction goes by from then on.
func (t *Transaction) resolve(ctx context.Context, a envelope.Address) (res directory.Resolution) {
	if t.door.Asker == nil || t.ours {
		return t.snap.Resolve(a)
	}
	t.snap, res = t.door.Asker.Resolve(ctx, t.snap, t.client.Addr, a)
	return res
}

// expand follows recipients to mailboxes. been is where the message has been
// before. What we write ourselves is an answer to somebody who used the address: no
// list refuses it.
func (t *Transaction) expand(rcpts []envelope.Recipient, been []envelope.Address) directory.Expansion {
	return t.snap.Expand(rcpts, directory.Terms{Sender: t.sender, Released: t.ours, From: t.env.ReversePath, Been: been})
}

// been are the addresses that the message was delivered to before it came here. Of
// what a person submits they say nothing, and are taken out.
func (t *Transaction) been(h message.Header) []envelope.Address {
	if t.sender != nil {
		return nil
	}
	return deliveredTo(h)
}

// checkUsage refuses a mailbox that is full already, or would be with more octets.
// Whether this message still fits is decided in the transaction that stores it.
func (t *Transaction) checkUsage(ctx context.Context, e *directory.Entry, quota, more int64) error {
	if quota <= 0 {
		return nil
	}
	account, err := t.door.Store.LookupAccount(ctx, string(e.Key))
	if errors.Is(err, envelope.ErrNotFound) {
		return nil // no mail yet
	}
	if err != nil {
		return fmt.Errorf("quota of %s: %w", e.Key, err)
	}
	used, err := t.door.Store.Usage(ctx, account.ID)
	if errors.Is(err, envelope.ErrNotFound) {
		return nil // purged by another node; whether there is such a person is not the store's to say
	}
	if err != nil {
		return fmt.Errorf("quota of %s: %w", e.Key, err)
	}
	if used.Bytes+more > quota {
		return envelope.ErrOverQuota
	}
	return nil
}

// Recipients returns how many recipients have been accepted.
func (t *Transaction) Recipients() int { return len(t.env.Recipients) }

// QueueID returns the message's name. It exists from the first call on.
func (t *Transaction) QueueID() envelope.QueueID {
	if t.queue == 0 {
		t.queue = envelope.QueueID(t.door.DB.NewID())
	}
	return t.queue
}

// Begin prepares for the content: DATA or the first BDAT. It comes before Write.
func (t *Transaction) Begin(ctx context.Context) {
	if t.scanner != nil {
		return
	}
	t.QueueID()
	t.scanner = message.NewScanner(message.DefaultLimits())
	t.body = t.door.Blobs.NewWriter(ctx)
}

// Write takes content: lines ending in CRLF, transparency dots removed. It
// streams, and holds a bounded part of the message in memory. It never fails
// before the end: what went wrong is reported by Commit, when the client has
// sent everything and listens again.
func (t *Transaction) Write(p []byte) (int, error) {
	n := len(p)
	if t.err != nil {
		return n, nil
	}
	if t.size += int64(n); t.size > t.door.cfg.MaxSize && !t.ours || t.limits.exceeded(t.size) {
		t.fail(envelope.ErrTooBig)
		return n, nil
	}
	if body := t.scanner.Scan(p); len(body) > 0 {
		if _, err := t.body.Write(body); err != nil {
			t.fail(fmt.Errorf("store body: %w", err))
		}
	}
	return n, nil
}

func (t *Transaction) fail(err error) {
	t.err = err
	t.release()
}

// release gives up what the content holds.
func (t *Transaction) release() {
	if t.body != nil {
		t.body.Abort()
		t.body = nil
	}
}

// MarkJunk says that the message is to be put into Junk, and why; reason is one
// line of ASCII.
func (t *Transaction) MarkJunk(reason string) { t.junk = reason }

// Abort ends a transaction that is not committed: RSET, a broken connection.
func (t *Transaction) Abort() { t.release() }
