package store

import (
	"context"
	"errors"
	"fmt"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

const (
	mailboxesSQL = `
select m.mailbox_id, m.name, m.uidvalidity, m.uidnext, m.modseq, m.messages, m.unseen, m.deleted, m.bytes, m.special_use,
       exists (select from subscription s where s.account_id = m.account_id and s.name = m.name)
  from mailbox m
 where m.account_id = $1
 order by m.name collate "C"`
	mailboxSQL = `
select m.mailbox_id, m.name, m.uidvalidity, m.uidnext, m.modseq, m.messages, m.unseen, m.deleted, m.bytes, m.special_use,
       exists (select from subscription s where s.account_id = m.account_id and s.name = m.name)
  from mailbox m
 where m.account_id = $1
   and m.name = $2`
)

// Mailboxes returns the mailboxes of an account in the order of their names.
func (s *Store) Mailboxes(ctx context.Context, a AccountID) ([]Mailbox, error) {
	rows, err := s.db.Query(ctx, postgres.Interactive, mailboxesSQL, a)
	if err != nil {
		return nil, wrap("list mailboxes", err)
	}
	all, err := postgres.CollectRows[Mailbox](rows)
	return all, wrap("list mailboxes", err)
}

// MailboxByName returns one mailbox, or ErrNotFound.
func (s *Store) MailboxByName(ctx context.Context, a AccountID, name string) (Mailbox, error) {
	name, err := canonicalName(name)
	if err != nil {
		return Mailbox{}, noMailbox(name)
	}
	rows, err := s.db.Query(ctx, postgres.Interactive, mailboxSQL, a, name)
	if err != nil {
		return Mailbox{}, wrap("look up mailbox", err)
	}
	found, err := postgres.CollectRows[Mailbox](rows)
	if err != nil {
		return Mailbox{}, wrap("look up mailbox", err)
	}
	if len(found) == 0 {
		return Mailbox{}, noMailbox(name)
	}
	return found[0], nil
}

// noMailbox is ErrNotFound for a mailbox.
func noMailbox(name string) error {
	return envelope.Because(envelope.StatusNotFound, fmt.Errorf("mailbox %q: %w", name, ErrNotFound))
}

const (
	takeValiditiesSQL = `
update account
   set next_uidvalidity = next_uidvalidity + $2
 where account_id = $1
returning next_uidvalidity - $2`
	insertMailboxSQL = `
insert into mailbox (account_id, mailbox_id, uidvalidity, special_use, name)
values ($1, $2, $3, $4, $5)`
	existingNamesSQL = `
select name
  from mailbox
 where account_id = $1
   and name = any($2)`
)

// CreateMailbox makes a mailbox and those above it that are missing (RFC 9051
// §6.3.4). use is a special use (RFC 6154), "" for none. It fails with ErrExists
// or ErrName.
func (s *Store) CreateMailbox(ctx context.Context, a AccountID, name string, use imap.MailboxAttr) (Mailbox, error) {
	name, err := newName(name)
	if err != nil {
		return Mailbox{}, err
	}
	err = s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		if err := s.createParentsTx(ctx, tx, a, name); err != nil {
			return err
		}
		_, err := s.createTx(ctx, tx, a, name, use)
		return err
	})
	if err != nil {
		return Mailbox{}, wrapName("create mailbox", name, err)
	}
	return s.MailboxByName(ctx, a, name)
}

// createTx makes one mailbox. The lock on the account row that it takes comes
// after those on mailbox rows.
func (s *Store) createTx(ctx context.Context, tx postgres.Tx, a AccountID, name string, use imap.MailboxAttr) (MailboxID, error) {
	var validity int64
	err := tx.QueryRow(ctx, takeValiditiesSQL, a, 1).Scan(&validity)
	if errors.Is(err, postgres.ErrNoRows) {
		return 0, envelope.Because(envelope.StatusNotFound, fmt.Errorf("account %d: %w", a, ErrNotFound))
	}
	if err != nil {
		return 0, err
	}
	id := MailboxID(s.db.NewID())
	_, err = tx.Exec(ctx, insertMailboxSQL, a, id, validity, string(use), name)
	return id, err
}

