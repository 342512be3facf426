package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dirpost/internal/postgres"
)

// database looks at the server behind all nodes.
func (d *doctor) database(ctx context.Context) {
	select {
	case <-d.shared.ready:
	case <-ctx.Done():
		return
	}
	db := d.shared.db
	if db == nil {
		d.bad("database", "see the section [database] and docs/install.md. Nothing works until it does; senders keep their mail", d.shared.err)
		return
	}
	s, err := databaseSettings(ctx, db)
	if err != nil {
		d.bad("database", "does it still answer?", err)
		return
	}
	if d.settings(s) && d.shared.schema == nil {
		d.ok("database", "PostgreSQL %s, keeps what it commits, schema up to date", s["server_version"].value)
	}
	if err := d.shared.schema; err != nil {
		d.bad("database", "run 'dirpost migrate' ('--plan' only looks): no node starts on it", err)
	}
	for _, look := range []func(context.Context, *postgres.DB, map[string]databaseSetting) error{
		d.databaseClock, d.databaseSize, d.bloat, d.longTransactions, d.connections, d.standbys,
	} {
		if err := look(ctx, db, s); err != nil {
			d.bad("database", "does it still answer?", err)
			return
		}
	}
}

// databaseSetting is one of PostgreSQL.
type databaseSetting struct {
	value, source string // source: "database", "user", "configuration file", …
}

const databaseSettingsSQL = `
select name, setting, source
  from pg_settings
 where name in ('server_version', 'fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum', 'track_counts',
                'max_connections', 'superuser_reserved_connections', 'synchronous_standby_names', 'data_directory')`

// databaseSettings reads them; data_directory is there for those alone who may see it.
func databaseSettings(ctx context.Context, db *postgres.DB) (map[string]databaseSetting, error) {
	rows, err := db.Query(ctx, postgres.Background, databaseSettingsSQL)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	defer rows.Close()
	all := make(map[string]databaseSetting)
	for rows.Next() {
		var name string
		var s databaseSetting
		if err := rows.Scan(&name, &s.value, &s.source); err != nil {
			return nil, fmt.Errorf("read settings: %w", err)
		}
		all[name] = s
	}
	return all, rows.Err()
}

// settings looks at those on which mail stands, and reports whether they are right.
func (d *doctor) settings(s map[string]databaseSetting) bool {
	good := true
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		v := s[name]
		if v.value != "off" {
			continue
		}
		good = false
		do := "alter system set " + name + " = on; select pg_reload_conf();"
		switch v.source {
		case "database":
			do = "alter database … reset " + name + ";"
		case "user", "database user":
			do = "alter role … reset " + name + ";"
		}
		d.bad("database", do, fmt.Errorf("%s is off (%s): what was answered with 250 may be lost, and serve refuses to start", name, v.source))
	}
	for _, name := range []string{"autovacuum", "track_counts"} {
		if s[name].value == "off" {
			good = false
			d.warn("database", "alter system set "+name+" = on; select pg_reload_conf();", "%s is off: tables grow without end, and plans go wrong", name)
		}
	}
	return good
}

// databaseClock compares ours with the database's, which is that of all nodes.
func (d *doctor) databaseClock(_ context.Context, db *postgres.DB, _ map[string]databaseSetting) error {
	off := time.Until(db.Now()).Abs()
	if off > 5*time.Second {
		d.warn("clock", "run an NTP client on both hosts; Dirpost goes by the database's clock", "this host and the database differ by %s", span(off))
		return nil
	}
	d.ok("clock", "agrees with the database")
	return nil
}

const (
	sizeSQL    = `select pg_database_size(current_database()), age(datfrozenxid)::bigint from pg_database where datname = current_database()`
	largestSQL = `
select coalesce((select relname::text from pg_stat_user_tables order by pg_total_relation_size(relid) desc limit 1), ''),
       coalesce((select max(pg_total_relation_size(relid)) from pg_stat_user_tables), 0)`
	// Of 2,147 million; from 200 on autovacuum does it by itself.
	manyUnfrozen, tooManyUnfrozen = 700_000_000, 1_500_000_000
)

