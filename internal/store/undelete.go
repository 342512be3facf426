package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

// Expunged is a message that can be brought back.
type Expunged struct {
	Mailbox    MailboxID // where it was
	Name       string    // of that mailbox, "" if nobody knows
	UID        imap.UID  // that it had
	Message    MessageID
	Size       int64
	ExpungedAt time.Time
	Subject    string // normalised
	Sender     string // normalised
}

const expungedSQL = `
select e.mailbox_id, coalesce(b.name, d.name, ''), e.uid, e.message_id, e.size, e.expunged_at, m.subject, m.sender
  from expunged e
  join message m using (account_id, message_id)
  left join mailbox b using (account_id, mailbox_id)
  left join deleted_mailbox d using (account_id, mailbox_id)
 where e.account_id = $1
   and e.expunged_at >= $2
 order by e.expunged_at desc, e.mailbox_id, e.uid
 limit $3`

// ListExpunged returns what was expunged in an account since a moment, the
// newest first.
func (s *Store) ListExpunged(ctx context.Context, a AccountID, since time.Time, limit int) ([]Expunged, error) {
	rows, err := s.db.Query(ctx, postgres.Interactive, expungedSQL, a, since, limit)
	if err != nil {
		return nil, wrap("list expunged messages", err)
	}
	all, err := postgres.CollectRows[Expunged](rows)
	return all, wrap("list expunged messages", err)
}

// Undelete brings messages back to where they were, with new UIDs and without
// \Deleted. A mailbox that is gone is made again; INBOX stands in for one that
// cannot be. What somebody else has brought back or purged in the meantime is
// left out.
func (s *Store) Undelete(ctx context.Context, a AccountID, messages []Expunged) (n int, err error) {
	boxes := map[MailboxID][]int64{}
	names := map[MailboxID]string{}
	for _, m := range messages {
		boxes[m.Mailbox] = append(boxes[m.Mailbox], int64(m.UID))
		names[m.Mailbox] = m.Name
	}
	order := make([]MailboxID, 0, len(boxes))
	for mb := range boxes {
		order = append(order, mb)
	}
	slices.Sort(order)
	for _, mb := range order {
		dst, err := s.undeleteInto(ctx, a, mb, names[mb])
		if err != nil {
			return n, wrap("undelete", err)
		}
		k, seq, err := s.undelete(ctx, a, mb, boxes[mb], dst)
		if err != nil {
			return n, wrap("undelete", err)
		}
		s.changed(a, dst, seq)
		n += k
	}
	return n, nil
}

const mailboxExistsSQL = `
select exists (select from mailbox where account_id = $1 and mailbox_id = $2)`

// undeleteInto returns the mailbox that messages of mb go to.
func (s *Store) undeleteInto(ctx context.Context, a AccountID, mb MailboxID, name string) (MailboxID, error) {
	var exists bool
	if err := s.db.QueryRow(ctx, postgres.Interactive, mailboxExistsSQL, a, mb).Scan(&exists); err != nil || exists {
		return mb, err
	}
	m, err := s.MailboxByName(ctx, a, name)
	if errors.Is(err, ErrNotFound) {
		if m, err = s.CreateMailbox(ctx, a, name, ""); errors.Is(err, ErrName) {
			return Inbox, nil
		}
	}
	return m.ID, err
}

const takeBackSQL = `
delete from expunged
 where account_id = $1
   and mailbox_id = $2
   and uid = any($3)
returning uid, message_id, flags & ~8::bigint, size`

// undelete moves expunged messages of mb to dst in one transaction.
func (s *Store) undelete(ctx context.Context, a AccountID, mb MailboxID, uids []int64, dst MailboxID) (n int, seq ModSeq, err error) {
	err = s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		if err := lockAccounts(ctx, tx, MailboxKey{a, dst}); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, takeBackSQL, a, mb, uids)
		if err != nil {
			return err
		}
		found, err := postgres.CollectRows[source](rows)
		if err != nil || len(found) == 0 {
			n, seq = 0, 0
			return err
		}
		slices.SortFunc(found, func(x, y source) int { return int(int64(x.UID) - int64(y.UID)) })
		n = len(found)
		_, _, seq, err = placeTx(ctx, tx, MailboxKey{a, dst}, found, 0)
		if err != nil {
			return fmt.Errorf("place: %w", err)
		}
		return nil
	})
	return n, seq, err
}
