package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dirpost/internal/postgres"
)

// errLease reports that this node does not feed the directory any more.
var errLease = errors.New("another node feeds the directory")

// rows is the replica in the database.
type rows struct {
	db *postgres.DB
}

// lease is the right to feed for a while.
type lease struct {
	token int64
}

const takeLeaseSQL = `
insert into directory_lease as l (name, holder, token, expires_at, version)
values ('directory', $1, 1, now() + make_interval(secs => $2), 0)
    on conflict (name) do update
   set holder = excluded.holder,
       token = l.token + 1,
       expires_at = excluded.expires_at
 where l.expires_at < now()
returning token`

// take takes the lease if nobody holds it, nil if somebody does. Whether it has
// run out is a question to the database's clock.
func (r rows) take(ctx context.Context, holder string, ttl time.Duration) (*lease, error) {
	var l lease
	err := r.db.QueryRow(ctx, postgres.Background, takeLeaseSQL, holder, ttl.Seconds()).Scan(&l.token)
	if errors.Is(err, postgres.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take lease of directory: %w", err)
	}
	return &l, nil
}

const renewLeaseSQL = `
update directory_lease
   set expires_at = now() + make_interval(secs => $2)
 where name = 'directory'
   and token = $1`

// renew extends the lease. errLease says that somebody else has it.
func (r rows) renew(ctx context.Context, l *lease, ttl time.Duration) error {
	tag, err := r.db.Exec(ctx, postgres.Background, renewLeaseSQL, l.token, ttl.Seconds())
	if err != nil {
		return fmt.Errorf("renew lease of directory: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errLease
	}
	return nil
}

const dropLeaseSQL = `
update directory_lease
   set expires_at = now() - interval '1 second'
 where name = 'directory'
   and token = $1`

// drop gives the lease back, so that the next node need not wait.
func (r rows) drop(ctx context.Context, l *lease) error {
	_, err := r.db.Exec(ctx, postgres.Background, dropLeaseSQL, l.token)
	return err
}

const freeLeaseSQL = `
update directory_lease
   set expires_at = now() - interval '1 second'
 where name = 'directory'`

// FreeLease gives the lease back in the name of a feeder that is known to be dead, so
// that the next node need not wait for its end. One that is alive after all writes
// nothing once another node has the lease.
func FreeLease(ctx context.Context, db *postgres.DB) error {
	if _, err := db.Exec(ctx, postgres.Background, freeLeaseSQL); err != nil {
		return fmt.Errorf("free lease of directory: %w", err)
	}
	return nil
}

const nextVersionSQL = `
update directory_lease
   set version = version + 1
 where name = 'directory'
   and token = $1
   and expires_at > now()
returning version`

const holdLeaseSQL = `
select version
  from directory_lease
 where name = 'directory'
   and token = $1
   and expires_at > now()
   for update`

const keepHistorySQL = `
insert into directory_history (key, version, packed, since, until)
select key, version, packed, changed_at, now()
  from directory_entry
 where key = any($1)`

const putEntriesSQL = `
insert into directory_entry as e (key, version, packed, changed_at)
select key, $3, packed, now()
  from unnest($1::text[], $2::bytea[]) as n (key, packed)
    on conflict (key) do update
   set version = excluded.version,
       packed = excluded.packed,
       changed_at = excluded.changed_at`

const putSourceSQL = `
insert into directory_source as s (name, cookie, complete, confirmed_at, compared_at, compared_changes, changed_at)
values ($1, $2, $3, now() - make_interval(secs => $4), case when $5 then now() end, $6, case when $7 then now() end)
    on conflict (name) do update
   set cookie = coalesce(excluded.cookie, s.cookie),
       complete = s.complete or excluded.complete,
       confirmed_at = coalesce(excluded.confirmed_at, s.confirmed_at),
       problem = case when excluded.confirmed_at is null then s.problem else '' end,
       compared_at = coalesce(excluded.compared_at, s.compared_at),
       compared_changes = case when $5 then excluded.compared_changes else s.compared_changes end,
       changed_at = coalesce(excluded.changed_at, s.changed_at),
       sync_asked_at = case when s.sync_asked_at <= $8::timestamptz then null else s.sync_asked_at end,
       release_asked_at = case when s.release_asked_at <= $9::timestamptz then null else s.release_asked_at end`

const brakeSQL = `
insert into directory_braked (key, directory, packed)
select key, $3, packed
  from unnest($1::text[], $2::bytea[]) as n (key, packed)
    on conflict (key) do update
   set packed = excluded.packed`

const unbrakeSQL = `
delete from directory_braked
 where key = any($1)`

// commit is what is written at once.
type commit struct {
	source   Source
	batch    Batch
	changes  []Change
	hold     hold
	found    int        // changes since the comparison began that the batch ends
	synced   *time.Time // requests for a comparison up to then are answered
	released *time.Time // requests for a release up to then are answered
}

// columns are the keys and packed entries of changes.
func columns(changes []Change) (keys []string, packed [][]byte) {
	keys, packed = make([]string, len(changes)), make([][]byte, len(changes))
	for i, c := range changes {
		keys[i] = string(c.Key)
		if c.Entry != nil {
			packed[i] = c.Entry.Pack()
		}
	}
	return keys, packed
}

// commit writes changes of a source with its cookie in one transaction, under
// the lease. It returns the version of the changes, 0 when there are none.
// A source that is late by its nature is confirmed for as long in advance.
func (r rows) commit(ctx context.Context, l *lease, c commit) (version int64, err error) {
	claim := holdLeaseSQL
	if len(c.changes) > 0 {
		claim = nextVersionSQL
	}
	err = r.db.InTx(ctx, postgres.Background, func(ctx context.Context, tx postgres.Tx) error {
		if err := tx.QueryRow(ctx, claim, l.token).Scan(&version); errors.Is(err, postgres.ErrNoRows) {
			return errLease
		} else if err != nil {
			return err
		}
		if len(c.changes) > 0 {
			keys, packed := columns(c.changes)
			if _, err := tx.Exec(ctx, keepHistorySQL, keys); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, putEntriesSQL, keys, packed, version); err != nil {
				return err
			}
		}
		return c.sourceTx(ctx, tx)
	})
	if err != nil {
		return 0, fmt.Errorf("write changes of directory %q: %w", c.source.Name(), err)
	}
	if len(c.changes) == 0 {
		return 0, nil
	}
	return version, nil
}

