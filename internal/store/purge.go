package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/postgres"
)

// Retention says how long what is no longer needed is kept.
type Retention struct {
	// Undelete is how long an expunged message can be brought back, at least
	// an hour: within it a COPY may still be making a reference.
	Undelete time.Duration
	// Log is how long a client may be away and still be told only what has
	// changed (QRESYNC); later it compares everything.
	Log time.Duration
	// Closed is how long the mailboxes of an account are kept after its
	// directory entry has gone.
	Closed time.Duration
}

// WithDefaults returns r with the defaults for what is 0: 30 days to undelete,
// 60 of log, 90 for closed accounts.
func (r Retention) WithDefaults() Retention {
	if r.Undelete == 0 {
		r.Undelete = 30 * 24 * time.Hour
	}
	if r.Log == 0 {
		r.Log = 60 * 24 * time.Hour
	}
	if r.Closed == 0 {
		r.Closed = 90 * 24 * time.Hour
	}
	return r
}

// Validate reports what is wrong with r.
func (r Retention) Validate() error {
	if r.Undelete < time.Hour || r.Log < time.Hour || r.Closed < time.Hour {
		return errors.New("retention must be at least an hour")
	}
	return nil
}

// PurgeResult counts what vanished for good.
type PurgeResult struct {
	Expunged, Messages, Changes, Repeats, Blobs, Accounts int64
}

// purgeBatch is how many rows one transaction of purge deletes.
const purgeBatch = 1000

// Purge takes what is past its time. Nothing vanishes from the message store in
// any other way. Several nodes may run it; they share the work. others are the
// owners of references to blobs besides the message store: the queue.
func (s *Store) Purge(ctx context.Context, r Retention, others ...blob.Referrer) (PurgeResult, error) {
	var res PurgeResult
	r = r.WithDefaults()
	if err := r.Validate(); err != nil {
		return res, err
	}
	now := s.db.Now()
	for _, step := range []struct {
		doing string
		run   func() error
	}{
		{"purge expunged messages", func() error { return s.purgeExpunged(ctx, now.Add(-r.Undelete), &res) }},
		{"purge the change log", func() error { return s.purgeLog(ctx, day(now.Add(-r.Log)), &res) }},
		{"purge repeat keys", func() (err error) {
			res.Repeats, err = s.deleteAll(ctx, purgeRepeatSQL, now.Add(-24*time.Hour).Unix())
			return err
		}},
		{"purge names", func() error {
			_, err := s.deleteAll(ctx, purgeDeletedSQL, now.Add(-r.Undelete))
			return err
		}},
		{"purge closed accounts", func() error { return s.purgeAccounts(ctx, now.Add(-r.Closed), &res) }},
		{"collect blobs", func() error {
			n, err := s.blobs.Collect(ctx, append(others, s.referTo)...)
			res.Blobs = int64(n)
			return err
		}},
	} {
		if err := step.run(); err != nil {
			return res, wrap(step.doing, err)
		}
	}
	return res, nil
}

const referSQL = `
select distinct blob_id
  from message
 where blob_id = any($1)`

// referTo tells which of ids messages refer to.
func (s *Store) referTo(ctx context.Context, ids []blob.ID) ([]blob.ID, error) {
	rows, err := s.db.Query(ctx, postgres.Background, referSQL, ids)
	if err != nil {
		return nil, err
	}
	return postgres.CollectValues[blob.ID](rows)
}

const (
	expungedAccountsSQL = `
select distinct account_id
  from expunged
 where expunged_at < $1`
	purgeExpungedSQL = `
with old as (
  select mailbox_id, uid
    from expunged
   where account_id = $1
     and expunged_at < $2
   limit $3
)
delete from expunged e
 using old o
 where e.account_id = $1
   and e.mailbox_id = o.mailbox_id
   and e.uid = o.uid
returning e.message_id`
	// Both lists of references are looked at in one snapshot: a message that
	// is moved or expunged in this moment is in one of them.
	purgeMessagesSQL = `
delete from message m
 where m.account_id = $1
   and m.message_id = any($2)
   and not exists (select from mailbox_message x where x.account_id = $1 and x.message_id = m.message_id)
   and not exists (select from expunged e where e.account_id = $1 and e.message_id = m.message_id)`
)

// purgeExpunged takes messages that can no longer be brought back, account by
// account.
func (s *Store) purgeExpunged(ctx context.Context, before time.Time, res *PurgeResult) error {
	rows, err := s.db.Query(ctx, postgres.Background, expungedAccountsSQL, before)
	if err != nil {
		return err
	}
	accounts, err := postgres.CollectValues[AccountID](rows)
	if err != nil {
		return err
	}
	for _, a := range accounts {
		for {
			var expunged, messages int64
			err := s.db.InTx(ctx, postgres.Background, func(ctx context.Context, tx postgres.Tx) (err error) {
				expunged, messages, err = purgeExpungedTx(ctx, tx, a, before)
				return err
			})
			if err != nil {
				return err
			}
			res.Expunged, res.Messages = res.Expunged+expunged, res.Messages+messages
			if expunged < purgeBatch {
				break
			}
		}
	}
	return nil
}

