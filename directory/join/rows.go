package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"dirpost/directory/ldap"
	"dirpost/internal/gssapi"
	"dirpost/internal/postgres"
)

// Sealer seals keys for their row; seal.Sealer is one.
type Sealer interface {
	Seal(purpose string, value []byte) []byte
	Open(purpose string, sealed []byte) ([]byte, error)
}

// Topic is the topic of hints that an account or its keys have changed.
const Topic = "machine"

// Hinter carries hints between nodes. Hints may get lost.
type Hinter interface {
	Publish(topic, payload string)
	Subscribe(topic string, f func(payload string)) (cancel func())
}

// Store keeps accounts and keys in the database.
type Store struct {
	db     *postgres.DB
	sealer Sealer
	hints  Hinter // nil: nobody is told, and all see it within seconds
}

// NewStore returns a Store. What is sealed in it is opened by sealer.
func NewStore(db *postgres.DB, sealer Sealer, hints Hinter) *Store {
	return &Store{db: db, sealer: sealer, hints: hints}
}

// The states of a key.
const (
	StatePending = "pending" // the domain has it perhaps
	StateCurrent = "current" // the domain has it
	StateOld     = "old"     // tickets may be made with it still
)

// StoredKey is a key with where it is in its life.
type StoredKey struct {
	Key
	ID      int64
	State   string    // pending, current or old
	Set     time.Time // when it was made, or came into use
	Retired time.Time // zero: not old
}

// Stored is an account with its keys.
type Stored struct {
	Account
	Directory string
	Version   int64
	Joined    time.Time
	Keys      []StoredKey // the newest first
}

// ErrNotFound reports that a directory has no account.
var ErrNotFound = errors.New("not joined")

// Current returns the key that the domain has, as far as we know.
func (s *Stored) Current() (StoredKey, bool) { return s.first(StateCurrent) }

func (s *Stored) first(state string) (StoredKey, bool) {
	for _, k := range s.Keys {
		if k.State == state {
			return k, true
		}
	}
	return StoredKey{}, false
}

// pending returns the keys that wait, the newest first.
func (s *Stored) pending() []StoredKey {
	var all []StoredKey
	for _, k := range s.Keys {
		if k.State == StatePending {
			all = append(all, k)
		}
	}
	return all
}

// Machine is the account for the client of its directory.
func (s *Stored) Machine() (ldap.Machine, error) {
	k, ok := s.Current()
	if !ok {
		return ldap.Machine{}, fmt.Errorf("account %s of directory %q has no key: run 'dirpost join' again", s.Principal, s.Directory)
	}
	m := ldap.Machine{Principal: s.Principal, Realm: s.Realm, Keytab: k.Keytab, CA: s.CA}
	for _, p := range s.pending() {
		if p.Keytab != nil { // of a join that did not end there is only the password
			m.Pending = append(m.Pending, p.Keytab)
		}
	}
	// A domain controller that has not heard of a change yet has the key before.
	if old, ok := s.first(StateOld); ok && old.Keytab != nil {
		m.Pending = append(m.Pending, old.Keytab)
	}
	var err error
	m.Tickets, err = s.Keytab()
	return m, err
}

// Keytab is one keytab with all keys, those that wait and old ones too.
func (s *Stored) Keytab() ([]byte, error) {
	var all [][]byte
	for _, k := range s.Keys {
		if k.Keytab != nil {
			all = append(all, k.Keytab)
		}
	}
	return gssapi.JoinKeytabs(all...)
}

// purpose binds a sealed key to its row.
func purpose(directory string, id int64) string { return fmt.Sprintf("machine %s %d", directory, id) }

// changed tells all nodes, after a commit.
func (s *Store) changed(directory string) {
	if s.hints != nil {
		s.hints.Publish(Topic, directory)
	}
}

const versionsSQL = `
select directory, version
  from machine_account`

// Versions returns the version of each directory's account. It opens nothing.
func (s *Store) Versions(ctx context.Context) (map[string]int64, error) {
	rows, err := s.db.Query(ctx, postgres.Background, versionsSQL)
	if err != nil {
		return nil, fmt.Errorf("read versions of machine accounts: %w", err)
	}
	defer rows.Close()
	all := make(map[string]int64)
	for rows.Next() {
		var directory string
		var version int64
		if err := rows.Scan(&directory, &version); err != nil {
			return nil, fmt.Errorf("read versions of machine accounts: %w", postgres.Classify(err))
		}
		all[directory] = version
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read versions of machine accounts: %w", postgres.Classify(err))
	}
	return all, nil
}

const accountSQL = `
select version, domain, realm, netbios, domain_sid, base, level, controller, principal, dn, host, services, managed, ca, joined_at
  from machine_account
 where directory = $1`