// sourceTx writes how far the source has been read, and what of it is held back.
func (c commit) sourceTx(ctx context.Context, tx postgres.Tx) error {
	if len(c.hold.put) > 0 {
		keys, packed := columns(c.hold.put)
		if _, err := tx.Exec(ctx, brakeSQL, keys, packed, c.source.Name()); err != nil {
			return err
		}
	}
	if len(c.hold.drop) > 0 {
		if _, err := tx.Exec(ctx, unbrakeSQL, c.hold.drop); err != nil {
			return err
		}
	}
	b := c.batch
	var age *float64 // null: nothing is known about it
	if !b.At.IsZero() {
		s := (time.Since(b.At) - c.source.Lag()).Seconds()
		age = &s
	}
	_, err := tx.Exec(ctx, putSourceSQL, c.source.Name(), b.Cookie, b.Complete, age,
		b.Complete && b.Vanish, c.found, len(c.changes) > 0, c.synced, c.released)
	return err
}

const putProblemSQL = `
insert into directory_source as s (name, problem)
values ($1, $2)
    on conflict (name) do update
   set problem = excluded.problem,
       confirmed_at = null`

// lost records that a source cannot be read now, and why.
func (r rows) lost(ctx context.Context, source, problem string) error {
	_, err := r.db.Exec(ctx, postgres.Background, putProblemSQL, source, problem)
	return err
}

const newSourcesSQL = `
insert into directory_source (name, late)
select name, exists (select from directory_source where complete)
  from unnest($1::text[]) as n (name)
    on conflict (name) do nothing`

const forgetSourcesSQL = `
with gone as (
  delete from directory_source
   where name <> all($1)
  returning name
), free as (
  delete from directory_braked
   where directory <> all($1)
)
select name
  from gone`

// configure makes rows for directories that are new, and forgets how far those were
// read that the configuration does not name any more; it returns their names.
func (r rows) configure(ctx context.Context, names []string) (former []string, err error) {
	if _, err := r.db.Exec(ctx, postgres.Background, newSourcesSQL, names); err != nil {
		return nil, err
	}
	rs, err := r.db.Query(ctx, postgres.Background, forgetSourcesSQL, names)
	if err != nil {
		return nil, err
	}
	return postgres.CollectValues[string](rs)
}

// state is what the database knows about one source.
type state struct {
	Name     string
	Complete bool
	Age      *float64 // seconds since it was confirmed, nil: not known
	Braked   int64    // entries that are held back
}

