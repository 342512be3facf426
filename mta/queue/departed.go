package queue

import (
	"context"
	"fmt"

	"dirpost/internal/postgres"
)

const holdAttemptsSQL = `
update outq o
   set state = 2, next_at = 'infinity', token = o.token + 1, attempts = o.attempts - 1, code = 0, dsn = '', reply = $4, relay = ''
  from unnest($1::bigint[], $2::int[], $3::int[]) as u(id, n, token)
 where o.queue_id = u.id
   and o.n = u.n
   and o.token = u.token
   and o.state = 1`

// HoldAttempts gives leased recipients back, to be held until they are released,
// for reason, one line. It returns how many; the others were not ours any more. The
// attempt does not count.
func (q *Queue) HoldAttempts(ctx context.Context, attempts []Attempt, reason string) (int, error) {
	ids, ns, tokens := keys(attempts)
	tag, err := q.db.Exec(ctx, postgres.Background, holdAttemptsSQL, ids, ns, tokens, clean(reason))
	if err != nil {
		return 0, fmt.Errorf("hold in queue: %w", err)
	}
	return int(tag.RowsAffected()), nil
}

const forgetAuthorsSQL = `
delete from outq_author a
 where not exists (select from outq_msg m where m.queue_id = a.queue_id)`

// ForgetAuthors removes what is known of the authors of messages that are not in the
// queue any more. Any number of nodes may do it.
func (q *Queue) ForgetAuthors(ctx context.Context) error {
	if _, err := q.db.Exec(ctx, postgres.Background, forgetAuthorsSQL); err != nil {
		return fmt.Errorf("forget the authors of sent mail: %w", err)
	}
	return nil
}
