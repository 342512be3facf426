package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, url string) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url, AllowUnsafe: true}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		c    postgres.Config
		want string // in the error, "" for none
	}{
		{"unix socket", postgres.Config{URL: "postgres://u@/db?host=/run/pg"}, ""},
		{"keywords", postgres.Config{URL: "host=/run/pg user=u dbname=db"}, ""},
		{"verified", postgres.Config{URL: "postgres://u@db.example/db?sslmode=verify-full&channel_binding=require"}, ""},
		{"empty", postgres.Config{}, "empty"},
		{"clear", postgres.Config{URL: "postgres://u@db.example/db?sslmode=disable"}, "verify-full"},
		{"preferred", postgres.Config{URL: "postgres://u@db.example/db"}, "verify-full"},
		{"not verified", postgres.Config{URL: "postgres://u@db.example/db?sslmode=require"}, "verify-full"},
		{"name not verified", postgres.Config{URL: "postgres://u@db.example/db?sslmode=verify-ca"}, "verify-full"},
		{"one of two hosts", postgres.Config{URL: "postgres://u@/db?host=/run/pg,db.example&sslmode=prefer"}, "verify-full"},
		{"allowed", postgres.Config{URL: "postgres://u@db.example/db?sslmode=disable", AllowInsecure: true}, ""},
		{"pool", postgres.Config{URL: "host=/run/pg", Delivery: -1}, "pool"},
		{"timeout", postgres.Config{URL: "host=/run/pg", LockTimeout: -time.Second}, "timeout"},
		{"not parsed", postgres.Config{URL: "postgres://u:secret@db.example:port/db"}, "cannot be parsed"},
		{"not parsed either", postgres.Config{URL: "host=/run/pg password='secret"}, "cannot be parsed"},
	} {
		err := c.c.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password: %v", c.name, err)
		}
	}
}

// Serving is refused on a database that forgets.
func TestOpenRefusesUnsafe(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t) // this server does not wait for the disk
	if _, err := postgres.Open(t.Context(), postgres.Config{URL: url}, quiet); !errors.Is(err, postgres.ErrUnsafe) || !strings.Contains(err.Error(), "fsync is off") {
		t.Errorf("got %v, want ErrUnsafe", err)
	}
	safe := testenv.DurablePostgresURL(t)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: safe}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), postgres.Interactive, `alter role postgres in database `+databaseOf(t, db)+` set synchronous_commit = off`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := postgres.Open(t.Context(), postgres.Config{URL: safe}, quiet); !errors.Is(err, postgres.ErrUnsafe) {
		t.Errorf("synchronous_commit off for the role: %v", err)
	}
	_, err = postgres.Open(t.Context(), postgres.Config{URL: "postgres://u@/db?host=" + t.TempDir()}, quiet)
	if !errors.Is(err, envelope.ErrDatabase) {
		t.Errorf("no server: %v", err)
	}
}

func databaseOf(t *testing.T, db *postgres.DB) (name string) {
	t.Helper()
	if err := db.QueryRow(t.Context(), postgres.Interactive, `select current_database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestSession(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.PostgresURL(t))
	for class, want := range map[postgres.Class]string{
		postgres.Interactive: "dirpost interactive 30s 10s 10s",
		postgres.Delivery:    "dirpost delivery 30s 10s 10s",
		postgres.Background:  "dirpost background 30s 10s 10s",
	} {
		var app, statement, idle, lock string
		err := db.QueryRow(t.Context(), class, `select current_setting('application_name'), current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')`).
			Scan(&app, &statement, &idle, &lock)
		if got := fmt.Sprint(app, " ", statement, " ", idle, " ", lock); err != nil || got != want {
			t.Errorf("%v: %s %v, want %s", class, got, err, want)
		}
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.PostgresURL(t))
	raise := func(code string) error {
		_, err := db.Exec(t.Context(), postgres.Interactive, `do $$ begin raise exception 'x' using errcode = '`+code+`', detail = 'why'; end $$`)
		return err
	}
	for code, want := range map[string]*envelope.Error{
		"53100": envelope.ErrDiskFull,
		"53300": envelope.ErrBusy,
		"57014": envelope.ErrBusy,
		"40001": envelope.ErrBusy,
		"23505": envelope.ErrDatabase,
		"DP123": envelope.ErrDatabase,
	} {
		err := raise(code)
		if !errors.Is(err, want) || !envelope.StatusOf(err).IsTemporary() {
			t.Errorf("%s: %v, want %v", code, err, want)
		}
		if c, detail := postgres.State(err); c != code || detail != "why" {
			t.Errorf("%s: state %s %s", code, c, detail)
		}
	}
	var n int
	if err := db.QueryRow(t.Context(), postgres.Interactive, `select 1 where false`).Scan(&n); err != postgres.ErrNoRows {
		t.Errorf("no row: %v", err)
	}
	if err := postgres.Classify(nil); err != nil {
		t.Errorf("nil: %v", err)
	}
	own := errors.New("own")
	if err := postgres.Classify(own); err != own {
		t.Errorf("an error of somebody else: %v", err)
	}
}