// createParentsTx makes the mailboxes above name that are missing.
func (s *Store) createParentsTx(ctx context.Context, tx postgres.Tx, a AccountID, name string) error {
	above := parents(name)
	if len(above) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, existingNamesSQL, a, above)
	if err != nil {
		return err
	}
	there, err := postgres.CollectValues[string](rows)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(there))
	for _, n := range there {
		known[n] = true
	}
	for _, n := range above {
		if known[n] {
			continue
		}
		if _, err := s.createTx(ctx, tx, a, n, ""); err != nil {
			return err
		}
	}
	return nil
}

// wrapName is wrap for what may fail because a name is taken.
func wrapName(doing, name string, err error) error {
	if code, _ := postgres.State(err); code == postgres.UniqueViolation {
		return fmt.Errorf("%s: mailbox %q: %w", doing, name, ErrExists)
	}
	return wrap(doing, err)
}

const (
	lockMailboxSQL = `
select mailbox_id
  from mailbox
 where account_id = $1
   and name = $2
   for update`
	expungeAllSQL = `
select new_modseq
  from expunge($1, $2, array[1], array[4294967295], 0, $3)`
	deleteMailboxSQL = `
with gone as (
  delete from mailbox
   where account_id = $1
     and mailbox_id = $2
  returning name
), cache as (
  delete from mailbox_index
   where account_id = $1
     and mailbox_id = $2
)
insert into deleted_mailbox (account_id, mailbox_id, name)
select $1, $2, name
  from gone`
)

// DeleteMailbox deletes a mailbox and its messages, which stay for undelete.
// Mailboxes below it stay (RFC 9051 §6.3.5); its subscription, too.
func (s *Store) DeleteMailbox(ctx context.Context, a AccountID, name string) error {
	name, err := canonicalName(name)
	if err != nil {
		return noMailbox(name)
	}
	if name == inboxName {
		return fmt.Errorf("delete: %w", ErrInbox)
	}
	var id MailboxID
	err = s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		err := tx.QueryRow(ctx, lockMailboxSQL, a, name).Scan(&id)
		if errors.Is(err, postgres.ErrNoRows) {
			return noMailbox(name)
		}
		if err != nil {
			return err
		}
		var b postgres.Batch
		b.Queue(expungeAllSQL, a, id, day(s.db.Now()))
		b.Queue(deleteMailboxSQL, a, id)
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return wrap("delete mailbox", err)
	}
	s.views.drop(MailboxKey{a, id})
	s.changed(a, id, 1<<62) // whoever has it open looks, and finds it gone
	return nil
}

const (
	lockTreeSQL = `
select mailbox_id, name
  from mailbox
 where account_id = $1
   and (name = $2 or starts_with(name, $2 || '/'))
 order by mailbox_id
   for update`
	renameSQL = `
update mailbox
   set name = $3 || substr(name, length($2) + 1)
 where account_id = $1
   and mailbox_id = any($4)`
	renameSubscriptionsSQL = `
with old as (
  delete from subscription
   where account_id = $1
     and (name = $2 or starts_with(name, $2 || '/'))
  returning name
)
insert into subscription (account_id, name)
select $1, $3 || substr(name, length($2) + 1)
  from old
    on conflict do nothing`
)