const keysSQL = `
select id, state, sealed, set_at, retired_at
  from machine_key
 where directory = $1
 order by set_at desc, id desc`

// Load returns the account of a directory, with its keys, as of one moment, or
// ErrNotFound.
func (s *Store) Load(ctx context.Context, directory string) (*Stored, error) {
	var a *Stored
	err := s.db.InSnapshot(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		a = &Stored{Directory: directory}
		err := tx.QueryRow(ctx, accountSQL, directory).Scan(&a.Version, &a.Domain, &a.Realm, &a.NetBIOS, &a.DomainSID, &a.Base, &a.Level, &a.Controller,
			&a.Principal, &a.DN, &a.Host, &a.Services, &a.Managed, &a.CA, &a.Joined)
		if errors.Is(err, postgres.ErrNoRows) {
			return fmt.Errorf("directory %q: %w", directory, ErrNotFound)
		}
		if err != nil {
			return err
		}
		a.Keys, err = s.keysTx(ctx, tx, directory)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read machine account: %w", err)
	}
	return a, nil
}

// keysTx reads and opens the keys of a directory.
func (s *Store) keysTx(ctx context.Context, tx postgres.Tx, directory string) ([]StoredKey, error) {
	rows, err := tx.Query(ctx, keysSQL, directory)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []StoredKey
	for rows.Next() {
		var k StoredKey
		var sealed []byte
		var retired *time.Time
		if err := rows.Scan(&k.ID, &k.State, &sealed, &k.Set, &retired); err != nil {
			return nil, err
		}
		if retired != nil {
			k.Retired = *retired
		}
		if k.Key, err = s.openKey(directory, k.ID, sealed); err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, rows.Err()
}

func (s *Store) openKey(directory string, id int64, sealed []byte) (Key, error) {
	var k Key
	text, err := s.sealer.Open(purpose(directory, id), sealed)
	if err != nil {
		return k, fmt.Errorf("key of directory %q: %w: is server.sealing_key that of the other nodes?", directory, err)
	}
	if json.Unmarshal(text, &k) != nil { // never with the cause, which might quote
		return k, fmt.Errorf("key of directory %q is damaged", directory)
	}
	return k, nil
}

func (s *Store) seal(directory string, id int64, k Key) ([]byte, error) {
	text, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	return s.sealer.Seal(purpose(directory, id), text), nil
}

const touchSQL = `
update machine_account
   set version = $2
 where directory = $1`

const addKeySQL = `
insert into machine_key (id, directory, state, sealed, kvno)
values ($1, $2, 'pending', $3, $4)`

// Prepare writes down a key before the domain gets it.
func (s *Store) Prepare(ctx context.Context, directory string, k Key) (id int64, err error) {
	id = s.db.NewID()
	sealed, err := s.seal(directory, id, k)
	if err != nil {
		return 0, err
	}
	err = s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		if _, err := tx.Exec(ctx, addKeySQL, id, directory, sealed, int64(k.KVNO)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, touchSQL, directory, s.db.NewID())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("write down a new key: %w", err)
	}
	s.changed(directory)
	return id, nil
}

const putAccountSQL = `
insert into machine_account (directory, version, domain, realm, netbios, domain_sid, base, level, controller, principal, dn, host, services, managed, ca)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
on conflict (directory) do update
   set version = $2, domain = $3, realm = $4, netbios = $5, domain_sid = $6, base = $7, level = $8, controller = $9,
       principal = $10, dn = $11, host = $12, services = $13, managed = $14, ca = $15`

const retireSQL = `
update machine_key
   set state = 'old', retired_at = now()
 where directory = $1 and state = 'current' and id <> $2`

// What still waits was given to the domain before the one that it took, or never:
// a change names the password before it, so it cannot come true any more.
const dropPendingSQL = `
delete from machine_key
 where directory = $1 and state = 'pending' and id <> $2`

const promoteSQL = `
insert into machine_key (id, directory, state, sealed, kvno)
values ($2, $1, 'current', $3, $4)
on conflict (id) do update
   set state = 'current', sealed = $3, kvno = $4, set_at = now(), retired_at = null`

// Promote writes down that the domain has the key with this id, of Prepare, and
// the account as it is now. The key before it is an old one from then on.
func (s *Store) Promote(ctx context.Context, directory string, a Account, id int64, k Key) error {
	sealed, err := s.seal(directory, id, k)
	if err != nil {
		return err
	}
	err = s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		if err := putAccountTx(ctx, tx, s.db.NewID(), directory, a); err != nil {
			return err
		}
		for _, sql := range []string{retireSQL, dropPendingSQL} {
			if _, err := tx.Exec(ctx, sql, directory, id); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, promoteSQL, directory, id, sealed, int64(k.KVNO))
		return err
	})
	if err != nil {
		return fmt.Errorf("write down the new key: %w", err)
	}
	s.changed(directory)
	return nil
}

