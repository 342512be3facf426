package ldap

import (
	"context"
	"fmt"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// A domain controller tells nobody of a deletion who may not read the container
// of deleted objects, which an ordinary account may not. Then the identifiers of
// all entries are compared as soon as the number of the last change, which
// everybody may read, has moved on further than DirSync explains. Over time that
// may cost a twentieth of one connection's time; what was not spent is saved, so
// that a deletion that comes after some quiet waits for nothing.
const (
	// askEvery is how often the number is asked for, which costs the domain
	// controller less than a millisecond.
	askEvery = 200 * time.Millisecond
	// compareShare is the part of the time that comparisons may take, as 1 in so
	// many.
	compareShare = 20
	// compareBurst is how many comparisons may follow each other at once, as far as
	// they were saved for; those of small domains more, for a second.
	compareBurst = 4
	// compareLeast is the time between two comparisons for changes that DirSync
	// explains: there may be a deletion among them all the same.
	compareLeast = 2 * time.Second
)

// deletions is how deletions are seen, and when they were last looked for.
type deletions struct {
	told bool  // the account sees deleted entries
	usn  int64 // all deletions up to this change are known
	// unexplained is how many numbers of changes nobody has named an entry for.
	// One that is named may have had several.
	unexplained int64
	ahead       int64 // how many of the named may be of changes still to come
	ended       time.Time
	took        time.Duration
	credit      time.Duration // what comparisons might take, when the last one ended
}

// moved takes down that the number of the last change has moved on by some, and how
// many entries were named as changed.
func (d *deletions) moved(by, named int64) {
	d.unexplained = max(d.unexplained, -d.ahead) + by - named
	d.ahead = named
}

// saved is what comparisons may take now.
func (d *deletions) saved(now time.Time) time.Duration {
	if d.ended.IsZero() {
		return d.burst()
	}
	return min(d.credit+now.Sub(d.ended)/compareShare, d.burst())
}

func (d *deletions) burst() time.Duration { return max(time.Second, compareBurst*d.took) }

// compared takes down a comparison that began when usn and unexplained were as given,
// and has taken so long.
func (d *deletions) compared(now time.Time, usn, unexplained int64, took time.Duration) {
	d.credit = d.saved(now) - took
	d.unexplained -= max(0, unexplained)
	d.usn, d.ended, d.took = usn, now, took
}

// wait is how long it is until identifiers are to be compared, where the number of
// the last change is usn, at most most after the last time; false: not before
// something changes.
func (d *deletions) wait(now time.Time, usn int64, most time.Duration) (time.Duration, bool) {
	if d.told || d.usn == usn {
		return 0, false
	}
	if d.ended.IsZero() {
		return 0, true
	}
	since, saved := now.Sub(d.ended), d.saved(now)
	var w time.Duration
	if d.unexplained > 0 {
		w = max(0, -saved) * compareShare
	} else { // half is kept for what is not explained
		w = max(compareLeast-since, (d.burst()/2-saved)*compareShare)
	}
	return max(0, min(w, most-since)), true
}

// The ways in which deletions are seen, in [directory.SourceStatus].
const (
	DeletionsTold     = "told"     // by the server
	DeletionsCompared = "compared" // with what was there before
)

// sight finds out whether the account sees deleted entries. A domain in which
// nothing was ever deleted looks as if it did not, which costs little.
func (s *dirsyncSession) sight(ctx context.Context) error {
	told, err := seesDeleted(ctx, s.dsa.context, func(ctx context.Context, req *ldap.SearchRequest) (*ldap.SearchResult, error) {
		return s.conn.search(ctx, s.client.cfg.Timeout, req)
	})
	if err != nil {
		return err
	}
	s.toldOfDeletions(told)
	return nil
}

// toldOfDeletions takes down whether deletions are told.
func (s *dirsyncSession) toldOfDeletions(told bool) {
	s.deleted.told = told
	how := DeletionsCompared
	if told {
		how = DeletionsTold
	}
	s.report(func(st *directory.SourceStatus) { st.Deletions = how })
}

// compareIfDue compares everything, or the identifiers alone, if it is time.
func (s *dirsyncSession) compareIfDue(ctx context.Context) error {
	if time.Since(s.full) >= s.client.cfg.RefreshEvery {
		if err := s.sight(ctx); err != nil {
			return err
		}
		usn := s.usn
		last, err := s.readAll(ctx, s.conn, s.emit, s.between)
		if err != nil {
			return fmt.Errorf("compare: %w", err)
		}
		s.full, s.deleted.usn = time.Now(), usn
		return s.emit(ctx, last)
	}
	if wait, due := s.deleted.wait(time.Now(), s.usn, s.client.cfg.PollEvery); wait > 0 || !due {
		return nil
	}
	return s.compareIdentifiers(ctx)
}

// compareIdentifiers finds what has vanished without a word.
func (s *dirsyncSession) compareIdentifiers(ctx context.Context) error {
	start, usn, unexplained := time.Now(), s.usn, s.deleted.unexplained
	if s.live == nil {
		s.deleted.compared(start, usn, unexplained, 0)
		return nil // nothing is known that could have vanished
	}
	there := make(map[objectGUID]struct{}, s.snapshot().Len())
	// Emptiness is an error of configuration or rights, never the news that
	// everybody has left.
	if err := s.client.readBase(ctx, s.conn); err != nil {
		return err
	}
	req := s.request()
	req.Attributes = []string{"objectGUID"}
	err := s.pages(ctx, s.conn, req, func(entries []*ldap.Entry, more bool) error {
		for _, le := range entries {
			g, err := entryGUID(le)
			if err != nil {
				return err
			}
			there[g] = struct{}{}
		}
		if !more {
			return nil
		}
		return s.between(ctx)
	})
	if err != nil {
		return fmt.Errorf("compare identifiers: %w", err)
	}
	if err := s.vanished(ctx, there); err != nil {
		return err
	}
	s.deleted.compared(time.Now(), usn, unexplained, time.Since(start))
	return nil
}

// vanished hands over what is known and not there. Pages may skip an entry that
// moves meanwhile, so each is asked for by name before it is believed to be gone,
// and then it is the feeder that decides, as after any comparison.
func (s *dirsyncSession) vanished(ctx context.Context, there map[objectGUID]struct{}) error {
	missing := s.reread()
	snapshot := s.snapshot()
	for key := range snapshot.Keys(s.Name()) {
		g, ok := s.guidOf(key)
		if _, is := there[g]; is || !ok {
			continue
		}
		if isThere(snapshot.ByKey(key)) {
			missing.want(g)
		}
	}
	if len(missing.queue) == 0 {
		return nil
	}
	return missing.judge(ctx, snapshot)
}

// judge asks for what is missing, and hands a comparison over in which everything
// else is present.
func (r *reread) judge(ctx context.Context, snapshot *directory.Snapshot) error {
	gone := map[directory.Key]struct{}{}
	named := directory.Batch{Begin: true}
	for len(r.queue) > 0 {
		changes, err := r.next(ctx)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if c.Entry == nil {
				gone[c.Key] = struct{}{}
			} else {
				named.Changes = append(named.Changes, c)
			}
		}
	}
	for key := range snapshot.Keys(r.Name()) {
		if _, is := gone[key]; !is {
			named.Present = append(named.Present, key)
		}
	}
	named.Complete, named.Vanish = true, true
	return r.emit(ctx, named)
}
