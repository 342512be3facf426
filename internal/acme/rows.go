package acme

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"dirpost/internal/postgres"
)

// purposes bind sealed keys to their rows.
func accountPurpose(directory string) string { return "acme account " + directory }
func keyPurpose(name string) string          { return "acme certificate " + name }

const accountSQL = `
select sealed
  from acme_account
 where directory = $1`

const addAccountSQL = `
insert into acme_account (directory, sealed)
values ($1, $2)
    on conflict do nothing`

// accountKey is the key of our account with the authority, one for all nodes.
func (m *Manager) accountKey(ctx context.Context) (crypto.Signer, error) {
	read := func() (sealed []byte, err error) {
		err = m.db.QueryRow(ctx, postgres.Background, accountSQL, m.config.Directory).Scan(&sealed)
		return sealed, err
	}
	sealed, err := read()
	if errors.Is(err, postgres.ErrNoRows) {
		var der []byte
		if der, err = newKey(); err != nil {
			return nil, err
		}
		if _, err = m.db.Exec(ctx, postgres.Background, addAccountSQL, m.config.Directory, m.sealer.Seal(accountPurpose(m.config.Directory), der)); err != nil {
			return nil, err
		}
		sealed, err = read() // that of another node perhaps
	}
	if err != nil {
		return nil, err
	}
	der, err := m.sealer.Open(accountPurpose(m.config.Directory), sealed)
	if err != nil {
		return nil, fmt.Errorf("key of the account: %w", err)
	}
	return parseKey(der)
}

const missingSQL = `
select n
  from unnest($1::text[]) n
 where not exists (select from acme_certificate c where c.name = n)`

const addSQL = `
insert into acme_certificate (name, directory, sealed, next_at)
values ($1, $2, $3, now())
    on conflict do nothing`

const elsewhereSQL = `
update acme_certificate
   set directory = $2, next_at = now(), failures = 0, problem = ''
 where name = any ($1)
   and directory <> $2`

// add makes the rows of names that have none, each with a key, and asks anew where the
// authority is another one now.
func (m *Manager) add(ctx context.Context) error {
	rows, err := m.db.Query(ctx, postgres.Background, missingSQL, m.config.Names)
	if err != nil {
		return err
	}
	missing, err := postgres.CollectValues[string](rows)
	if err != nil {
		return err
	}
	for _, name := range missing {
		der, err := newKey()
		if err != nil {
			return err
		}
		if _, err := m.db.Exec(ctx, postgres.Background, addSQL, name, m.config.Directory, m.sealer.Seal(keyPurpose(name), der)); err != nil {
			return err
		}
	}
	_, err = m.db.Exec(ctx, postgres.Background, elsewhereSQL, m.config.Names, m.config.Directory)
	return err
}

// leaseTime is longer than an order takes.
const leaseTime = orderTime + time.Minute

const leaseSQL = `
update acme_certificate
   set lease_holder = $2, lease_until = now() + $3::interval
 where name = (
         select name
           from acme_certificate
          where name = any ($1)
            and next_at <= now()
            and (lease_until is null or lease_until < now())
          order by next_at, name
          limit 1
            for update skip locked)
returning name, sealed, failures`

// owed is a certificate that is to be asked for.
type owed struct {
	name     string
	key      crypto.Signer
	failures int
}

// lease takes a name that is due, nil for none.
func (m *Manager) lease(ctx context.Context) (*owed, error) {
	var o owed
	var sealed []byte
	err := m.db.QueryRow(ctx, postgres.Background, leaseSQL, m.config.Names, m.node, leaseTime).Scan(&o.name, &sealed, &o.failures)
	if errors.Is(err, postgres.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	der, err := m.sealer.Open(keyPurpose(o.name), sealed)
	if err == nil {
		o.key, err = parseKey(der)
	}
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", o.name, err)
	}
	return &o, nil
}

const storeSQL = `
update acme_certificate
   set chain = $3, not_after = $4, next_at = $5, failures = 0, problem = '', version = version + 1, lease_holder = '', lease_until = null
 where name = $1
   and lease_holder = $2`

// store keeps a certificate.
func (m *Manager) store(ctx context.Context, o *owed, chain []*x509.Certificate, next time.Time) error {
	_, err := m.db.Exec(ctx, postgres.Background, storeSQL, o.name, m.node, encode(chain), chain[0].NotAfter, next)
	return err
}

const failedSQL = `
update acme_certificate
   set next_at = now() + $4::interval, failures = failures + 1, problem = $3, lease_holder = '', lease_until = null
 where name = $1
   and lease_holder = $2`

// maxProblem bounds what of an error is kept.
const maxProblem = 1000

