package store

import (
	"context"
	"math"

	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

const storeFlagsSQL = `
select new_modseq, uids, modified
  from store_flags($1, $2, $3, $4, $5, $6, $7, $8)`

// StoreFlags changes the flags of messages; nil is all. It is one transaction.
func (s *Store) StoreFlags(ctx context.Context, a AccountID, mb MailboxID, uids []imap.UID, c FlagChange) (StoreResult, error) {
	if uids != nil && len(uids) == 0 {
		return StoreResult{}, nil
	}
	keep := ^c.Remove
	if c.Replace {
		keep = 0
	}
	since := int64(math.MaxInt64)
	switch {
	case c.UnchangedSince > 0:
		since = int64(c.UnchangedSince)
	case c.UnchangedSince < 0:
		since = 0
	}
	los, his := boundsOf(uids)
	var (
		res               StoreResult
		changed, modified []int64
	)
	read := func(results postgres.BatchResults) error {
		return results.QueryRow().Scan(&res.ModSeq, &changed, &modified)
	}
	err := s.transact1(ctx, read, storeFlagsSQL, a, mb, los, his, keep, c.Add, since, day(s.db.Now()))
	if err != nil {
		return StoreResult{}, wrap("store flags", err)
	}
	res.UIDs, res.Modified = uidsOf(changed), uidsOf(modified)
	s.changed(a, mb, res.ModSeq)
	return res, nil
}

// transact1 runs one statement as a transaction for somebody who waits.
func (s *Store) transact1(ctx context.Context, read func(postgres.BatchResults) error, sql string, args ...any) error {
	return s.db.Transact(ctx, postgres.Interactive, func(b *postgres.Batch) { b.Queue(sql, args...) }, read)
}

// uidsOf converts what the database returns.
func uidsOf(v []int64) []imap.UID {
	if v == nil {
		return nil
	}
	uids := make([]imap.UID, len(v))
	for i, u := range v {
		uids[i] = imap.UID(u)
	}
	return uids
}

const expungeSQL = `
select new_modseq, uids
  from expunge($1, $2, $3, $4, $5, $6)`

// Expunge removes the messages of uids, nil is all, that have \Deleted.
func (s *Store) Expunge(ctx context.Context, a AccountID, mb MailboxID, uids []imap.UID) (ExpungeResult, error) {
	return s.expunge(ctx, a, mb, uids, FlagDeleted)
}

// Remove removes the messages of uids whatever their flags are: POP3's QUIT.
func (s *Store) Remove(ctx context.Context, a AccountID, mb MailboxID, uids []imap.UID) (ExpungeResult, error) {
	return s.expunge(ctx, a, mb, uids, 0)
}

func (s *Store) expunge(ctx context.Context, a AccountID, mb MailboxID, uids []imap.UID, with Flags) (ExpungeResult, error) {
	if uids != nil && len(uids) == 0 {
		return ExpungeResult{}, nil
	}
	los, his := boundsOf(uids)
	var (
		res  ExpungeResult
		gone []int64
	)
	read := func(results postgres.BatchResults) error { return results.QueryRow().Scan(&res.ModSeq, &gone) }
	if err := s.transact1(ctx, read, expungeSQL, a, mb, los, his, with, day(s.db.Now())); err != nil {
		return ExpungeResult{}, wrap("expunge", err)
	}
	res.UIDs = uidsOf(gone)
	s.changed(a, mb, res.ModSeq)
	return res, nil
}
