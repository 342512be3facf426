package queue

import (
	"context"
	"fmt"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// ErrNotFound reports a queue id that is not in the queue.
var ErrNotFound = envelope.ErrNotFound

const messagesSQL = `
select queue_id, accepted_at, expires_at, body_size, body_lines, blob_id, body_hash, body_codec, body,
       ret, flags, reverse_path, origin, envid, client, header,
       coalesce((select a.person from outq_author a where a.queue_id = m.queue_id), '')
  from outq_msg m
 where queue_id = any ($1)`

// Messages returns the messages of ids that are in the queue.
func (q *Queue) Messages(ctx context.Context, ids []envelope.QueueID) (map[envelope.QueueID]*Message, error) {
	numbers := make([]int64, len(ids))
	for i, id := range ids {
		numbers[i] = int64(id)
	}
	rows, err := q.db.Query(ctx, postgres.Background, messagesSQL, numbers)
	if err != nil {
		return nil, fmt.Errorf("read queued messages: %w", err)
	}
	defer rows.Close()
	messages := make(map[envelope.QueueID]*Message, len(ids))
	for rows.Next() {
		m, err := scanMessage(rows)
		if err != nil {
			return nil, postgres.Classify(fmt.Errorf("read queued messages: %w", err))
		}
		messages[m.QueueID] = m
	}
	if err := rows.Err(); err != nil {
		return nil, postgres.Classify(fmt.Errorf("read queued messages: %w", err))
	}
	return messages, nil
}

func scanMessage(rows postgres.Rows) (*Message, error) {
	var (
		m          = new(Message)
		id         int64
		blobID     *blob.ID
		hash       []byte
		ret, flags int16
		reverse    string
		origin     string
	)
	err := rows.Scan(&id, &m.Accepted, &m.Expires, &m.Body.Size, &m.Body.Lines, &blobID, &hash, &m.Body.Codec, &m.Body.Inline,
		&ret, &flags, &reverse, &origin, &m.EnvID, &m.Client, &m.Header, &m.Author)
	if err != nil {
		return nil, err
	}
	m.QueueID, m.Return = envelope.QueueID(id), envelope.Return(ret)
	m.SMTPUTF8, m.Body8Bit = flags&flagSMTPUTF8 != 0, flags&flag8Bit != 0
	copy(m.Body.Hash[:], hash)
	if blobID != nil {
		m.Body.Blob = *blobID
	}
	if m.ReversePath, err = parseReverse(reverse); err == nil {
		m.Origin, err = parseReverse(origin)
	}
	if err != nil {
		return nil, fmt.Errorf("reverse-path of %s: %w", m.QueueID, err)
	}
	return m, nil
}

func parseReverse(text string) (envelope.ReversePath, error) {
	if text == "" {
		return envelope.ReversePath{}, nil
	}
	a, err := envelope.ParseAddress(text)
	if err != nil {
		return envelope.ReversePath{}, fmt.Errorf("%q: %w", text, err)
	}
	return envelope.ReversePathOf(a), nil
}

// Entry is one recipient as `dirpost queue` lists it.
type Entry struct {
	QueueID     envelope.QueueID
	N           int32
	State       State
	ReversePath string
	Recipient   Recipient
	Size        int64 // octets of the message
	Accepted    time.Time
	Expires     time.Time
	Next        time.Time // next attempt, or end of the lease; zero when held
	Attempts    int
	Last        Reply
}

// Filter selects recipients. Its conditions hold together; the zero value
// selects all.
type Filter struct {
	QueueIDs    []envelope.QueueID
	Sender      string // address, "<>" for the null reverse-path
	Domain      string // of the recipient
	Destination string // ">host" for a given next hop, else a domain
	States      []State
}

// where is the condition of Filter; its parameters are $1 to $5.
type where struct {
	ids         []int64
	sender      *string
	domain      *string
	destination *string
	states      []int16
}

func (f Filter) where() where {
	var w where
	for _, id := range f.QueueIDs {
		w.ids = append(w.ids, int64(id))
	}
	for _, s := range f.States {
		w.states = append(w.states, int16(s))
	}
	if f.Sender != "" {
		sender := f.Sender
		if sender == "<>" {
			sender = ""
		}
		w.sender = &sender
	}
	if f.Domain != "" {
		w.domain = &f.Domain
	}
	if f.Destination != "" {
		w.destination = &f.Destination
	}
	return w
}

const listSQL = `
select o.queue_id, o.n, o.state, m.reverse_path, o.local_part, o.domain, o.original, o.original_type, o.notify, o.local_key, o.next_hop,
       length(m.header) + m.body_size, m.accepted_at, m.expires_at, case when o.state <> 2 then o.next_at end, o.attempts, o.code, o.dsn, o.reply, o.relay
  from outq o
  join outq_msg m on m.queue_id = o.queue_id
 where ($1::bigint[] is null or o.queue_id = any ($1))
   and ($2::text is null or m.reverse_path = $2)
   and ($3::text is null or o.domain = $3)
   and ($4::text is null or o.destination = $4)
   and ($5::smallint[] is null or o.state = any ($5))
   and (o.queue_id, o.n) > ($6, $7)
 order by o.queue_id, o.n
 limit $8`

// List returns up to limit recipients in the order in which they came, those
// after the given one. A zero Entry is before all.
func (q *Queue) List(ctx context.Context, f Filter, after Entry, limit int) ([]Entry, error) {
	n := after.N
	if after.QueueID == 0 {
		n = -1
	}
	w := f.where()
	rows, err := q.db.Query(ctx, postgres.Interactive, listSQL, w.ids, w.sender, w.domain, w.destination, w.states, int64(after.QueueID), n, limit)
	if err != nil {
		return nil, fmt.Errorf("list queue: %w", err)
	}
	defer rows.Close()
	var entries []Entry
	for rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return nil, postgres.Classify(fmt.Errorf("list queue: %w", err))
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, postgres.Classify(fmt.Errorf("list queue: %w", err))
	}
	return entries, nil
}

