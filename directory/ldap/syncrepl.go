package ldap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// syncrepl follows a server by content synchronization (RFC 4533): a refresh
// to the present state, then each change as it happens, on a connection of its
// own.
type syncrepl struct {
	base
	standing
}

// Lag implements directory.Source.
func (s *syncrepl) Lag() time.Duration { return 0 }

// probeEvery is how often a connection that is told nothing is asked whether it
// still lives.
const probeEvery = 2 * time.Second

// Follow implements directory.Source.
func (s *syncrepl) Follow(ctx context.Context, cookie []byte, emit func(context.Context, directory.Batch) error) error {
	cfg := s.client.cfg
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := s.client.settle(ctx); err != nil {
		return err
	}
	c, err := s.client.dialService(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	s.at(c.server.url)
	if err := s.client.readBase(ctx, c); err != nil {
		return err
	}
	cookie = s.ownCookie(cookie)
	// The library's time-out would end the persist phase. What bounds waiting
	// here is the probe.
	c.SetTimeout(0)
	session := &syncSession{base: &s.base, emit: emit, initial: len(cookie) == 0}
	messages, result := s.messages(ctx, c, cookie)
	probes := s.probe(ctx, cancel, c)
	refresh := time.NewTimer(cfg.RefreshEvery)
	defer refresh.Stop()
	if err := emit(ctx, directory.Batch{Begin: true}); err != nil {
		return err
	}
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return s.ended(ctx, *result)
			}
			if err := session.take(ctx, m, messages); err != nil {
				return err
			}
		case at := <-probes:
			if len(messages) > 0 {
				continue // what the server said before is still on its way
			}
			if err := session.alive(ctx, at); err != nil {
				return err
			}
		case <-refresh.C:
			// Again from the start, in case something was missed.
			return directory.ErrRefresh
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// message is one answer of the server.
type message struct {
	entry    *ldap.Entry
	controls []ldap.Control
}

// messages starts the search and hands on what arrives. The channel is closed
// at the end, and *result is then the reason.
func (s *syncrepl) messages(ctx context.Context, c *conn, cookie []byte) (<-chan message, *error) {
	out, result := make(chan message, batchSize), new(error)
	r := c.Syncrepl(ctx, s.request(), batchSize, ldap.SyncRequestModeRefreshAndPersist, cookie, false)
	go func() {
		defer close(out)
		for r.Next() {
			if u := r.Referral(); u != "" {
				s.client.ignoreReferrals([]string{u})
				continue
			}
			select {
			case out <- message{r.Entry(), r.Controls()}:
			case <-ctx.Done():
				return
			}
		}
		*result = r.Err()
	}()
	return out, result
}

// ended says why the server has no more to tell.
func (s *syncrepl) ended(ctx context.Context, err error) error {
	const syncRefreshRequired = 4096 // RFC 4533 §2.5
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ldap.IsErrorWithCode(err, syncRefreshRequired):
		return fmt.Errorf("%w: %w", directory.ErrRefresh, err)
	case ldap.IsErrorWithCode(err, ldap.LDAPResultUnavailableCriticalExtension):
		return fmt.Errorf(`directory %q cannot be followed by syncrepl: load the overlay syncprov on it, or set follow = "poll": %w`, s.Name(), err)
	case err == nil:
		err = errors.New("the server ended the search")
	}
	return fmt.Errorf("follow directory %q: %w", s.Name(), err)
}

