package history

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dirpost/directory"
	"dirpost/internal/event"
	"dirpost/internal/postgres"
)

const (
	every      = 2 * time.Second
	maxWaiting = 50_000
	loginsFor  = 90 * 24 * time.Hour
	networkFor = 180 * 24 * time.Hour
	maxRows    = 200
	purgeEvery = time.Hour
	maxWord    = 32 // octets of a protocol or mechanism
)

// note is what logins have in common that are one row.
type note struct {
	person    directory.Key
	protocol  string
	mechanism string
	client    netip.Addr
}

// Recorder takes down logins.
type Recorder struct {
	db  *postgres.DB
	log *slog.Logger
	// Inside are networks that are never new for anybody. It is set before the
	// Recorder is used, as is New.
	Inside []netip.Prefix
	// New is told of a login from a network that is new for a person who has logged
	// in from another one before. It may be nil.
	New func(ctx context.Context, person directory.Key, client netip.Addr, protocol string)

	mu      sync.Mutex // guards waiting
	waiting map[note]int64
}

// NewRecorder returns a Recorder that writes to db.
func NewRecorder(db *postgres.DB, log *slog.Logger) *Recorder {
	return &Recorder{db: db, log: log, waiting: make(map[note]int64)}
}

// Emit implements event.Sink: it takes down logins, and nothing else.
func (r *Recorder) Emit(_ context.Context, e event.Event) {
	if e.Room != "auth" || e.Msg != "login" {
		return
	}
	var n note
	for _, a := range e.Attrs {
		switch a.Key {
		case "person":
			n.person = directory.Key(a.Value.String())
		case "protocol":
			n.protocol = word(a.Value.String())
		case "mech":
			n.mechanism = word(a.Value.String())
		case "client":
			if addr, err := netip.ParseAddr(a.Value.String()); err == nil {
				n.client = addr.Unmap().WithZone("")
			}
		}
	}
	if n.person == "" || !n.client.IsValid() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiting[n]; ok || len(r.waiting) < maxWaiting {
		r.waiting[n]++
	}
}

func word(s string) string { return s[:min(len(s), maxWord)] }

// network is the network of an address, as wide as a site or a household has it.
func network(a netip.Addr) netip.Prefix {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // a is valid
	return p
}

// isInside reports whether an address is in a network that is new for nobody. This
// host is one: what comes from it is a webmail on it.
func (r *Recorder) isInside(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	for _, p := range r.Inside {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Run writes what was taken down until ctx ends, and then once more.
func (r *Recorder) Run(ctx context.Context) error {
	tick, purge := time.NewTicker(every), time.NewTicker(purgeEvery)
	defer tick.Stop()
	defer purge.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), every)
			defer cancel()
			return r.Flush(last)
		case <-purge.C:
			if err := r.purge(ctx); err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "history of logins not purged", "err", err)
			}
		case <-tick.C:
			if err := r.Flush(ctx); err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "history of logins not written, tried again", "err", err)
			}
		}
	}
}

const loginSQL = `
insert into auth_login as l (person, protocol, mechanism, client, logins)
select * from unnest($1::text[], $2::text[], $3::text[], $4::inet[], $5::bigint[])
 order by 1, 2, 3, 4
on conflict (person, protocol, mechanism, client) do update
   set last_at = now(), logins = l.logins + excluded.logins`

// A person of whom nothing was known yet has no new network: the first one is not
// news. Rows of this statement do not count for it.
const networkSQL = `
with known as (
  select distinct person
    from auth_network
   where person = any($1::text[])
), put as (
  insert into auth_network as n (person, network)
  select distinct * from unnest($1::text[], $2::cidr[])
   order by 1, 2
  on conflict (person, network) do update set last_at = now()
  returning person, network, first_at = now() as fresh
)
select put.person, put.network
  from put
  join known using (person)
 where put.fresh`

// Flush writes what was taken down.
func (r *Recorder) Flush(ctx context.Context) error {
	r.mu.Lock()
	notes := r.waiting
	r.waiting = make(map[note]int64)
	r.mu.Unlock()
	if len(notes) == 0 {
		return nil
	}
	fresh, err := r.write(ctx, notes)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		for n, count := range notes {
			if _, ok := r.waiting[n]; ok || len(r.waiting) < maxWaiting {
				r.waiting[n] += count
			}
		}
		return err
	}
	if r.New == nil {
		return nil
	}
	for n := range notes {
		at := place{n.person, network(n.client)}
		if fresh[at] && !r.isInside(n.client) {
			delete(fresh, at) // once
			r.New(ctx, n.person, n.client, n.protocol)
		}
	}
	return nil
}

