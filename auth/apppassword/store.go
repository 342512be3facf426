package apppassword

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"dirpost/directory"
	"dirpost/internal/event"
	"dirpost/internal/logging"
	"dirpost/internal/postgres"
)

// ID names an app password. A revoked one's is not used again.
type ID int64

// String is the ID as it stands in logs and commands.
func (id ID) String() string { return strconv.FormatInt(int64(id), 36) }

// ParseID reads what String has written.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseInt(s, 36, 64)
	return ID(n), err
}

// Password is what is known of an app password: all but the password.
type Password struct {
	ID       ID
	Person   directory.Key
	Name     string   // what its owner calls the program, unique for the person whatever the case
	Services []string // of directory.ServiceNames; empty: all of them
	Created  time.Time
	By       string    // who made it, in words
	Expires  time.Time // zero: never
	// LastUsed, LastClient and LastService say when and from where it was used last;
	// zero: never. They are up to a minute behind.
	LastUsed    time.Time
	LastClient  netip.Addr
	LastService string
}

// Expired reports whether the password is past its end.
func (p *Password) Expired(now time.Time) bool { return !p.Expires.IsZero() && !now.Before(p.Expires) }

// Serves reports whether the password may be used for a service: "imap", "pop3",
// "submission", "sieve". None may be used for anything else, such as the page
// where passwords are made.
func (p *Password) Serves(service string) bool {
	return slices.Contains(p.ServiceNames(), service)
}

// ServiceNames are the services that the password may be used for, spelled out.
func (p *Password) ServiceNames() []string {
	if len(p.Services) == 0 {
		return directory.ServiceNames()
	}
	return p.Services
}

// Errors of Issue, Revoke and Verify. Their text is for the person.
var (
	// ErrTooMany: the person has Config.Max of them.
	ErrTooMany = errors.New("too many app passwords: revoke one first")
	// ErrExists: the person has one of that name.
	ErrExists = errors.New("there is an app password of this name already")
	// ErrInvalid: a name, service or expiry that cannot be.
	ErrInvalid = errors.New("not possible")
	// ErrNotFound: there is no such app password of this person.
	ErrNotFound = errors.New("no such app password")
	// ErrWrong: the password is none of this person's.
	ErrWrong = errors.New("wrong app password")
)

// MaxName bounds a name, in characters.
const MaxName = 64

// Config is what an administrator decides about app passwords.
type Config struct {
	// Max is how many one person may have. The default is 20.
	Max int
	// MaxLife is how long one lives at most; 0: for ever.
	MaxLife time.Duration
}

// DefaultMax is the default of Config.Max.
const DefaultMax = 20

// Validate reports what is wrong with c, in the words of the configuration.
func (c Config) Validate() error {
	if c.Max < 0 || c.Max > 100 {
		return errors.New("max: want between 1 and 100")
	}
	if c.MaxLife < 0 || c.MaxLife > 0 && c.MaxLife < time.Hour {
		return errors.New("max_life: want an hour or more, or 0s for no limit")
	}
	return nil
}

// Hinter carries hints between nodes; bus.Bus is one. Hints may get lost.
type Hinter interface {
	Publish(topic, payload string)
	Subscribe(topic string, f func(payload string)) (cancel func())
}

// Topic is the topic of hints that the app passwords of a person have changed.
const Topic = "app-password"

// Store keeps the app passwords of all people.
type Store struct {
	db     *postgres.DB
	hints  Hinter // nil: other nodes see it within cacheFor
	events event.Sink
	log    *slog.Logger
	cfg    Config

	// Issued is called after a password was made, if it is not nil: it tells the
	// person. It must not block, and is set before the Store is used.
	Issued func(ctx context.Context, p Password)

	memory   memory
	deriving chan struct{} // holds one for each derivation that runs

	mu       sync.Mutex // guards what follows
	factors  *Factors   // nil: not read yet
	used     map[ID]use // to be written
	sessions Sessions   // nil: none to end
	look     chan struct{}
}

