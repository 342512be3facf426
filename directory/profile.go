package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dirpost/internal/postgres"
)

// Profile is the way in which a directory is read that does not say so itself: it
// was chosen once, and all nodes go on by it.
type Profile struct {
	Name string
	Why  string // what the choice went by, for people
	At   time.Time
}

// Profiles remembers the choice of profiles with the replica. The zero value
// remembers nothing.
type Profiles struct {
	DB *postgres.DB
}

const profileSQL = `
select profile, profile_why, profile_at
  from directory_source
 where name = $1
   and profile is not null`

// Profile returns what was chosen for a directory, the zero value if nothing was.
func (p Profiles) Profile(ctx context.Context, directory string) (Profile, error) {
	var chosen Profile
	if p.DB == nil {
		return chosen, nil
	}
	err := p.DB.QueryRow(ctx, postgres.Background, profileSQL, directory).Scan(&chosen.Name, &chosen.Why, &chosen.At)
	if err != nil && !errors.Is(err, postgres.ErrNoRows) {
		return Profile{}, fmt.Errorf("read the profile of directory %q: %w", directory, err)
	}
	return chosen, nil
}

const keepProfileSQL = `
insert into directory_source as s (name, profile, profile_why, profile_at)
values ($1, $2, $3, now())
    on conflict (name) do update
   set profile = excluded.profile,
       profile_why = excluded.profile_why,
       profile_at = excluded.profile_at
 where s.profile is not distinct from $4
returning profile, profile_why, profile_at`

// Keep remembers a choice in place of the one of before, "" for none, and returns
// what counts: where another node has chosen meanwhile that is its choice.
func (p Profiles) Keep(ctx context.Context, directory, name, why, before string) (Profile, error) {
	chosen := Profile{Name: name, Why: why}
	if p.DB == nil {
		return chosen, nil
	}
	var old *string
	if before != "" {
		old = &before
	}
	err := p.DB.QueryRow(ctx, postgres.Background, keepProfileSQL, directory, name, why, old).Scan(&chosen.Name, &chosen.Why, &chosen.At)
	if errors.Is(err, postgres.ErrNoRows) {
		return p.Profile(ctx, directory)
	}
	if err != nil {
		return Profile{}, fmt.Errorf("keep the profile of directory %q: %w", directory, err)
	}
	return chosen, nil
}

const forgetProfileSQL = `
update directory_source
   set profile = null, profile_why = '', profile_at = null
 where $1 = '' or name = $1`

// ForgetProfile has the profile of a directory, "" for all, chosen again when the
// feeding node next begins from the start, see AskSync. The error may be
// ErrNoDirectory.
func ForgetProfile(ctx context.Context, db *postgres.DB, name string) error {
	return askFor(ctx, db, forgetProfileSQL, name)
}