// databaseSize says how large the database is, and whether its transactions run out.
func (d *doctor) databaseSize(ctx context.Context, db *postgres.DB, _ map[string]databaseSetting) error {
	var size, age, largest int64
	var table string
	if err := db.QueryRow(ctx, postgres.Background, sizeSQL).Scan(&size, &age); err != nil {
		return fmt.Errorf("read the size: %w", err)
	}
	if err := db.QueryRow(ctx, postgres.Background, largestSQL).Scan(&table, &largest); err != nil {
		return fmt.Errorf("read the size: %w", err)
	}
	do := "vacuum (freeze) of the whole database, as its owner, now; then see why autovacuum does not come to it: docs/doctor.md"
	switch {
	case age > tooManyUnfrozen:
		d.bad("database", do, fmt.Errorf("%d million transactions are not frozen: at 2,147 million PostgreSQL stops writing", age/1_000_000))
	case age > manyUnfrozen:
		d.warn("database", do, "%d million transactions are not frozen: at 2,147 million PostgreSQL stops writing", age/1_000_000)
	}
	d.ok("database size", "%s, of it %s in %s", octets(size), octets(largest), table)
	return nil
}

// Many dead rows are more than these, and more than a fifth of the table.
const bloatSQL = `
select relname::text, n_live_tup, n_dead_tup, coalesce(extract(epoch from now() - greatest(last_vacuum, last_autovacuum)), -1)::float8
  from pg_stat_user_tables
 where n_dead_tup > 50000 and n_dead_tup > 0.2 * (n_live_tup + n_dead_tup)
 order by n_dead_tup desc
 limit 5`

// bloat looks for tables that are full of dead rows.
func (d *doctor) bloat(ctx context.Context, db *postgres.DB, _ map[string]databaseSetting) error {
	rows, err := db.Query(ctx, postgres.Background, bloatSQL)
	if err != nil {
		return fmt.Errorf("read dead rows: %w", err)
	}
	defer rows.Close()
	found := false
	for rows.Next() {
		var table string
		var live, dead int64
		var ago float64
		if err := rows.Scan(&table, &live, &dead, &ago); err != nil {
			return fmt.Errorf("read dead rows: %w", err)
		}
		vacuumed := "never vacuumed"
		if ago >= 0 {
			vacuumed = "vacuumed " + span(time.Duration(ago*float64(time.Second))) + " ago"
		}
		found = true
		d.warn("dead rows", "vacuum (analyze) "+table+"; if they come back: a long transaction (see below), or autovacuum_vacuum_cost_limit is too low", "%s has %d beside %d that live, and was %s", table, dead, live, vacuumed)
	}
	if !found && rows.Err() == nil {
		d.ok("dead rows", "no table has many: autovacuum keeps up")
	}
	return rows.Err()
}

// A session of another role shows nothing to who has not pg_read_all_stats.
const longSQL = `
select pid, coalesce(usename::text, ''), application_name, extract(epoch from now() - xact_start)::float8
  from pg_stat_activity
 where xact_start < now() - interval '10 minutes' and backend_type = 'client backend' and pid <> pg_backend_pid()
 union all
select 0, owner::text, 'prepared as ' || gid, extract(epoch from now() - prepared)::float8
  from pg_prepared_xacts
 where prepared < now() - interval '10 minutes' and database = current_database()
 order by 4 desc
 limit 5`

// Autovacuum has no user, and is nobody's business.
const hiddenSQL = `
select count(*)
  from pg_stat_activity
 where datname = current_database() and state is null and usesysid is not null and pid <> pg_backend_pid()`

// longTransactions looks for those that keep vacuum from its work.
func (d *doctor) longTransactions(ctx context.Context, db *postgres.DB, _ map[string]databaseSetting) error {
	rows, err := db.Query(ctx, postgres.Background, longSQL)
	if err != nil {
		return fmt.Errorf("read transactions: %w", err)
	}
	defer rows.Close()
	found := false
	for rows.Next() {
		var pid int32
		var role, app string
		var seconds float64
		if err := rows.Scan(&pid, &role, &app, &seconds); err != nil {
			return fmt.Errorf("read transactions: %w", err)
		}
		do := fmt.Sprintf("end it where it comes from, or: select pg_terminate_backend(%d);", pid)
		if pid == 0 {
			do = "commit prepared or rollback prepared, in its database"
		}
		found = true
		d.warn("transactions", do, "one of %s (%s) is open for %s: nothing deleted since then can be cleaned up", role, app, span(time.Duration(seconds*float64(time.Second))))
	}
	if err := rows.Err(); err != nil {
		return err
	}
	var hidden int64
	if err := db.QueryRow(ctx, postgres.Background, hiddenSQL).Scan(&hidden); err != nil {
		return fmt.Errorf("read transactions: %w", err)
	}
	switch {
	case found:
	case hidden > 0:
		d.ok("transactions", "none of ours is open for long; of %d sessions of others our role may not see it (grant pg_read_all_stats to it)", hidden)
	default:
		d.ok("transactions", "none is open for long")
	}
	return nil
}

// limitsSQL has the limits of the role and the database, -1 for none.
const limitsSQL = `
select (select count(*) from pg_stat_activity where datid is not null),
       (select rolconnlimit from pg_roles where rolname = current_user),
       (select datconnlimit from pg_database where datname = current_database())`

