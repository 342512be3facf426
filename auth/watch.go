package auth

import (
	"maps"
	"slices"
	"time"

	"dirpost/directory"
)

// watch is one session that wants to know when its person is out.
type watch struct {
	id    *Identity
	f     func(reason string)
	ref   string // of Session
	since time.Time
	timer *time.Timer // end of the account, or of the proof
}

// isOnBehalf reports whether somebody else acts as the person.
func (id *Identity) isOnBehalf() bool { return id.Actor != "" && id.Actor != id.Person }

// keys are whose changes matter to w.
func (w *watch) keys() []directory.Key {
	if w.id.isOnBehalf() {
		return []directory.Key{w.id.Person, w.id.Actor}
	}
	return []directory.Key{w.id.Person}
}

// Watch calls f once when the person of id may no longer be logged in:
// disabled, expired, gone from the directory, barred from logging in or from the
// protocol of id by a policy or by the services of the entry, without a mailbox
// here, or logged out (LogOut); when somebody else acts as the person, also when that
// one may no longer; and when the app password of id is revoked or expires, or another
// proof ends (Identity.Until). A lockout or a password that is due for change closes
// no session. f must not block. If the person is out already, f is called before
// Watch returns.
func (b *Bridge) Watch(id *Identity, f func(reason string)) (cancel func()) {
	w := &watch{id: id, f: f, ref: newRef(), since: b.now()}
	b.mu.Lock()
	for _, key := range w.keys() {
		if b.watches[key] == nil {
			b.watches[key] = map[*watch]struct{}{}
		}
		b.watches[key][w] = struct{}{}
	}
	if id.isOnBehalf() {
		b.behalf++
	}
	b.mu.Unlock()
	b.check(b.live.Snapshot(), id.Person)
	if id.AppPassword != 0 && b.parts.AppPasswords != nil {
		b.parts.AppPasswords.Opened(id.Actor, id.AppPassword)
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.dropLocked(w)
	}
}

// LogOut ends all sessions of a person on this node, those that others have on their
// behalf too, and forgets the passwords that it remembers of them. It returns how
// many sessions there were. The devices by which the person has come in are strange ones
// again. The person may log in again: what keeps somebody out is
// the directory.
func (b *Bridge) LogOut(person directory.Key, reason string) int {
	b.memory.forget(person)
	if b.parts.Permits != nil {
		b.parts.Permits.ForgetDevices(person)
	}
	return b.end(person, reason, func(*watch) bool { return true })
}

// end ends those sessions of a person that match.
func (b *Bridge) end(person directory.Key, reason string, match func(*watch) bool) int {
	b.mu.Lock()
	tell := make([]*watch, 0, len(b.watches[person]))
	for w := range b.watches[person] {
		if match(w) {
			tell = append(tell, w)
		}
	}
	for _, w := range tell {
		b.dropLocked(w)
	}
	b.mu.Unlock()
	for _, w := range tell {
		w.f(reason)
	}
	return len(tell)
}

func (b *Bridge) dropLocked(w *watch) {
	if w.timer != nil {
		w.timer.Stop()
	}
	if _, there := b.watches[w.id.Person][w]; there && w.id.isOnBehalf() {
		b.behalf--
	}
	for _, key := range w.keys() {
		delete(b.watches[key], w)
		if len(b.watches[key]) == 0 {
			delete(b.watches, key)
		}
	}
}

// changed hears of every change of the directory.
func (b *Bridge) changed(s *directory.Snapshot, keys []directory.Key) {
	if b.parts.Permits != nil {
		for _, key := range keys {
			if Departed(s, key, b.now()) != "" {
				b.parts.Permits.Left(key)
			}
		}
	}
	b.mu.Lock()
	byGroup := s.HasPolicies() || s.PlacesByGroup() || b.behalf > 0
	b.mu.Unlock()
	// With policies, who may log in depends on groups; whose mailbox is here may, and
	// whom one may act as does too.
	if byGroup && slices.ContainsFunc(keys, func(k directory.Key) bool {
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

// check tells the watches that a person matters to if s says that they are out, or if
// their proof has ended, and else comes back when the account or the proof ends.
func (b *Bridge) check(s *directory.Snapshot, person directory.Key) {
	now := b.now()
	b.mu.Lock()
	all := slices.Collect(maps.Keys(b.watches[person]))
	b.mu.Unlock()
	reasons := make(map[*watch]string, len(all))
	own := make(map[string]string) // the answer to most of them, by protocol, asked once
	for _, w := range all {
		if w.id.isOnBehalf() {
			reasons[w] = b.outOnBehalf(s, w.id, now)
			continue
		}
		reason, asked := own[w.id.Protocol]
		if !asked {
			reason = outAt(s, person, w.id.Protocol, now)
			own[w.id.Protocol] = reason
		}
		reasons[w] = reason
	}
	b.mu.Lock()
	var tell []*watch
	for w, reason := range reasons {
		if _, there := b.watches[w.id.Person][w]; !there {
			continue
		}
		if w.timer != nil {
			w.timer.Stop()
			w.timer = nil
		}
		prover := w.id.Person
		if w.id.isOnBehalf() {
			prover = w.id.Actor
		}
		if until := w.id.Until; reason == "" && !until.IsZero() && !now.Before(until) {
			reason, reasons[w] = "token or certificate expired", "token or certificate expired"
		}
		if reason != "" {
			tell = append(tell, w)
			b.dropLocked(w)
		} else if end := earlier(s.ByKey(prover).Expires, w.id.Until); !end.IsZero() {
			w.timer = time.AfterFunc(end.Sub(now), func() { b.check(b.live.Snapshot(), prover) })
		}
	}
	b.mu.Unlock()
	for _, w := range tell {
		w.f(reasons[w])
	}
}

// earlier returns the earlier of two times, of which zero ones count as never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// out says why a person may not be logged in, "" if they may.
func out(s *directory.Snapshot, person directory.Key, now time.Time) string {
	e := s.ByKey(person)
	if e == nil {
		return "account deleted"
	}
	switch e.LoginState(now) {
	case directory.StateDisabled:
		return reasonDisabled
	case directory.StateExpired:
		return "account expired"
	case directory.StateGrace:
		return "account deleted"
	}
	if s.Limits(e).NoLogin {
		return reasonDisabled
	}
	return ""
}

// outOnBehalf says why somebody may not act as another any longer, "" if they may.
func (b *Bridge) outOnBehalf(s *directory.Snapshot, id *Identity, now time.Time) string {
	if reason := out(s, id.Actor, now); reason != "" {
		return reason
	}
	e, as := s.ByKey(id.Actor), s.ByKey(id.Person)
	if as == nil || !s.Keeps(as) {
		return "account deleted"
	}
	if !mayUse(s, e, id.Protocol) {
		return reasonProtocol
	}
	if !s.InGroups(e, b.cfg.Masters) && s.Rights(e, as)&(directory.RightOpen|directory.RightSendAs) == 0 {
		return "the right to act as the person was taken away"
	}
	return ""
}