const statesSQL = `
select name, complete, extract(epoch from now() - confirmed_at)::float8 as age,
       (select count(*) from directory_braked b where b.directory = s.name) as braked
  from directory_source s`

func (r rows) states(ctx context.Context) ([]state, error) {
	rs, err := r.db.Query(ctx, postgres.Background, statesSQL)
	if err != nil {
		return nil, err
	}
	return postgres.CollectRows[state](rs)
}

// position is where a source goes on.
type position struct {
	cookie []byte     // nil: from the start
	first  bool       // this directory and all others were never read to the end
	asked  *time.Time // when somebody has asked for a comparison, nil: nobody
	braked []brakedRow
}

// brakedRow is one entry that is held back.
type brakedRow struct {
	Key    string
	Packed []byte // as the source says, nil: it is gone
	Since  time.Time
}

const positionSQL = `
select cookie, not complete and not late, sync_asked_at
  from directory_source
 where name = $1`

const brakedSQL = `
select key, packed, since
  from directory_braked
 where directory = $1
 order by key`

// position returns where a source goes on.
func (r rows) position(ctx context.Context, source string) (p position, err error) {
	err = r.db.QueryRow(ctx, postgres.Background, positionSQL, source).Scan(&p.cookie, &p.first, &p.asked)
	if errors.Is(err, postgres.ErrNoRows) {
		p.first, err = true, nil
	}
	if err != nil {
		return p, fmt.Errorf("read how far directory %q was read: %w", source, err)
	}
	if p.asked != nil {
		p.cookie = nil
	}
	p.braked, err = r.braked(ctx, source)
	return p, err
}

// braked returns what is held back of a source.
func (r rows) braked(ctx context.Context, source string) ([]brakedRow, error) {
	rs, err := r.db.Query(ctx, postgres.Background, brakedSQL, source)
	if err != nil {
		return nil, fmt.Errorf("read what is held back of directory %q: %w", source, err)
	}
	return postgres.CollectRows[brakedRow](rs)
}

// request is what somebody asks of a source, nil for nothing.
type request struct {
	Name          string
	Sync, Release *time.Time
}

const requestsSQL = `
select name, sync_asked_at as sync, release_asked_at as release
  from directory_source
 where sync_asked_at is not null
    or release_asked_at is not null`

func (r rows) requests(ctx context.Context) ([]request, error) {
	rs, err := r.db.Query(ctx, postgres.Background, requestsSQL)
	if err != nil {
		return nil, err
	}
	return postgres.CollectRows[request](rs)
}

const afterSQL = `
select key, version, packed
  from directory_entry
 where version > $1
 order by version`

// after returns what has changed after version, and the version that this leads
// to. Damaged rows are reported and otherwise left out: the entry stays as it
// was.
func (r rows) after(ctx context.Context, version int64) (changes []Change, last int64, damaged []error, err error) {
	rs, err := r.db.Query(ctx, postgres.Background, afterSQL, version)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("read directory: %w", err)
	}
	defer rs.Close()
	last = version
	for rs.Next() {
		var key string
		var packed []byte
		if err := rs.Scan(&key, &last, &packed); err != nil {
			return nil, 0, nil, fmt.Errorf("read directory: %w", err)
		}
		c := Change{Key: Key(key)}
		if packed != nil {
			if c.Entry, err = Unpack(packed); err != nil {
				damaged = append(damaged, fmt.Errorf("%s: %w", key, err))
				continue
			}
		} else if version == 0 {
			continue // gone before we began
		}
		changes = append(changes, c)
	}
	if err := rs.Err(); err != nil {
		return nil, 0, nil, fmt.Errorf("read directory: %w", err)
	}
	return changes, last, damaged, nil
}

const purgeHistorySQL = `
delete from directory_history
 where until < now() - make_interval(secs => $1)`

const purgeGoneSQL = `
delete from directory_entry
 where packed is null
   and changed_at < now() - make_interval(secs => $1)`

// purge forgets what is older than keep.
func (r rows) purge(ctx context.Context, keep time.Duration) error {
	for _, sql := range []string{purgeHistorySQL, purgeGoneSQL} {
		if _, err := r.db.Exec(ctx, postgres.Background, sql, keep.Seconds()); err != nil {
			return fmt.Errorf("purge directory history: %w", err)
		}
	}
	return nil
}