func putAccountTx(ctx context.Context, tx postgres.Tx, version int64, directory string, a Account) error {
	_, err := tx.Exec(ctx, putAccountSQL, directory, version, a.Domain, a.Realm, a.NetBIOS, a.DomainSID, a.Base, a.Level, a.Controller,
		a.Principal, a.DN, a.Host, a.Services, a.Managed, a.CA)
	return err
}

// waiting returns the keys of a directory that were written down and not promoted,
// whether there is an account or not.
func (s *Store) waiting(ctx context.Context, directory string) ([]StoredKey, error) {
	var keys []StoredKey
	err := s.db.InSnapshot(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) (err error) {
		keys, err = s.keysTx(ctx, tx, directory)
		return err
	})
	return (&Stored{Keys: keys}).pending(), err
}

const dropKeySQL = `
delete from machine_key
 where directory = $1 and id = $2 and state = 'pending'`

// Withdraw forgets a key of Prepare that the domain did certainly not take.
func (s *Store) Withdraw(ctx context.Context, directory string, id int64) error {
	if _, err := s.db.Exec(ctx, postgres.Interactive, dropKeySQL, directory, id); err != nil {
		return fmt.Errorf("forget a key: %w", err)
	}
	return nil
}

// SetCA keeps the authorities of the domain that were agreed to.
func (s *Store) SetCA(ctx context.Context, directory, pem string) error {
	const sql = `
update machine_account
   set ca = $2, version = $3
 where directory = $1`
	if _, err := s.db.Exec(ctx, postgres.Interactive, sql, directory, pem, s.db.NewID()); err != nil {
		return fmt.Errorf("keep the authority of the domain: %w", err)
	}
	s.changed(directory)
	return nil
}

const forgetKeysSQL = `
delete from machine_key
 where directory = $1`

const forgetAccountSQL = `
delete from machine_account
 where directory = $1`

// Forget removes account and keys.
func (s *Store) Forget(ctx context.Context, directory string) error {
	err := s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		for _, sql := range []string{forgetKeysSQL, forgetAccountSQL} {
			if _, err := tx.Exec(ctx, sql, directory); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget the machine account: %w", err)
	}
	s.changed(directory)
	return nil
}

const leaseSQL = `
update machine_account
   set lease_holder = $2, lease_until = now() + $3 * interval '1 second'
 where directory = $1 and (lease_until is null or lease_until < now() or lease_holder = $2)`

// lease reports whether this node alone may change the account for a time.
func (s *Store) lease(ctx context.Context, directory, node string, span time.Duration) (bool, error) {
	tag, err := s.db.Exec(ctx, postgres.Background, leaseSQL, directory, node, span.Seconds())
	if err != nil {
		return false, fmt.Errorf("take the lease of the machine account: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

const releaseSQL = `
update machine_account
   set lease_until = null
 where directory = $1 and lease_holder = $2`

// release gives the lease back.
func (s *Store) release(ctx context.Context, directory, node string) error {
	_, err := s.db.Exec(ctx, postgres.Background, releaseSQL, directory, node)
	return err
}

const dueSQL = `
select a.managed
       and (exists (select 1 from machine_key p where p.directory = a.directory and p.state = 'pending' and p.set_at < now() - $3 * interval '1 second')
            or exists (select 1 from machine_key c where c.directory = a.directory and c.state = 'current' and c.set_at < now() - $2 * interval '1 second'))
  from machine_account a
 where a.directory = $1`

// due reports whether the password is older than age, or a key waits for longer
// than a change takes.
func (s *Store) due(ctx context.Context, directory string, age, waits time.Duration) (bool, error) {
	var is bool
	err := s.db.QueryRow(ctx, postgres.Background, dueSQL, directory, age.Seconds(), waits.Seconds()).Scan(&is)
	if errors.Is(err, postgres.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether the machine password is due: %w", postgres.Classify(err))
	}
	return is, nil
}

const purgeSQL = `
delete from machine_key
 where directory = $1 and state = 'old' and retired_at < now() - $2 * interval '1 second'`

// purge forgets keys that were retired longer ago than keep.
func (s *Store) purge(ctx context.Context, directory string, keep time.Duration) error {
	tag, err := s.db.Exec(ctx, postgres.Background, purgeSQL, directory, keep.Seconds())
	if err != nil {
		return fmt.Errorf("forget old keys: %w", err)
	}
	if tag.RowsAffected() > 0 {
		if _, err := s.db.Exec(ctx, postgres.Background, touchSQL, directory, s.db.NewID()); err != nil {
			return fmt.Errorf("forget old keys: %w", err)
		}
		s.changed(directory)
	}
	return nil
}
