package factor

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"dirpost/directory"
	"dirpost/internal/postgres"

	"github.com/go-webauthn/webauthn/webauthn"
)

const (
	// maxTries bounds the codes that may be tried for a person within triesIn.
	maxTries = 10
	triesIn  = time.Hour
	// recoveryCodes is how many there are, recoverySize how much of each is random,
	// in octets.
	recoveryCodes = 10
	recoverySize  = 10
	// maxName bounds the name that a person gives, in characters.
	maxName = 60
)

// Errors that a caller tells apart.
var (
	// ErrCode: not a code of the person, or one that was used.
	ErrCode = errors.New("second factor: wrong code")
	// ErrTooMany: too many codes were tried; none is judged for some time.
	ErrTooMany = errors.New("second factor: too many codes were tried")
	// ErrExists: the person has one of this kind.
	ErrExists = errors.New("second factor: there is one already")
)

// Sealer seals secrets for their row; *seal.Sealer is one.
type Sealer interface {
	Seal(purpose string, value []byte) []byte
	Open(purpose string, sealed []byte) ([]byte, error)
}

// Store are the second factors in the database.
type Store struct {
	db     *postgres.DB
	sealer Sealer
	web    *webauthn.WebAuthn // nil: no security keys
}

// New returns the factors in db. Without a sealer there are none by app: there is
// nothing to keep their secrets with.
func New(db *postgres.DB, sealer Sealer) *Store { return &Store{db: db, sealer: sealer} }

// HasApps reports whether authenticator apps can be used.
func (s *Store) HasApps() bool { return s.sealer != nil }

// Kind is a kind of factor.
type Kind string

// The kinds of factors.
const (
	KindApp Kind = "totp"
	KindKey Kind = "webauthn"
)

// Factor is one factor of a person.
type Factor struct {
	ID      int64
	Kind    Kind
	Name    string
	Created time.Time
	Used    time.Time // zero: never
}

const listSQL = `
select id, kind, name, created_at, used_at
  from auth_factor
 where person = $1
 order by created_at, id`

// List returns the factors of a person. Whoever has none needs none.
func (s *Store) List(ctx context.Context, person directory.Key) ([]Factor, error) {
	rows, err := s.db.Query(ctx, postgres.Interactive, listSQL, string(person))
	if err != nil {
		return nil, fmt.Errorf("list second factors: %w", err)
	}
	defer rows.Close()
	var all []Factor
	for rows.Next() {
		var (
			f    Factor
			used *time.Time
		)
		if err := rows.Scan(&f.ID, &f.Kind, &f.Name, &f.Created, &used); err != nil {
			return nil, fmt.Errorf("list second factors: %w", err)
		}
		if used != nil {
			f.Used = *used
		}
		all = append(all, f)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list second factors: %w", err)
	}
	return all, nil
}

// purpose binds a sealed secret to its row.
func purpose(person directory.Key, id int64) string {
	return "second factor " + strconv.FormatInt(id, 10) + " of " + string(person)
}

// enrolment binds a sealed secret to who is enrolling with it.
func enrolment(person directory.Key) string { return "second factor to be of " + string(person) }

// errNoSealer: there is nothing to keep secrets with.
var errNoSealer = errors.New("second factor: there is no key to seal secrets with: set server.sealing_key on this node")

// BeginApp begins to enrol an app: the secret is for it, pending is to be kept on our
// side for FinishApp.
func (s *Store) BeginApp(person directory.Key) (secret, pending []byte, err error) {
	if s.sealer == nil {
		return nil, nil, errNoSealer
	}
	secret = newSecret()
	return secret, s.sealer.Seal(enrolment(person), secret), nil
}

// BegunApp is the secret of what BeginApp has begun, ErrCode where it has begun
// nothing.
func (s *Store) BegunApp(person directory.Key, pending []byte) ([]byte, error) {
	if s.sealer == nil {
		return nil, errNoSealer
	}
	secret, err := s.sealer.Open(enrolment(person), pending)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCode, err)
	}
	return secret, nil
}

