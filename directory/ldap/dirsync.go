package ldap

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// dirsync follows a domain controller of Active Directory ([MS-ADTS]
// §3.1.1.3.4.1.3). A notification says that something has changed, DirSync says
// which entries, and these are read again as they are now, so that filter and
// base are the server's matter and the mapper sees whole entries.
type dirsync struct {
	base
	live        *directory.Live // nil: nothing is known
	replication replication

	mu     sync.Mutex // guards what follows
	status directory.SourceStatus
	urls   []string                       // of status.Servers
	held   map[objectGUID]map[string]held // by the server that holds it
}

// Lag implements directory.Source.
func (*dirsync) Lag() time.Duration { return 0 }

// Look implements directory.Looker.
func (d *dirsync) Look(live *directory.Live) { d.live = live }

// Status implements directory.Reporter.
func (d *dirsync) Status() directory.SourceStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.status
	s.Servers = slices.Clone(s.Servers)
	s.Profile, s.ProfileWhy = d.client.readAs()
	for i, one := range d.urls {
		s.Servers[i].Behind = d.replication.behind(one)
	}
	return s
}

// server changes the status of one server. The caller holds mu.
func (d *dirsync) server(url string) *directory.ServerStatus {
	i := slices.Index(d.urls, url)
	if i < 0 {
		i = len(d.urls)
		d.urls = append(d.urls, url)
		d.status.Servers = append(d.status.Servers, directory.ServerStatus{Name: url})
	}
	return &d.status.Servers[i]
}

// seen takes down how a server does.
func (d *dirsync) seen(url string, usn int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.server(url)
	if err != nil {
		s.Problem, s.Watched = err.Error(), false
		return
	}
	s.USN, s.Seen, s.Problem = usn, time.Now(), ""
}

// named takes down how a server that is watched calls itself.
func (d *dirsync) named(url, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.server(url)
	s.Name, s.Watched = cmp.Or(name, url), true
}

// unknown forgets a server.
func (d *dirsync) unknown(url string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.urls, url); i >= 0 {
		d.urls = slices.Delete(d.urls, i, i+1)
		d.status.Servers = slices.Delete(d.status.Servers, i, i+1)
	}
}

// report changes the status.
func (d *dirsync) report(f func(s *directory.SourceStatus)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.status)
}

// The times of following a domain controller.
const (
	// turnEvery is how often it is asked for the number of its last change,
	// whatever the notification says.
	turnEvery = 2 * time.Second
	// coalesce is the least time from one round of changes to the next: a burst
	// becomes a few rounds, and a single change waits for nothing.
	coalesce = 50 * time.Millisecond
	// longRequest bounds a request that looks at the whole domain.
	longRequest = 5 * time.Minute
)

// dirsyncCookie is how far which domain controller was read. The numbers of
// changes are each controller's own, so another controller, or the same one
// restored from a backup, is compared with from the start.
type dirsyncCookie struct {
	Server     string `json:"server"`
	Invocation string `json:"invocation"`
	DirSync    []byte `json:"dirsync"`
}

// dirsyncSession is the following of one controller on one connection.
type dirsyncSession struct {
	*dirsync
	conn    *conn
	dsa     *dsa
	emit    func(context.Context, directory.Batch) error
	cookie  []byte // the controller's
	usn     int64  // all changes up to this number have been handed over
	hints   <-chan struct{}
	others  <-chan sighting
	watched []*watcher
	doubted time.Time // when changes that some server lacks were last looked for
	turned  time.Time // when the last turn ended
	deleted deletions
	full    time.Time       // when everything was last compared
	groups  []directory.Key // whose members are compared
	chosen  time.Time       // when groups was chosen
}

