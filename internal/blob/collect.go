package blob

import (
	"context"
	"fmt"

	"dirpost/internal/postgres"
)

// Referrer tells which of the given blobs it refers to: the message store and
// the queue each have one.
type Referrer func(ctx context.Context, ids []ID) (used []ID, err error)

// collectBatch is how many blobs are looked at together.
const collectBatch = 500

const oldSQL = `
select blob_id
  from blob
 where blob_id > $1
   and last_use < $2
 order by blob_id
 limit $3`

// Collect deletes the blobs that nobody has touched for a day and that no
// referrer knows, and the uploads that broke off. Every owner of references
// must be among referrers.
func (s *Store) Collect(ctx context.Context, referrers ...Referrer) (n int, err error) {
	cutoff := s.db.Now().Add(-grace).Unix()
	var after ID
	for {
		rows, err := s.db.Query(ctx, postgres.Background, oldSQL, after, cutoff, collectBatch)
		if err != nil {
			return n, fmt.Errorf("list old blobs: %w", err)
		}
		ids, err := postgres.CollectValues[ID](rows)
		if err != nil {
			return n, fmt.Errorf("list old blobs: %w", err)
		}
		if len(ids) > 0 {
			after = ids[len(ids)-1]
		}
		more := len(ids) == collectBatch
		for _, refers := range referrers {
			used, err := refers(ctx, ids)
			if err != nil {
				return n, fmt.Errorf("look for references: %w", err)
			}
			ids = without(ids, used)
		}
		k, err := s.remove(ctx, ids, cutoff)
		n += k
		if err != nil {
			return n, err
		}
		if !more {
			break
		}
	}
	k, err := s.removeUploads(ctx, cutoff)
	return n + k, err
}

// without returns ids, which are in order, without those that are in used.
func without(ids, used []ID) []ID {
	if len(used) == 0 {
		return ids
	}
	drop := make(map[ID]bool, len(used))
	for _, id := range used {
		drop[id] = true
	}
	var left []ID
	for _, id := range ids {
		if !drop[id] {
			left = append(left, id)
		}
	}
	return left
}

const (
	removeSQL = `
delete from blob
 where blob_id = any($1)
   and last_use < $2
returning blob_id`
	removeChunksSQL = `
delete from blob_chunk
 where blob_id = any($1)`
	removeUploadsSQL = `
delete from blob_upload
 where started_at < $1
returning blob_id`
)

// remove deletes blobs, each unless somebody has touched it in the meantime.
func (s *Store) remove(ctx context.Context, ids []ID, cutoff int64) (n int, err error) {
	if len(ids) == 0 {
		return 0, nil
	}
	return s.removeReturned(ctx, removeSQL, ids, cutoff)
}

// removeUploads deletes the chunks of uploads that broke off.
func (s *Store) removeUploads(ctx context.Context, cutoff int64) (n int, err error) {
	return s.removeReturned(ctx, removeUploadsSQL, cutoff)
}

// removeReturned runs a DELETE that returns blob ids and deletes their chunks
// with them.
func (s *Store) removeReturned(ctx context.Context, sql string, args ...any) (n int, err error) {
	err = s.db.InTx(ctx, postgres.Background, func(ctx context.Context, tx postgres.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return fmt.Errorf("collect blobs: %w", err)
		}
		gone, err := postgres.CollectValues[ID](rows)
		if err != nil {
			return fmt.Errorf("collect blobs: %w", err)
		}
		n = len(gone)
		if _, err := tx.Exec(ctx, removeChunksSQL, gone); err != nil {
			return fmt.Errorf("collect chunks: %w", err)
		}
		return nil
	})
	return n, err
}
