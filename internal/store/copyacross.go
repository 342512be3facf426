package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dirpost/internal/blob"
	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

const (
	// The same lock that store_flags and its like take first.
	lockMailboxIDSQL = `
select modseq
  from mailbox
 where account_id = $1
   and mailbox_id = $2
   for no key update`
	sourceSQL = `
select x.uid, x.message_id, x.flags, x.size
  from unnest($3::bigint[], $4::bigint[]) r (lo, hi)
 cross join lateral (
       select y.uid, y.message_id, y.flags, y.size
         from mailbox_message y
        where y.account_id = $1 and y.mailbox_id = $2 and y.uid between r.lo and r.hi
       offset 0) x
 order by x.uid`
	sourceBlobsSQL = `
select distinct m.blob_id
  from unnest($3::bigint[], $4::bigint[]) r (lo, hi)
 cross join lateral (
       select y.message_id
         from mailbox_message y
        where y.account_id = $1 and y.mailbox_id = $2 and y.uid between r.lo and r.hi
       offset 0) x
 cross join lateral (
       select y.blob_id
         from message y
        where y.account_id = $1 and y.message_id = x.message_id
       offset 0) m
 where m.blob_id is not null`
	copyMessageRowsSQL = `
insert into message (account_id, message_id, size, internal_date, body_size, message_hash, thread_id,
                     body_lines, header_codec, body_codec, blob_id,
                     prepend, header, envelope, structure, subject, sender, recipients, body)
select $2, t.new_id, m.size, m.internal_date, m.body_size, m.message_hash, m.thread_id,
       m.body_lines, m.header_codec, m.body_codec, m.blob_id,
       m.prepend, m.header, m.envelope, m.structure, m.subject, m.sender, m.recipients, m.body
  from unnest($3::bigint[], $4::bigint[]) t (old_id, new_id)
 cross join lateral (
       select size, internal_date, body_size, message_hash, thread_id, body_lines, header_codec, body_codec, blob_id,
              prepend, header, envelope, structure, subject, sender, recipients, body
         from message
        where account_id = $1 and message_id = t.old_id
       offset 0) m`
	placeSQL = `
update mailbox m
   set modseq   = m.modseq + 1,
       uidnext  = m.uidnext + $3,
       messages = m.messages + $3,
       unseen   = m.unseen + $4,
       deleted  = m.deleted + $5,
       bytes    = m.bytes + $6
 where m.account_id = $1
   and m.mailbox_id = $2
returning m.uidvalidity, m.modseq, m.uidnext - $3`
	placeRowsSQL = `
insert into mailbox_message (account_id, mailbox_id, uid, modseq, message_id, flags, size)
select $1, $2, $3 - 1 + t.i, $4, t.message_id, t.flags, t.size
  from unnest($5::bigint[], $6::bigint[], $7::bigint[]) with ordinality t (message_id, flags, size, i)`
	chargeSQL = `
update account
   set used_bytes    = used_bytes + $2,
       used_messages = used_messages + $3
 where account_id = $1
   and ($4 = 0 or used_bytes + $2 <= $4)`
)

// transferAcross copies to another account. There a message is another one, with
// an id of its own, since the same message may have been delivered to both with
// other trace fields. Keywords are translated by name.
func (s *Store) transferAcross(ctx context.Context, t transfer) (res CopyResult, srcSeq, dstSeq ModSeq, err error) {
	los, his := boundsOf(t.uids)
	if err := s.touchSources(ctx, t.src, los, his); err != nil {
		return res, 0, 0, err
	}
	translate, err := s.translation(ctx, t)
	if err != nil {
		return res, 0, 0, err
	}
	err = s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		if err := lockAccounts(ctx, tx, t.src, t.dst); err != nil {
			return err
		}
		res, dstSeq, err = s.copyAcrossTx(ctx, tx, t, los, his, translate)
		if err != nil || !t.move || len(res.Source) == 0 {
			return err
		}
		var gone []int64
		los, his := boundsOf(res.Source)
		return tx.QueryRow(ctx, expungeSQL, t.src.Account, t.src.Mailbox, los, his, 0, day(s.db.Now())).Scan(&srcSeq, &gone)
	})
	return res, srcSeq, dstSeq, err
}

// lockAccounts takes the locks on two mailboxes and their accounts in the order
// of all transactions: accounts ascending, mailbox row before account row.
func lockAccounts(ctx context.Context, tx postgres.Tx, keys ...MailboxKey) error {
	slices.SortFunc(keys, func(a, b MailboxKey) int { return int(min(1, max(-1, int64(a.Account)-int64(b.Account)))) })
	for _, k := range keys {
		var seq int64
		err := tx.QueryRow(ctx, lockMailboxIDSQL, k.Account, k.Mailbox).Scan(&seq)
		if errors.Is(err, postgres.ErrNoRows) {
			return noMailbox(fmt.Sprint("#", k.Mailbox))
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lockAccountSQL, k.Account); err != nil {
			return err
		}
	}
	return nil
}