const addAppSQL = `
insert into auth_factor (id, person, kind, name, sealed, last_step)
values ($1, $2, 'totp', $3, $4, $5)`

// FinishApp enrols the app, once a code shows that it has the secret. It returns
// ErrCode for a wrong one, ErrExists where the person has an app.
func (s *Store) FinishApp(ctx context.Context, person directory.Key, name string, pending []byte, given string) error {
	secret, err := s.BegunApp(person, pending)
	if err != nil {
		return err
	}
	at, ok := match(secret, clean(given), s.db.Now())
	if !ok {
		return ErrCode
	}
	id := s.db.NewID()
	_, err = s.db.Exec(ctx, postgres.Interactive, addAppSQL, id, string(person), Name(name), s.sealer.Seal(purpose(person, id), secret), at)
	if state, _ := postgres.State(err); state == postgres.UniqueViolation {
		return ErrExists
	}
	if err != nil {
		return fmt.Errorf("add second factor: %w", err)
	}
	return nil
}

// Name is the name that a person gives, as it is kept: one line of printable
// characters.
func Name(name string) string {
	name = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(name, ""))), " ")
	if r := []rune(name); len(r) > maxName {
		name = string(r[:maxName])
	}
	return name
}

// clean takes out what people put into codes to read them more easily.
func clean(given string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return unicode.ToUpper(r)
	}, strings.TrimSpace(given))
}

const trySQL = `
insert into auth_factor_guess as g (person, tried, since)
values ($1, 1, now())
on conflict (person) do update
   set tried = case when g.since < now() - $2::interval then 1 else g.tried + 1 end,
       since = case when g.since < now() - $2::interval then now() else g.since end
returning tried`

// try counts a try before it is judged.
func (s *Store) try(ctx context.Context, person directory.Key) error {
	var tried int
	if err := s.db.QueryRow(ctx, postgres.Interactive, trySQL, string(person), triesIn).Scan(&tried); err != nil {
		return fmt.Errorf("count tries of a second factor: %w", err)
	}
	if tried > maxTries {
		return ErrTooMany
	}
	return nil
}

const rightSQL = `delete from auth_factor_guess where person = $1`

// Check judges a code of the app, or one of those for when it is not at hand, and
// uses it up. nil means right; ErrCode, ErrTooMany; any other error means that it was
// not judged.
func (s *Store) Check(ctx context.Context, person directory.Key, given string) error {
	if err := s.try(ctx, person); err != nil {
		return err
	}
	given = clean(given)
	var err error
	if isCode(given) {
		err = s.checkApp(ctx, person, given)
	} else {
		err = s.checkRecovery(ctx, person, given)
	}
	if err != nil {
		return err
	}
	return s.right(ctx, person)
}

// right forgets the tries of somebody who has shown a factor.
func (s *Store) right(ctx context.Context, person directory.Key) error {
	if _, err := s.db.Exec(ctx, postgres.Interactive, rightSQL, string(person)); err != nil {
		return fmt.Errorf("count tries of a second factor: %w", err)
	}
	return nil
}

const appSQL = `select id, sealed from auth_factor where person = $1 and kind = 'totp'`

const useStepSQL = `update auth_factor set last_step = $2, used_at = now() where id = $1 and last_step < $2`

func (s *Store) checkApp(ctx context.Context, person directory.Key, given string) error {
	var (
		id     int64
		sealed []byte
	)
	err := s.db.QueryRow(ctx, postgres.Interactive, appSQL, string(person)).Scan(&id, &sealed)
	switch {
	case errors.Is(err, postgres.ErrNoRows):
		return ErrCode
	case err != nil:
		return fmt.Errorf("read second factor: %w", err)
	case s.sealer == nil:
		return errNoSealer
	}
	secret, err := s.sealer.Open(purpose(person, id), sealed)
	if err != nil {
		return fmt.Errorf("read second factor of %s: %w", person, err)
	}
	at, ok := match(secret, given, s.db.Now())
	if !ok {
		return ErrCode
	}
	tag, err := s.db.Exec(ctx, postgres.Interactive, useStepSQL, id, at)
	if err != nil {
		return fmt.Errorf("use second factor: %w", err)
	}
	if tag.RowsAffected() == 0 { // seen before
		return ErrCode
	}
	return nil
}

