package queue

import (
	"context"
	"fmt"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// HeldByDirectory is Recipient.Reason where the directory says that delivery is held.
const HeldByDirectory = "delivery to this mailbox is held, as the directory says"

// Waiting is a recipient that waits for its next attempt, or is held as the directory
// said (HeldByDirectory).
type Waiting struct {
	QueueID   envelope.QueueID
	N         int32 // of the recipient within its message
	Recipient Recipient
	Last      string // enhanced status code of the last outcome, "" for none
}

// Unknown names recipients at another system, whom nobody whom the directory knows was
// found for: the address, in lower case, and those whose local-part, in lower case and
// by its octets, is from Low to below High.
type Unknown struct {
	Local, Domain string
	Low, High     string
}

// waitingColumns and waitingState are of all statements here. What is due already is
// decided anew anyway.
const (
	waitingColumns = `
select o.queue_id, o.n, o.state, o.local_part, o.domain, o.local_key, o.next_hop, o.dsn
  from outq o`
	waitingState = `
   and (o.state = 0 and o.next_at > now() or o.state = 2 and o.reply = '` + HeldByDirectory + `')`
)

// waitingUnknown is the beginning of what looks for unknown recipients, by address or by
// its range: apart, so that each goes by the index.
const waitingUnknown = `
  join unnest($2::text[], $3::text[], $4::text[], $5::text[]) as u(domain, local_part, low, high) on u.domain = o.domain
 where o.local_key = ''
   and o.next_hop <> ''
   and (o.queue_id, o.n) > ($6, $7)`

const waitingForSQL = waitingColumns + `
 where o.local_key = any ($1)
   and o.local_key <> ''
   and (o.queue_id, o.n) > ($6, $7)` + waitingState + `
union` + waitingColumns + waitingUnknown + `
   and lower(o.local_part) collate "C" = u.local_part` + waitingState + `
union` + waitingColumns + waitingUnknown + `
   and lower(o.local_part) collate "C" >= u.low
   and lower(o.local_part) collate "C" < u.high` + waitingState + `
 order by queue_id, n
 limit $8`

// WaitingFor returns up to limit recipients that wait for the mailboxes of the directory
// keys, here or at another system, or as unknown, in order, those after the given one.
// A zero Waiting is before all.
func (q *Queue) WaitingFor(ctx context.Context, keys []string, unknown []Unknown, after Waiting, limit int) ([]Waiting, error) {
	n := len(unknown)
	texts := make([]string, 4*n)
	domains, locals, lows, highs := texts[:n], texts[n:2*n], texts[2*n:3*n], texts[3*n:]
	for i, u := range unknown {
		domains[i], locals[i], lows[i], highs[i] = u.Domain, clean(u.Local), clean(u.Low), clean(u.High)
	}
	return q.waiting(ctx, waitingForSQL, keys, domains, locals, lows, highs, int64(after.QueueID), after.last(), limit)
}

const waitingSQL = waitingColumns + `
 where (o.local_key <> '' or o.next_hop <> '')
   and left(o.local_key, 1) <> '*'
   and (o.queue_id, o.n) > ($1, $2)` + waitingState + `
 order by o.queue_id, o.n
 limit $3`

// Waiting returns up to limit of all recipients that wait for a mailbox of ours or for a
// given next hop, in order, those after the given one. A zero Waiting is before all. Those
// whose address is expanded when their turn comes (LocalExpand) are not among them.
func (q *Queue) Waiting(ctx context.Context, after Waiting, limit int) ([]Waiting, error) {
	return q.waiting(ctx, waitingSQL, int64(after.QueueID), after.last(), limit)
}

// last is the number of the recipient after which a page begins.
func (w Waiting) last() int32 {
	if w.QueueID == 0 {
		return -1
	}
	return w.N
}

func (q *Queue) waiting(ctx context.Context, sql string, args ...any) ([]Waiting, error) {
	rows, err := q.db.Query(ctx, postgres.Background, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("look for mail that waits: %w", err)
	}
	defer rows.Close()
	var all []Waiting
	for rows.Next() {
		var (
			w     Waiting
			id    int64
			state int16
			key   string
		)
		r := &w.Recipient
		if err := rows.Scan(&id, &w.N, &state, &r.Address.Local, &r.Address.Domain, &key, &r.NextHop, &w.Last); err != nil {
			return nil, postgres.Classify(fmt.Errorf("look for mail that waits: %w", err))
		}
		r.setKey(key)
		w.QueueID, r.Held = envelope.QueueID(id), State(state) == StateHeld
		all = append(all, w)
	}
	if err := rows.Err(); err != nil {
		return nil, postgres.Classify(fmt.Errorf("look for mail that waits: %w", err))
	}
	return all, nil
}

const hastenSQL = `
with picked as (
  select o.queue_id, o.n
    from unnest($1::bigint[], $2::int[]) as u(id, n)
    join outq o on o.queue_id = u.id and o.n = u.n
   where true` + waitingState + `
   order by o.queue_id, o.n
     for update of o skip locked)
update outq o
   set state = 0, next_at = now(), destination = case when o.next_hop <> '' then '<' || o.next_hop else o.destination end
  from picked p
 where o.queue_id = p.queue_id
   and o.n = p.n`

// Hasten makes recipients due at once that still wait, since their way is another one
// now, and returns how many. Those that somebody works on at this moment are left alone.
// What waited for another system is claimed by itself from then on, and not behind what
// still waits for it.
func (q *Queue) Hasten(ctx context.Context, all []Waiting) (int, error) {
	if len(all) == 0 {
		return 0, nil
	}
	ids, ns := make([]int64, len(all)), make([]int32, len(all))
	for i, w := range all {
		ids[i], ns[i] = int64(w.QueueID), w.N
	}
	tag, err := q.db.Exec(ctx, postgres.Background, hastenSQL, ids, ns)
	if err != nil {
		return 0, fmt.Errorf("make due in queue: %w", err)
	}
	n := int(tag.RowsAffected())
	if n > 0 {
		q.Wake()
	}
	return n, nil
}
