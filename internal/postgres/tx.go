package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"dirpost/internal/envelope"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxAttempts bounds how often a transaction is run.
const maxAttempts = 5

// InTx runs f in a transaction of READ COMMITTED and commits it unless f fails.
// It runs f again after a failure that a second attempt may cure, as long as
// the transaction was certainly not committed. Errors are classified;
// ErrUnknown says that the outcome is not known.
func (db *DB) InTx(ctx context.Context, c Class, f func(ctx context.Context, tx Tx) error) error {
	return db.inTx(ctx, c, pgx.TxOptions{}, f)
}

// InSnapshot is InTx for reading: all statements of f see the same state.
func (db *DB) InSnapshot(ctx context.Context, c Class, f func(ctx context.Context, tx Tx) error) error {
	return db.inTx(ctx, c, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, f)
}

func (db *DB) inTx(ctx context.Context, c Class, opts pgx.TxOptions, f func(ctx context.Context, tx Tx) error) error {
	return retry(ctx, func() error { return db.tryTx(ctx, c, opts, f) })
}

// retry calls try until it succeeds or fails for good.
func retry(ctx context.Context, try func() error) error {
	for attempt := 1; ; attempt++ {
		err := try()
		if err == nil {
			return nil
		}
		if attempt == maxAttempts || ctx.Err() != nil || errors.Is(err, ErrUnknown) || !isRepeatable(err) {
			return Classify(err)
		}
		pause := time.Duration(rand.Int64N(int64(attempt * attempt * int(4*time.Millisecond))))
		select {
		case <-ctx.Done():
			return Classify(err)
		case <-time.After(pause):
		}
	}
}

func (db *DB) tryTx(ctx context.Context, c Class, opts pgx.TxOptions, f func(ctx context.Context, tx Tx) error) error {
	tx, err := db.pools[c].BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// Rollback after a commit does nothing. It must not fail to reach the
	// server because ctx is over: the connection would be thrown away.
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = tx.Rollback(ending) // the error that counts is f's
	}()
	if err := f(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		var pe *pgconn.PgError
		if errors.As(err, &pe) || errors.Is(err, pgx.ErrTxCommitRollback) {
			return fmt.Errorf("commit: %w", err) // the server says that it was rolled back
		}
		return envelope.Because(envelope.StatusDatabase, fmt.Errorf("commit: %w: %w", ErrUnknown, err))
	}
	return nil
}

// Transact sends statements in one round trip as a transaction of their own, and
// gives the results to read, in order. It is the cheapest form of a transaction:
// BEGIN and COMMIT need no round trip. build queues the statements, read reads
// each result and closes nothing; both run again after a failure that a second
// attempt may cure.
//
// A connection that breaks after the statements were sent leaves the outcome
// unknown: ErrUnknown.
func (db *DB) Transact(ctx context.Context, c Class, build func(*Batch), read func(BatchResults) error) error {
	return retry(ctx, func() error {
		var b Batch
		build(&b)
		return db.tryBatch(ctx, c, &b, read)
	})
}

func (db *DB) tryBatch(ctx context.Context, c Class, b *Batch, read func(BatchResults) error) error {
	conn, err := db.pools[c].Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Release()
	var results BatchResults
	if len(b.QueuedQueries) == 1 {
		results = &single{ctx: ctx, conn: conn, query: b.QueuedQueries[0]}
	} else {
		results = conn.SendBatch(ctx, b)
	}
	err = read(results)
	if closing := results.Close(); err == nil {
		err = closing
	}
	if err == nil {
		return nil
	}
	var pe *pgconn.PgError
	switch {
	case errors.Is(err, ErrUnknown):
		return envelope.Because(envelope.StatusDatabase, fmt.Errorf("commit: %w", err))
	case errors.As(err, &pe) || !conn.Conn().IsClosed() || pgconn.SafeToRetry(err):
		return err
	}
	return envelope.Because(envelope.StatusDatabase, fmt.Errorf("commit: %w: %w", ErrUnknown, err))
}