// failed notes that it did not work, and when to try again.
func (m *Manager) failed(ctx context.Context, o *owed, why error, wait time.Duration) error {
	text := why.Error()
	if len(text) > maxProblem {
		text = text[:maxProblem]
	}
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
	_, err := m.db.Exec(ctx, postgres.Background, failedSQL, o.name, m.node, text, wait)
	return err
}

const loadSQL = `
select name, chain, sealed, version
  from acme_certificate
 where name = any ($1)
   and chain <> ''
 order by name`

// load takes over what the database has, if it is other than what is in use.
func (m *Manager) load(ctx context.Context) error {
	rows, err := m.db.Query(ctx, postgres.Background, loadSQL, m.config.Names)
	if err != nil {
		return err
	}
	type row struct {
		Name, Chain string
		Sealed      []byte
		Version     int64
	}
	all, err := postgres.CollectRows[row](rows)
	if err != nil {
		return err
	}
	var versions strings.Builder
	for _, r := range all {
		fmt.Fprintf(&versions, "%s %d\n", r.Name, r.Version)
	}
	state := versions.String()
	if state == *m.versions.Load() {
		return nil
	}
	byName := make(map[string]*tls.Certificate)
	for _, r := range all {
		der, err := m.sealer.Open(keyPurpose(r.Name), r.Sealed)
		if err != nil {
			return fmt.Errorf("key of %s: %w", r.Name, err)
		}
		key, err := parseKey(der)
		if err != nil {
			return fmt.Errorf("key of %s: %w", r.Name, err)
		}
		if byName[r.Name], err = certificate(r.Chain, key); err != nil {
			return fmt.Errorf("certificate of %s: %w", r.Name, err)
		}
	}
	inUse := m.inOrder(byName)
	m.issued.Store(&inUse)
	m.versions.Store(&state)
	return nil
}

const putChallengeSQL = `
insert into acme_challenge (token, kind, name, answer)
values ($1, $2, $3, $4)
    on conflict (token) do nothing`

func (m *Manager) putChallenge(ctx context.Context, token, name, answer string) error {
	if !isToken(token) {
		return errors.New("challenge: the authority's token is none")
	}
	_, err := m.db.Exec(ctx, postgres.Background, putChallengeSQL, token, m.config.Kind, name, answer)
	return err
}

const dropChallengeSQL = `delete from acme_challenge where token = $1`

func (m *Manager) dropChallenge(ctx context.Context, token string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := m.db.Exec(ctx, postgres.Background, dropChallengeSQL, token)
	return err
}

const purgeSQL = `delete from acme_challenge where made_at < now() - interval '1 hour'`

// purge removes challenges whose node has died.
func (m *Manager) purge(ctx context.Context) error {
	_, err := m.db.Exec(ctx, postgres.Background, purgeSQL)
	return err
}

const answerByTokenSQL = `
select answer
  from acme_challenge
 where kind = $1
   and token = $2`

const answerByNameSQL = `
select answer
  from acme_challenge
 where kind = $1
   and name = $2
 order by made_at desc
 limit 1`

// answer is the key authorization of a challenge under way, "" for none.
func (m *Manager) answer(ctx context.Context, kind, by, value string) (answer string, err error) {
	sql := answerByTokenSQL
	if by == "name" {
		sql = answerByNameSQL
	}
	err = m.db.QueryRow(ctx, postgres.Interactive, sql, kind, value).Scan(&answer)
	if errors.Is(err, postgres.ErrNoRows) {
		return "", nil
	}
	return answer, err
}

// State is how it stands with the certificate of a name.
type State struct {
	Name     string
	Expires  time.Time // zero: there is none
	Next     time.Time // when the authority is asked
	Failures int       // in a row
	Problem  string    // what the last one was
}

const statesSQL = `
select name, coalesce(not_after, 'epoch'), next_at, failures, problem
  from acme_certificate
 order by name`

// States reads how it stands with all certificates; it needs no key.
func States(ctx context.Context, db *postgres.DB) ([]State, error) {
	rows, err := db.Query(ctx, postgres.Background, statesSQL)
	if err != nil {
		return nil, err
	}
	all, err := postgres.CollectRows[State](rows)
	for i := range all {
		if all[i].Expires.Unix() == 0 {
			all[i].Expires = time.Time{}
		}
	}
	return all, err
}

const renewSQL = `
update acme_certificate
   set next_at = now()
 where $1 = '' or name = $1`

// Renew has the certificate of a name, or all with "", asked for now. It returns how
// many these are.
func Renew(ctx context.Context, db *postgres.DB, name string) (int64, error) {
	tag, err := db.Exec(ctx, postgres.Background, renewSQL, name)
	return tag.RowsAffected(), err
}
