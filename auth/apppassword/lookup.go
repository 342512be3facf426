package apppassword

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"time"

	"dirpost/directory"
	"dirpost/internal/postgres"
)

// What the memory of a Store is bounded by.
const (
	cacheFor   = 30 * time.Second
	maxPersons = 1 << 16
)

// memory is what was read lately.
type memory struct {
	key [keySize]byte // of sums; exists in this process only

	mu      sync.Mutex                // guards what follows; holds no I/O
	version int                       // rises when something is forgotten
	persons map[directory.Key]*record // immutable records
	proved  map[directory.Key]map[[keySize]byte]ID
}

func (m *memory) init() {
	rand.Read(m.key[:])
	m.persons = map[directory.Key]*record{}
	m.proved = map[directory.Key]map[[keySize]byte]ID{}
}

// get returns what is known of a person, nil for nothing, and the version to give
// to put.
func (m *memory) get(person directory.Key, now time.Time) (*record, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.persons[person]; r != nil && now.Before(r.until) {
		return r, m.version
	}
	return nil, m.version
}

// put remembers what was read, unless something was forgotten meanwhile: it may be
// older than that.
func (m *memory) put(person directory.Key, r *record, version int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if version != m.version {
		return
	}
	for old := range m.persons { // in no order: any one makes room
		if len(m.persons) < maxPersons {
			break
		}
		delete(m.persons, old)
		delete(m.proved, old)
	}
	m.persons[person] = r
}

// forget drops what is known of a person; "" drops all.
func (m *memory) forget(person directory.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.version++
	if person == "" {
		clear(m.persons)
		clear(m.proved)
		return
	}
	delete(m.persons, person)
	delete(m.proved, person)
}

// sum is how a password that was right is remembered: worth nothing outside of
// this process.
func (m *memory) sum(bare string) [keySize]byte {
	h := hmac.New(sha256.New, m.key[:])
	h.Write([]byte(bare))
	return [keySize]byte(h.Sum(nil))
}

// knows returns the ID under which bare was right before. Whether there still is a
// password of that ID is for the caller to see.
func (m *memory) knows(person directory.Key, bare string) (ID, bool) {
	sum := m.sum(bare)
	m.mu.Lock()
	defer m.mu.Unlock()
	id, ok := m.proved[person][sum]
	return id, ok
}

// learn remembers that bare was right. There are no more than passwords.
func (m *memory) learn(person directory.Key, bare string, id ID) {
	sum := m.sum(bare)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.persons[person] == nil {
		return
	}
	if m.proved[person] == nil {
		m.proved[person] = map[[keySize]byte]ID{}
	}
	m.proved[person][sum] = id
}

const lookupSQL = `
select id, name, services, created_at, created_by, expires_at, stored_key, server_key, bare_stored_key, bare_server_key
  from app_password
 where person = $1`

// record returns what the database says of a person, or, unless anew, has said a
// moment ago.
func (s *Store) record(ctx context.Context, person directory.Key, anew bool) (*record, error) {
	now := s.db.Now()
	r, version := s.memory.get(person, now)
	if r != nil && !anew {
		return r, nil
	}
	rows, err := s.db.Query(ctx, postgres.Interactive, lookupSQL, person)
	if err != nil {
		return nil, fmt.Errorf("read app passwords: %w", err)
	}
	defer rows.Close()
	r = &record{until: now.Add(cacheFor)}
	for rows.Next() {
		p := password{Password: Password{Person: person}}
		var id int64
		var expires *time.Time
		if err := rows.Scan(&id, &p.Name, &p.Services, &p.Created, &p.By, &expires,
			&p.dashed.stored, &p.dashed.server, &p.bare.stored, &p.bare.server); err != nil {
			return nil, fmt.Errorf("read app passwords: %w", postgres.Classify(err))
		}
		p.ID, p.Expires = ID(id), orZero(expires)
		r.passwords = append(r.passwords, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read app passwords: %w", postgres.Classify(err))
	}
	s.memory.put(person, r, version)
	return r, nil
}

// Candidates returns what the proof of a client of SCRAM is tried against: the
// passwords of a person that have not expired. anew asks the database, where the
// proof was right for none of those that it has named before: a password that was
// made a moment ago may not be among them.
func (s *Store) Candidates(ctx context.Context, person directory.Key, anew bool) ([]Candidate, error) {
	r, err := s.record(ctx, person, anew)
	if err != nil {
		return nil, err
	}
	var all []Candidate
	for _, p := range r.live(s.db.Now()) {
		all = append(all, Candidate{&p.Password, p.dashed.stored, p.dashed.server}, Candidate{&p.Password, p.bare.stored, p.bare.server})
	}
	return all, nil
}

// derivations is how many passwords are judged at once, beside those that are
// remembered: somebody who sends wrong ones gets half of the machine at most.
func derivations() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// Verify returns the app password of a person that was typed, in any spelling. It
// returns ErrWrong if it is none of theirs, or another error if that could not be
// found out. A right one is remembered, so that only its first use costs the
// derivation of keys.
func (s *Store) Verify(ctx context.Context, person directory.Key, typed string) (*Password, error) {
	bare, ok := parse(typed)
	if !ok {
		return nil, ErrWrong
	}
	r, err := s.record(ctx, person, false)
	if err != nil {
		return nil, err
	}
	if id, ok := s.memory.knows(person, bare); ok {
		for _, p := range r.live(s.db.Now()) {
			if p.ID == id {
				return &p.Password, nil
			}
		}
	}
	derived, err := s.derive(ctx, bare)
	if err != nil {
		return nil, err
	}
	p, ok := r.find(derived, s.db.Now())
	if !ok { // one that was made a moment ago may not have been heard of here
		if r, err = s.record(ctx, person, true); err != nil {
			return nil, err
		}
		if p, ok = r.find(derived, s.db.Now()); !ok {
			return nil, ErrWrong
		}
	}
	s.memory.learn(person, bare, p.ID)
	return p, nil
}

// derive derives keys, when it is its turn.
func (s *Store) derive(ctx context.Context, bare string) (spelling, error) {
	f, err := s.Factors(ctx)
	if err != nil {
		return spelling{}, err
	}
	select {
	case s.deriving <- struct{}{}:
		defer func() { <-s.deriving }()
	case <-ctx.Done():
		return spelling{}, context.Cause(ctx)
	}
	return derive(bare, f)
}
