package apppassword

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dirpost/directory"
	"dirpost/internal/postgres"
)

// The times of Run.
const (
	writeEvery = 10 * time.Second // last uses
	lookEvery  = time.Minute      // sessions whose password has expired; net under lost hints
	purgeEvery = time.Hour
	// expiredFor is how long an expired password is still listed.
	expiredFor = 30 * 24 * time.Hour
	// maxUsed bounds the last uses that wait while the database is away.
	maxUsed = 100_000
)

// Sessions are what a node has open.
type Sessions interface {
	// AppPasswords returns the IDs that open sessions were logged in with, with
	// whose they are.
	AppPasswords() map[ID]directory.Key
	// EndAppPassword ends the sessions of a person that were logged in with id. It
	// does not block.
	EndAppPassword(person directory.Key, id ID, reason string)
}

// Follow lets the Store end sessions whose password was revoked or has expired.
func (s *Store) Follow(sessions Sessions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = sessions
}

func (s *Store) following() Sessions {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// changed tells all nodes, this one first, that the passwords of a person have
// changed. gone was revoked, 0: none.
func (s *Store) changed(person directory.Key, gone ID) {
	payload := gone.String() + " " + string(person)
	s.hear(payload)
	if s.hints != nil {
		s.hints.Publish(Topic, payload)
	}
}

// hear takes a hint. An empty one says that some were lost.
func (s *Store) hear(payload string) {
	gone, person, _ := strings.Cut(payload, " ")
	s.memory.forget(directory.Key(person))
	id, err := ParseID(gone)
	if person == "" || err != nil {
		s.memory.forget("")
		select {
		case s.look <- struct{}{}:
		default:
		}
		return
	}
	if sessions := s.following(); sessions != nil && id != 0 {
		sessions.EndAppPassword(directory.Key(person), id, reasonRevoked)
	}
}

// Opened tells the Store that a session was opened with a password, after Sessions
// has it. What was revoked between the login and that is found soon. It does no I/O.
func (s *Store) Opened(person directory.Key, id ID) {
	now := s.db.Now()
	r, _ := s.memory.get(person, now)
	if r != nil && slices.ContainsFunc(r.live(now), func(p password) bool { return p.ID == id }) {
		return
	}
	select {
	case s.look <- struct{}{}:
	default:
	}
}

const reasonRevoked = "app password revoked or expired"

// use is one login.
type use struct {
	at      time.Time
	client  netip.Addr
	service string
}

// Used notes that somebody has logged in with a password. It does no I/O.
func (s *Store) Used(id ID, client netip.Addr, service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.used[id]; !ok && len(s.used) >= maxUsed {
		return
	}
	s.used[id] = use{s.db.Now(), client.Unmap().WithZone(""), service}
}

// Run writes when passwords were used, ends sessions whose password is gone, and
// deletes those that have expired long ago, until ctx is done. What was used is
// written a last time then. known reports whether a person is still in the
// directory; those of whom it is false lose their passwords. It may be nil.
func (s *Store) Run(ctx context.Context, known func(directory.Key) bool) error {
	write, look, purge := time.NewTicker(writeEvery), time.NewTicker(lookEvery), time.NewTicker(purgeEvery)
	defer write.Stop()
	defer look.Stop()
	defer purge.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if err := s.writeUsed(last); err != nil {
				s.log.WarnContext(ctx, "last uses of app passwords not written", "err", err)
			}
			return nil
		case <-write.C:
			err = s.writeUsed(ctx)
		case <-look.C:
			err = s.endSessions(ctx)
		case <-s.look:
			err = s.endSessions(ctx)
		case <-purge.C:
			err = s.purge(ctx, known)
		}
		if err != nil && ctx.Err() == nil {
			// The database is away: the next turn does the same.
			s.log.DebugContext(ctx, "app passwords not kept up, trying again", "err", err)
		}
	}
}

// Another node may have written less than a minute ago.
const usedSQL = `
update app_password a
   set last_used_at = u.at, last_client = u.client, last_service = u.service
  from unnest($1::bigint[], $2::timestamptz[], $3::inet[], $4::text[]) u(id, at, client, service)
 where a.id = u.id
   and (a.last_used_at is null or a.last_used_at < u.at - interval '1 minute')`

// writeUsed writes what has been used since the last time.
func (s *Store) writeUsed(ctx context.Context) error {
	s.mu.Lock()
	used := s.used
	s.used = map[ID]use{}
	s.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	var ids []int64
	var times []time.Time
	var clients []*netip.Addr
	var services []string
	for id, u := range used {
		ids, times, services = append(ids, int64(id)), append(times, u.at), append(services, u.service)
		var client *netip.Addr
		if u.client.IsValid() {
			client = &u.client
		}
		clients = append(clients, client)
	}
	_, err := s.db.Exec(ctx, postgres.Background, usedSQL, ids, times, clients, services)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, u := range used {
		if _, newer := s.used[id]; !newer && len(s.used) < maxUsed {
			s.used[id] = u
		}
	}
	return fmt.Errorf("write last uses of app passwords: %w", err)
}

const goneSQL = `
select u.id
  from unnest($1::bigint[]) u(id)
 where not exists (
   select from app_password a
    where a.id = u.id
      and (a.expires_at is null or a.expires_at > now()))`

// endSessions ends the sessions whose password is not valid any more.
func (s *Store) endSessions(ctx context.Context) error {
	sessions := s.following()
	if sessions == nil {
		return nil
	}
	open := sessions.AppPasswords()
	if len(open) == 0 {
		return nil
	}
	ids := make([]int64, 0, len(open))
	for id := range open {
		ids = append(ids, int64(id))
	}
	rows, err := s.db.Query(ctx, postgres.Background, goneSQL, ids)
	if err != nil {
		return fmt.Errorf("look for revoked app passwords: %w", err)
	}
	gone, err := postgres.CollectValues[int64](rows)
	if err != nil {
		return fmt.Errorf("look for revoked app passwords: %w", err)
	}
	for _, id := range gone {
		s.memory.forget(open[ID(id)])
		sessions.EndAppPassword(open[ID(id)], ID(id), reasonRevoked)
	}
	return nil
}

const purgeExpiredSQL = `
delete from app_password
 where expires_at < now() - $1::interval`

const ownersSQL = `
select distinct person
  from app_password`

const purgePersonsSQL = `
delete from app_password
 where person = any($1)`

// purge deletes what expired long ago, and what belongs to people who are gone.
func (s *Store) purge(ctx context.Context, known func(directory.Key) bool) error {
	if _, err := s.db.Exec(ctx, postgres.Background, purgeExpiredSQL, expiredFor); err != nil {
		return fmt.Errorf("purge app passwords: %w", err)
	}
	if known == nil {
		return nil
	}
	rows, err := s.db.Query(ctx, postgres.Background, ownersSQL)
	if err != nil {
		return fmt.Errorf("purge app passwords: %w", err)
	}
	owners, err := postgres.CollectValues[string](rows)
	if err != nil {
		return fmt.Errorf("purge app passwords: %w", err)
	}
	var gone []string
	for _, p := range owners {
		if !known(directory.Key(p)) {
			gone = append(gone, p)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if _, err := s.db.Exec(ctx, postgres.Background, purgePersonsSQL, gone); err != nil {
		return fmt.Errorf("purge app passwords: %w", err)
	}
	for _, p := range gone {
		s.memory.forget(directory.Key(p))
	}
	return nil
}
