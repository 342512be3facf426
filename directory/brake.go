package directory

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Brake says when too many entries of a directory vanish or lose their address at
// once to be believed: a filter that was changed, a base that was emptied, or rights
// that were taken from the account that reads look the same, and mail for people
// who are still there must not be returned.
type Brake struct {
	Share float64 // of the people, or of the groups and contacts, of the directory; 1: never
	Least int     // never for so few, unless a comparison misses more than half
}

// DefaultBrake is for directories whose configuration says nothing.
func DefaultBrake() Brake { return Brake{Share: 0.1, Least: 10} }

// Validate reports what is wrong with b, in the words of the configuration.
func (b Brake) Validate() error {
	if b.Share <= 0 || b.Share > 1 {
		return errors.New("brake_share: write a share of the people, above 0 and up to 1 (never)")
	}
	if b.Least < 1 {
		return errors.New("brake_least: must be at least 1")
	}
	return nil
}

// brakeWindow is how long ago what vanished counts as vanished at once.
const brakeWindow = 10 * time.Minute

// class is what is counted together: a filter that finds no groups any more is not
// the less wrong because all people are there.
type class int

const (
	people class = iota
	others
	classes
)

func classOf(e *Entry) class {
	if e.HasMailbox() || e.Kind == KindElsewhere {
		return people
	}
	return others
}

// of returns how many entries of a class are counted in t.
func (c class) of(t Tally) int {
	if c == people {
		return t.Of(KindPerson, KindShared, KindRoom, KindElsewhere)
	}
	return t.Of(KindList, KindContact, KindDomain)
}

// trips reports whether n entries within brakeWindow are too many of all. A
// comparison is doubted sooner than what a directory tells one by one: where it
// misses more than half at once, even of a few, somebody has changed what it sees.
// missing is how many it misses, 0 for what was told.
func (b Brake) trips(n, missing, all int) bool {
	if b.Share >= 1 {
		return false
	}
	if n > b.Least && float64(n) > b.Share*float64(all) {
		return true
	}
	return missing >= 3 && 2*missing > all
}

// takesAway reports whether the entry old vanishes as next, or loses its mailbox, or
// an address of ours that it does not go on getting mail for. What moves to another
// entry is counted too: that entry has it anyway.
func (s *Snapshot) takesAway(old, next *Entry) bool {
	switch {
	case old == nil || old.IsGone():
		return false
	case next == nil || next.IsGone():
		return true
	case old.HasMailbox() && !next.HasMailbox():
		return true
	}
	for a := range old.addresses() {
		if s.IsLocalDomain(a.Domain) && !next.reachedBy(a.Key()) {
			return true
		}
	}
	return false
}

// reachedBy reports whether e has an address, or had it and still gets its mail.
func (e *Entry) reachedBy(key string) bool {
	if e.hasAddress(key) {
		return true
	}
	for _, f := range e.Former {
		if f.Address.Key() == key {
			return true
		}
	}
	return false
}

// withLogin returns the entry old with what next says of the login. Whatever takes
// access away from somebody counts at once, also where the rest is not believed.
func (e *Entry) withLogin(next *Entry) *Entry {
	kept := *e
	kept.packed = ""
	kept.Login, kept.Expires, kept.Modified = next.Login, next.Expires, next.Modified
	return &kept
}

// hold is what one batch changes about what is held back.
type hold struct {
	put  []Change // Entry: as the source says, nil: it is gone
	drop []Key
}

func (h *hold) empty() bool { return len(h.put) == 0 && len(h.drop) == 0 }

// judge decides about entries that a source takes away at once, each as the source
// says it is now: it returns what is believed of them, and adds the others to h.
func (g *feeding) judge(l life, taken map[Key]*Entry, comparison bool, h *hold) (changes []Change) {
	var by [classes][]Key
	for key := range taken {
		old := l.s.ByKey(key)
		if next := l.merge(old, taken[key]); !l.s.takesAway(old, next) { // it has been released meanwhile
			if change := (Change{key, next}); !l.s.holds(change) {
				changes = append(changes, change)
			}
			continue
		}
		by[classOf(old)] = append(by[classOf(old)], key)
	}
	brake, tally := l.s.rules.brake(g.source.Name()), l.s.tally[g.source.Name()]
	for c, keys := range by {
		n, missing := g.recently(class(c), keys, l.now), 0
		if comparison {
			missing = len(keys)
		}
		tripped := brake.trips(n, missing, class(c).of(tally))
		for _, key := range keys {
			gone, was := g.braked[key]
			if tripped || was && !comparison {
				if !gone || taken[key] != nil {
					h.put = append(h.put, Change{key, taken[key]})
				}
				changes = appendLogin(changes, l, key, taken[key])
				continue
			}
			if was {
				h.drop = append(h.drop, key)
			}
			if change := (Change{key, l.merge(l.s.ByKey(key), taken[key])}); !l.s.holds(change) {
				changes = append(changes, change)
			}
		}
	}
	return changes
}