// New returns the Store in db. Each password that is made or revoked is an event.
func New(cfg Config, db *postgres.DB, hints Hinter, events event.Sink, log *slog.Logger) *Store {
	if cfg.Max == 0 {
		cfg.Max = DefaultMax
	}
	s := &Store{db: db, hints: hints, events: events, log: log, cfg: cfg,
		deriving: make(chan struct{}, derivations()), used: map[ID]use{}, look: make(chan struct{}, 1)}
	s.memory.init()
	if hints != nil {
		hints.Subscribe(Topic, s.hear)
	}
	return s
}

// Request is what a new password shall be.
type Request struct {
	Person   directory.Key
	Name     string    // of the program, for its owner
	Services []string  // of directory.ServiceNames; empty: all of them
	Expires  time.Time // zero: as late as Config.MaxLife allows
	By       string    // who makes it, in words, for the audit
}

// check completes r, or says why it cannot be.
func (s *Store) check(r *Request) error {
	r.Name = strings.TrimSpace(r.Name)
	switch n := utf8.RuneCountInString(r.Name); {
	case r.Person == "":
		return fmt.Errorf("%w: no person", ErrInvalid)
	case n == 0 || n > MaxName || !utf8.ValidString(r.Name):
		return fmt.Errorf("%w: a name of 1 to %d characters is wanted, such as the name of the device", ErrInvalid, MaxName)
	case strings.ContainsFunc(r.Name, func(c rune) bool { return !unicode.IsPrint(c) }):
		return fmt.Errorf("%w: the name has characters that cannot be printed", ErrInvalid)
	}
	for _, name := range r.Services {
		if !slices.Contains(directory.ServiceNames(), name) {
			return fmt.Errorf("%w: %q is none of %s", ErrInvalid, name, strings.Join(directory.ServiceNames(), ", "))
		}
	}
	r.Services = slices.Compact(slices.Sorted(slices.Values(r.Services)))
	if len(r.Services) == len(directory.ServiceNames()) {
		r.Services = nil
	}
	now := s.db.Now()
	if !r.Expires.IsZero() && !r.Expires.After(now) {
		return fmt.Errorf("%w: it would have expired already", ErrInvalid)
	}
	if latest := now.Add(s.cfg.MaxLife); s.cfg.MaxLife > 0 {
		if r.Expires.After(latest) {
			return fmt.Errorf("%w: it may live until %s at most", ErrInvalid, latest.Format(time.DateOnly))
		}
		if r.Expires.IsZero() {
			r.Expires = latest
		}
	}
	return nil
}

// Whoever makes passwords of one person waits in line, so that they are counted.
const lineSQL = `
select pg_advisory_xact_lock(hashtextextended('app_password ' || $1, 0))`

const countSQL = `
select count(*)
  from app_password
 where person = $1`

const addSQL = `
insert into app_password (id, person, name, services, created_by, expires_at, stored_key, server_key, bare_stored_key, bare_server_key)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
returning created_at`

// Issue makes an app password. It is returned in clear, as it is to be shown, here and
// never again.
// Errors are ErrTooMany, ErrExists, ErrInvalid with words for the person, or
// temporary.
func (s *Store) Issue(ctx context.Context, r Request) (logging.Secret, *Password, error) {
	if err := s.check(&r); err != nil {
		return "", nil, err
	}
	factors, err := s.Factors(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("make an app password: %w", err)
	}
	secret := generate()
	bare, _ := parse(string(secret))
	var shown, typed spelling
	if shown, err = derive(string(secret), factors); err == nil {
		typed, err = derive(bare, factors)
	}
	if err != nil {
		return "", nil, fmt.Errorf("make an app password: %w", err)
	}
	p := &Password{ID: ID(s.db.NewID()), Person: r.Person, Name: r.Name, Services: r.Services, By: r.By, Expires: r.Expires}
	err = s.db.InTx(ctx, postgres.Interactive, func(ctx context.Context, tx postgres.Tx) error { return s.addTx(ctx, tx, p, shown, typed) })
	if code, _ := postgres.State(err); code == postgres.UniqueViolation {
		err = ErrExists
	}
	if err != nil {
		return "", nil, fmt.Errorf("make an app password: %w", err)
	}
	s.changed(r.Person, 0)
	s.emit(ctx, "app password made", p, r.By)
	if s.Issued != nil {
		s.Issued(ctx, *p)
	}
	return secret, p, nil
}