// purgeExpungedTx takes a batch. The lock on the account row keeps out other
// purges and undelete, so that the last reference is seen by somebody.
func purgeExpungedTx(ctx context.Context, tx postgres.Tx, a AccountID, before time.Time) (expunged, messages int64, err error) {
	if _, err := tx.Exec(ctx, lockAccountSQL, a); err != nil {
		return 0, 0, err
	}
	rows, err := tx.Query(ctx, purgeExpungedSQL, a, before, purgeBatch)
	if err != nil {
		return 0, 0, err
	}
	ids, err := postgres.CollectValues[int64](rows)
	if err != nil || len(ids) == 0 {
		return 0, 0, err
	}
	tag, err := tx.Exec(ctx, purgeMessagesSQL, a, ids)
	return int64(len(ids)), tag.RowsAffected(), err
}

const (
	loggedMailboxesSQL = `
select distinct account_id, mailbox_id
  from change_log
 where day < $1`
	purgeLogSQL = `
with locked as materialized (
  select modseq
    from mailbox
   where account_id = $1
     and mailbox_id = $2
     for no key update
), old as (
  delete from change_log
   where account_id = $1
     and mailbox_id = $2
     and (day < $3 or not exists (select from locked))
  returning modseq
), raised as (
  update mailbox
     set log_floor = greatest(log_floor, (select coalesce(max(modseq), 0) from old))
   where account_id = $1
     and mailbox_id = $2
)
select count(*)
  from old`
)

// purgeLog takes old rows of the change log, and says in the mailbox row how far
// the log still reaches.
func (s *Store) purgeLog(ctx context.Context, before int32, res *PurgeResult) error {
	rows, err := s.db.Query(ctx, postgres.Background, loggedMailboxesSQL, before)
	if err != nil {
		return err
	}
	keys, err := postgres.CollectRows[MailboxKey](rows)
	if err != nil {
		return err
	}
	for _, k := range keys {
		var n int64
		if err := s.db.QueryRow(ctx, postgres.Background, purgeLogSQL, k.Account, k.Mailbox, before).Scan(&n); err != nil {
			return err
		}
		res.Changes += n
	}
	return nil
}

// Each of these deletes a batch; $1 says which rows.
const (
	purgeRepeatSQL = `
delete from repeat
 where ctid = any (array(select ctid from repeat where seen_at < $1 limit 5000))`
	purgeDeletedSQL = `
delete from deleted_mailbox d
 where d.deleted_at < $1
   and not exists (select from expunged e where e.account_id = d.account_id and e.mailbox_id = d.mailbox_id)`
)

// deleteAll runs a statement until it deletes nothing more.
func (s *Store) deleteAll(ctx context.Context, sql string, args ...any) (n int64, err error) {
	for {
		tag, err := s.db.Exec(ctx, postgres.Background, sql, args...)
		if err != nil {
			return n, err
		}
		n += tag.RowsAffected()
		if tag.RowsAffected() == 0 {
			return n, nil
		}
	}
}

const (
	// From here on nobody finds the account. What is left of it is deleted in
	// batches, by whoever comes.
	buryAccountsSQL = `
with dead as (
  delete from account
   where closed_at < $1
  returning account_id, directory_key
), keys as (
  delete from account_key k
   using dead d
   where k.directory_key = d.directory_key and k.account_id = d.account_id
), boxes as (
  delete from mailbox m
   using dead d
   where m.account_id = d.account_id
), marked as (
  insert into dead_account (account_id)
  select account_id from dead
)
select directory_key
  from dead`
	deadAccountsSQL = `
select account_id
  from dead_account`
	unmarkSQL = `
delete from dead_account
 where account_id = $1`
)

// accountRowsSQL delete what belongs to an account, a batch at a time where
// there may be many.
var accountRowsSQL = [...]string{
	`delete from mailbox_message where ctid = any (array(select ctid from mailbox_message where account_id = $1 limit 5000))`,
	`delete from message where ctid = any (array(select ctid from message where account_id = $1 limit 5000))`,
	`delete from expunged where ctid = any (array(select ctid from expunged where account_id = $1 limit 5000))`,
	`delete from change_log where ctid = any (array(select ctid from change_log where account_id = $1 limit 5000))`,
	`delete from repeat where account_id = $1`,
	`delete from mailbox_index where account_id = $1`,
	`delete from subscription where account_id = $1`,
	`delete from deleted_mailbox where account_id = $1`,
	`delete from keyword where account_id = $1`,
}

// purgeAccounts takes the accounts whose grace is over.
func (s *Store) purgeAccounts(ctx context.Context, before time.Time, res *PurgeResult) error {
	rows, err := s.db.Query(ctx, postgres.Background, buryAccountsSQL, before)
	if err != nil {
		return err
	}
	keys, err := postgres.CollectValues[string](rows)
	if err != nil {
		return err
	}
	for _, key := range keys {
		s.forgetAccount(key)
	}
	if rows, err = s.db.Query(ctx, postgres.Background, deadAccountsSQL); err != nil {
		return err
	}
	dead, err := postgres.CollectValues[AccountID](rows)
	if err != nil {
		return err
	}
	for _, a := range dead {
		for _, sql := range accountRowsSQL {
			if _, err := s.deleteAll(ctx, sql, a); err != nil {
				return fmt.Errorf("account %d: %w", a, err)
			}
		}
		if _, err := s.db.Exec(ctx, postgres.Background, unmarkSQL, a); err != nil {
			return fmt.Errorf("account %d: %w", a, err)
		}
		res.Accounts++
	}
	return nil
}
