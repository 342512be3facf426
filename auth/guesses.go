package auth

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"dirpost/directory"
)

// clientGuesses counts the wrong logins of each client in this node: a bucket
// of burst guesses, one of which comes back every so often.
type clientGuesses struct {
	burst float64
	every time.Duration
	now   func() time.Time

	mu      sync.Mutex // guards buckets
	buckets map[netip.Prefix]bucket
}

// bucket holds the guesses left at a time.
type bucket struct {
	left float64
	at   time.Time
}

// maxClients bounds the memory that strangers can fill.
const maxClients = 1 << 16

func newClientGuesses(burst int, every time.Duration) *clientGuesses {
	return &clientGuesses{burst: float64(burst), every: every, now: time.Now, buckets: map[netip.Prefix]bucket{}}
}

// network is what counts as one client: an IPv6 host has a /64 to choose from.
func network(client netip.Addr) netip.Prefix {
	client = client.Unmap()
	bits := 32
	if client.Is6() {
		bits = 64
	}
	p, _ := client.WithZone("").Prefix(bits)
	return p
}

// Allow implements Guesses.
func (g *clientGuesses) Allow(_ context.Context, client netip.Addr, _ directory.Key) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leftLocked(network(client)) >= 1
}

// Failed implements Guesses.
func (g *clientGuesses) Failed(_ context.Context, client netip.Addr, _ directory.Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := network(client)
	left := g.leftLocked(p)
	if len(g.buckets) >= maxClients {
		g.forgetLocked()
	}
	g.buckets[p] = bucket{max(0, left-1), g.now()}
}

func (g *clientGuesses) leftLocked(p netip.Prefix) float64 {
	b, ok := g.buckets[p]
	if !ok {
		return g.burst
	}
	left := b.left + float64(g.now().Sub(b.at))/float64(g.every)
	if left >= g.burst {
		delete(g.buckets, p)
		return g.burst
	}
	return left
}

// forgetLocked drops the clients whose bucket is full again, and if there are
// none, some others.
func (g *clientGuesses) forgetLocked() {
	for p := range g.buckets {
		g.leftLocked(p)
	}
	for p := range g.buckets {
		if len(g.buckets) < maxClients*7/8 {
			return
		}
		delete(g.buckets, p)
	}
}