// Two transactions that lock in opposite order: one is run again.
func TestInTxRunsAgain(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.PostgresURL(t))
	for _, sql := range []string{`create table t (id int primary key, n int not null)`, `insert into t values (1, 0), (2, 0)`} {
		if _, err := db.Exec(t.Context(), postgres.Interactive, sql); err != nil {
			t.Fatal(err)
		}
	}
	var wg, both sync.WaitGroup
	both.Add(2)
	runs := make([]int, 2)
	for i := range 2 {
		wg.Go(func() {
			err := db.InTx(context.Background(), postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
				runs[i]++
				for k, id := range []int{1 + i, 2 - i} {
					if _, err := tx.Exec(ctx, `update t set n = n + 1 where id = $1`, id); err != nil {
						return err
					}
					if k == 0 && runs[i] == 1 {
						both.Done()
						both.Wait() // each has one lock now
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var sum int
	if err := db.QueryRow(t.Context(), postgres.Interactive, `select sum(n) from t`).Scan(&sum); err != nil || sum != 4 {
		t.Errorf("sum %d %v, want 4", sum, err)
	}
	if runs[0]+runs[1] < 3 {
		t.Errorf("runs %v: the deadlock did not happen", runs)
	}
}

// A connection that is ended before COMMIT costs a second run, not an error; an
// error of the function's own is returned, and nothing is left behind.
func TestInTxConnectionLost(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.PostgresURL(t))
	if _, err := db.Exec(t.Context(), postgres.Interactive, `create table t (n int)`); err != nil {
		t.Fatal(err)
	}
	runs := 0
	err := db.InTx(t.Context(), postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		if _, err := tx.Exec(ctx, `insert into t values (1)`); err != nil {
			return err
		}
		if runs++; runs == 1 {
			var pid int
			if err := tx.QueryRow(ctx, `select pg_backend_pid()`).Scan(&pid); err != nil {
				return err
			}
			if _, err := db.Exec(ctx, postgres.Background, `select pg_terminate_backend($1)`, pid); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `select 1`)
			return err
		}
		return nil
	})
	if err != nil || runs != 2 {
		t.Errorf("%d runs, %v", runs, err)
	}
	own := errors.New("own")
	err = db.InTx(t.Context(), postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		if _, err := tx.Exec(ctx, `insert into t values (2)`); err != nil {
			return err
		}
		return own
	})
	if !errors.Is(err, own) {
		t.Errorf("got %v", err)
	}
	var sum int
	if err := db.QueryRow(t.Context(), postgres.Interactive, `select sum(n) from t`).Scan(&sum); err != nil || sum != 1 {
		t.Errorf("sum %d %v, want 1", sum, err)
	}
}

// A connection that is ended after the statements were sent leaves the outcome
// unknown.
func TestTransactUnknown(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.PostgresURL(t))
	runs := 0
	err := db.Transact(t.Context(), postgres.Delivery, func(b *postgres.Batch) {
		runs++
		b.Queue(`select pg_terminate_backend(pg_backend_pid())`)
		b.Queue(`select 1`)
	}, func(results postgres.BatchResults) error {
		var ok bool
		return results.QueryRow().Scan(&ok)
	})
	// The server says why it ends the session: then it is certain.
	if !errors.Is(err, envelope.ErrDatabase) || errors.Is(err, postgres.ErrUnknown) && runs > 1 {
		t.Errorf("%d runs, %v", runs, err)
	}
	var n int
	if err := db.Transact(t.Context(), postgres.Delivery, func(b *postgres.Batch) { b.Queue(`select 7`) }, func(results postgres.BatchResults) error {
		return results.QueryRow().Scan(&n)
	}); err != nil || n != 7 {
		t.Errorf("the next one: %d %v", n, err)
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.PostgresURL(t))
	now := db.Now()
	last := int64(0)
	for range 1000 {
		id := db.NewID()
		if d := time.UnixMilli(id >> 21).Sub(now); id <= 0 || d < -time.Second || d > time.Minute {
			t.Fatalf("id %d of %v, now %v", id, time.UnixMilli(id>>21), now)
		}
		if id <= last {
			t.Fatalf("id %d after %d", id, last)
		}
		last = id
	}
	var theirs time.Time
	if err := db.QueryRow(t.Context(), postgres.Interactive, `select clock_timestamp()`).Scan(&theirs); err != nil {
		t.Fatal(err)
	}
	if d := db.Now().Sub(theirs); d < -time.Second || d > 10*time.Second {
		t.Errorf("Now is %v from the database's clock", d)
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	sender, receiver := open(t, url), open(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got, connected, done := make(chan string, 10), make(chan bool, 10), make(chan error, 1)
	go func() {
		done <- receiver.Listen(ctx, `odd "channel"`, func(p string) { got <- p }, func() { connected <- true })
	}()
	<-connected
	if err := sender.Notify(ctx, `odd "channel"`, []string{"one", "two"}); err != nil {
		t.Fatal(err)
	}
	if a, b := <-got, <-got; a != "one" || b != "two" {
		t.Errorf("got %s, %s", a, b)
	}
	// The listener comes back by itself, and says so.
	if _, err := sender.Exec(ctx, postgres.Interactive, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dirpost listener' and datname = current_database()`); err != nil {
		t.Fatal(err)
	}
	<-connected
	if err := sender.Notify(ctx, `odd "channel"`, []string{"three"}); err != nil {
		t.Fatal(err)
	}
	if p := <-got; p != "three" {
		t.Errorf("got %s", p)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