// probe asks something small on the connection again and again, and reports
// when each question was asked that got an answer. The connection delivers in
// order, so what the server had to say before the question has arrived with the
// answer. No answer in time ends the session.
func (s *syncrepl) probe(ctx context.Context, cancel context.CancelCauseFunc, c *conn) <-chan time.Time {
	out := make(chan time.Time)
	go func() {
		for {
			if sleep(ctx, probeEvery) != nil {
				return
			}
			at := time.Now()
			if err := s.client.readBase(ctx, c); err != nil {
				cancel(fmt.Errorf("directory %q does not answer: %w", s.Name(), err))
				c.end()
				return
			}
			select {
			case out <- at:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// syncSession is the state of one search (RFC 4533 §3.4).
type syncSession struct {
	*base
	emit    func(context.Context, directory.Batch) error
	initial bool // began without cookie: what the refresh does not name is gone
	present bool // a present phase has been: the same
	done    bool // refreshed, changes come as they happen
	batch   directory.Batch
	news    bool // batch holds something
}

// take handles m and what has arrived behind it, and hands it over together.
// During the refresh it waits until a batch is full.
func (y *syncSession) take(ctx context.Context, m message, more <-chan message) error {
	for {
		if err := y.message(ctx, m); err != nil {
			return err
		}
		if len(y.batch.Changes)+len(y.batch.Present) >= batchSize {
			return y.flush(ctx)
		}
		select {
		case next, ok := <-more:
			if ok {
				m = next
				continue
			}
			// The caller finds the channel closed again.
		default:
		}
		if !y.done {
			return nil
		}
		return y.flush(ctx)
	}
}

func (y *syncSession) flush(ctx context.Context) error {
	if !y.news {
		return nil
	}
	b := y.batch
	if !y.done {
		// Until the refresh is over the old cookie stands: after a break it
		// begins again where it began.
		b.Cookie = nil
	} else if len(b.Cookie) > 0 {
		b.Cookie = append(y.view(), b.Cookie...)
	}
	y.batch, y.news = directory.Batch{}, false
	return y.emit(ctx, b)
}

// alive reports that nothing was missed up to at.
func (y *syncSession) alive(ctx context.Context, at time.Time) error {
	if !y.done {
		return nil
	}
	return y.emit(ctx, directory.Batch{At: at})
}

func (y *syncSession) message(ctx context.Context, m message) error {
	for _, c := range m.controls {
		switch c := c.(type) {
		case *ldap.ControlSyncState:
			if y.moved(m.entry, c) {
				return fmt.Errorf("%w: %s has been changed", directory.ErrRefresh, m.entry.DN)
			}
			y.state(m.entry, c)
		case *ldap.ControlSyncInfo:
			if err := y.info(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// moved reports whether a container was changed. If that was a rename, every
// entry below it has another DN and the server says nothing about them.
func (y *syncSession) moved(le *ldap.Entry, c *ldap.ControlSyncState) bool {
	if le == nil || !isContainer(le) {
		return false
	}
	return c.State == ldap.SyncStateModify || c.State == ldap.SyncStateAdd && !y.initial && !y.done
}

// isContainer reports whether an entry is one that others usually stand below.
func isContainer(le *ldap.Entry) bool {
	for _, class := range le.GetEqualFoldAttributeValues("objectClass") {
		switch strings.ToLower(class) {
		case "organizationalunit", "organization", "dcobject", "locality", "country":
			return true
		}
	}
	return false
}

// state handles one entry (RFC 4533 §2.2).
func (y *syncSession) state(le *ldap.Entry, c *ldap.ControlSyncState) {
	id := c.EntryUUID.String()
	y.news = true
	switch c.State {
	case ldap.SyncStatePresent:
		y.batch.Present = append(y.batch.Present, y.key(id))
	case ldap.SyncStateDelete:
		y.batch.Changes = append(y.batch.Changes, directory.Change{Key: y.key(id)})
	default:
		y.batch.Changes = append(y.batch.Changes, y.change(le, id))
	}
	y.cookie(c.Cookie)
}

func (y *syncSession) cookie(c []byte) {
	if len(c) > 0 {
		y.batch.Cookie, y.news = c, true
	}
}

// info handles a message between entries (RFC 4533 §2.5).
func (y *syncSession) info(ctx context.Context, c *ldap.ControlSyncInfo) error {
	switch {
	case c.NewCookie != nil:
		y.cookie(c.NewCookie.Cookie)
	case c.SyncIdSet != nil:
		y.news = true
		for _, u := range c.SyncIdSet.SyncUUIDs {
			if key := y.key(u.String()); c.SyncIdSet.RefreshDeletes {
				y.batch.Changes = append(y.batch.Changes, directory.Change{Key: key})
			} else {
				y.batch.Present = append(y.batch.Present, key)
			}
		}
		y.cookie(c.SyncIdSet.Cookie)
	case c.RefreshPresent != nil:
		y.present = true
		y.cookie(c.RefreshPresent.Cookie)
		return y.refreshed(ctx, c.RefreshPresent.RefreshDone)
	case c.RefreshDelete != nil:
		y.cookie(c.RefreshDelete.Cookie)
		return y.refreshed(ctx, c.RefreshDelete.RefreshDone)
	}
	return nil
}

// refreshed ends a phase of the refresh, and with done the refresh.
func (y *syncSession) refreshed(ctx context.Context, done bool) error {
	if !done || y.done {
		return nil
	}
	y.done, y.news = true, true
	y.batch.Complete, y.batch.Vanish, y.batch.At = true, y.initial || y.present, time.Now()
	return y.flush(ctx)
}
