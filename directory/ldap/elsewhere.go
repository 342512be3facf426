package ldap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Besides the controller that is followed, others are watched: all that the
// configuration names, or those of our site and the PDC emulator where the DNS
// names them. What takes access away is believed from whichever shows it first.

// maxWatched bounds how many controllers are watched.
const maxWatched = 8

// sighting is what a watched controller says of some entries.
type sighting struct {
	server  string // its URL
	entries map[objectGUID]*ldap.Entry
	gone    []objectGUID // deleted there
	absent  []objectGUID // not there, or not for us
}

// watcher watches one controller.
type watcher struct {
	*dirsync
	server   *server
	followed *dsa
	out      chan<- sighting
	wake     chan struct{}

	mu      sync.Mutex          // guards pending
	pending map[objectGUID]bool // true: deleted
	usn     int64               // changes up to this number have been seen
}

// errSameController says that an address leads to the controller that is followed.
var errSameController = errors.New("the same domain controller")

// watchOthers watches the other controllers until ctx is done.
func (d *dirsync) watchOthers(ctx context.Context, followed *conn, dsa *dsa) (<-chan sighting, []*watcher) {
	out := make(chan sighting)
	var all []*watcher
	for _, s := range d.client.servers(ctx) {
		c := s.controller
		if s == followed.server || c.isReadOnly() || d.client.cfg.Discover != "" && !c.Near && !c.PDC || len(all) == maxWatched {
			continue
		}
		w := &watcher{dirsync: d, server: s, followed: dsa, out: out, wake: make(chan struct{}, 1), pending: map[objectGUID]bool{}}
		all = append(all, w)
		go w.run(ctx)
	}
	return out, all
}

// run watches again and again.
func (w *watcher) run(ctx context.Context) {
	wait := notifyRetry
	for ctx.Err() == nil {
		begun := time.Now()
		err := w.watch(ctx)
		w.replication.up(w.server.url, false)
		if ctx.Err() != nil || errors.Is(err, errSameController) {
			return
		}
		w.seen(w.server.url, 0, err)
		w.log.Debug("domain controller cannot be watched", "server", w.server.url, "err", err)
		switch {
		case !broken(err):
			wait = notifyRefused
		case time.Since(begun) > maxProbe:
			wait = notifyRetry
		}
		if sleep(ctx, wait) != nil {
			return
		}
		wait = min(2*wait, maxProbe)
	}
}