func scanEntry(rows postgres.Rows) (Entry, error) {
	var (
		e                   Entry
		id                  int64
		state, notify, code int16
		next                *time.Time
		key                 string
	)
	r := &e.Recipient
	err := rows.Scan(&id, &e.N, &state, &e.ReversePath, &r.Address.Local, &r.Address.Domain, &r.Original, &r.OriginalType, &notify, &key, &r.NextHop,
		&e.Size, &e.Accepted, &e.Expires, &next, &e.Attempts, &code, &e.Last.Enhanced, &e.Last.Text, &e.Last.Relay)
	if err != nil {
		return Entry{}, err
	}
	r.setKey(key)
	e.QueueID, e.State, e.Last.Code = envelope.QueueID(id), State(state), int(code)
	r.Notify = envelope.Notify(notify)
	if e.State == StateHeld {
		r.Held, r.Reason = true, e.Last.Text
	}
	if next != nil {
		e.Next = *next
	}
	return e, nil
}

// maxGet bounds how many recipients of one message Get returns.
const maxGet = 10_000

// Get returns a message and its recipients that are still in the queue.
func (q *Queue) Get(ctx context.Context, id envelope.QueueID) (*Message, []Entry, error) {
	messages, err := q.Messages(ctx, []envelope.QueueID{id})
	if err != nil {
		return nil, nil, err
	}
	m := messages[id]
	if m == nil {
		return nil, nil, fmt.Errorf("queue id %s: %w", id, ErrNotFound)
	}
	entries, err := q.List(ctx, Filter{QueueIDs: []envelope.QueueID{id}}, Entry{}, maxGet)
	return m, entries, err
}

// Count is how many recipients are in one state.
type Count struct {
	State      State
	Recipients int64
	Oldest     time.Time // acceptance of the oldest message
}

const countSQL = `
select o.state, count(*), min(m.accepted_at)
  from outq o
  join outq_msg m on m.queue_id = o.queue_id
 group by o.state
 order by o.state`

// Counts returns how full the queue is.
func (q *Queue) Counts(ctx context.Context) ([]Count, error) {
	rows, err := q.db.Query(ctx, postgres.Background, countSQL)
	if err != nil {
		return nil, fmt.Errorf("count queue: %w", err)
	}
	counts, err := postgres.CollectRows[Count](rows)
	if err != nil {
		return nil, fmt.Errorf("count queue: %w", err)
	}
	return counts, nil
}

const overdueSQL = `
select count(*), coalesce(extract(epoch from now() - min(next_at)), 0)::float8
  from outq
 where next_at < now() - make_interval(secs => $1)`

// Overdue returns how many recipients have been due for longer than after, and for
// how long the first of them: while a node works on the queue there are none, or few
// that wait for others to the same destination.
func (q *Queue) Overdue(ctx context.Context, after time.Duration) (int64, time.Duration, error) {
	var n int64
	var seconds float64
	if err := q.db.QueryRow(ctx, postgres.Background, overdueSQL, after.Seconds()).Scan(&n, &seconds); err != nil {
		return 0, 0, fmt.Errorf("count what is overdue in the queue: %w", err)
	}
	return n, time.Duration(seconds * float64(time.Second)), nil
}