// touchSources touches the blobs of messages before they get another reference.
func (s *Store) touchSources(ctx context.Context, src MailboxKey, los, his []int64) error {
	rows, err := s.db.Query(ctx, postgres.Interactive, sourceBlobsSQL, src.Account, src.Mailbox, los, his)
	if err != nil {
		return err
	}
	ids, err := postgres.CollectValues[blob.ID](rows)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := s.blobs.Touch(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// translation returns what turns flags of the source account into those of the
// destination. A keyword that the destination has no room for is dropped.
func (s *Store) translation(ctx context.Context, t transfer) (func(Flags) Flags, error) {
	from, err := s.Keywords(ctx, t.src.Account)
	if err != nil {
		return nil, err
	}
	v, err := s.Open(ctx, t.src.Account, t.src.Mailbox)
	if err != nil {
		return nil, err
	}
	var used Flags
	for _, e := range v.All() {
		if _, found := slices.BinarySearch(t.uids, e.UID); found || t.uids == nil {
			used |= e.Flags
		}
	}
	to := map[Flags]Flags{}
	for _, name := range from.Names(used) {
		bit, _ := from.Lookup(name)
		other, err := s.FlagsOf(ctx, t.dst.Account, []imap.Flag{name})
		if err != nil && !errors.Is(err, ErrKeywords) {
			return nil, err
		}
		to[bit] = other
	}
	return func(f Flags) Flags {
		var out Flags
		for bit, other := range to {
			if f&bit != 0 {
				out |= other
			}
		}
		return out
	}, nil
}

// source is a message that is about to be placed in a mailbox.
type source struct {
	UID     imap.UID
	Message MessageID
	Flags   Flags
	Size    int64
}

// copyAcrossTx makes the copies. All rows that count are locked.
func (s *Store) copyAcrossTx(ctx context.Context, tx postgres.Tx, t transfer, los, his []int64, translate func(Flags) Flags) (res CopyResult, seq ModSeq, err error) {
	rows, err := tx.Query(ctx, sourceSQL, t.src.Account, t.src.Mailbox, los, his)
	if err != nil {
		return res, 0, err
	}
	found, err := postgres.CollectRows[source](rows)
	if err != nil || len(found) == 0 {
		return res, 0, err
	}
	var old, fresh []int64
	copied := map[MessageID]MessageID{} // one message twice in src stays one
	for i := range found {
		r := &found[i]
		res.Source = append(res.Source, r.UID)
		id, ok := copied[r.Message]
		if !ok {
			id = MessageID(s.db.NewID())
			copied[r.Message] = id
			old, fresh = append(old, int64(r.Message)), append(fresh, int64(id))
		}
		r.Message, r.Flags = id, translate(r.Flags)
	}
	if _, err := tx.Exec(ctx, copyMessageRowsSQL, t.src.Account, t.dst.Account, old, fresh); err != nil {
		return res, 0, err
	}
	validity, first, seq, err := placeTx(ctx, tx, t.dst, found, t.quota)
	if err != nil {
		return res, 0, err
	}
	res.UIDValidity = validity
	for i := range found {
		res.Dest = append(res.Dest, first+imap.UID(i))
	}
	return res, seq, nil
}

// placeTx puts messages, whose rows in message are there, into a mailbox that
// the caller has locked together with its account, in the order given.
func placeTx(ctx context.Context, tx postgres.Tx, dst MailboxKey, messages []source, quota int64) (validity uint32, first imap.UID, seq ModSeq, err error) {
	var (
		ids, flags, sizes       []int64
		unseen, deleted, octets int64
	)
	for _, m := range messages {
		ids, flags, sizes = append(ids, int64(m.Message)), append(flags, int64(m.Flags)), append(sizes, m.Size)
		unseen, deleted, octets = unseen+int64(^m.Flags&FlagSeen), deleted+int64(m.Flags&FlagDeleted>>3), octets+m.Size
	}
	n := int64(len(messages))
	if err := tx.QueryRow(ctx, placeSQL, dst.Account, dst.Mailbox, n, unseen, deleted, octets).Scan(&validity, &seq, &first); err != nil {
		return 0, 0, 0, err
	}
	if _, err := tx.Exec(ctx, placeRowsSQL, dst.Account, dst.Mailbox, first, seq, ids, flags, sizes); err != nil {
		return 0, 0, 0, err
	}
	tag, err := tx.Exec(ctx, chargeSQL, dst.Account, octets, n, quota)
	if err != nil {
		return 0, 0, 0, err
	}
	if tag.RowsAffected() == 0 {
		return 0, 0, 0, &OverQuotaError{dst.Account}
	}
	return validity, first, seq, nil
}