// connections compares what a node may open with what the server has.
func (d *doctor) connections(ctx context.Context, db *postgres.DB, s map[string]databaseSetting) error {
	var used, ofRole, ofDatabase int
	if err := db.QueryRow(ctx, postgres.Background, limitsSQL).Scan(&used, &ofRole, &ofDatabase); err != nil {
		return fmt.Errorf("read connections: %w", err)
	}
	most, _ := strconv.Atoi(s["max_connections"].value)
	reserved, _ := strconv.Atoi(s["superuser_reserved_connections"].value)
	limit := most - reserved
	for _, l := range []int{ofRole, ofDatabase} {
		if l >= 0 {
			limit = min(limit, l)
		}
	}
	node := d.file.nodeConnections()
	const do = "raise max_connections, or lower interactive, delivery and background in [database]; a pool is best at 4 to 8 for each core of the database's host, over all nodes"
	switch {
	case node > limit:
		d.bad("connections", do, fmt.Errorf("a node may open %d, and the server allows %d: under load its clients get errors", node, limit))
	case used*100 > limit*85:
		d.warn("connections", do, "%d of %d are in use; a node may open %d", used, limit, node)
	default:
		d.ok("connections", "%d of %d are in use; a node may open %d", used, limit, node)
	}
	return nil
}

// nodeConnections is how many connections a node may open: its pools, and one that
// listens.
func (f *File) nodeConnections() int {
	n := 1
	for i, size := range []int{f.Database.Interactive, f.Database.Delivery, f.Database.Background} {
		if size == 0 {
			size = [...]int{8, 8, 4}[i]
		}
		n += size
	}
	return n
}

const (
	standbySQL = `
select count(*),
       count(*) filter (where sync_state in ('sync', 'quorum')),
       count(*) filter (where state is null),
       coalesce(max(extract(epoch from replay_lag)), 0)::float8
  from pg_stat_replication`
	slotSQL = `
select slot_name::text, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
  from pg_replication_slots
 where not active and restart_lsn is not null`
	longLag = time.Minute
)

// standbys looks at the copies of the database.
func (d *doctor) standbys(ctx context.Context, db *postgres.DB, s map[string]databaseSetting) error {
	var standby bool
	if err := db.QueryRow(ctx, postgres.Background, `select pg_is_in_recovery()`).Scan(&standby); err != nil {
		return err
	}
	if standby {
		d.bad("standby", "add target_session_attrs=read-write and all hosts to database.url, or promote it (pg_ctl promote)", fmt.Errorf("the database is a standby: nothing can be written"))
		return nil
	}
	var all, synchronous, hidden int
	var lag float64
	if err := db.QueryRow(ctx, postgres.Background, standbySQL).Scan(&all, &synchronous, &hidden, &lag); err != nil {
		return fmt.Errorf("read standbys: %w", err)
	}
	names := s["synchronous_standby_names"].value
	delay := time.Duration(lag * float64(time.Second))
	switch {
	case hidden > 0:
		d.unknown("standby", "there are %d; our role may not see how they do (grant pg_read_all_stats to it)", all)
	case names != "" && synchronous == 0:
		d.bad("standby", "bring it back, or take it out of synchronous_standby_names and reload", fmt.Errorf("synchronous_standby_names is %q and none of them is there: every commit waits, so no mail is taken", names))
	case all == 0:
		d.ok("standby", "there is none: mail lives as long as this database and its backups")
	case synchronous == 0:
		d.warn("standby", "name it in synchronous_standby_names, or accept that the last moment of mail dies with the primary", "%d, none of them synchronous", all)
	default:
		d.ok("standby", "%d, of them %d synchronous", all, synchronous)
	}
	if delay > longLag {
		d.warn("standby", "look at its disk, its network and its long queries", "one is %s behind", span(delay))
	}
	return d.slots(ctx, db)
}

// slots looks for replication slots that nobody reads.
func (d *doctor) slots(ctx context.Context, db *postgres.DB) error {
	rows, err := db.Query(ctx, postgres.Background, slotSQL)
	if err != nil {
		return fmt.Errorf("read replication slots: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var kept int64
		if err := rows.Scan(&name, &kept); err != nil {
			return fmt.Errorf("read replication slots: %w", err)
		}
		d.warn("standby", "bring its reader back, or: select pg_drop_replication_slot('"+strings.ReplaceAll(name, "'", "''")+"');", "nobody reads the replication slot %s: it keeps %s of the log, and more until the disk is full", name, octets(kept))
	}
	return rows.Err()
}
