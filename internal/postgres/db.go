package postgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What other packages need of the driver.
type (
	Tx         = pgx.Tx
	Rows       = pgx.Rows
	Row        = pgx.Row
	Batch      = pgx.Batch
	CommandTag = pgconn.CommandTag
	Identifier = pgx.Identifier
	// Bytes scans a bytea without copying it: valid until the next row.
	Bytes = pgtype.DriverBytes
	// UUID is a uuid that may be null.
	UUID = pgtype.UUID
)

// BatchResults are the results of a Batch, to be read in order.
type BatchResults interface {
	Exec() (CommandTag, error)
	Query() (Rows, error)
	QueryRow() Row
	Close() error
}

// ErrNoRows is what Scan returns for a query without a row.
var ErrNoRows = pgx.ErrNoRows

// ErrUnsafe reports a database that may forget what it has committed.
var ErrUnsafe = errors.New("database does not keep what it commits")

// DB is the database: three pools over one URL.
type DB struct {
	config Config
	log    *slog.Logger
	pools  [classes]*pgxpool.Pool
	offset atomic.Int64 // of the database's clock to ours, nanoseconds
	lastID atomic.Int64 // that NewID has returned
}

// Open connects to the database and checks that it can be trusted: its version,
// its encoding, and that it keeps what it commits.
func Open(ctx context.Context, c Config, log *slog.Logger) (*DB, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	db := &DB{config: c, log: log}
	for class := range classes {
		pc, err := c.pool(class)
		if err != nil {
			return nil, err
		}
		p, err := pgxpool.NewWithConfig(ctx, pc)
		if err != nil {
			db.Close()
			return nil, Classify(fmt.Errorf("open database: %w", err))
		}
		db.pools[class] = p
	}
	if err := db.check(ctx); err != nil {
		db.Close()
		return nil, c.explainConnect(err)
	}
	return db, nil
}

const settingsSQL = `
select current_setting('server_version_num')::int,
       current_setting('server_encoding'),
       current_setting('fsync'),
       current_setting('full_page_writes'),
       current_setting('synchronous_commit')`

// check refuses a database that would lose mail or cannot hold its text.
func (db *DB) check(ctx context.Context) error {
	var (
		version                            int
		encoding, fsync, pages, syncCommit string
	)
	err := db.QueryRow(ctx, Interactive, settingsSQL).Scan(&version, &encoding, &fsync, &pages, &syncCommit)
	if err != nil {
		return Classify(fmt.Errorf("open database: %w", err))
	}
	if version < 150000 {
		return fmt.Errorf("PostgreSQL %d.%d is too old: need 15 or newer", version/10000, version%10000)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("database encoding is %s: create the database with encoding UTF8", encoding)
	}
	if !db.config.AllowUnsafe && (fsync != "on" || pages != "on" || syncCommit == "off") {
		return fmt.Errorf("%w: fsync is %s, full_page_writes is %s, synchronous_commit is %s: switch them on", ErrUnsafe, fsync, pages, syncCommit)
	}
	return db.readClock(ctx)
}

// Close closes all connections. It waits for those in use.
func (db *DB) Close() {
	for _, p := range db.pools {
		if p != nil {
			p.Close()
		}
	}
}

// Query runs a statement that returns rows. The rows hold a connection until
// they are closed or read to the end.
func (db *DB) Query(ctx context.Context, c Class, sql string, args ...any) (Rows, error) {
	rows, err := db.pools[c].Query(ctx, sql, args...)
	return rows, Classify(err)
}

// QueryRow runs a statement that returns one row. Errors come from Scan,
// classified; no row is ErrNoRows.
func (db *DB) QueryRow(ctx context.Context, c Class, sql string, args ...any) Row {
	return classifiedRow{db.pools[c].QueryRow(ctx, sql, args...)}
}

type classifiedRow struct{ row Row }

func (r classifiedRow) Scan(dest ...any) error { return Classify(r.row.Scan(dest...)) }

// Exec runs a statement in a transaction of its own.
func (db *DB) Exec(ctx context.Context, c Class, sql string, args ...any) (CommandTag, error) {
	tag, err := db.pools[c].Exec(ctx, sql, args...)
	return tag, Classify(err)
}

// SendBatch sends the statements of b in one round trip, as one transaction.
func (db *DB) SendBatch(ctx context.Context, c Class, b *Batch) BatchResults {
	return db.pools[c].SendBatch(ctx, b)
}

// CollectRows reads all rows into structs, fields in the order of the columns,
// and closes rows.
func CollectRows[T any](rows Rows) ([]T, error) {
	v, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	return v, Classify(err)
}

// CollectValues reads all rows of one column, and closes rows.
func CollectValues[T any](rows Rows) ([]T, error) {
	v, err := pgx.CollectRows(rows, pgx.RowTo[T])
	return v, Classify(err)
}

// Now returns the time by the database's clock, which is the one clock of all
// nodes. It does no I/O.
func (db *DB) Now() time.Time {
	return time.Now().Add(time.Duration(db.offset.Load())).UTC()
}

// NewID returns a new id: 42 bits of milliseconds and 21 random ones, positive,
// near-sequential in an index. Those of one node rise strictly: at a thousand
// messages a second chance alone would give two the same id every half hour,
// and a message whose id is known is taken for delivered. Two nodes have the same
// one by chance only, 2 million to one within a millisecond.
func (db *DB) NewID() int64 {
	var b [4]byte
	rand.Read(b[:]) // never fails
	id := db.Now().UnixMilli()<<21 | int64(binary.LittleEndian.Uint32(b[:])>>11)
	for {
		last := db.lastID.Load()
		if db.lastID.CompareAndSwap(last, max(id, last+1)) {
			return max(id, last+1)
		}
	}
}

// readClock measures the offset of the database's clock to ours, good to half
// a round trip.
func (db *DB) readClock(ctx context.Context) error {
	before := time.Now()
	var theirs time.Time
	if err := db.QueryRow(ctx, Interactive, `select clock_timestamp()`).Scan(&theirs); err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	middle := before.Add(time.Since(before) / 2)
	db.offset.Store(int64(theirs.Sub(middle)))
	return nil
}

// clockInterval is how often the offset of the database's clock is measured.
const clockInterval = 30 * time.Second

// Run keeps the clock until ctx is done. A database that does not answer is
// logged once, and once more when it is back.
func (db *DB) Run(ctx context.Context) error {
	tick := time.NewTicker(clockInterval)
	defer tick.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		probe, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := db.readClock(probe)
		cancel()
		switch {
		case err != nil && !away && ctx.Err() == nil:
			db.log.ErrorContext(ctx, "database away", "err", err)
			away = true
		case err == nil && away:
			db.log.InfoContext(ctx, "database back")
			away = false
		}
	}
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	return Classify(db.pools[Interactive].Ping(ctx))
}

// Stat is the state of one pool, for metrics.
type Stat struct {
	Class            Class
	InUse, Open, Max int32
	Acquired, Waited int64
	AcquiredAfter    time.Duration // summed over all acquisitions
}

// Stats returns the state of the pools.
func (db *DB) Stats() []Stat {
	s := make([]Stat, 0, classes)
	for class, p := range db.pools {
		st := p.Stat()
		s = append(s, Stat{Class(class), st.AcquiredConns(), st.TotalConns(), st.MaxConns(), st.AcquireCount(), st.EmptyAcquireCount(), st.AcquireDuration()})
	}
	return s
}

// String returns the name of the class, for metrics.
func (c Class) String() string {
	return [...]string{"interactive", "delivery", "background"}[c]
}
