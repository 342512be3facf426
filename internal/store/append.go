package store

import (
	"context"
	"errors"

	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

// Appended is one message of an APPEND.
type Appended struct {
	Content *Content // its InternalDate is the message's
	Flags   []imap.Flag
}

// Append adds messages to a mailbox, all or none (RFC 3502). quota is the
// account's limit, 0 for none. Appending a Content twice, by its QueueID, is
// answered with the copy that is there; so it is done again when the outcome is
// unknown. It does not end with ctx: a client that is told nothing of what has
// happened would append once more.
func (s *Store) Append(ctx context.Context, a AccountID, mb MailboxID, messages []Appended, quota int64) ([]Copy, error) {
	parcels := make([]parcel, len(messages))
	for i, m := range messages {
		flags, err := s.FlagsOf(ctx, a, m.Flags)
		if err != nil {
			return nil, err
		}
		d := &Delivery{Account: Account{ID: a}, Quota: quota}
		parcels[i] = parcel{delivery: d, places: []place{{mb, flags}}}
	}
	now := s.db.Now().Unix()
	build := func(b *postgres.Batch) {
		for i := range parcels {
			parcels[i].queue(b, messages[i].Content, now)
		}
	}
	copies := make([]Copy, len(messages))
	read := func(results postgres.BatchResults) error {
		for i := range parcels {
			d, err := parcels[i].read(results)
			if err != nil {
				return err
			}
			if len(d.Copies) > 0 {
				copies[i] = d.Copies[0]
			}
		}
		return nil
	}
	ctx, cancel := committing(ctx)
	defer cancel()
	var err error
	for range maxUnknown {
		if err = s.db.Transact(ctx, postgres.Interactive, build, read); !errors.Is(err, postgres.ErrUnknown) {
			break
		}
	}
	if err != nil {
		return nil, wrap("append", err)
	}
	if n := len(copies); n > 0 {
		s.changed(a, mb, copies[n-1].ModSeq)
	}
	return copies, nil
}
