package ldap

import (
	"context"
	"strconv"
	"time"

	"github.com/go-ldap/ldap/v3"

	"dirpost/directory"
)

// held is access that a watched controller has taken away from somebody, until the
// followed one says so too or that one gives it back.
type held struct {
	login    directory.State // zero: nothing
	expires  time.Time
	password time.Time // changed then
	gone     bool      // deleted
}

// heldBy returns for whom a controller holds something.
func (d *dirsync) heldBy(server string) []objectGUID {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []objectGUID
	for g, by := range d.held {
		if _, ok := by[server]; ok {
			list = append(list, g)
		}
	}
	return list
}

// hold replaces what a controller holds, and reports whether anything changes.
func (d *dirsync) hold(g objectGUID, server string, h held) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.held[g][server]
	if old == h {
		return false
	}
	switch {
	case h != held{}:
		if d.held == nil {
			d.held = map[objectGUID]map[string]held{}
		}
		if d.held[g] == nil {
			d.held[g] = map[string]held{}
		}
		d.held[g][server] = h
	default:
		if delete(d.held[g], server); len(d.held[g]) == 0 {
			delete(d.held, g)
		}
	}
	return true
}

// compareHeld says what a controller takes away from an entry that the followed one
// has as here.
func (b *base) compareHeld(here, there *ldap.Entry, id string) (h held, same bool) {
	e, _ := b.mapper().entry(here, id)
	o, _ := b.mapper().entry(there, id)
	if e == nil || o == nil {
		return held{}, e == o
	}
	now := time.Now()
	if state := o.LoginState(now); state != directory.StateActive && e.LoginState(now) == directory.StateActive {
		if o.Login != directory.StateActive {
			h.login = o.Login
		} else {
			h.expires = o.Expires
		}
	}
	if p := passwordSet(there); p > passwordSet(here) {
		h.password = time.Unix(p/10_000_000-11_644_473_600, p%10_000_000*100).UTC()
	}
	x, y := *e, *o
	x.Modified, y.Modified = time.Time{}, time.Time{}
	return h, string(x.Pack()) == string(y.Pack())
}

// passwordSet is when the password was last changed, as the entry has it.
func passwordSet(le *ldap.Entry) int64 {
	n, _ := strconv.ParseInt(le.GetEqualFoldAttributeValue("pwdLastSet"), 10, 64)
	return n
}

// takeAway applies what is held to changes of the followed controller. What that
// one has caught up with is held no longer; for whom something is still held is
// returned.
func (d *dirsync) takeAway(changes []directory.Change) (again []objectGUID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.held) == 0 {
		return nil
	}
	for i, c := range changes {
		g, ok := d.guidOf(c.Key)
		by := d.held[g]
		if !ok || by == nil {
			continue
		}
		if c.Entry == nil {
			delete(d.held, g)
			continue
		}
		now := time.Now()
		caughtUp := c.Entry.LoginState(now) != directory.StateActive
		for server, h := range by {
			if caughtUp {
				h.login, h.expires = 0, time.Time{}
			}
			if h == (held{}) {
				delete(by, server)
				continue
			}
			by[server] = h
			changes[i].Entry = h.from(changes[i].Entry)
		}
		if len(by) == 0 {
			delete(d.held, g)
		} else {
			again = append(again, g)
		}
	}
	return again
}

// from returns an entry without what is held from it, nil for one that is gone.
func (h held) from(e *directory.Entry) *directory.Entry {
	if e == nil || h.gone {
		return nil
	}
	if h.login != 0 {
		e.Login = h.login
	}
	if !h.expires.IsZero() {
		e.Expires = h.expires
	}
	if !h.password.IsZero() {
		// Whoever remembers a password forgets it when this moves, and it must
		// move though the entry may have been changed later in another way.
		if h.password.After(e.Modified) {
			e.Modified = h.password
		}
		e.Modified = e.Modified.Add(time.Nanosecond)
	}
	return e
}

// sighted compares what a watched controller says with what the followed one says
// now, and hands over whom that takes access from or gives it back.
func (s *dirsyncSession) sighted(ctx context.Context, from sighting) error {
	list := append(append([]objectGUID(nil), from.gone...), from.absent...)
	for g := range from.entries {
		list = append(list, g)
	}
	here, _, err := s.readRaw(ctx, s.conn, list)
	if err != nil {
		return err
	}
	gone := make(map[objectGUID]bool, len(from.gone))
	for _, g := range from.gone {
		gone[g] = true
	}
	var batch directory.Batch
	for _, g := range list {
		le, there := here[g], from.entries[g]
		var h held
		switch {
		case le == nil && there == nil:
			s.replication.told(g, from.server, s.conn.server.url)
		case le == nil:
		case gone[g]:
			h.gone = true
		case there != nil:
			var same bool
			if h, same = s.compareHeld(le, there, g.id()); same {
				s.replication.told(g, from.server, s.conn.server.url)
			}
		}
		if s.hold(g, from.server, h) && le != nil {
			batch.Changes = append(batch.Changes, s.change(le, g.id()))
			s.log.Info("another domain controller is ahead in who has access", "server", from.server, "dn", le.DN, "ahead", h != held{})
		}
	}
	if len(batch.Changes) == 0 {
		return nil
	}
	return s.emit(ctx, batch)
}
