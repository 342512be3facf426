package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

const holdSQL = `
update outq o
   set state = 2, next_at = 'infinity', token = o.token + 1
  from outq_msg m
 where m.queue_id = o.queue_id
   and ($1::bigint[] is null or o.queue_id = any ($1))
   and ($2::text is null or m.reverse_path = $2)
   and ($3::text is null or o.domain = $3)
   and ($4::text is null or o.destination = $4)
   and ($5::smallint[] is null or o.state = any ($5))
   and o.state = 0`

// Hold keeps waiting recipients from being tried until they are released, and
// returns how many. Those that are being tried at this moment are left alone: it
// is too late for them.
func (q *Queue) Hold(ctx context.Context, f Filter) (int, error) {
	return q.change(ctx, "hold", holdSQL, f)
}

const releaseSQL = `
with released as (
  update outq o
     set state = 0, next_at = now()
    from outq_msg m
   where m.queue_id = o.queue_id
     and ($1::bigint[] is null or o.queue_id = any ($1))
     and ($2::text is null or m.reverse_path = $2)
     and ($3::text is null or o.domain = $3)
     and ($4::text is null or o.destination = $4)
     and ($5::smallint[] is null or o.state = any ($5))
     and o.state = 2
  returning o.queue_id),
forgotten as (
  delete from outq_author a
   using released r
   where a.queue_id = r.queue_id)
select queue_id
  from released`

// Release lets held recipients go, at once, and returns how many. Whether the author
// of such a message is still somebody who may log in is not asked again.
func (q *Queue) Release(ctx context.Context, f Filter) (int, error) {
	n, err := q.change(ctx, "release", releaseSQL, f)
	if n > 0 {
		q.Wake()
	}
	return n, err
}

const retrySQL = `
with asked as (
  insert into outq_retry (retried_at)
  values (now())
  on conflict (one) do update set retried_at = excluded.retried_at)
update outq o
   set next_at = now()
  from outq_msg m
 where m.queue_id = o.queue_id
   and ($1::bigint[] is null or o.queue_id = any ($1))
   and ($2::text is null or m.reverse_path = $2)
   and ($3::text is null or o.domain = $3)
   and ($4::text is null or o.destination = $4)
   and ($5::smallint[] is null or o.state = any ($5))
   and o.state = 0
   and o.next_at > now()`

// Retry makes waiting recipients due at once, and returns how many. From then on what
// any node knows of destinations that are away does not count any more; see Retried.
func (q *Queue) Retry(ctx context.Context, f Filter) (int, error) {
	n, err := q.change(ctx, "retry", retrySQL, f)
	if n > 0 {
		q.Wake()
	}
	return n, err
}

const retriedSQL = `
select extract(epoch from now() - retried_at)::float8
  from outq_retry`

// Retried returns how long ago Retry was called last, on whatever node; false where it
// never was. Whoever has claimed a recipient that it made due sees it.
func (q *Queue) Retried(ctx context.Context) (time.Duration, bool, error) {
	var seconds float64
	err := q.db.QueryRow(ctx, postgres.Background, retriedSQL).Scan(&seconds)
	switch {
	case errors.Is(err, postgres.ErrNoRows):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("ask when the queue was to be tried: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), true, nil
}

const lockSQL = `
select m.queue_id
  from outq_msg m
 where ($1::bigint[] is null or m.queue_id = any ($1))
   and ($2::text is null or m.reverse_path = $2)
 order by m.queue_id
   for update`

const deleteSQL = `
delete from outq o
 using outq_msg m
 where m.queue_id = o.queue_id
   and ($1::bigint[] is null or o.queue_id = any ($1))
   and ($2::text is null or m.reverse_path = $2)
   and ($3::text is null or o.domain = $3)
   and ($4::text is null or o.destination = $4)
   and ($5::smallint[] is null or o.state = any ($5))`

const finishedSQL = `
delete from outq_msg m
 where m.queue_id = any ($1)
   and not exists (select from outq o where o.queue_id = m.queue_id)`

// Delete takes recipients out of the queue without a report to anybody, and
// returns how many. A delivery under way is not stopped by it.
func (q *Queue) Delete(ctx context.Context, f Filter) (int, error) {
	w := f.where()
	n := 0
	err := q.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		rows, err := tx.Query(ctx, lockSQL, w.ids, w.sender)
		if err != nil {
			return err
		}
		locked, err := postgres.CollectValues[int64](rows)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, deleteSQL, locked, w.sender, w.domain, w.destination, w.states)
		if err != nil {
			return err
		}
		n = int(tag.RowsAffected())
		_, err = tx.Exec(ctx, finishedSQL, locked)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("delete from queue: %w", err)
	}
	return n, nil
}

func (q *Queue) change(ctx context.Context, what, sql string, f Filter) (int, error) {
	w := f.where()
	tag, err := q.db.Exec(ctx, postgres.Interactive, sql, w.ids, w.sender, w.domain, w.destination, w.states)
	if err != nil {
		return 0, fmt.Errorf("%s in queue: %w", what, err)
	}
	return int(tag.RowsAffected()), nil
}

// ByID is the Filter of whole messages.
func ByID(ids ...envelope.QueueID) Filter { return Filter{QueueIDs: ids} }
