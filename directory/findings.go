package directory

import (
	"slices"
	"sync"
)

// findings are the members of dynamic groups, as far as somebody has asked. Asking
// looks through the whole directory, so what was found is carried on to the next
// snapshot with the keys that have changed since, and only those are looked at
// again.
type findings struct {
	mu sync.Mutex // guards of; held while a group is looked for, so that others wait for the answer
	of map[Key]finding
}

// finding is who matched a group once, and which entries have changed since.
type finding struct {
	group *dynamic
	keys  []Key // sorted
	since *changed
}

// changed is a list of keys, the latest first.
type changed struct {
	keys   []Key
	before *changed
	total  int
}

// maxChanged is how many changes are carried on before looking through everything
// is no more work.
const maxChanged = 10_000

// after returns the findings for the snapshot that follows by changes of keys.
func (f *findings) after(keys []Key) *findings {
	next := &findings{}
	if f == nil || !f.mu.TryLock() {
		return next // somebody is looking; a change must not wait for it
	}
	defer f.mu.Unlock()
	for key, x := range f.of {
		total := len(keys)
		if x.since != nil {
			total += x.since.total
		}
		if x.group.roaming || total > maxChanged {
			continue
		}
		x.since = &changed{keys, x.since, total}
		if next.of == nil {
			next.of = make(map[Key]finding, len(f.of))
		}
		next.of[key] = x
	}
	return next
}

// matching returns the keys of the members of a dynamic group, sorted.
func (f *findings) matching(s *Snapshot, g *Entry) []Key {
	i := slices.IndexFunc(s.dynamic, func(d *dynamic) bool { return d.group.Key == g.Key })
	if i < 0 {
		return nil // g is no entry of this snapshot
	}
	d := s.dynamic[i]
	f.mu.Lock()
	defer f.mu.Unlock()
	x, ok := f.of[g.Key]
	switch {
	case ok && x.group == d && x.since == nil:
		return x.keys
	case ok && x.group == d:
		x = x.refreshed(s)
	default:
		x = finding{group: d}
		for e := range s.All() {
			if d.matches(s, e) {
				x.keys = append(x.keys, e.Key)
			}
		}
		slices.Sort(x.keys)
	}
	if f.of == nil {
		f.of = map[Key]finding{}
	}
	f.of[g.Key] = x
	return x.keys
}

// refreshed looks again at what has changed.
func (x finding) refreshed(s *Snapshot) finding {
	again := map[Key]struct{}{}
	for c := x.since; c != nil; c = c.before {
		for _, key := range c.keys {
			again[key] = struct{}{}
		}
	}
	next := finding{group: x.group}
	for _, key := range x.keys {
		if _, ok := again[key]; !ok {
			next.keys = append(next.keys, key)
		}
	}
	for key := range again {
		if e := s.ByKey(key); e != nil && x.group.matches(s, e) {
			next.keys = append(next.keys, key)
		}
	}
	slices.Sort(next.keys)
	return next
}
