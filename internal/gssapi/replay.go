package gssapi

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxReplays bounds each half of a replay cache: 16 octets and the map around them,
// 20 MiB when both are full. Only who has a ticket for us gets into it.
const maxReplays = 1 << 18

// replays remembers authenticators for as long as their times would be good: what is
// encrypted with authentication cannot be written in another way, so the hash of it
// stands for it. There are two halves, and the older one is dropped as a whole: after
// what an authenticator may live, or earlier when the newer one is full. More than
// 400 logins a second for ten minutes make the memory shorter, never a refusal.
type replays struct {
	mu         sync.Mutex // guards all below
	now, older map[[16]byte]struct{}
	began      time.Time // of now
}

// add reports whether an authenticator, by the hash of what it is encrypted, was not
// seen before, and remembers it.
func (r *replays) add(sum [sha256.Size]byte, at time.Time) bool {
	key := [16]byte(sum[:])
	r.mu.Lock()
	defer r.mu.Unlock()
	// An authenticator is good from maxSkew before our time to maxSkew after it, so
	// a half must be known for twice that after its end.
	if r.now == nil || len(r.now) >= maxReplays || at.Sub(r.began) >= 2*maxSkew || at.Before(r.began) {
		if at.Sub(r.began) >= 4*maxSkew {
			r.now = nil
		}
		r.now, r.older, r.began = make(map[[16]byte]struct{}), r.now, at
	}
	if _, ok := r.now[key]; ok {
		return false
	}
	if _, ok := r.older[key]; ok {
		return false
	}
	r.now[key] = struct{}{}
	return true
}
