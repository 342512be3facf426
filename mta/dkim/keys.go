package dkim

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
)

// Sealer seals private keys for their row; seal.Sealer is one.
type Sealer interface {
	Seal(purpose string, value []byte) []byte
	Open(purpose string, sealed []byte) ([]byte, error)
}

// keysFor is how long active keys, or that a domain has none, are remembered.
const keysFor = time.Minute

// Keys are the signing keys of our domains.
type Keys struct {
	db     *postgres.DB
	sealer Sealer
	now    func() time.Time

	mu    sync.Mutex // guards known
	known map[string]knownKeys
}

// knownKeys are the active keys of a domain as they were read.
type knownKeys struct {
	keys  []*signingKey // immutable
	until time.Time
}

// New returns the keys in db, whose private parts sealer opens. now is the
// clock of signatures and of what is remembered.
func New(db *postgres.DB, sealer Sealer, now func() time.Time) *Keys {
	return &Keys{db: db, sealer: sealer, now: now, known: make(map[string]knownKeys)}
}

// purpose binds a sealed key to its row.
func purpose(domain, selector string) string { return "dkim " + selector + "._domainkey." + domain }

const createSQL = `
insert into dkim_key (domain, selector, algorithm, public_key, private_key, active_at)
select $1, $2, $3, $4, $5,
       case when not exists (select 1 from dkim_key where domain = $1 and algorithm = $3 and active_at is not null and retired_at is null)
            then now() end
returning created_at, coalesce(active_at, '-infinity') = now()`

// Create makes a key. The first one of a domain and algorithm signs at once: a
// signature whose record is not in DNS yet does no more harm than none. Later
// ones wait for Activate, so that mail is signed with a key that is known.
//
// It returns ErrExists if the selector is in use: a record in DNS may still be
// remembered somewhere.
func (k *Keys) Create(ctx context.Context, domain, selector string, a Algorithm) (Key, error) {
	domain, selector, err := checkNames(domain, selector)
	if err != nil {
		return Key{}, err
	}
	public, private, err := generate(a)
	if err != nil {
		return Key{}, err
	}
	key := Key{Domain: domain, Selector: selector, Algorithm: a, PublicKey: public}
	sealed := k.sealer.Seal(purpose(domain, selector), private)
	insert := func() (active bool, err error) {
		err = k.db.QueryRow(ctx, postgres.Interactive, createSQL, domain, selector, string(a), public, sealed).Scan(&key.Created, &active)
		return active, err
	}
	active, err := insert()
	if code, detail := postgres.State(err); code == postgres.UniqueViolation && strings.Contains(detail, "algorithm") {
		active, err = insert() // somebody else made the first key in this moment
	}
	if code, _ := postgres.State(err); code == postgres.UniqueViolation {
		return Key{}, fmt.Errorf("%w: %s", ErrExists, key.RecordName())
	}
	if err != nil {
		return Key{}, fmt.Errorf("store signing key: %w", err)
	}
	if active {
		key.Active = key.Created
	}
	k.forget(domain)
	return key, nil
}

const activateSQL = `
with new as (
  select domain, algorithm from dkim_key where domain = $1 and selector = $2
), old as (
  update dkim_key d set retired_at = now() from new
   where d.domain = new.domain and d.algorithm = new.algorithm and d.selector <> $2
     and d.active_at is not null and d.retired_at is null
)
select count(*) from new`

const activateKeySQL = `
update dkim_key set active_at = now(), retired_at = null
 where domain = $1 and selector = $2 and (active_at is null or retired_at is not null)`

// Activate lets a key sign instead of the one of its algorithm that did, which
// is retired. The record of the old one should stay in DNS for a week: mail
// that it signed is still on its way.
func (k *Keys) Activate(ctx context.Context, domain, selector string) error {
	domain, selector, err := checkNames(domain, selector)
	if err != nil {
		return err
	}
	err = k.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, activateSQL, domain, selector).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: %s._domainkey.%s", ErrNotFound, selector, domain)
		}
		_, err := tx.Exec(ctx, activateKeySQL, domain, selector)
		return err
	})
	if err != nil {
		return fmt.Errorf("activate signing key: %w", err)
	}
	k.forget(domain)
	return nil
}

const retireSQL = `
update dkim_key set retired_at = coalesce(retired_at, now())
 where domain = $1 and selector = $2`

