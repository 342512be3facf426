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
// all entries are compared: right after anything has changed, since a deletion
// that nobody tells of moves on the number of the last change all the same, but
// so seldom that the domain controller spends a twentieth of one connection's
// time on it.
const (
	compareLeast = 2 * time.Second
	compareShare = 20
)

// deletions is how deletions are seen, and when they were last looked for.
type deletions struct {
	told  bool // the account sees deleted entries
	usn   int64
	ended time.Time
	took  time.Duration
}

// The ways in which deletions are seen, in SourceStatus.
const (
	deletionsTold     = "told"
	deletionsCompared = "compared"
)

// deletedObjects is the well-known GUID of the container of deleted objects
// ([MS-ADTS] §6.1.1.4).
const deletedObjects = "18E2EA80684F11D2B9AA00C04F79F805"

// sight finds out whether the account sees deleted entries. A domain in which
// nothing was ever deleted looks as if it did not, which costs little.
func (s *dirsyncSession) sight(ctx context.Context) error {
	req := ldap.NewSearchRequest(fmt.Sprintf("<WKGUID=%s,%s>", deletedObjects, s.dsa.context), ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 1, 0, false,
		"(isDeleted=TRUE)", []string{"1.1"}, []ldap.Control{ldap.NewControlMicrosoftShowDeleted()})
	res, err := s.conn.search(ctx, s.client.cfg.Timeout, req)
	if broken(err) {
		return fmt.Errorf("look for deleted entries: %w", err)
	}
	s.toldOfDeletions(ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) || err == nil && len(res.Entries) > 0)
	return nil
}

// toldOfDeletions takes down whether deletions are told.
func (s *dirsyncSession) toldOfDeletions(told bool) {
	s.deleted.told = told
	how := deletionsCompared
	if told {
		how = deletionsTold
	}
	s.report(func(st *directory.SourceStatus) { st.Deletions = how })
}

// compareIfDue compares everything, or the identifiers alone, if it is time.
func (s *dirsyncSession) compareIfDue(ctx context.Context) error {
	if time.Since(s.full) >= s.client.cfg.RefreshEvery {
		if err := s.sight(ctx); err != nil {
			return err
		}
		last, err := s.readAll(ctx, s.conn, s.emit, s.between)
		if err != nil {
			return fmt.Errorf("compare: %w", err)
		}
		s.full = time.Now()
		return s.emit(ctx, last)
	}
	gap := min(max(compareShare*s.deleted.took, compareLeast), s.client.cfg.PollEvery)
	if s.deleted.told || s.deleted.usn == s.usn || time.Since(s.deleted.ended) < gap {
		return nil
	}
	return s.compareIdentifiers(ctx)
}

// compareIdentifiers finds what has vanished without a word.
func (s *dirsyncSession) compareIdentifiers(ctx context.Context) error {
	if s.live == nil {
		return nil // nothing is known that could have vanished
	}
	start, usn := time.Now(), s.usn
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
	s.deleted.usn, s.deleted.ended, s.deleted.took = usn, time.Now(), time.Since(start)
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
