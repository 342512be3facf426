package permit

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"dirpost/directory"
)

// sources counts the wrong logins of each client: a bucket of burst guesses, one
// of which comes back every so often, in this node; and those that have had too
// many in all nodes together, as of the last look at the database.
type sources struct {
	burst float64
	every time.Duration
	now   func() time.Time

	mu      sync.Mutex // guards what follows
	buckets map[netip.Prefix]bucket
	barred  map[netip.Prefix]struct{}
}

// bucket holds the guesses left at a time.
type bucket struct {
	left float64
	at   time.Time
}

// maxClients bounds the memory that strangers can fill.
const maxClients = 1 << 16

func newSources(burst int, every time.Duration, now func() time.Time) *sources {
	return &sources{burst: float64(burst), every: every, now: now, buckets: map[netip.Prefix]bucket{}}
}

// Clients counts the wrong logins of each client (an IPv4 address, an IPv6 /64) in
// this node alone, and nothing else: what there is without a Counter.
type Clients struct{ sources *sources }

// NewClients returns a count that allows burst wrong logins, and one more every so
// often.
func NewClients(burst int, every time.Duration) *Clients {
	return &Clients{newSources(burst, every, time.Now)}
}

// Allow reports whether a password may be judged for client now.
func (c *Clients) Allow(_ context.Context, client netip.Addr, _ directory.Key) bool {
	return c.sources.allow(network(client))
}

// Failed counts a wrong login.
func (c *Clients) Failed(_ context.Context, client netip.Addr, _ directory.Key) {
	c.sources.failed(network(client))
}

// allow reports whether a stranger of n may try one more password.
func (s *sources) allow(n netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.barred[n]; ok {
		return false
	}
	return s.leftLocked(n) >= 1
}

// failed counts a wrong login of n.
func (s *sources) failed(n netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.leftLocked(n)
	if len(s.buckets) >= maxClients {
		s.forgetLocked()
	}
	s.buckets[n] = bucket{max(0, left-1), s.now()}
}

// bar sets the clients that have had too much everywhere.
func (s *sources) bar(list []netip.Prefix) {
	barred := make(map[netip.Prefix]struct{}, len(list))
	for _, n := range list {
		barred[n] = struct{}{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barred = barred
}

// forgive forgets what clients within n have tried.
func (s *sources) forgive(n netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.buckets {
		if n.Overlaps(p) {
			delete(s.buckets, p)
		}
	}
	for p := range s.barred {
		if n.Overlaps(p) {
			delete(s.barred, p)
		}
	}
}

func (s *sources) leftLocked(n netip.Prefix) float64 {
	b, ok := s.buckets[n]
	if !ok {
		return s.burst
	}
	left := b.left + float64(s.now().Sub(b.at))/float64(s.every)
	if left >= s.burst {
		delete(s.buckets, n)
		return s.burst
	}
	return left
}

// forgetLocked drops the clients whose bucket is full again, and if there are
// none, some others.
func (s *sources) forgetLocked() {
	for n := range s.buckets {
		s.leftLocked(n)
	}
	for n := range s.buckets {
		if len(s.buckets) < maxClients*7/8 {
			return
		}
		delete(s.buckets, n)
	}
}
