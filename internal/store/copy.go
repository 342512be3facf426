package store

import (
	"context"

	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

const copySQL = `
select uidvalidity, src_modseq, dst_modseq, old_uids, new_uids
  from copy_messages($1, $2, $3, $4, $5, $6, $7, $8)`

// Copy copies messages, nil is all, to a mailbox of the same or of another
// account, whose limit is quota, 0 for none. It is one transaction.
func (s *Store) Copy(ctx context.Context, src MailboxKey, uids []imap.UID, dst MailboxKey, quota int64) (CopyResult, error) {
	return s.transfer(ctx, transfer{src: src, dst: dst, uids: uids, quota: quota})
}

// Move is Copy and the removal of the messages from src in one (RFC 6851). To
// undelete there is nothing: they are still there.
func (s *Store) Move(ctx context.Context, src MailboxKey, uids []imap.UID, dst MailboxKey, quota int64) (CopyResult, error) {
	return s.transfer(ctx, transfer{src: src, dst: dst, uids: uids, quota: quota, move: true})
}

// transfer is one COPY or MOVE.
type transfer struct {
	src, dst MailboxKey
	uids     []imap.UID // nil: all
	quota    int64
	move     bool
}

func (s *Store) transfer(ctx context.Context, t transfer) (CopyResult, error) {
	var (
		res            CopyResult
		srcSeq, dstSeq ModSeq
		err            error
	)
	switch {
	case t.uids != nil && len(t.uids) == 0:
		return res, nil
	case t.src.Account == t.dst.Account:
		res, srcSeq, dstSeq, err = s.transferWithin(ctx, t)
	default:
		res, srcSeq, dstSeq, err = s.transferAcross(ctx, t)
	}
	if err != nil {
		return CopyResult{}, wrap("copy", err)
	}
	s.changed(t.src.Account, t.src.Mailbox, srcSeq)
	s.changed(t.dst.Account, t.dst.Mailbox, dstSeq)
	return res, nil
}

// transferWithin copies within an account: the messages themselves stay where
// they are.
func (s *Store) transferWithin(ctx context.Context, t transfer) (res CopyResult, srcSeq, dstSeq ModSeq, err error) {
	los, his := boundsOf(t.uids)
	var (
		validity int64
		old, new []int64
	)
	read := func(results postgres.BatchResults) error {
		return results.QueryRow().Scan(&validity, &srcSeq, &dstSeq, &old, &new)
	}
	err = s.transact1(ctx, read, copySQL, t.src.Account, t.src.Mailbox, t.dst.Mailbox, los, his, t.move, t.quota, day(s.db.Now()))
	return CopyResult{uint32(validity), uidsOf(old), uidsOf(new)}, srcSeq, dstSeq, err
}
