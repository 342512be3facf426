package queue

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// Shards is the number of shards that destinations are spread over.
const Shards = 64

// reportDelay is how long a final outcome waits for others of its message, so
// that the sender gets one report of them.
const reportDelay = time.Minute

// Config says how long mail may stay in the queue.
type Config struct {
	// Lifetime is how long a message is tried; 0: 5 days (RFC 5321 §4.5.4.1
	// asks for at least 4 to 5).
	Lifetime time.Duration
	// Publish tells the queue managers of other nodes that there is work;
	// nil: there are none. It must not block.
	Publish func()
}

// Queue is the mail queue. Make one with New.
type Queue struct {
	db     *postgres.DB
	config Config
	wake   chan struct{}
	low    watermark
}

// New returns the queue kept in db. It does no I/O.
func New(db *postgres.DB, c Config) *Queue {
	if c.Lifetime == 0 {
		c.Lifetime = 5 * 24 * time.Hour
	}
	return &Queue{db: db, config: c, wake: make(chan struct{}, 1)}
}

// Destination returns what recipients of r's kind are claimed by: "" for
// mailboxes of ours, ">hop" for a given next hop, else the domain.
func Destination(r *Recipient) string {
	switch {
	case r.Local != "":
		return ""
	case r.NextHop != "":
		return ">" + r.NextHop
	default:
		return r.Address.Domain
	}
}

// shardOf spreads what goes outside by destination. Mailboxes of ours that get
// the same message stay together, so that a slice of them is one transaction.
func shardOf(id envelope.QueueID, destination string) int16 {
	if destination == "" {
		return int16(id % Shards)
	}
	h := fnv.New32a()
	h.Write([]byte(destination))
	return int16(h.Sum32() % Shards)
}

const enqueueSQL = `
select outq_enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
                    $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28)`

// enqueueAuthorSQL is enqueueSQL for a message of which it must be known later who
// has submitted it.
const enqueueAuthorSQL = `
with queued as materialized (` + enqueueSQL + `)
insert into outq_author (queue_id, person)
select $1, $29
  from queued
on conflict do nothing`

// The bits of outq_msg.flags.
const (
	flagSMTPUTF8 = 1 << iota
	flag8Bit
)

// EnqueueTx puts m with its recipients into the queue, in one round trip however
// many they are. They are due at once. Enqueueing the same message again does
// nothing. When tx is committed, the caller calls Wake.
func (q *Queue) EnqueueTx(ctx context.Context, tx postgres.Tx, m *Message, rcpts []Recipient) error {
	if len(rcpts) == 0 {
		return errors.New("message without recipients for the queue")
	}
	if m.Body.IsInline() && m.Body.Size > blob.SmallBody {
		return fmt.Errorf("body of %d octets is not in a blob", m.Body.Size)
	}
	c := columnsOf(m.QueueID, rcpts)
	flags := int16(0)
	if m.SMTPUTF8 {
		flags |= flagSMTPUTF8
	}
	if m.Body8Bit {
		flags |= flag8Bit
	}
	var id *blob.ID
	var inline []byte
	if m.Body.IsInline() {
		inline = append([]byte{}, m.Body.Inline...) // not NULL when empty
	} else {
		id = &m.Body.Blob
	}
	args := []any{
		int64(m.QueueID), orNull(m.Accepted), orNull(m.Expires), q.config.Lifetime, m.Body.Size, m.Body.Lines, id, m.Body.Hash[:], m.Body.Codec, inline,
		int16(m.Return), flags, m.ReversePath.String(), m.Origin.String(), clean(m.EnvID), clean(m.Client), m.Header,
		c.shards, c.states, c.notifies, c.destinations, c.locals, c.domains, c.originals, c.types, c.keys, c.hops, c.reasons,
	}
	sql := enqueueSQL
	if m.Author != "" {
		sql, args = enqueueAuthorSQL, append(args, m.Author)
	}
	if _, err := tx.Exec(ctx, sql, args...); err != nil {
		return postgres.Classify(fmt.Errorf("enqueue %s: %w", m.QueueID, err))
	}
	return nil
}

// columns are recipients as arrays, which the database turns into rows.
type columns struct {
	shards, states, notifies                                             []int16
	destinations, locals, domains, originals, types, keys, hops, reasons []string
}

func columnsOf(id envelope.QueueID, rcpts []Recipient) *columns {
	n := len(rcpts)
	numbers, texts := make([]int16, 3*n), make([]string, 8*n)
	c := &columns{
		shards: numbers[:n], states: numbers[n : 2*n], notifies: numbers[2*n:],
		destinations: texts[:n], locals: texts[n : 2*n], domains: texts[2*n : 3*n], originals: texts[3*n : 4*n],
		types: texts[4*n : 5*n], keys: texts[5*n : 6*n], hops: texts[6*n : 7*n], reasons: texts[7*n:],
	}
	for i := range rcpts {
		r := &rcpts[i]
		d := Destination(r)
		c.shards[i], c.destinations[i], c.notifies[i] = shardOf(id, d), d, int16(r.Notify)
		if r.Held {
			c.states[i], c.reasons[i] = int16(StateHeld), clean(r.Reason)
		}
		c.locals[i], c.domains[i] = clean(r.Address.Local), r.Address.Domain
		c.originals[i], c.types[i], c.keys[i], c.hops[i] = clean(r.Original), r.OriginalType, r.Local, r.NextHop
		if r.Local == "" && r.NextHop != "" {
			c.keys[i] = r.Person
		}
	}
	return c
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Exists reports whether a message is in the queue: what a caller asks who did
// not hear whether its transaction was committed.
func (q *Queue) Exists(ctx context.Context, id envelope.QueueID) (bool, error) {
	var there bool
	err := q.db.QueryRow(ctx, postgres.Delivery, `select exists (select from outq_msg where queue_id = $1)`, int64(id)).Scan(&there)
	if err != nil {
		return false, fmt.Errorf("look for %s in the queue: %w", id, err)
	}
	return there, nil
}

// Wake says that something is due: this node's queue manager looks at once, and
// the others are told.
func (q *Queue) Wake() {
	q.WakeHere()
	if q.config.Publish != nil {
		q.config.Publish()
	}
}

// WakeHere is Wake for this node alone: what the bus calls when another node
// has published.
func (q *Queue) WakeHere() {
	select {
	case q.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// Woken returns the channel on which one value stands for any number of calls
// of Wake. There is one queue manager per Queue to read it.
func (q *Queue) Woken() <-chan struct{} { return q.wake }

const referencesSQL = `
select distinct blob_id
  from outq_msg
 where blob_id = any ($1)`

// References returns those of ids that queued messages refer to: the blob.Referrer
// of the queue. A blob that is named here must not be collected.
func (q *Queue) References(ctx context.Context, ids []blob.ID) ([]blob.ID, error) {
	rows, err := q.db.Query(ctx, postgres.Background, referencesSQL, ids)
	if err != nil {
		return nil, fmt.Errorf("blobs of the queue: %w", err)
	}
	used, err := postgres.CollectValues[blob.ID](rows)
	if err != nil {
		return nil, fmt.Errorf("blobs of the queue: %w", err)
	}
	return used, nil
}
