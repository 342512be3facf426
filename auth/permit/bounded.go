package permit

import (
	"sync"
	"time"
)

// bounded remembers keys until a time, at most so many: any one makes room.
type bounded[K comparable] struct {
	most int

	mu    sync.Mutex // guards until
	until map[K]time.Time
}

func newBounded[K comparable](most int) *bounded[K] {
	return &bounded[K]{most: most, until: map[K]time.Time{}}
}

// has reports whether k is remembered.
func (b *bounded[K]) has(k K, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, ok := b.until[k]
	if ok && !now.Before(until) {
		delete(b.until, k)
		ok = false
	}
	return ok
}

// add remembers k until a time.
func (b *bounded[K]) add(k K, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for old := range b.until { // in no order
		if len(b.until) < b.most {
			break
		}
		delete(b.until, old)
	}
	b.until[k] = until
}

// drop forgets k.
func (b *bounded[K]) drop(k K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.until, k)
}

// clear forgets everything.
func (b *bounded[K]) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.until)
}