// appendLogin appends what counts at once of an entry that is held back.
func appendLogin(changes []Change, l life, key Key, e *Entry) []Change {
	old := l.s.ByKey(key)
	if e == nil || old == nil {
		return changes
	}
	if change := (Change{key, old.withLogin(l.merge(old, e))}); !l.s.holds(change) {
		changes = append(changes, change)
	}
	return changes
}

// recently counts keys with what was taken away within brakeWindow, and remembers
// them.
func (g *feeding) recently(c class, keys []Key, now time.Time) int {
	if g.recent[c] == nil {
		g.recent[c] = map[Key]time.Time{}
	}
	if len(keys) == 0 {
		return 0
	}
	for key, at := range g.recent[c] {
		if now.Sub(at) > brakeWindow {
			delete(g.recent[c], key)
		}
	}
	for _, key := range keys {
		if _, ok := g.recent[c][key]; !ok {
			g.recent[c][key] = now
		}
	}
	return len(g.recent[c])
}

// forgive forgets that an entry was taken away: it is back.
func (g *feeding) forgive(key Key) {
	for c := range g.recent {
		delete(g.recent[c], key)
	}
}

// remember takes over from the feeder before what was taken away lately.
func (g *feeding) remember(rows []brakedRow) {
	s, now := g.f.live.Snapshot(), time.Now()
	for e := range s.Gone() {
		if e.Key.Directory() == g.source.Name() && now.Sub(e.Gone) < brakeWindow {
			g.recently(classOf(e), []Key{e.Key}, e.Gone)
		}
	}
	for _, b := range rows {
		if e := s.ByKey(Key(b.Key)); e != nil && now.Sub(b.Since) < brakeWindow {
			g.recently(classOf(e), []Key{e.Key}, b.Since)
		}
	}
}

// held takes over what was written about what is held back, and says so when that
// begins or ends.
func (g *feeding) held(h hold) {
	before := len(g.braked)
	for _, c := range h.put {
		g.braked[c.Key] = c.Entry == nil
	}
	for _, key := range h.drop {
		delete(g.braked, key)
	}
	name := g.source.Name()
	switch {
	case before == 0 && len(g.braked) > 0:
		s := g.f.live.Snapshot()
		example := ""
		if e := s.ByKey(h.put[0].Key); e != nil {
			example = e.DN
		}
		g.f.log.Error("too many entries would vanish or lose their address at once; they stay as they were until they come back, or until 'dirpost directory release "+name+"': look at the filter, the base and the rights of the account",
			"directory", name, "count", len(g.braked), "entries", s.tally[name].Of(KindPerson, KindShared, KindRoom, KindList, KindContact, KindElsewhere, KindDomain), "dn", example)
	case before > 0 && len(g.braked) == 0:
		g.f.log.Info("no entry is held back any more", "directory", name)
	case len(g.braked) > before:
		g.f.log.Warn("more entries are held back", "directory", name, "count", len(g.braked))
	}
}

// release believes what is held back, for who has asked for it.
func (g *feeding) release(ctx context.Context, asked time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	rows, err := g.f.rows.braked(ctx, g.source.Name())
	if err != nil {
		return err
	}
	s := g.f.live.Snapshot()
	l := life{now: time.Now(), s: s}
	c := commit{source: g.source, released: &asked}
	for _, b := range rows {
		if b.Since.After(asked) {
			continue
		}
		var next *Entry
		if b.Packed != nil {
			if next, err = Unpack(b.Packed); err != nil {
				return fmt.Errorf("read what is held back of %s: %w", b.Key, err)
			}
		}
		if change := (Change{Key(b.Key), l.merge(s.ByKey(Key(b.Key)), next)}); !s.holds(change) {
			c.changes = append(c.changes, change)
		}
		c.hold.drop = append(c.hold.drop, Key(b.Key))
	}
	if g.braked == nil { // it has not begun yet
		g.braked = map[Key]bool{}
	}
	if _, err := g.write(ctx, c); err != nil {
		return err
	}
	g.recent = [classes]map[Key]time.Time{}
	g.f.log.Info("entries that were held back are believed", "directory", g.source.Name(), "count", len(c.hold.drop))
	return nil
}