// want asks for entries to be looked at.
func (w *watcher) want(list ...objectGUID) {
	if len(list) == 0 {
		return
	}
	w.mu.Lock()
	for _, g := range list {
		if _, ok := w.pending[g]; !ok {
			w.pending[g] = false
		}
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// watch runs one connection.
func (w *watcher) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready, ended := make(chan *conn, 1), make(chan error, 1)
	same := make(chan struct{})
	l := listener{
		up: func(c *conn, other *dsa) {
			if other.invocation == w.followed.invocation && other.name == w.followed.name {
				close(same)
				return
			}
			w.named(w.server.url, other.name)
			w.replication.up(w.server.url, true)
			ready <- c
		},
		news: w.news,
		seen: func(usn int64) { w.seen(w.server.url, usn, nil) },
	}
	go func() { ended <- w.notified(ctx, w.server, l) }()
	var c *conn
	for {
		select {
		case <-same:
			cancel()
			<-ended
			w.unknown(w.server.url)
			return errSameController
		case err := <-ended:
			return err
		case c = <-ready:
			if err := w.scan(ctx, c); err != nil {
				return err
			}
		case <-w.wake:
			if c == nil {
				continue
			}
			if err := w.look(ctx, c); err != nil {
				return err
			}
		}
	}
}

// news takes down what has changed there.
func (w *watcher) news(le *ldap.Entry) {
	g, err := entryGUID(le)
	if err != nil {
		return
	}
	w.replication.told(g, w.server.url)
	w.mu.Lock()
	w.pending[g] = strings.EqualFold(le.GetEqualFoldAttributeValue("isDeleted"), "TRUE")
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// look reads what has changed and hands it over.
func (w *watcher) look(ctx context.Context, c *conn) error {
	w.mu.Lock()
	pending := w.pending
	w.pending = map[objectGUID]bool{}
	w.mu.Unlock()
	s := sighting{server: w.server.url}
	var list []objectGUID
	for g, deleted := range pending {
		if deleted {
			s.gone = append(s.gone, g)
		} else {
			list = append(list, g)
		}
	}
	var err error
	if s.entries, s.absent, err = w.readRaw(ctx, c, list); err != nil {
		return err
	}
	if err := w.hand(ctx, s); err != nil {
		return err
	}
	return sleep(ctx, coalesce)
}

func (w *watcher) hand(ctx context.Context, s sighting) error {
	select {
	case w.out <- s:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// scan looks, after connecting, for everybody who has no access there, for whom it
// was taken away before, and for what has changed while nobody watched.
func (w *watcher) scan(ctx context.Context, c *conn) error {
	usn, err := w.readUSN(ctx, c)
	if err != nil {
		return err
	}
	w.want(w.heldBy(w.server.url)...)
	filter := "(userAccountControl:1.2.840.113556.1.4.803:=2)(pwdLastSet=0)(lockoutTime>=1)" +
		fmt.Sprintf("(&(accountExpires>=1)(accountExpires<=%d))", filetimeOf(time.Now()))
	if w.usn > 0 {
		filter += fmt.Sprintf("(uSNChanged>=%d)", w.usn+1)
	}
	req := w.request()
	req.Filter = "(&" + w.client.cfg.Filter + "(|" + filter + "))"
	req.Attributes = w.rawAttributes()
	err = w.pages(ctx, c, req, func(entries []*ldap.Entry, _ bool) error {
		s := sighting{server: w.server.url, entries: map[objectGUID]*ldap.Entry{}}
		for _, le := range entries {
			g, err := entryGUID(le)
			if err != nil {
				return err
			}
			if w.usn > 0 || w.isNews(le, g) {
				s.entries[g] = le
			}
		}
		if len(s.entries) == 0 {
			return nil
		}
		return w.hand(ctx, s)
	})
	if err == nil {
		w.usn = usn
	}
	return err
}

// isNews reports whether somebody without access there has it here.
func (w *watcher) isNews(le *ldap.Entry, g objectGUID) bool {
	snapshot := w.snapshot()
	if snapshot == nil {
		return false
	}
	now := time.Now()
	here := snapshot.ByKey(w.key(g.id()))
	there, _ := w.mapper().entry(le, g.id())
	return here != nil && there != nil && here.LoginState(now) != there.LoginState(now)
}

// rawAttributes are those of the mapping and of the password.
func (b *base) rawAttributes() []string {
	return append(append([]string(nil), b.mapper().attributes...), "pwdLastSet")
}

// readRaw reads entries by their identifiers.
func (b *base) readRaw(ctx context.Context, c *conn, list []objectGUID) (found map[objectGUID]*ldap.Entry, absent []objectGUID, err error) {
	found = make(map[objectGUID]*ldap.Entry, len(list))
	for rest := list; len(rest) > 0; {
		part := rest[:min(len(rest), rereadSize)]
		rest = rest[len(part):]
		req := b.request()
		req.Filter, req.Attributes = "(&"+anyGUID(part)+b.client.cfg.Filter+")", b.rawAttributes()
		err := b.pages(ctx, c, req, func(entries []*ldap.Entry, _ bool) error {
			for _, le := range entries {
				g, err := entryGUID(le)
				if err != nil {
					return err
				}
				if err := b.completeRanges(ctx, c, le); err != nil {
					return err
				}
				found[g] = le
			}
			return nil
		})
		if err != nil {
			return nil, nil, fmt.Errorf("read changed entries of %s: %w", c.server.url, err)
		}
	}
	for _, g := range list {
		if found[g] == nil {
			absent = append(absent, g)
		}
	}
	return found, absent, nil
}

// filetimeOf is a time in 100 nanoseconds since 1601 ([MS-DTYP] §2.3.3).
func filetimeOf(t time.Time) int64 {
	const to1970 = 11_644_473_600 // seconds
	return (t.Unix() + to1970) * 10_000_000
}