const useRecoverySQL = `delete from auth_recovery where person = $1 and hash = $2`

func (s *Store) checkRecovery(ctx context.Context, person directory.Key, given string) error {
	raw, err := base32Text.DecodeString(given)
	if err != nil || len(raw) != recoverySize {
		return ErrCode
	}
	tag, err := s.db.Exec(ctx, postgres.Interactive, useRecoverySQL, string(person), recoveryHash(raw))
	if err != nil {
		return fmt.Errorf("use recovery code: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrCode
	}
	return nil
}

func recoveryHash(raw []byte) []byte {
	sum := sha256.Sum256(raw)
	return sum[:]
}

const (
	dropRecoverySQL = `delete from auth_recovery where person = $1`
	addRecoverySQL  = `insert into auth_recovery (person, hash) select $1, unnest($2::bytea[])`
)

// NewRecovery makes new codes for when no factor is at hand, each good for once, and
// drops those before. They are not shown again.
func (s *Store) NewRecovery(ctx context.Context, person directory.Key) ([]string, error) {
	var (
		codes  []string
		hashes [][]byte
	)
	for range recoveryCodes {
		raw := make([]byte, recoverySize)
		rand.Read(raw)
		codes, hashes = append(codes, grouped(base32Text.EncodeToString(raw), "-")), append(hashes, recoveryHash(raw))
	}
	err := s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		if _, err := tx.Exec(ctx, dropRecoverySQL, string(person)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, addRecoverySQL, string(person), hashes)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make recovery codes: %w", err)
	}
	return codes, nil
}

const countRecoverySQL = `select count(*) from auth_recovery where person = $1`

// RecoveryLeft is how many codes a person has left.
func (s *Store) RecoveryLeft(ctx context.Context, person directory.Key) (n int, err error) {
	if err := s.db.QueryRow(ctx, postgres.Interactive, countRecoverySQL, string(person)).Scan(&n); err != nil {
		return 0, fmt.Errorf("count recovery codes: %w", err)
	}
	return n, nil
}

const (
	removeSQL = `delete from auth_factor where person = $1 and id = $2`
	// Codes that stand in for a factor go with the last one.
	lastSQL = `delete from auth_recovery where person = $1 and not exists (select from auth_factor where person = $1)`
)

// Remove takes a factor away, and the recovery codes with the last one. It reports
// whether there was one.
func (s *Store) Remove(ctx context.Context, person directory.Key, id int64) (ok bool, err error) {
	err = s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		tag, err := tx.Exec(ctx, removeSQL, string(person), id)
		if err != nil {
			return err
		}
		ok = tag.RowsAffected() > 0
		_, err = tx.Exec(ctx, lastSQL, string(person))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("remove second factor: %w", err)
	}
	return ok, nil
}

const (
	resetSQL     = `delete from auth_factor where person = $1`
	resetRestSQL = `delete from auth_factor_guess where person = $1`
)

// Reset takes all factors of a person away, for somebody who has lost them. It
// returns how many there were.
func (s *Store) Reset(ctx context.Context, person directory.Key) (n int, err error) {
	err = s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error {
		tag, err := tx.Exec(ctx, resetSQL, string(person))
		if err != nil {
			return err
		}
		n = int(tag.RowsAffected())
		for _, sql := range []string{dropRecoverySQL, resetRestSQL} {
			if _, err := tx.Exec(ctx, sql, string(person)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("reset second factors: %w", err)
	}
	return n, nil
}

const purgeSQL = `delete from auth_factor_guess where since < now() - $1::interval`

// Purge takes away counters that count no more.
func (s *Store) Purge(ctx context.Context) error {
	if _, err := s.db.Exec(ctx, postgres.Background, purgeSQL, triesIn); err != nil {
		return fmt.Errorf("purge tries of second factors: %w", err)
	}
	return nil
}
