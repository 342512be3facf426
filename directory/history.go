package directory

import (
	"context"
	"fmt"
	"time"

	"dirpost/internal/postgres"
)

const atSQL = `
select packed
  from directory_entry
 where changed_at <= $1
   and packed is not null
 union all
select packed
  from directory_history
 where since <= $1
   and until > $1
   and packed is not null`

// SnapshotAt returns the directory as nodes knew it at a time, by the rules of
// now. Changes are kept for 30 days; before the oldest of them nothing is known to
// have been otherwise.
func SnapshotAt(ctx context.Context, db *postgres.DB, rules Rules, at time.Time) (*Snapshot, error) {
	rs, err := db.Query(ctx, postgres.Background, atSQL, at)
	if err != nil {
		return nil, fmt.Errorf("read directory of %s: %w", at.Format(time.RFC3339), err)
	}
	packed, err := postgres.CollectValues[[]byte](rs)
	if err != nil {
		return nil, fmt.Errorf("read directory of %s: %w", at.Format(time.RFC3339), err)
	}
	rules = rules.withDefaults()
	rules.Confirm = false // of now, and no question of the entries
	changes := make([]Change, 0, len(packed))
	for _, p := range packed {
		e, err := Unpack(p)
		if err != nil {
			continue // as nodes do: one entry that cannot be read hides no other
		}
		changes = append(changes, Change{Key: e.Key, Entry: e})
	}
	return newSnapshot(&rules).with(0, changes), nil
}
