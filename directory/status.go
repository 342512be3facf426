package directory

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"dirpost/internal/postgres"
)

// SourceStatus is what a source says about following its directory, for people.
type SourceStatus struct {
	Mode   string // how changes are read: "syncrepl", "dirsync" or "poll"
	Wake   string // what tells that there are any: "notification", "persist", or "poll"
	Server string // URL of the server that is followed
	// Deletions says how it is seen that an entry was deleted: "told" by the
	// server, or "compared", since the account may not see deleted entries.
	Deletions  string
	Profile    string    // as what the directory is read, "" while that is not known
	ProfileWhy string    // and why so
	LastChange time.Time // when a batch last changed anything, zero: not since this node feeds
	Servers    []ServerStatus
}

// ServerStatus is one server of a directory, beside the others.
type ServerStatus struct {
	Name     string // its own name, or the host of its URL while it has not said
	Followed bool   // the snapshot is what this server says
	Watched  bool   // what takes access away is believed from this one too
	USN      int64  // highestCommittedUSN, 0 where there is no such thing
	// Behind is how much longer than on another server a change has been missing
	// on this one; 0: none is known to be missing.
	Behind  time.Duration
	Seen    time.Time // when it last answered
	Problem string    // why it does not, "" while it does
}

// Report is the state of one directory as the database has it.
type Report struct {
	Name     string
	Complete bool           // read to the end at least once
	Age      *time.Duration // since nothing was missing, nil: not known
	Problem  string         // why it cannot be read, "" when it can
	Status   *SourceStatus  // nil: its source says nothing
	StatusAt *time.Time

	Changed  *time.Time // when an entry last changed, nil: never
	Compared *time.Time // end of the last comparison with all of the directory, nil: never
	Found    int64      // changes that it found
	Braked   int64      // entries that are held back, see Brake
	Since    *time.Time // when the first of them was, nil: there are none

	SyncAsked    *time.Time // when somebody asked for a comparison that is not over, nil: nobody
	ReleaseAsked *time.Time // when somebody released what is held back and that is not done, nil: nobody
}

const reportsSQL = `
select name,
       complete,
       extract(epoch from now() - confirmed_at)::float8,
       problem,
       status,
       status_at,
       changed_at,
       compared_at,
       compared_changes,
       (select count(*) from directory_braked b where b.directory = s.name),
       (select min(since) from directory_braked b where b.directory = s.name),
       sync_asked_at,
       release_asked_at
  from directory_source s
 order by name`

// Reports reads the state of all directories, as the feeding node wrote it.
func Reports(ctx context.Context, db *postgres.DB) ([]Report, error) {
	rs, err := db.Query(ctx, postgres.Background, reportsSQL)
	if err != nil {
		return nil, fmt.Errorf("read state of directories: %w", err)
	}
	defer rs.Close()
	var all []Report
	for rs.Next() {
		var r Report
		var age *float64
		var status []byte
		if err := rs.Scan(&r.Name, &r.Complete, &age, &r.Problem, &status, &r.StatusAt,
			&r.Changed, &r.Compared, &r.Found, &r.Braked, &r.Since, &r.SyncAsked, &r.ReleaseAsked); err != nil {
			return nil, fmt.Errorf("read state of directories: %w", err)
		}
		if age != nil {
			d := max(0, time.Duration(*age*float64(time.Second)))
			r.Age = &d
		}
		if status != nil {
			r.Status = new(SourceStatus)
			if err := json.Unmarshal(status, r.Status); err != nil {
				return nil, fmt.Errorf("state of directory %q: %w", r.Name, err)
			}
		}
		all = append(all, r)
	}
	if err := rs.Err(); err != nil {
		return nil, fmt.Errorf("read state of directories: %w", err)
	}
	return all, nil
}

const putStatusSQL = `
insert into directory_source as s (name, status, status_at)
select $1, $2, now()
  from directory_lease
 where name = 'directory'
   and token = $3
    on conflict (name) do update
   set status = excluded.status,
       status_at = excluded.status_at`

// putStatus records what a source says, as long as its node holds the lease.
func (r rows) putStatus(ctx context.Context, l *lease, source string, s SourceStatus) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = r.db.Exec(ctx, postgres.Background, putStatusSQL, source, b, l.token)
	return err
}

// How often a source is asked how it goes, and how often that is written down
// though nothing has changed.
const (
	askEvery    = time.Second
	reportEvery = 10 * time.Second
)

// report writes down how the source goes, until ctx is done.
func (g *feeding) report(ctx context.Context) {
	r, ok := g.source.(Reporter)
	if !ok {
		return
	}
	var last SourceStatus
	var written time.Time
	for ctx.Err() == nil {
		if s := r.Status(); !reflect.DeepEqual(s, last) || time.Since(written) >= reportEvery {
			if err := g.f.rows.putStatus(ctx, g.lease, g.source.Name(), s); err != nil && ctx.Err() == nil {
				g.f.log.Debug("state of the directory not written", "err", err)
			}
			last, written = s, time.Now()
		}
		_ = sleep(ctx, askEvery)
	}
}

// Stale reports whether the directory may know people that the replica lacks, so
// that unknown addresses are deferred: it was never read to the end, or was not heard
// of for the default of Rules.StaleAfter.
func (r *Report) Stale() bool {
	return !r.Complete || r.Age == nil || *r.Age > defaultStaleAfter
}
