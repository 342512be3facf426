package queue

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// Claim is what to lease.
type Claim struct {
	Shards          []int16       // whose turn it is; see Own
	Skip            []string      // destinations that must wait
	Local           bool          // nothing but mailboxes of ours
	Destinations    int           // at most so many at once; 0: 5
	Recipients      int           // of each destination; 0: 20
	LocalRecipients int           // of mailboxes of ours; 0: 50
	Lease           time.Duration // 0: 5 min
}

// row is a row of outq as a claim returns it.
type row struct {
	QueueID                        int64
	N, Token, Attempts             int32
	Shard, Notify, Code            int16
	Told                           bool
	Destination, LocalPart, Domain string
	Original, OriginalType         string
	Key, Hop                       string
	DSN, Reply, Relay              string
}

func (r *row) attempt() Attempt {
	return Attempt{
		QueueID: envelope.QueueID(r.QueueID), N: r.N, Token: r.Token, Attempts: int(r.Attempts), Shard: r.Shard, Destination: r.Destination, Told: r.Told,
		Last: r.last(), Recipient: r.recipient(),
	}
}

func (r *row) last() Reply {
	return Reply{Code: int(r.Code), Enhanced: r.DSN, Text: r.Reply, Relay: r.Relay}
}

func (r *row) recipient() Recipient {
	out := Recipient{
		Address: envelope.Address{Local: r.LocalPart, Domain: r.Domain}, Original: r.Original, OriginalType: r.OriginalType,
		Notify: envelope.Notify(r.Notify), NextHop: r.Hop,
	}
	out.setKey(r.Key)
	return out
}

// setKey sets whose mailbox it is, here or there, which is one column: mail for ours has
// no next hop. NextHop must be set.
func (r *Recipient) setKey(key string) {
	if r.NextHop == "" {
		r.Local = key
	} else {
		r.Person = key
	}
}

const claimSQL = `
select queue_id, n, token, attempts, shard, notify, code, told, destination, local_part, domain,
       original, original_type, local_key, next_hop, dsn, reply, relay
  from outq_claim($1, $2, $3, $4, $5, $6, $7, $8)`

// Claim leases recipients that are due: some of each of a few destinations,
// those that wait longest first. A claim that is never settled comes due again
// by itself, so a node that dies delays mail but cannot lose it.
func (q *Queue) Claim(ctx context.Context, c Claim) ([]Attempt, error) {
	if c.Destinations == 0 {
		c.Destinations = 5
	}
	if c.Recipients == 0 {
		c.Recipients = 20
	}
	if c.LocalRecipients == 0 {
		c.LocalRecipients = 50
	}
	low, err := q.low.time(ctx, q.db)
	if err != nil {
		return nil, fmt.Errorf("claim from queue: %w", err)
	}
	skip := append([]string{reports}, c.Skip...)
	return q.attempts(ctx, claimSQL, c.Shards, skip, c.Local, c.Destinations, c.Recipients, c.LocalRecipients, leaseOf(c.Lease), low)
}

// reports is the destination of rows that wait to be reported.
const reports = "!"

const claimReportsSQL = `
select queue_id, n, token, attempts, shard, notify, code, told, destination, local_part, domain,
       original, original_type, local_key, next_hop, dsn, reply, relay
  from outq_claim_reports($1, $2, $3)`

// ClaimReports leases what senders must be told: all final recipients of up to n
// messages.
func (q *Queue) ClaimReports(ctx context.Context, shards []int16, n int, lease time.Duration) ([]Attempt, error) {
	return q.attempts(ctx, claimReportsSQL, shards, n, leaseOf(lease))
}

func leaseOf(d time.Duration) time.Duration {
	if d == 0 {
		return 5 * time.Minute
	}
	return d
}

func (q *Queue) attempts(ctx context.Context, sql string, args ...any) ([]Attempt, error) {
	rows, err := q.db.Query(ctx, postgres.Background, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("claim from queue: %w", err)
	}
	all, err := postgres.CollectRows[row](rows)
	if err != nil {
		return nil, fmt.Errorf("claim from queue: %w", err)
	}
	attempts := make([]Attempt, len(all))
	for i := range all {
		attempts[i] = all[i].attempt()
	}
	return attempts, nil
}

