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
insert into directory_source as s (name, cookie, complete, confirmed_at)
values ($1, $2, $3, now() - make_interval(secs => $4))
    on conflict (name) do update
   set cookie = coalesce(excluded.cookie, s.cookie),
       complete = s.complete or excluded.complete,
       confirmed_at = coalesce(excluded.confirmed_at, s.confirmed_at),
       problem = case when excluded.confirmed_at is null then s.problem else '' end`

// commit writes changes of a source with its cookie in one transaction, under
// the lease. It returns the version of the changes, 0 when there are none.
// A source that is late by its nature is confirmed for as long in advance.
func (r rows) commit(ctx context.Context, l *lease, src Source, b Batch, changes []Change) (version int64, err error) {
	keys, packed := make([]string, len(changes)), make([][]byte, len(changes))
	for i, c := range changes {
		keys[i] = string(c.Key)
		if c.Entry != nil {
			packed[i] = c.Entry.Pack()
		}
	}
	var age *float64 // null: nothing is known about it
	if !b.At.IsZero() {
		s := (time.Since(b.At) - src.Lag()).Seconds()
		age = &s
	}
	claim := holdLeaseSQL
	if len(changes) > 0 {
		claim = nextVersionSQL
	}
	err = r.db.InTx(ctx, postgres.Background, func(ctx context.Context, tx postgres.Tx) error {
		if err := tx.QueryRow(ctx, claim, l.token).Scan(&version); errors.Is(err, postgres.ErrNoRows) {
			return errLease
		} else if err != nil {
			return err
		}
		if len(changes) > 0 {
			if _, err := tx.Exec(ctx, keepHistorySQL, keys); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, putEntriesSQL, keys, packed, version); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, putSourceSQL, src.Name(), b.Cookie, b.Complete, age)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("write changes of directory %q: %w", src.Name(), err)
	}
	if len(changes) == 0 {
		return 0, nil
	}
	return version, nil
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

const forgetSourcesSQL = `
delete from directory_source
 where name <> all($1)
returning name`

// forgetSources forgets how far directories were read that the configuration
// does not name any more, and returns their names.
func (r rows) forgetSources(ctx context.Context, keep []string) ([]string, error) {
	rs, err := r.db.Query(ctx, postgres.Background, forgetSourcesSQL, keep)
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
}

const statesSQL = `
select name, complete, extract(epoch from now() - confirmed_at)::float8 as age
  from directory_source`

func (r rows) states(ctx context.Context) ([]state, error) {
	rs, err := r.db.Query(ctx, postgres.Background, statesSQL)
	if err != nil {
		return nil, err
	}
	return postgres.CollectRows[state](rs)
}

const cookieSQL = `
select cookie
  from directory_source
 where name = $1`

// cookie returns the cookie of a source, nil for none.
func (r rows) cookie(ctx context.Context, source string) ([]byte, error) {
	var c []byte
	err := r.db.QueryRow(ctx, postgres.Background, cookieSQL, source).Scan(&c)
	if err != nil && !errors.Is(err, postgres.ErrNoRows) {
		return nil, fmt.Errorf("read cookie of directory %q: %w", source, err)
	}
	return c, nil
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