// RenameMailbox gives a mailbox and those below it another name; subscriptions
// follow. Renaming INBOX moves its messages to a new mailbox and leaves INBOX
// empty, and what is below it where it is (RFC 9051 §6.3.6).
func (s *Store) RenameMailbox(ctx context.Context, a AccountID, from, to string) error {
	from, err := canonicalName(from)
	if err != nil {
		return noMailbox(from)
	}
	if to, err = newName(to); err != nil {
		return err
	}
	if from == inboxName {
		return s.renameInbox(ctx, a, to)
	}
	if len(to) > len(from) && to[:len(from)+1] == from+Separator {
		return fmt.Errorf("%w: %s lies below %s", ErrName, to, from)
	}
	err = s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		rows, err := tx.Query(ctx, lockTreeSQL, a, from)
		if err != nil {
			return err
		}
		type row struct {
			ID   MailboxID
			Name string
		}
		tree, err := postgres.CollectRows[row](rows)
		if err != nil {
			return err
		}
		found := false
		var ids []MailboxID
		for _, r := range tree {
			found = found || r.Name == from
			ids = append(ids, r.ID)
			if _, err := canonicalName(to + r.Name[len(from):]); err != nil {
				return err
			}
		}
		if !found {
			return noMailbox(from)
		}
		if err := s.createParentsTx(ctx, tx, a, to); err != nil {
			return err
		}
		var b postgres.Batch
		b.Queue(renameSQL, a, from, to, ids)
		b.Queue(renameSubscriptionsSQL, a, from, to)
		return tx.SendBatch(ctx, &b).Close()
	})
	return wrapName("rename mailbox", to, err)
}

const moveAllSQL = `
select src_modseq, dst_modseq
  from copy_messages($1, 1, $2, array[1], array[4294967295], true, 0, $3)`

// renameInbox moves what is in INBOX to a new mailbox.
func (s *Store) renameInbox(ctx context.Context, a AccountID, to string) error {
	if isInbox(to) {
		return fmt.Errorf("rename mailbox: %q: %w", to, ErrExists)
	}
	var src, dst ModSeq
	var id MailboxID
	err := s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		var inbox MailboxID
		err := tx.QueryRow(ctx, lockMailboxSQL, a, inboxName).Scan(&inbox)
		if errors.Is(err, postgres.ErrNoRows) {
			return noMailbox(inboxName)
		}
		if err != nil {
			return err
		}
		if err := s.createParentsTx(ctx, tx, a, to); err != nil {
			return err
		}
		if id, err = s.createTx(ctx, tx, a, to, ""); err != nil {
			return err
		}
		return tx.QueryRow(ctx, moveAllSQL, a, id, day(s.db.Now())).Scan(&src, &dst)
	})
	if err != nil {
		return wrapName("rename INBOX", to, err)
	}
	s.changed(a, Inbox, src)
	s.changed(a, id, dst)
	return nil
}

const (
	subscribeSQL = `
insert into subscription (account_id, name)
values ($1, $2)
    on conflict do nothing`
	unsubscribeSQL = `
delete from subscription
 where account_id = $1
   and name = $2`
	subscriptionsSQL = `
select name
  from subscription
 where account_id = $1
 order by name collate "C"`
)

// Subscribe subscribes to a name, whether there is a mailbox or not: RFC 9051
// §6.3.7 forbids to take it away when the mailbox is deleted.
func (s *Store) Subscribe(ctx context.Context, a AccountID, name string) error {
	name, err := canonicalName(name)
	if err != nil {
		return err
	}
	_, err = s.db.Exec(ctx, postgres.Interactive, subscribeSQL, a, name)
	return wrap("subscribe", err)
}

// Unsubscribe ends a subscription, if there is one.
func (s *Store) Unsubscribe(ctx context.Context, a AccountID, name string) error {
	name, err := canonicalName(name)
	if err != nil {
		return err
	}
	_, err = s.db.Exec(ctx, postgres.Interactive, unsubscribeSQL, a, name)
	return wrap("unsubscribe", err)
}

// Subscriptions returns the subscribed names in order.
func (s *Store) Subscriptions(ctx context.Context, a AccountID) ([]string, error) {
	rows, err := s.db.Query(ctx, postgres.Interactive, subscriptionsSQL, a)
	if err != nil {
		return nil, wrap("list subscriptions", err)
	}
	names, err := postgres.CollectValues[string](rows)
	return names, wrap("list subscriptions", err)
}
