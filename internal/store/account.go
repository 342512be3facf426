package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

const (
	accountSQL = `
select k.account_id, c.kind
  from account_key k
  join account c using (account_id)
 where k.directory_key = $1`
	// One statement, that is one round trip: a message to a large list may be
	// the first for thousands. The key decides between two nodes.
	createAccountSQL = `
with own as (
  insert into account_key (directory_key, account_id)
  values ($1, $2)
      on conflict (directory_key) do nothing
  returning account_id
), first as (
  select own.account_id, t.mailbox_id, t.uidvalidity, t.special_use, t.name
    from own, unnest($5::bigint[], $6::bigint[], $7::text[], $8::text[]) t (mailbox_id, uidvalidity, special_use, name)
), new_account as (
  insert into account (account_id, next_uidvalidity, kind, directory_key)
  select account_id, $3, $4, $1 from own
), new_mailboxes as (
  insert into mailbox (account_id, mailbox_id, uidvalidity, special_use, name)
  select account_id, mailbox_id, uidvalidity, special_use, name from first
), new_subscriptions as (
  insert into subscription (account_id, name)
  select account_id, name from first
)
select exists (select from own)`
)

// firstMailboxes are what an account begins with (RFC 6154).
var firstMailboxes = [...]struct {
	name string
	use  imap.MailboxAttr
}{
	{"INBOX", ""},
	{"Drafts", imap.MailboxAttrDrafts},
	{"Sent", imap.MailboxAttrSent},
	{"Junk", imap.MailboxAttrJunk},
	{"Trash", imap.MailboxAttrTrash},
	{"Archive", imap.MailboxAttrArchive},
}

// Account returns the account of a directory key, and makes it with its first
// mailboxes when there is none. Several nodes may do that at the same time.
func (s *Store) Account(ctx context.Context, key string, kind AccountKind) (Account, error) {
	a, err := s.LookupAccount(ctx, key)
	if !errors.Is(err, ErrNotFound) {
		return a, err
	}
	a, err = s.createAccount(ctx, key, kind)
	if err != nil {
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	if a.ID == 0 {
		return s.LookupAccount(ctx, key)
	}
	s.rememberAccount(a)
	return a, nil
}

// LookupAccount returns the account of a directory key, or ErrNotFound.
func (s *Store) LookupAccount(ctx context.Context, key string) (Account, error) {
	s.accounts.mu.Lock()
	a, ok := s.accounts.byKey[key]
	s.accounts.mu.Unlock()
	if ok {
		return a, nil
	}
	a.Key = key
	err := s.db.QueryRow(ctx, postgres.Interactive, accountSQL, key).Scan(&a.ID, &a.Kind)
	if errors.Is(err, postgres.ErrNoRows) {
		return Account{}, envelope.Because(envelope.StatusNotFound, fmt.Errorf("account %s: %w", key, ErrNotFound))
	}
	if err != nil {
		return Account{}, fmt.Errorf("look up account: %w", err)
	}
	s.rememberAccount(a)
	return a, nil
}

func (s *Store) rememberAccount(a Account) {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	if len(s.accounts.byKey) >= maxCached {
		clear(s.accounts.byKey)
	}
	s.accounts.byKey[a.Key] = a
}

// forgetAccount drops an account that was purged from the cache of this node.
// Another node finds out when nothing can be delivered to it.
func (s *Store) forgetAccount(key string) {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	delete(s.accounts.byKey, key)
}

// createAccount makes an account unless somebody else has: then the zero value
// is returned.
func (s *Store) createAccount(ctx context.Context, key string, kind AccountKind) (Account, error) {
	id := s.db.NewID()
	// UIDVALIDITY begins with the time, so that it also rises when an account
	// is purged and comes back (RFC 9051 §2.3.1.1).
	validity := s.db.Now().Unix()
	var (
		ids, validities []int64
		uses, names     []string
	)
	for i, m := range firstMailboxes {
		mb := int64(Inbox)
		if i > 0 {
			mb = s.db.NewID()
		}
		ids, validities = append(ids, mb), append(validities, validity+int64(i))
		uses, names = append(uses, string(m.use)), append(names, m.name)
	}
	var made bool
	err := s.db.Transact(ctx, postgres.Interactive, func(b *postgres.Batch) {
		b.Queue(createAccountSQL, key, id, validity+int64(len(firstMailboxes)), int16(kind), ids, validities, uses, names)
	}, func(r postgres.BatchResults) error { return r.QueryRow().Scan(&made) })
	if err != nil || !made {
		return Account{}, err
	}
	return Account{ID: AccountID(id), Key: key, Kind: kind}, nil
}

const usageSQL = `
select used_bytes, used_messages
  from account
 where account_id = $1`

// Usage returns what an account holds now.
func (s *Store) Usage(ctx context.Context, a AccountID) (Usage, error) {
	var u Usage
	err := s.db.QueryRow(ctx, postgres.Interactive, usageSQL, a).Scan(&u.Bytes, &u.Messages)
	if errors.Is(err, postgres.ErrNoRows) {
		return Usage{}, envelope.Because(envelope.StatusNotFound, fmt.Errorf("account %d: %w", a, ErrNotFound))
	}
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	return u, nil
}

const (
	closeSQL = `
update account
   set closed_at = $2
 where account_id = $1`
	closedSQL = `
select account_id, directory_key
  from account
 where closed_at is not null`
)

// CloseAccount says that the directory entry of an account is gone since a time.
// Purge takes the account when the grace that began then is over.
func (s *Store) CloseAccount(ctx context.Context, a AccountID, since time.Time) error {
	if _, err := s.db.Exec(ctx, postgres.Background, closeSQL, a, since); err != nil {
		return fmt.Errorf("close account: %w", err)
	}
	return nil
}

// ReopenAccount says that the directory entry is back.
func (s *Store) ReopenAccount(ctx context.Context, a AccountID) error {
	if _, err := s.db.Exec(ctx, postgres.Background, closeSQL, a, nil); err != nil {
		return fmt.Errorf("reopen account: %w", err)
	}
	return nil
}

// ClosedAccount is an account that Purge will take.
type ClosedAccount struct {
	ID  AccountID
	Key string // of the directory entry that is gone
}

// ClosedAccounts returns the accounts that are closed and were not taken yet.
func (s *Store) ClosedAccounts(ctx context.Context) ([]ClosedAccount, error) {
	rows, err := s.db.Query(ctx, postgres.Background, closedSQL)
	if err != nil {
		return nil, fmt.Errorf("read closed accounts: %w", err)
	}
	return postgres.CollectRows[ClosedAccount](rows)
}

const attachSQL = `
with old as (
  delete from account_key
   where directory_key = $1
  returning account_id
), new as (
  insert into account_key (directory_key, account_id)
  select $2, account_id from old
  returning account_id
)
update account c
   set directory_key = $2, closed_at = null
  from new
 where c.account_id = new.account_id`

// AttachAccount gives the account of an old directory key to a new one, which
// must not have one yet: a person who was deleted and added again.
func (s *Store) AttachAccount(ctx context.Context, oldKey, newKey string) error {
	tag, err := s.db.Exec(ctx, postgres.Interactive, attachSQL, oldKey, newKey)
	if code, _ := postgres.State(err); code == postgres.UniqueViolation {
		return fmt.Errorf("account of %s: %w", newKey, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("attach account: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("account of %s: %w", oldKey, ErrNotFound)
	}
	s.forgetAccount(oldKey)
	return nil
}

// day numbers the days of the change log.
func day(t time.Time) int32 { return int32(t.Unix() / 86400) }
