package store

import (
	"context"
	"errors"
	"slices"

	"dirpost/internal/postgres"

	"github.com/emersion/go-imap/v2"
)

// Drop is what POP3 takes of a mailbox at login: its messages in UID order, with
// their sizes.
type Drop struct {
	UIDValidity uint32
	UIDs        []imap.UID
	Sizes       []int64 // RFC822.SIZE of UIDs[i]
}

// The mailbox and its messages in one snapshot; the narrow table has all of it.
const dropSQL = `
select true, m.uidvalidity, m.messages
  from mailbox m
 where m.account_id = $1
   and m.mailbox_id = $2
union all
(select false, x.uid, x.size
   from mailbox_message x
  where x.account_id = $1
    and x.mailbox_id = $2
  order by x.uid)`

// Drop returns the messages of a mailbox as they are now. A mailbox that is gone
// is ErrNotFound.
func (s *Store) Drop(ctx context.Context, a AccountID, mb MailboxID) (*Drop, error) {
	rows, err := s.db.Query(ctx, postgres.Interactive, dropSQL, a, mb)
	if err != nil {
		return nil, wrap("list drop", err)
	}
	defer rows.Close()
	d := &Drop{}
	found := false
	for rows.Next() {
		var isMailbox bool
		var uid, size int64
		if err := rows.Scan(&isMailbox, &uid, &size); err != nil {
			return nil, wrap("list drop", err)
		}
		if isMailbox {
			found = true
			d.UIDValidity = uint32(uid)
			d.UIDs, d.Sizes = slices.Grow(d.UIDs, int(size)), slices.Grow(d.Sizes, int(size))
			continue
		}
		d.UIDs, d.Sizes = append(d.UIDs, imap.UID(uid)), append(d.Sizes, size)
	}
	if err := rows.Err(); err != nil {
		return nil, wrap("list drop", err)
	}
	if !found {
		return nil, wrap("list drop", ErrNotFound)
	}
	if !slices.IsSorted(d.UIDs) {
		return nil, errors.New("list drop: UIDs out of order") // the plan has changed its mind about order by
	}
	return d, nil
}
