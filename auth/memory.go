package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"sync"
	"time"

	"dirpost/directory"
)

// memory remembers right passwords for a while: a keyed hash of who and what,
// under a key that exists in this process only. It is worth nothing to anybody
// who reads the memory of another process, a core file's disk, or the
// database.
type memory struct {
	max  int
	macs sync.Pool

	mu    sync.Mutex // guards known
	known map[[sha256.Size]byte]remembered
}

// remembered is one success. It holds as long as the entry is the same.
type remembered struct {
	entry *directory.Entry
	until time.Time
}

func newMemory(max int) *memory {
	var key [sha256.Size]byte
	rand.Read(key[:]) // never fails: it ends the process instead
	return &memory{
		max:   max,
		macs:  sync.Pool{New: func() any { return hmac.New(sha256.New, key[:]) }},
		known: map[[sha256.Size]byte]remembered{},
	}
}

func (m *memory) sum(e *directory.Entry, pass password) (sum [sha256.Size]byte) {
	h := m.macs.Get().(hash.Hash)
	defer m.macs.Put(h)
	h.Reset()
	h.Write([]byte(e.Key)) // holds no NUL
	h.Write([]byte{0})
	h.Write([]byte(pass))
	h.Sum(sum[:0])
	h.Reset()
	return sum
}

// has reports whether pass was right for e, nothing about e has changed since,
// and it is not too long ago.
func (m *memory) has(e *directory.Entry, pass password, now time.Time) bool {
	sum := m.sum(e, pass)
	m.mu.Lock()
	r, ok := m.known[sum]
	if ok && (!now.Before(r.until) || !r.entry.Same(e)) {
		delete(m.known, sum)
		ok = false
	}
	m.mu.Unlock()
	return ok
}

// forget forgets all that is known of a person.
func (m *memory) forget(person directory.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for sum, r := range m.known {
		if r.entry.Key == person {
			delete(m.known, sum)
		}
	}
}

// add remembers that pass is right for e.
func (m *memory) add(e *directory.Entry, pass password, until time.Time) {
	if m.max == 0 {
		return
	}
	sum := m.sum(e, pass)
	m.mu.Lock()
	defer m.mu.Unlock()
	for old := range m.known { // in no order: any one makes room
		if len(m.known) < m.max {
			break
		}
		delete(m.known, old)
	}
	m.known[sum] = remembered{e, until}
}