// place is a network of a person.
type place struct {
	person  directory.Key
	network netip.Prefix
}

// write writes notes, and returns the places that are new.
func (r *Recorder) write(ctx context.Context, notes map[note]int64) (map[place]bool, error) {
	var (
		persons, protocols, mechanisms []string
		clients                        []netip.Addr
		networks                       []netip.Prefix
		counts                         []int64
	)
	for n, count := range notes {
		persons, protocols, mechanisms = append(persons, string(n.person)), append(protocols, n.protocol), append(mechanisms, n.mechanism)
		clients, networks, counts = append(clients, n.client), append(networks, network(n.client)), append(counts, count)
	}
	fresh := make(map[place]bool)
	err := r.db.InTx(ctx, postgres.Background, func(ctx context.Context, tx postgres.Tx) error {
		clear(fresh)
		if _, err := tx.Exec(ctx, loginSQL, persons, protocols, mechanisms, clients, counts); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, networkSQL, persons, networks)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var p place
			if err := rows.Scan(&p.person, &p.network); err != nil {
				return err
			}
			fresh[p] = true
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("write logins: %w", err)
	}
	return fresh, nil
}

const networksSQL = `select network from auth_network where person = $1`

// Elsewhere returns the networks from which a person has logged in, but for that of
// client.
func (r *Recorder) Elsewhere(ctx context.Context, person directory.Key, client netip.Addr) ([]netip.Prefix, error) {
	rows, err := r.db.Query(ctx, postgres.Background, networksSQL, string(person))
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	all, err := postgres.CollectValues[netip.Prefix](rows)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	here := network(client.Unmap().WithZone(""))
	return slices.DeleteFunc(all, func(p netip.Prefix) bool { return p == here }), nil
}

// Login are the logins of a person by one protocol and mechanism from one address.
type Login struct {
	Protocol  string
	Mechanism string
	Client    netip.Addr
	First     time.Time
	Last      time.Time
	Count     int64
}

const listSQL = `
select protocol, mechanism, client, first_at, last_at, logins
  from auth_login
 where person = $1
 order by last_at desc
 limit $2`

// List returns the last logins of a person, the last one first, at most n.
func (r *Recorder) List(ctx context.Context, person directory.Key, n int) ([]Login, error) {
	rows, err := r.db.Query(ctx, postgres.Interactive, listSQL, string(person), n)
	if err != nil {
		return nil, fmt.Errorf("list logins: %w", err)
	}
	defer rows.Close()
	var all []Login
	for rows.Next() {
		var l Login
		if err := rows.Scan(&l.Protocol, &l.Mechanism, &l.Client, &l.First, &l.Last, &l.Count); err != nil {
			return nil, fmt.Errorf("list logins: %w", err)
		}
		all = append(all, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list logins: %w", err)
	}
	return all, nil
}

const (
	purgeLoginsSQL   = `delete from auth_login where last_at < now() - $1::interval`
	purgeNetworksSQL = `delete from auth_network where last_at < now() - $1::interval`
	// Whoever has a new address every hour shall not fill the table.
	crowdSQL = `
delete from auth_login l
 using (select person, protocol, mechanism, client,
               row_number() over (partition by person order by last_at desc) as n
          from auth_login
         where person in (select person from auth_login group by person having count(*) > $1)) o
 where o.n > $1
   and l.person = o.person and l.protocol = o.protocol and l.mechanism = o.mechanism and l.client = o.client`
	crowdNetworksSQL = `
delete from auth_network l
 using (select person, network, row_number() over (partition by person order by last_at desc) as n
          from auth_network
         where person in (select person from auth_network group by person having count(*) > $1)) o
 where o.n > $1
   and l.person = o.person and l.network = o.network`
)

// purge takes away what is old, and what is too much of one person.
func (r *Recorder) purge(ctx context.Context) error {
	for _, s := range []struct {
		sql string
		arg any
	}{{purgeLoginsSQL, loginsFor}, {purgeNetworksSQL, networkFor}, {crowdSQL, maxRows}, {crowdNetworksSQL, maxRows}} {
		if _, err := r.db.Exec(ctx, postgres.Background, s.sql, s.arg); err != nil {
			return fmt.Errorf("purge logins: %w", err)
		}
	}
	return nil
}