// Follow implements directory.Source.
func (d *dirsync) Follow(ctx context.Context, cookie []byte, emit func(context.Context, directory.Batch) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := d.client.settle(ctx); err != nil {
		return err
	}
	c, err := d.client.dialService(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	if err := d.byGUID(); err != nil {
		return err
	}
	// Each request has its own limit here: one that looks at the whole domain may
	// take longer than the library would wait.
	c.SetTimeout(0)
	s := &dirsyncSession{dirsync: d, conn: c, full: time.Now()}
	s.emit = func(ctx context.Context, b directory.Batch) error {
		again := d.takeAway(b.Changes)
		if err := emit(ctx, b); err != nil {
			return err
		}
		for _, w := range s.watched { // perhaps this controller has caught up
			w.want(again...)
		}
		return nil
	}
	if s.dsa, err = d.readDSA(ctx, c); err != nil {
		return err
	}
	if s.dsa.context == "" {
		return fmt.Errorf("directory %q: %s lies in no naming context of the server: correct base", d.Name(), d.client.cfg.Base)
	}
	d.report(func(st *directory.SourceStatus) {
		*st = directory.SourceStatus{Mode: FollowDirSync, Wake: FollowPoll, Server: c.server.url, LastChange: st.LastChange}
		d.urls = nil
		one := d.server(c.server.url)
		one.Name, one.Followed = cmp.Or(s.dsa.name, c.server.url), true
	})
	s.hints = d.notify(ctx, c.server)
	s.others, s.watched = d.watchOthers(ctx, c, s.dsa)
	err = s.follow(ctx, cookie)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("follow directory %q: %w", d.Name(), err)
}

// follow begins where cookie says, or from the start, and goes on until it fails.
func (s *dirsyncSession) follow(ctx context.Context, cookie []byte) error {
	if err := s.sight(ctx); err != nil {
		return err
	}
	if !s.resume(cookie) {
		if err := s.load(ctx); err != nil {
			return err
		}
	}
	for {
		if err := s.turn(ctx); err != nil {
			return err
		}
		if err := s.compareIfDue(ctx); err != nil {
			return err
		}
		if err := s.await(ctx); err != nil {
			return err
		}
	}
}

// resume takes a cookie over, and reports whether it belongs to this controller.
func (s *dirsyncSession) resume(cookie []byte) bool {
	var k dirsyncCookie
	if json.Unmarshal(s.ownCookie(cookie), &k) != nil || len(k.DirSync) == 0 {
		return false
	}
	if k.Server != s.dsa.name || k.Invocation != s.dsa.invocation {
		s.log.Info("another domain controller, or another copy of its database: everything is compared once", "before", k.Server, "now", s.dsa.name)
		return false
	}
	s.cookie = k.DirSync
	return true
}

// wrapped is the cookie as it is kept.
func (s *dirsyncSession) wrapped() []byte {
	b, err := json.Marshal(dirsyncCookie{s.dsa.name, s.dsa.invocation, s.cookie})
	if err != nil {
		panic(err) // two strings and some octets
	}
	return append(s.view(), b...)
}

// load reads everything. The cookie comes before it: what changes meanwhile is
// told again afterwards.
func (s *dirsyncSession) load(ctx context.Context) error {
	at := time.Now()
	usn, err := s.readUSN(ctx, s.conn)
	if err != nil {
		return err
	}
	// Nothing has this GUID, so nothing but the cookie is sent.
	for more := true; more; {
		var entries []*ldap.Entry
		if entries, more, err = s.deltas(ctx, "(objectGUID="+escapeGUID(objectGUID{})+")", []string{"objectGUID"}); err != nil {
			return err
		}
		if len(entries) > 0 {
			return errors.New("DirSync ignores the filter")
		}
	}
	last, err := s.readAll(ctx, s.conn, s.emit, nil)
	if err != nil {
		return err
	}
	s.usn, last.At, last.Cookie = usn, at, s.wrapped()
	s.full, s.deleted.usn = time.Now(), usn
	return s.emit(ctx, last)
}

// await returns when something may have changed, not too soon after the last
// time.
func (s *dirsyncSession) await(ctx context.Context) error {
	s.doubt()
	wait := time.Until(s.turned.Add(turnEvery))
	if due, ok := s.untilCompared(); ok {
		wait = min(wait, due)
	}
	t, ask := time.NewTimer(wait), s.asking()
	defer t.Stop()
	defer ask.Stop()
	for {
		select {
		case <-s.hints:
			return sleep(ctx, time.Until(s.turned.Add(coalesce)))
		case <-t.C:
			return nil
		case <-ask.C:
			usn, err := s.readUSN(ctx, s.conn)
			if err != nil {
				return fmt.Errorf("%s does not answer: %w", s.conn.server.url, err)
			}
			if usn != s.usn {
				return nil
			}
		case from := <-s.others:
			if err := s.sighted(ctx, from); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// asking ticks when the number of the last change is to be asked for: it alone says
// that there was a deletion, to whom nobody tells it.
func (s *dirsyncSession) asking() *time.Ticker {
	if s.deleted.told {
		return time.NewTicker(turnEvery)
	}
	return time.NewTicker(askEvery)
}

// doubt has the watched controllers look at changes that one of them, or this one,
// has not told of for long.
func (s *dirsyncSession) doubt() {
	if time.Since(s.doubted) < doubtAfter {
		return
	}
	s.doubted = time.Now()
	for _, w := range s.watched {
		if list := s.replication.doubtful(w.server.url, s.conn.server.url); len(list) > 0 {
			w.want(list...)
		}
	}
}

// between is what is done between the pages of a comparison, so that a change
// need not wait for its end.
func (s *dirsyncSession) between(ctx context.Context) error {
	select {
	case <-s.hints:
	case from := <-s.others:
		return s.sighted(ctx, from)
	default:
		if time.Since(s.turned) < turnEvery {
			return nil
		}
	}
	return s.turn(ctx)
}

// turn hands over what has changed. It costs one small question when nothing
// has, and then says that nothing was missing when it was asked.
func (s *dirsyncSession) turn(ctx context.Context) error {
	defer func() { s.turned = time.Now() }()
	at := time.Now()
	usn, err := s.readUSN(ctx, s.conn)
	if err != nil {
		return fmt.Errorf("%s does not answer: %w", s.conn.server.url, err)
	}
	if usn != s.usn {
		named, err := s.changes(ctx)
		if err != nil {
			return err
		}
		if err := s.explain(ctx, usn, named); err != nil {
			return err
		}
		s.usn = usn
	}
	return s.emit(ctx, directory.Batch{At: at})
}

// changes hands over what DirSync tells, and returns of how many entries it has told.
func (s *dirsyncSession) changes(ctx context.Context) (named int64, err error) {
	told := map[objectGUID]struct{}{}
	for more := true; more; {
		var entries []*ldap.Entry
		if entries, more, err = s.deltas(ctx, "(objectClass=*)", s.deltaAttributes()); err != nil {
			return 0, err
		}
		if len(entries) > 0 {
			s.report(func(st *directory.SourceStatus) { st.LastChange = time.Now() })
		}
		r := s.reread()
		for _, le := range entries {
			g, err := r.delta(ctx, le)
			if err != nil {
				return 0, err
			}
			told[g] = struct{}{}
		}
		if err := r.finish(ctx, s.wrapped()); err != nil {
			return 0, err
		}
	}
	return int64(len(told)), nil
}

// deltaAttributes are those whose changes matter, and those by which a change of
// the entry itself is known.
func (s *dirsyncSession) deltaAttributes() []string {
	return append(slices.Clone(s.mapper().attributes), "objectGUID", "name", "isDeleted")
}

// deltas asks for what has changed since the cookie, and moves the cookie on.
// Flags: what the account may read, without any right to replicate; of attributes
// with many values only the changed ones, since the entry is read again anyway.
func (s *dirsyncSession) deltas(ctx context.Context, filter string, attributes []string) (entries []*ldap.Entry, more bool, err error) {
	const most = 4 << 20 // octets of an answer
	req := ldap.NewSearchRequest(s.dsa.context, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, attributes,
		append(s.mapper().controls(), ldap.NewRequestControlDirSync(ldap.DirSyncObjectSecurity|ldap.DirSyncIncrementalValues, most, s.cookie)))
	res, err := s.conn.search(ctx, longRequest, req)
	if err != nil {
		return nil, false, s.refused(err)
	}
	answer, _ := ldap.FindControl(res.Controls, ldap.ControlTypeDirSync).(*ldap.ControlDirSync)
	if answer == nil || len(answer.Cookie) == 0 {
		return nil, false, errors.New("DirSync gave no cookie")
	}
	s.cookie = answer.Cookie
	return res.Entries, answer.Flags != 0, nil
}

// refused says what it means that DirSync was refused.
func (s *dirsyncSession) refused(err error) error {
	if ldap.IsErrorWithCode(err, ldap.LDAPResultInsufficientAccessRights) {
		return fmt.Errorf(`DirSync is refused to %s: allow it to read the domain, or set follow = "poll": %w`, s.client.cfg.account(), err)
	}
	// The codes of a cookie that the controller cannot read, or that is too old.
	if len(s.cookie) > 0 && ldap.IsErrorAnyOf(err, ldap.LDAPResultUnavailableCriticalExtension, ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultProtocolError) {
		return fmt.Errorf("%w: %w", directory.ErrRefresh, err)
	}
	return fmt.Errorf("DirSync: %w", err)
}
