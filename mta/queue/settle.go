package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dirpost/internal/postgres"
)

// ErrLease reports that a lease ran out and somebody else has the recipient, or
// that the recipient was deleted meanwhile. What depends on it must not happen.
var ErrLease = errors.New("lease of a queued recipient is lost")

// key names a recipient row.
type key struct {
	queueID int64
	n       int32
}

const settleSQL = `
select queue_id, n
  from outq_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

// SettleTx records outcomes within a transaction of the caller that must not
// happen without them: a local delivery, a report. If the lease of any of them
// is lost it returns ErrLease, and the caller rolls back.
//
// It locks queue rows, so it comes after everything else in the transaction.
func (q *Queue) SettleTx(ctx context.Context, tx postgres.Tx, settlements []Settlement) error {
	settled, err := settle(ctx, tx, settlements)
	if err != nil {
		return err
	}
	if len(settled) != len(settlements) {
		return ErrLease
	}
	return nil
}

// Settle records outcomes in one statement that is a transaction of its own, and
// returns those whose lease was lost, for which it has changed nothing. It may
// be repeated when its own outcome is unknown: what it did then counts as lost.
func (q *Queue) Settle(ctx context.Context, settlements []Settlement) (lost []Settlement, err error) {
	settled, err := settle(ctx, statements{q.db}, settlements)
	if err != nil {
		return nil, err
	}
	for _, s := range settlements {
		if !settled[key{int64(s.Attempt.QueueID), s.Attempt.N}] {
			lost = append(lost, s)
		}
	}
	return lost, nil
}

// querier is a transaction, or statements that are one each.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (postgres.Rows, error)
}

type statements struct{ db *postgres.DB }

func (s statements) Query(ctx context.Context, sql string, args ...any) (postgres.Rows, error) {
	return s.db.Query(ctx, postgres.Background, sql, args...)
}

func settle(ctx context.Context, on querier, settlements []Settlement) (map[key]bool, error) {
	n := len(settlements)
	var (
		ids                     = make([]int64, n)
		ns, tokens              = make([]int32, n), make([]int32, n)
		verdicts, codes         = make([]int16, n), make([]int16, n)
		pauses                  = make([]time.Duration, n)
		dsns, replies, relayers = make([]string, n), make([]string, n), make([]string, n)
	)
	for i, s := range settlements {
		ids[i], ns[i], tokens[i] = int64(s.Attempt.QueueID), s.Attempt.N, s.Attempt.Token
		verdicts[i], pauses[i], codes[i] = int16(s.Verdict), s.Pause, int16(s.Reply.Code)
		dsns[i], replies[i], relayers[i] = clean(s.Reply.Enhanced), clean(s.Reply.Text), clean(s.Reply.Relay)
	}
	rows, err := on.Query(ctx, settleSQL, ids, ns, tokens, verdicts, pauses, reportDelay, codes, dsns, replies, relayers)
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("settle in queue: %w", err))
	}
	defer rows.Close()
	settled := make(map[key]bool, n)
	for rows.Next() {
		var k key
		if err := rows.Scan(&k.queueID, &k.n); err != nil {
			return nil, postgres.Classify(fmt.Errorf("settle in queue: %w", err))
		}
		settled[k] = true
	}
	if err := rows.Err(); err != nil {
		return nil, postgres.Classify(fmt.Errorf("settle in queue: %w", err))
	}
	return settled, nil
}
