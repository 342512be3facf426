package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// single is the BatchResults of one statement. By itself a statement is a
// transaction of its own, too, and costs the driver less than a pipeline.
type single struct {
	ctx   context.Context // of one call of Transact: BatchResults has none
	conn  *pgxpool.Conn
	query *pgx.QueuedQuery
	done  bool
}

func (s *single) take() (string, []any) {
	if s.done {
		panic("one statement has one result")
	}
	s.done = true
	return s.query.SQL, s.query.Arguments
}

// Exec implements BatchResults.
func (s *single) Exec() (CommandTag, error) {
	sql, args := s.take()
	return s.conn.Exec(s.ctx, sql, args...)
}

// Query implements BatchResults.
func (s *single) Query() (Rows, error) {
	sql, args := s.take()
	return s.conn.Query(s.ctx, sql, args...)
}

// QueryRow implements BatchResults. The statement runs when its row is scanned.
func (s *single) QueryRow() Row {
	sql, args := s.take()
	return &singleRow{s, sql, args}
}

// Close implements BatchResults. A statement whose result nobody has read is
// run all the same.
func (s *single) Close() error {
	if s.done {
		return nil
	}
	_, err := s.Exec()
	return err
}

// singleRow is the row of a statement of its own, read without the query machinery
// of the driver. This is how nearly every message is delivered, and the dearest
// part of what the driver does for it is a timer: before each request it starts
// one that would read answers while the request is still being written. It is
// the nearest of all timers, so that the runtime wakes a thread to wait for it.
// Here nothing is answered before the request is whole: it is one statement.
type singleRow struct {
	*single
	sql  string
	args []any
}

// Scan implements Row. It ends with its context, as all statements do.
func (r *singleRow) Scan(dest ...any) error {
	conn := r.conn.Conn()
	sd, err := conn.Prepare(r.ctx, r.sql, r.sql) // nothing to do but the first time
	if err != nil {
		return err
	}
	q := requests.Get().(*request)
	defer q.release()
	if err := q.build(conn.TypeMap(), sd, r.args); err != nil {
		return fmt.Errorf("encode arguments: %w", err)
	}
	sock, over := conn.PgConn().Conn(), make(chan struct{})
	stop := context.AfterFunc(r.ctx, func() {
		sock.SetDeadline(longAgo)
		close(over)
	})
	defer func() {
		if !stop() {
			<-over
			sock.SetDeadline(time.Time{}) // it came too late
		}
	}()
	if _, err := sock.Write(q.buf); err != nil {
		return r.broken(err)
	}
	return r.answer(sd, q.formats, dest)
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// answer reads up to the end of the answer.
func (r *singleRow) answer(sd *pgconn.StatementDescription, formats []int16, dest []any) error {
	conn := r.conn.Conn()
	answer := ErrNoRows
	for {
		msg, err := conn.PgConn().ReceiveMessage(context.Background())
		if err != nil {
			err = r.broken(errors.Unwrap(err)) // the driver calls it safe to try again: it is not
			var said *pgconn.PgError
			if errors.As(answer, &said) {
				return answer // before it hung up
			}
			return err
		}
		switch msg := msg.(type) {
		case *pgproto3.DataRow:
			answer = scan(conn.TypeMap(), sd, formats, msg, dest)
		case *pgproto3.ErrorResponse:
			answer = pgconn.ErrorResponseToPgError(msg)
		case *pgproto3.ReadyForQuery:
			return answer
		}
	}
}

// scan reads a row.
func scan(types *pgtype.Map, sd *pgconn.StatementDescription, formats []int16, row *pgproto3.DataRow, dest []any) error {
	if len(dest) != len(row.Values) {
		return fmt.Errorf("%d columns for %d destinations", len(row.Values), len(dest))
	}
	for i := range dest {
		if err := types.Scan(sd.Fields[i].DataTypeOID, formats[i], row.Values[i], dest[i]); err != nil {
			return fmt.Errorf("read column %s: %w", sd.Fields[i].Name, err)
		}
	}
	return nil
}

// broken closes a connection on which something was sent and not answered to the
// end: nobody knows what has happened, nor what is still to come.
func (r *singleRow) broken(err error) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // there is nothing to say and nothing to wait for
	_ = r.conn.Conn().Close(ctx)
	if r.ctx.Err() != nil {
		err = r.ctx.Err()
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}
