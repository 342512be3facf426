package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"dirpost/internal/blob"
	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

const deliverSQL = `
select deliver($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
               $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)`

// What deliver may return first.
const (
	outcomeRepeat    = 1 // a repeat of another message
	outcomeOverQuota = 3 // nothing was done
)

// errGently is over quota in a transaction that goes on.
type errGently struct{ over *OverQuotaError }

// Error says whose quota it is.
func (e errGently) Error() string { return e.over.Error() }

// parcel is a Delivery with its mailboxes and flags looked up: what the
// statements need.
type parcel struct {
	delivery *Delivery
	places   []place // ascending, distinct; none: nothing is stored
	gently   bool    // over quota does not end the transaction
}

// place is a mailbox and the flags that the message gets there.
type place struct {
	mailbox MailboxID
	flags   Flags
}

// DeliverTx stores a message for each delivery, in the transaction of the
// caller, who has called Prepare before and calls Announce after the commit. The
// answers are in the order of the deliveries. A delivery that was made before,
// by QueueID and account, is answered with the copy that is there.
//
// It sends everything in one round trip, accounts in ascending order. When it
// fails the transaction is over; over quota is *OverQuotaError.
func (s *Store) DeliverTx(ctx context.Context, tx postgres.Tx, c *Content, deliveries []Delivery) ([]Delivered, error) {
	parcels, err := s.resolve(ctx, deliveries)
	if err != nil {
		return nil, err
	}
	return s.deliverTx(ctx, tx, c, parcels)
}

func (s *Store) deliverTx(ctx context.Context, tx postgres.Tx, c *Content, parcels []parcel) (out []Delivered, err error) {
	order := lockOrder(parcels)
	var b postgres.Batch
	now := s.db.Now().Unix()
	for _, i := range order {
		parcels[i].queue(&b, c, now)
	}
	out = make([]Delivered, len(parcels))
	results := tx.SendBatch(ctx, &b)
	for _, i := range order {
		if out[i], err = parcels[i].read(results); err != nil {
			break
		}
	}
	if closing := results.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, wrap("deliver", err)
	}
	return out, nil
}

// lockOrder returns the indexes of parcels by account: the order in which every
// transaction takes its locks.
func lockOrder(parcels []parcel) []int {
	order := make([]int, len(parcels))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return cmp.Compare(parcels[i].delivery.Account.ID, parcels[j].delivery.Account.ID)
	})
	return order
}

// size returns RFC822.SIZE of the copy.
func (p *parcel) size(c *Content) int64 {
	return int64(len(p.delivery.Prepend)+len(c.Header)) + c.Body.Size
}

// queue adds the statement of p to b.
func (p *parcel) queue(b *postgres.Batch, c *Content, now int64) {
	if len(p.places) == 0 {
		return
	}
	d := p.delivery
	var moreMailboxes, moreFlags []int64 // null, but for a few deliveries
	for _, pl := range p.places[1:] {
		moreMailboxes, moreFlags = append(moreMailboxes, int64(pl.mailbox)), append(moreFlags, int64(pl.flags))
	}
	b.Queue(deliverSQL,
		int64(d.Account.ID), int64(p.places[0].mailbox), int64(p.places[0].flags), d.Quota, uuidOf(d.Repeat), now,
		int64(c.QueueID), p.size(c), c.InternalDate, c.Body.Size, c.Index.MessageIDHash, c.Index.ThreadID,
		int32(c.Body.Lines), blob.CodecRaw, c.Body.Codec, uuidOf(c.Body.Blob),
		nonNil(d.Prepend), nonNil(c.Header), nonNil(c.Envelope), nonNil(c.Structure),
		c.Index.Subject, c.Index.From, c.Index.Recipients, inline(c.Body),
		moreMailboxes, moreFlags, p.gently)
}

// read reads the result of queue.
func (p *parcel) read(results postgres.BatchResults) (Delivered, error) {
	d := Delivered{Account: p.delivery.Account.ID}
	if len(p.places) == 0 {
		return d, nil
	}
	var room [4]int64 // for one copy without an allocation
	answer := room[:0]
	if err := results.QueryRow().Scan(&answer); err != nil {
		return d, err
	}
	if answer[0] == outcomeOverQuota {
		return d, errGently{&OverQuotaError{d.Account}}
	}
	d.Repeat = answer[0] == outcomeRepeat
	if n := len(answer) / 3; n > 0 {
		d.Copies = make([]Copy, n)
		for i := range d.Copies {
			v := answer[1+3*i:]
			d.Copies[i] = Copy{p.places[i].mailbox, uint32(v[0]), imap.UID(v[1]), ModSeq(v[2])}
		}
	}
	return d, nil
}

// uuidOf makes the zero value null.
func uuidOf[T ~[16]byte](id T) postgres.UUID {
	return postgres.UUID{Bytes: id, Valid: id != T{}}
}

