package auth

import (
	"maps"
	"slices"
	"time"

	"dirpost/directory"
)

// watch is one session that wants to know when its person is out.
type watch struct {
	f     func(reason string)
	timer *time.Timer // end of the account
}

// Watch calls f once when the person of id may no longer be logged in:
// disabled, expired, gone from the directory, or logged out (LogOut). A lockout or a password that
// is due for change closes no session. f must not block. If the person is out
// already, f is called before Watch returns.
func (b *Bridge) Watch(id *Identity, f func(reason string)) (cancel func()) {
	w := &watch{f: f}
	b.mu.Lock()
	if b.watches[id.Person] == nil {
		b.watches[id.Person] = map[*watch]struct{}{}
	}
	b.watches[id.Person][w] = struct{}{}
	b.mu.Unlock()
	b.check(b.live.Snapshot(), id.Person)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.dropLocked(id.Person, w)
	}
}

// LogOut ends all sessions of a person on this node, and forgets the passwords that
// it remembers of them. It returns how many sessions there were. The person may log
// in again: what keeps somebody out is the directory.
func (b *Bridge) LogOut(person directory.Key, reason string) int {
	b.memory.forget(person)
	b.mu.Lock()
	tell := make([]*watch, 0, len(b.watches[person]))
	for w := range b.watches[person] {
		tell = append(tell, w)
	}
	for _, w := range tell {
		b.dropLocked(person, w)
	}
	b.mu.Unlock()
	for _, w := range tell {
		w.f(reason)
	}
	return len(tell)
}

func (b *Bridge) dropLocked(person directory.Key, w *watch) {
	if w.timer != nil {
		w.timer.Stop()
	}
	delete(b.watches[person], w)
	if len(b.watches[person]) == 0 {
		delete(b.watches, person)
	}
}

// changed hears of every change of the directory.
func (b *Bridge) changed(s *directory.Snapshot, keys []directory.Key) {
	// With policies, who may log in depends on groups.
	if s.HasPolicies() && slices.ContainsFunc(keys, func(k directory.Key) bool {
		e := s.ByKey(k)
		return e == nil || e.Kind == directory.KindList
	}) {
		b.mu.Lock()
		keys = slices.Collect(maps.Keys(b.watches))
		b.mu.Unlock()
	}
	for _, key := range keys {
		b.mu.Lock()
		_, watched := b.watches[key]
		b.mu.Unlock()
		if watched {
			b.check(s, key)
		}
	}
}

// check tells the watches of a person if s says that the person is out, and
// else comes back when the account ends.
func (b *Bridge) check(s *directory.Snapshot, person directory.Key) {
	e, now := s.ByKey(person), b.now()
	reason := out(e, now)
	if reason == "" && s.Limits(e).NoLogin {
		reason = "account disabled"
	}
	b.mu.Lock()
	var tell []*watch
	for w := range b.watches[person] {
		if w.timer != nil {
			w.timer.Stop()
			w.timer = nil
		}
		switch {
		case reason != "":
			tell = append(tell, w)
			b.dropLocked(person, w)
		case !e.Expires.IsZero():
			w.timer = time.AfterFunc(e.Expires.Sub(now), func() { b.check(b.live.Snapshot(), person) })
		}
	}
	b.mu.Unlock()
	for _, w := range tell {
		w.f(reason)
	}
}

// out says why the person of e may not be logged in, "" if they may.
func out(e *directory.Entry, now time.Time) string {
	if e == nil {
		return "account deleted"
	}
	switch e.LoginState(now) {
	case directory.StateDisabled:
		return "account disabled"
	case directory.StateExpired:
		return "account expired"
	case directory.StateGrace:
		return "account deleted"
	}
	return ""
}
