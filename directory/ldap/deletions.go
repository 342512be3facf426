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
	budget            // of comparisons of all identifiers
	// links is about comparisons of what groups name, which come first where there are
	// many entries.
	links links
}

// links is when members of groups were last compared.
type links struct {
	budget
	unseen int64 // numbers of changes since then that are of no entry that can be seen
}

// budget is what comparisons of one kind may cost.
type budget struct {
	ended  time.Time
	took   time.Duration
	credit time.Duration // what comparisons might take, when the last one ended
}

// saved is what comparisons may take now.
func (b *budget) saved(now time.Time) time.Duration {
	if b.ended.IsZero() {
		return b.burst()
	}
	return min(b.credit+now.Sub(b.ended)/compareShare, b.burst())
}

func (b *budget) burst() time.Duration { return max(time.Second, compareBurst*b.took) }

// spend takes down a comparison that has taken so long.
func (b *budget) spend(now time.Time, took time.Duration) {
	b.credit = b.saved(now) - took
	b.ended, b.took = now, took
}

// after is how long it is until there is something saved, at most most after the last
// time.
func (b *budget) after(now time.Time, most time.Duration) time.Duration {
	if b.ended.IsZero() {
		return 0
	}
	return max(0, min(max(0, -b.saved(now))*compareShare, most-now.Sub(b.ended)))
}

// moved takes down that the number of the last change has moved on by some, and how
// many entries were named as changed.
func (d *deletions) moved(by, named int64) {
	d.unexplained = max(d.unexplained, -d.ahead) + by - named
	d.ahead = named
}

// looked takes down that the number of the last change has moved on from one to
// another, and how many of the numbers between are those of entries that can be seen: a
// deletion is none of these.
func (d *deletions) looked(from, to, seen int64) {
	unseen := max(0, to-from-seen)
	d.unexplained, d.ahead = max(0, d.unexplained)+unseen, 0
	d.links.unseen += unseen
	if unseen == 0 && d.usn == from {
		d.usn = to
	}
}

// compared takes down a comparison that began when usn and unexplained were as given,
// and has taken so long.
func (d *deletions) compared(now time.Time, usn, unexplained int64, took time.Duration) {
	d.unexplained -= max(0, unexplained)
	d.usn = usn
	d.spend(now, took)
}

// wait is how long it is until identifiers are to be compared, where the number of
// the last change is usn, at most most after the last time; false: not before
// something changes.
func (d *deletions) wait(now time.Time, usn int64, most time.Duration) (time.Duration, bool) {
	if d.told || d.usn == usn {
		return 0, false
	}
	if d.ended.IsZero() || d.unexplained > 0 {
		return d.after(now, most), true
	}
	// Half is kept for what is not explained.
	since := now.Sub(d.ended)
	w := max(compareLeast-since, (d.burst()/2-d.saved(now))*compareShare)
	return max(0, min(w, most-since)), true
}

// waitLinks is wait for what groups name.
func (d *deletions) waitLinks(now time.Time, most time.Duration) (time.Duration, bool) {
	if d.told || d.links.unseen <= 0 {
		return 0, false
	}
	return d.links.after(now, most), true
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
	if err := s.compareLinksIfDue(ctx); err != nil {
		return err
	}
	if wait, due := s.deleted.wait(time.Now(), s.usn, s.client.cfg.PollEvery); wait > 0 || !due {
		return nil
	}
	return s.compareIdentifiers(ctx)
}

// untilCompared is how long it is until something is to be compared, false: not before
// something changes.
func (s *dirsyncSession) untilCompared() (wait time.Duration, due bool) {
	now, most := time.Now(), s.client.cfg.PollEvery
	wait, due = s.deleted.wait(now, s.usn, most)
	if links, ok := s.deleted.waitLinks(now, most); ok && (!due || links < wait) {
		return links, true
	}
	return wait, due
}

// compareIdentifiers finds what has vanished without a word: it asks for what is known,
// some identifiers at a time, which costs Samba a third of a search for everything. An
// entry that moves meanwhile is asked for again by name before it is believed to be
// gone, and then it is the feeder that decides, as after any comparison.
func (s *dirsyncSession) compareIdentifiers(ctx context.Context) error {
	start, usn, unexplained := time.Now(), s.usn, s.deleted.unexplained
	if s.live == nil {
		s.deleted.compared(start, usn, unexplained, 0)
		return nil // nothing is known that could have vanished
	}
	// Emptiness is an error of configuration or rights, never the news that
	// everybody has left.
	if err := s.client.readBase(ctx, s.conn); err != nil {
		return err
	}
	missing := s.reread()
	var list []objectGUID
	for key := range s.snapshot().Keys(s.Name()) {
		g, ok := s.guidOf(key)
		if !ok {
			continue
		}
		if list = append(list, g); len(list) < rereadSize {
			continue
		}
		if err := missing.absent(ctx, list); err != nil {
			return err
		}
		list = list[:0]
		if err := s.between(ctx); err != nil {
			return err
		}
		if err := s.compareLinksIfDue(ctx); err != nil {
			return err
		}
	}
	if err := missing.absent(ctx, list); err != nil {
		return err
	}
	if len(missing.queue) > 0 {
		if err := missing.judge(ctx, s.snapshot()); err != nil {
			return err
		}
	}
	s.deleted.compared(time.Now(), usn, unexplained, time.Since(start))
	return nil
}

// absent queues which of some entries are not there.
func (r *reread) absent(ctx context.Context, list []objectGUID) error {
	if len(list) == 0 {
		return nil
	}
	there := make(map[objectGUID]struct{}, len(list))
	err := r.few(ctx, anyGUID(list), []string{"objectGUID"}, func(le *ldap.Entry) error {
		g, err := entryGUID(le)
		there[g] = struct{}{}
		return err
	})
	if err != nil {
		return fmt.Errorf("compare identifiers: %w", err)
	}
	for _, g := range list {
		if _, is := there[g]; !is {
			r.want(g)
		}
	}
	return nil
}

// few searches below the base for entries of which there are not more than a server
// gives without pages, which cost Samba three times as much. With one that gives fewer
// it does so in pages.
func (s *dirsyncSession) few(ctx context.Context, filter string, attributes []string, found func(*ldap.Entry) error) error {
	all := func(entries []*ldap.Entry) error {
		for _, le := range entries {
			if err := found(le); err != nil {
				return err
			}
		}
		return nil
	}
	req := ldap.NewSearchRequest(s.client.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, attributes, nil)
	res, err := s.conn.search(ctx, pageLimit, req)
	if ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		return s.pages(ctx, s.conn, req, func(entries []*ldap.Entry, _ bool) error { return all(entries) })
	}
	if err != nil {
		return s.client.searchError(err)
	}
	s.client.ignoreReferrals(res.Referrals)
	return all(res.Entries)
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
	if len(gone) == 0 { // all of them are somewhere
		if len(named.Changes) == 0 {
			return nil
		}
		return r.emit(ctx, directory.Batch{Changes: named.Changes})
	}
	for key := range snapshot.Keys(r.Name()) {
		if _, is := gone[key]; !is {
			named.Present = append(named.Present, key)
		}
	}
	named.Complete, named.Vanish = true, true
	return r.emit(ctx, named)
}