// Retire lets a key sign no more. Other nodes follow within a minute.
func (k *Keys) Retire(ctx context.Context, domain, selector string) error {
	domain, selector, err := checkNames(domain, selector)
	if err != nil {
		return err
	}
	tag, err := k.db.Exec(ctx, postgres.Interactive, retireSQL, domain, selector)
	if err != nil {
		return fmt.Errorf("retire signing key: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("retire signing key: %w: %s._domainkey.%s", ErrNotFound, selector, domain)
	}
	k.forget(domain)
	return nil
}

const listSQL = `
select domain, selector, algorithm, public_key, created_at, active_at, retired_at
  from dkim_key
 where $1 = '' or domain = $1
 order by domain, created_at, selector`

// List returns the keys of domain, or of all domains if it is "".
func (k *Keys) List(ctx context.Context, domain string) ([]Key, error) {
	rows, err := k.db.Query(ctx, postgres.Interactive, listSQL, domain)
	if err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	defer rows.Close()
	var list []Key
	for rows.Next() {
		var key Key
		var active, retired *time.Time
		if err := rows.Scan(&key.Domain, &key.Selector, &key.Algorithm, &key.PublicKey, &key.Created, &active, &retired); err != nil {
			return nil, fmt.Errorf("list signing keys: %w", postgres.Classify(err))
		}
		if active != nil {
			key.Active = *active
		}
		if retired != nil {
			key.Retired = *retired
		}
		list = append(list, key)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list signing keys: %w", postgres.Classify(err))
	}
	return list, nil
}

// Sign returns the DKIM-Signature fields of domain for a message, complete
// lines to be put before its header, or nil if the domain has no active key.
// body gives the octets after the empty line; they are read only if there is
// something to sign. Line ends are CRLF.
//
// Errors are temporary: that a key cannot be read is our own trouble.
func (k *Keys) Sign(ctx context.Context, domain string, header message.Header, body io.Reader) ([]byte, error) {
	keys, err := k.active(ctx, domain)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	h := NewBodyHash()
	if _, err := io.Copy(h, body); err != nil {
		return nil, fmt.Errorf("hash body for %s: %w", domain, err)
	}
	return k.signWith(keys, header, h.Sum())
}

// SignHash is Sign for a body that has been hashed while it streamed in.
func (k *Keys) SignHash(ctx context.Context, domain string, header message.Header, body [32]byte) ([]byte, error) {
	keys, err := k.active(ctx, domain)
	if err != nil {
		return nil, err
	}
	return k.signWith(keys, header, body)
}

func (k *Keys) signWith(keys []*signingKey, header message.Header, body [32]byte) ([]byte, error) {
	var fields []byte
	now := k.now()
	for _, key := range keys {
		field, err := sign(key, header, body, now)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field...)
	}
	return fields, nil
}

// forget makes the next signature read the keys of domain again.
func (k *Keys) forget(domain string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.known, domain)
}

// active returns the keys that sign for domain. A domain that has none is
// remembered too: most mail is signed once, and asking is a round trip.
func (k *Keys) active(ctx context.Context, domain string) ([]*signingKey, error) {
	domain, err := envelope.ParseDomain(domain)
	if err != nil {
		return nil, nil // no domain has this name, so it has no key
	}
	now := k.now()
	k.mu.Lock()
	known, ok := k.known[domain]
	k.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.keys, nil
	}
	keys, err := k.read(ctx, domain)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) >= maxKnown {
		clear(k.known)
	}
	k.known[domain] = knownKeys{keys: keys, until: now.Add(keysFor)}
	return keys, nil
}

// maxKnown bounds what is remembered: senders choose the domain in From.
const maxKnown = 10_000

// Check reports whether the keys that sign for domain can be opened, without which its
// mail waits. None is no error.
func (k *Keys) Check(ctx context.Context, domain string) error {
	_, err := k.read(ctx, domain)
	return err
}

const activeSQL = `
select selector, algorithm, private_key
  from dkim_key
 where domain = $1 and active_at is not null and retired_at is null
 order by algorithm desc` // RSA first: some receivers look at the first signature only

func (k *Keys) read(ctx context.Context, domain string) ([]*signingKey, error) {
	rows, err := k.db.Query(ctx, postgres.Delivery, activeSQL, domain)
	if err != nil {
		return nil, fmt.Errorf("read signing keys of %s: %w", domain, err)
	}
	defer rows.Close()
	var keys []*signingKey
	for rows.Next() {
		key := &signingKey{domain: domain}
		var sealed []byte
		if err := rows.Scan(&key.selector, &key.algorithm, &sealed); err != nil {
			return nil, fmt.Errorf("read signing keys of %s: %w", domain, postgres.Classify(err))
		}
		der, err := k.sealer.Open(purpose(domain, key.selector), sealed)
		if err == nil {
			key.private, err = parsePrivate(key.algorithm, der)
		}
		if err != nil {
			return nil, fmt.Errorf("signing key %s._domainkey.%s: %w", key.selector, domain, err)
		}
		keys = append(keys, key)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read signing keys of %s: %w", domain, postgres.Classify(err))
	}
	return keys, nil
}
