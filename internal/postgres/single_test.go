package postgres_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// one runs a statement as a transaction of its own and reads its row.
func one(ctx context.Context, db *postgres.DB, sql string, args []any, dest ...any) error {
	return db.Transact(ctx, postgres.Delivery, func(b *postgres.Batch) { b.Queue(sql, args...) }, func(results postgres.BatchResults) error {
		return results.QueryRow().Scan(dest...)
	})
}

// What a statement of its own may come to, each on the connection of the one
// before it.
func TestSingle(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.PostgresURL(t))
	ctx := t.Context()
	if _, err := db.Exec(ctx, postgres.Interactive, `create table t (n int primary key, s text)`); err != nil {
		t.Fatal(err)
	}
	var n int
	var s string
	var list []int64
	const insert = `insert into t values ($1, $2) returning n, s`
	if err := one(ctx, db, insert, []any{1, "一"}, &n, &s); err != nil || n != 1 || s != "一" {
		t.Errorf("row: %d %q %v", n, s, err)
	}
	if err := one(ctx, db, `select array[$1::bigint, $2]`, []any{int64(3), int64(4)}, &list); err != nil || len(list) != 2 || list[1] != 4 {
		t.Errorf("array: %v %v", list, err)
	}
	if code, _ := postgres.State(one(ctx, db, insert, []any{1, "x"}, &n, &s)); code != postgres.UniqueViolation {
		t.Errorf("taken key: state %q", code)
	}
	if err := one(ctx, db, `select n from t where n = 99`, nil, &n); !errors.Is(err, postgres.ErrNoRows) {
		t.Errorf("no row: %v", err)
	}
	for what, err := range map[string]error{
		"argument": one(ctx, db, insert, []any{"no number", "x"}, &n, &s),
		"type":     one(ctx, db, `select s from t`, nil, &n),
		"columns":  one(ctx, db, `select n, s from t`, nil, &n),
		"syntax":   one(ctx, db, `select from nowhere`, nil, &n),
	} {
		if err == nil || errors.Is(err, postgres.ErrUnknown) {
			t.Errorf("wrong %s: %v", what, err)
		}
	}
	if err := one(ctx, db, `select count(*) from t`, nil, &n); err != nil || n != 1 {
		t.Errorf("afterwards %d rows, %v", n, err)
	}
	for _, st := range db.Stats() {
		if st.Class == postgres.Delivery && (st.Open != 1 || st.InUse != 0) {
			t.Errorf("connections: %+v, want the one that served all", st)
		}
	}
}

// A statement ends with its context, and its outcome is unknown then.
func TestSingleCancelled(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.PostgresURL(t))
	var n int
	if err := one(t.Context(), db, `select 1`, nil, &n); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := one(ctx, db, `select 1 from pg_sleep(60)`, nil, &n)
	if !errors.Is(err, postgres.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	if err := one(t.Context(), db, `select 2`, nil, &n); err != nil || n != 2 {
		t.Errorf("the next one: %d %v", n, err)
	}
}

// cutter passes connections on to a server, and once armed ends each after what
// the client says next has arrived there.
type cutter struct{ armed atomic.Bool }

func (c *cutter) serve(l net.Listener, server string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		back, err := net.Dial("unix", server)
		if err != nil {
			client.Close()
			continue
		}
		go func() {
			defer client.Close()
			_, _ = io.Copy(client, back)
		}()
		go func() {
			defer back.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := client.Read(buf)
				if err != nil {
					return
				}
				if _, err := back.Write(buf[:n]); err != nil {
					return
				}
				if c.armed.CompareAndSwap(true, false) {
					client.Close()
					time.Sleep(100 * time.Millisecond) // the server reads it, and answers to nobody
					return
				}
			}
		}()
	}
}

// A connection that breaks after the statement was sent leaves its outcome
// unknown, and it is not run again.
func TestSingleConnectionLost(t *testing.T) {
	t.Parallel()
	real := testenv.PostgresURL(t)
	u, err := url.Parse(real)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	name := ".s.PGSQL." + q.Get("port")
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var c cutter
	go c.serve(l, filepath.Join(q.Get("host"), name))
	q.Set("host", strings.TrimSuffix(l.Addr().String(), "/"+name))
	u.RawQuery = q.Encode()

	db, err := postgres.Open(t.Context(), postgres.Config{URL: u.String(), AllowUnsafe: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(t.Context(), postgres.Interactive, `create table t (n int)`); err != nil {
		t.Fatal(err)
	}
	var n int
	const insert = `insert into t values ($1) returning n`
	if err := one(t.Context(), db, insert, []any{1}, &n); err != nil {
		t.Fatal(err)
	}
	c.armed.Store(true)
	if err := one(t.Context(), db, insert, []any{2}, &n); !errors.Is(err, postgres.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); { // the server may need a moment
		if err := one(t.Context(), db, `select count(*) from t where n = 2`, nil, &n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n != 1 {
		t.Errorf("the statement was run %d times", n)
	}
}