// addTx adds p, if the person may have one more.
func (s *Store) addTx(ctx context.Context, tx postgres.Tx, p *Password, shown, typed spelling) error {
	if _, err := tx.Exec(ctx, lineSQL, p.Person); err != nil {
		return err
	}
	var n int
	if err := tx.QueryRow(ctx, countSQL, p.Person).Scan(&n); err != nil {
		return err
	}
	if n >= s.cfg.Max {
		return ErrTooMany
	}
	services := p.Services
	if services == nil {
		services = []string{}
	}
	return tx.QueryRow(ctx, addSQL, int64(p.ID), p.Person, p.Name, services, p.By, timeOrNull(p.Expires),
		shown.stored, shown.server, typed.stored, typed.server).Scan(&p.Created)
}

const listSQL = `
select id, name, services, created_at, created_by, expires_at, last_used_at, last_client, last_service
  from app_password
 where person = $1
 order by created_at, id`

// List returns the app passwords of a person, the oldest first, those that have
// expired lately too.
func (s *Store) List(ctx context.Context, person directory.Key) ([]Password, error) {
	rows, err := s.db.Query(ctx, postgres.Interactive, listSQL, person)
	if err != nil {
		return nil, fmt.Errorf("list app passwords: %w", err)
	}
	defer rows.Close()
	var all []Password
	for rows.Next() {
		p := Password{Person: person}
		var id int64
		var expires, used *time.Time
		var client *netip.Addr
		if err := rows.Scan(&id, &p.Name, &p.Services, &p.Created, &p.By, &expires, &used, &client, &p.LastService); err != nil {
			return nil, fmt.Errorf("list app passwords: %w", postgres.Classify(err))
		}
		p.ID, p.Expires, p.LastUsed = ID(id), orZero(expires), orZero(used)
		p.LastClient = orZero(client)
		all = append(all, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list app passwords: %w", postgres.Classify(err))
	}
	return all, nil
}

const revokeSQL = `
delete from app_password
 where person = $1
   and id = any($2)
returning id, name`

// Revoke ends app passwords of a person at once, and the sessions that were opened
// with them, on all nodes. by says in words who does it, for the audit. It returns
// ErrNotFound if there was none of them.
func (s *Store) Revoke(ctx context.Context, person directory.Key, by string, ids ...ID) error {
	keys := make([]int64, len(ids))
	for i, id := range ids {
		keys[i] = int64(id)
	}
	rows, err := s.db.Query(ctx, postgres.Interactive, revokeSQL, person, keys)
	if err != nil {
		return fmt.Errorf("revoke an app password: %w", err)
	}
	gone, err := postgres.CollectRows[struct {
		ID   int64
		Name string
	}](rows)
	if err != nil {
		return fmt.Errorf("revoke an app password: %w", err)
	}
	if len(gone) == 0 {
		return ErrNotFound
	}
	for _, g := range gone {
		s.changed(person, ID(g.ID))
		s.emit(ctx, "app password revoked", &Password{ID: ID(g.ID), Person: person, Name: g.Name}, by)
	}
	return nil
}

// emit tells the audit what was done with p, and by whom.
func (s *Store) emit(ctx context.Context, msg string, p *Password, by string) {
	s.events.Emit(ctx, event.Event{Level: slog.LevelInfo, Room: "auth", Msg: msg, Trace: p.ID.String(), Attrs: []slog.Attr{
		slog.String("person", string(p.Person)), slog.String("app_password", p.ID.String()), slog.String("name", p.Name), slog.String("by", by),
	}})
}

const factorsSQL = `
select salt, iterations
  from app_password_scram`

// Factors returns what all app passwords have in common. It is read once.
func (s *Store) Factors(ctx context.Context) (*Factors, error) {
	s.mu.Lock()
	f := s.factors
	s.mu.Unlock()
	if f != nil {
		return f, nil
	}
	f = &Factors{}
	if err := s.db.QueryRow(ctx, postgres.Interactive, factorsSQL).Scan(&f.Salt, &f.Iterations); err != nil {
		return nil, fmt.Errorf("read the salt of app passwords: %w", err)
	}
	s.mu.Lock()
	s.factors = f
	s.mu.Unlock()
	return f, nil
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func orZero[T any](v *T) (z T) {
	if v != nil {
		z = *v
	}
	return z
}