// inline returns the octets of a small body, never null; null for a blob.
func inline(b blob.Body) []byte {
	if !b.IsInline() {
		return nil
	}
	return nonNil(b.Inline)
}

// nonNil makes an empty value of a missing one: null means something else.
func nonNil(p []byte) []byte {
	if p == nil {
		return []byte{}
	}
	return p
}

// Prepare makes the mailboxes and keywords that the deliveries ask for. It comes
// before the transaction of DeliverTx, because making a mailbox takes the locks
// of an account in another order; Commit does it itself.
func (s *Store) Prepare(ctx context.Context, deliveries []Delivery) error {
	for i := range deliveries {
		d := &deliveries[i]
		for _, t := range d.Targets {
			if _, err := s.FlagsOf(ctx, d.Account.ID, t.Flags); err != nil && !errors.Is(err, ErrKeywords) {
				return err
			}
			if !t.Create || isInbox(t.Mailbox) {
				continue
			}
			_, err := s.MailboxByName(ctx, d.Account.ID, t.Mailbox)
			if errors.Is(err, ErrNotFound) {
				_, err = s.CreateMailbox(ctx, d.Account.ID, t.Mailbox, "")
			}
			if err != nil && !errors.Is(err, ErrExists) && !errors.Is(err, ErrName) {
				return fmt.Errorf("make mailbox: %w", err)
			}
		}
	}
	return nil
}

// isPlain reports whether a delivery needs no look at the account: INBOX, no
// keywords.
func isPlain(d *Delivery) bool {
	for _, t := range d.Targets {
		if !isInbox(t.Mailbox) {
			return false
		}
		for _, f := range t.Flags {
			if len(f) == 0 || f[0] != '\\' {
				return false
			}
		}
	}
	return true
}

const mailboxIDsSQL = `
select name, mailbox_id
  from mailbox
 where account_id = $1
   and name = any($2)`

// resolve looks up the mailboxes and flags of deliveries. A delivery into INBOX
// without keywords, which nearly every one is, needs no statement.
func (s *Store) resolve(ctx context.Context, deliveries []Delivery) ([]parcel, error) {
	parcels := make([]parcel, len(deliveries))
	for i := range deliveries {
		d := &deliveries[i]
		parcels[i].delivery = d
		if d.Refuse != nil {
			continue
		}
		ids, err := s.mailboxIDs(ctx, d)
		if err != nil {
			return nil, err
		}
		for _, t := range d.Targets {
			pl := place{mailbox: Inbox}
			if id, ok := ids[t.Mailbox]; ok {
				pl.mailbox = id
			}
			pl.flags, err = s.FlagsOf(ctx, d.Account.ID, t.Flags)
			if errors.Is(err, ErrKeywords) { // the message counts for more than its keyword
				pl.flags, err = s.knownFlags(ctx, d.Account.ID, t.Flags)
			}
			if err != nil {
				return nil, err
			}
			parcels[i].add(pl)
		}
	}
	return parcels, nil
}

// knownFlags is FlagsOf without the keywords that there is no room for.
func (s *Store) knownFlags(ctx context.Context, a AccountID, flags []imap.Flag) (Flags, error) {
	k, err := s.Keywords(ctx, a)
	if err != nil {
		return 0, err
	}
	f, _ := k.flagsOf(flags)
	return f, nil
}

// mailboxIDs returns the ids of the mailboxes of d that exist.
func (s *Store) mailboxIDs(ctx context.Context, d *Delivery) (map[string]MailboxID, error) {
	if isPlain(d) {
		return nil, nil
	}
	var names []string
	for _, t := range d.Targets {
		if name, err := canonicalName(t.Mailbox); err == nil {
			names = append(names, name)
		}
	}
	// Not from the pool of Delivery: the caller may hold one of its
	// connections.
	rows, err := s.db.Query(ctx, postgres.Interactive, mailboxIDsSQL, d.Account.ID, names)
	if err != nil {
		return nil, wrap("look up mailboxes", err)
	}
	type row struct {
		Name string
		ID   MailboxID
	}
	found, err := postgres.CollectRows[row](rows)
	if err != nil {
		return nil, wrap("look up mailboxes", err)
	}
	ids := make(map[string]MailboxID, len(found))
	for _, t := range d.Targets {
		name, _ := canonicalName(t.Mailbox)
		for _, r := range found {
			if r.Name == name {
				ids[t.Mailbox] = r.ID
			}
		}
	}
	return ids, nil
}

// add adds a place in order; one mailbox gets one copy, with all flags.
func (p *parcel) add(pl place) {
	i, ok := slices.BinarySearchFunc(p.places, pl, func(a, b place) int { return cmp.Compare(a.mailbox, b.mailbox) })
	if ok {
		p.places[i].flags |= pl.flags
		return
	}
	p.places = slices.Insert(p.places, i, pl)
}
