package directory

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Live is the current snapshot. One goroutine replaces it; everybody else
// takes it once per SMTP transaction or IMAP command and uses that one to the
// end.
type Live struct {
	p     atomic.Pointer[Snapshot]
	write sync.Mutex // held by who replaces the snapshot

	mu       sync.Mutex // guards watchers
	watchers map[*watcher]struct{}
}

type watcher struct{ f func(*Snapshot, []Key) }

// freshness is when the directory last confirmed that nothing is missing here.
// It is shared by all snapshots of one Live, since it moves without them.
type freshness struct {
	limit time.Duration
	now   func() time.Time
	at    atomic.Int64 // Unix nanoseconds, 0 never
}

// NewLive returns a Live that begins with s.
func NewLive(s *Snapshot) *Live {
	l := &Live{watchers: map[*watcher]struct{}{}}
	l.p.Store(s)
	return l
}

// Open returns a Live that is not ready: every address of ours is unknown, and
// therefore deferred, until the first Apply.
func Open(rules Rules) *Live {
	rules = rules.withDefaults()
	s := newSnapshot(&rules)
	s.fresh = &freshness{limit: rules.StaleAfter, now: time.Now}
	return NewLive(s)
}

// Snapshot returns the current snapshot, never nil.
func (l *Live) Snapshot() *Snapshot { return l.p.Load() }

// Apply publishes the snapshot of version that follows the current one by
// changes, then tells the watchers.
func (l *Live) Apply(version int64, changes []Change) {
	l.write.Lock()
	defer l.write.Unlock()
	next := l.p.Load().with(version, changes)
	l.p.Store(next)
	keys := make([]Key, len(changes))
	for i, c := range changes {
		keys[i] = c.Key
	}
	l.tell(next, keys)
}

// SetConfirmed publishes which domains have been confirmed.
func (l *Live) SetConfirmed(c Confirmed) {
	l.write.Lock()
	defer l.write.Unlock()
	s := l.p.Load()
	if maps.Equal(s.confirmed, c) {
		return
	}
	next := *s
	next.confirmed = maps.Clone(c)
	l.p.Store(&next)
	l.tell(&next, nil)
}

// tell calls the watchers.
func (l *Live) tell(s *Snapshot, keys []Key) {
	l.mu.Lock()
	list := make([]*watcher, 0, len(l.watchers))
	for w := range l.watchers {
		list = append(list, w)
	}
	l.mu.Unlock()
	for _, w := range list {
		w.f(s, keys)
	}
}

// Watch calls f after each change with the new snapshot and the keys that may
// have changed, and with no keys when Confirm has made it stale or fresh. f runs
// on the goroutine that feeds the directory and must not block.
func (l *Live) Watch(f func(s *Snapshot, changed []Key)) (cancel func()) {
	w := &watcher{f}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers[w] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watchers, w)
	}
}

// Confirm records that at the time at the directory had nothing that is not in
// the snapshot. The zero time says that this is not known any more.
func (l *Live) Confirm(at time.Time) {
	s := l.p.Load()
	if s.fresh == nil {
		return
	}
	stale := s.Stale()
	if at.IsZero() {
		s.fresh.at.Store(0)
	} else {
		s.fresh.at.Store(at.UnixNano())
	}
	if s.Stale() != stale {
		l.tell(s, nil)
	}
}

// Age returns how long ago the directory last confirmed s, and false when that
// is not known. A snapshot of NewSnapshot is always 0 old.
func (s *Snapshot) Age() (time.Duration, bool) {
	if s.fresh == nil {
		return 0, true
	}
	at := s.fresh.at.Load()
	if at == 0 {
		return 0, false
	}
	return max(0, s.fresh.now().Sub(time.Unix(0, at))), true
}

// Stale reports whether the directory may know people that s does not. Known
// addresses go on as before; unknown ones are deferred instead of refused.
func (s *Snapshot) Stale() bool {
	if s.fresh == nil {
		return false
	}
	age, known := s.Age()
	return !known || age > s.fresh.limit
}