const extendSQL = `
update outq o
   set next_at = now() + $4
  from unnest($1::bigint[], $2::int[], $3::int[]) as u(id, n, token)
 where o.queue_id = u.id
   and o.n = u.n
   and o.token = u.token
   and o.state in (1, 4)`

// Extend lets the leases run from now again: the heartbeat of a long transfer.
// It returns how many were still held.
func (q *Queue) Extend(ctx context.Context, attempts []Attempt, lease time.Duration) (int, error) {
	ids, ns, tokens := keys(attempts)
	tag, err := q.db.Exec(ctx, postgres.Background, extendSQL, ids, ns, tokens, leaseOf(lease))
	if err != nil {
		return 0, fmt.Errorf("extend lease: %w", err)
	}
	return int(tag.RowsAffected()), nil
}

func keys(attempts []Attempt) (ids []int64, ns, tokens []int32) {
	ids, ns, tokens = make([]int64, len(attempts)), make([]int32, len(attempts)), make([]int32, len(attempts))
	for i, a := range attempts {
		ids[i], ns[i], tokens[i] = int64(a.QueueID), a.N, a.Token
	}
	return ids, ns, tokens
}

const ownSQL = `
select shard
  from outq_own($1, $2) as shard`

// ownLease is how long a node keeps its shards without renewing them.
const ownLease = 30 * time.Second

// OwnInterval is how often a node calls Own.
const OwnInterval = 10 * time.Second

// Own renews the shards that node works on and returns them. Shards are evened
// out among the nodes that live.
func (q *Queue) Own(ctx context.Context, node string) ([]int16, error) {
	rows, err := q.db.Query(ctx, postgres.Background, ownSQL, node, ownLease)
	if err != nil {
		return nil, fmt.Errorf("renew shards: %w", err)
	}
	shards, err := postgres.CollectValues[int16](rows)
	if err != nil {
		return nil, fmt.Errorf("renew shards: %w", err)
	}
	return shards, nil
}

const disownSQL = `
with gone as (delete from outq_node where owner = $1)
update outq_shard
   set owner = '', lease_until = '-infinity'
 where owner = $1`

// Disown gives the shards of node to the others: what a node does when it stops.
func (q *Queue) Disown(ctx context.Context, node string) error {
	if _, err := q.db.Exec(ctx, postgres.Background, disownSQL, node); err != nil {
		return fmt.Errorf("give back shards: %w", err)
	}
	return nil
}

const freeSQL = `
with gone as (delete from outq_node)
update outq_shard
   set owner = '', lease_until = '-infinity'
 where owner <> ''`

// Free gives back the shards of all nodes, which are known to be dead: then the next one
// need not wait for the end of their leases. One that is alive after all gets its part
// again the next time it calls Own.
func Free(ctx context.Context, db *postgres.DB) error {
	if _, err := db.Exec(ctx, postgres.Background, freeSQL); err != nil {
		return fmt.Errorf("free shards: %w", err)
	}
	return nil
}

// watermark is a time before which nothing in the queue is due. While an old
// snapshot is open somewhere, dead index entries pile up at the old end, and a
// scan from the beginning of time would walk over all of them.
type watermark struct {
	mu   sync.Mutex // guards the fields below
	at   time.Time
	read time.Time
}

// watermarkSlack covers transactions that set a due time and commit it later.
const watermarkSlack = 5 * time.Minute

const lowSQL = `
select least(min(o.next_at), now())
  from generate_series(0, 63) as s(shard)
 cross join lateral (
   select q.next_at
     from outq q
    where q.shard = s.shard
    order by q.next_at
    limit 1) o`

// time returns the watermark, read anew when it is older than some seconds.
func (w *watermark) time(ctx context.Context, db *postgres.DB) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); w.at.IsZero() || now.Sub(w.read) > 10*time.Second {
		var at time.Time
		if err := db.QueryRow(ctx, postgres.Background, lowSQL).Scan(&at); err != nil {
			return time.Time{}, err
		}
		w.at, w.read = at.Add(-watermarkSlack), now
	}
	return w.at, nil
}

// clean makes s storable: the database takes no NUL and nothing that is not
// UTF-8.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
