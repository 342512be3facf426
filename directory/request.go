package directory

import (
	"context"
	"errors"
	"fmt"

	"dirpost/internal/postgres"
)

// ErrNoDirectory reports the name of a directory that nobody feeds.
var ErrNoDirectory = errors.New("no node feeds a directory of that name")

const askSyncSQL = `
update directory_source
   set sync_asked_at = clock_timestamp()
 where $1 = '' or name = $1`

const askReleaseSQL = `
update directory_source
   set release_asked_at = clock_timestamp()
 where $1 = '' or name = $1`

// AskSync asks the feeding node to compare a directory, "" for all, with what it
// holds, from the start. When that is over Report.SyncAsked is nil. The caller tells
// the nodes on Topic. The error may be ErrNoDirectory.
func AskSync(ctx context.Context, db *postgres.DB, name string) error {
	return askFor(ctx, db, askSyncSQL, name)
}

// AskRelease asks the feeding node to believe what is held back of a directory, ""
// for all, up to now. When that is done Report.ReleaseAsked is nil. The caller tells
// the nodes on Topic. The error may be ErrNoDirectory.
func AskRelease(ctx context.Context, db *postgres.DB, name string) error {
	return askFor(ctx, db, askReleaseSQL, name)
}

func askFor(ctx context.Context, db *postgres.DB, sql, name string) error {
	tag, err := db.Exec(ctx, postgres.Background, sql, name)
	if err != nil {
		return fmt.Errorf("ask the feeding node: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNoDirectory
	}
	return nil
}

const holderSQL = `
select holder
  from directory_lease
 where name = 'directory'
   and expires_at > now()`

// FeedingNode returns the name of the node that feeds the directories, "" when there
// is none.
func FeedingNode(ctx context.Context, db *postgres.DB) (string, error) {
	var name string
	err := db.QueryRow(ctx, postgres.Background, holderSQL).Scan(&name)
	if err != nil && !errors.Is(err, postgres.ErrNoRows) {
		return "", fmt.Errorf("read who feeds the directory: %w", err)
	}
	return name, nil
}

// HeldBack is an entry that stays as it was since too many would vanish or lose
// their address at once.
type HeldBack struct {
	Entry *Entry // as it is
	Next  *Entry // as its directory says, nil: it is gone
}

// HeldBackOf returns what is held back of a directory, at most limit entries in the
// order of their keys. s is where their names are looked up.
func HeldBackOf(ctx context.Context, db *postgres.DB, s *Snapshot, name string, limit int) ([]HeldBack, error) {
	found, err := rows{db}.braked(ctx, name)
	if err != nil {
		return nil, err
	}
	var out []HeldBack
	for _, b := range found {
		if len(out) == limit {
			break
		}
		h := HeldBack{Entry: s.ByKey(Key(b.Key))}
		if h.Entry == nil {
			continue
		}
		if b.Packed != nil {
			if h.Next, err = Unpack(b.Packed); err != nil {
				return nil, fmt.Errorf("read what is held back of %s: %w", b.Key, err)
			}
		}
		out = append(out, h)
	}
	return out, nil
}
