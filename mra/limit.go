package mra

import (
	"net/netip"
	"sync"
)

// counter counts holders per key up to a limit.
type counter[K comparable] struct {
	limit int // 0: none

	mu sync.Mutex // guards n
	n  map[K]int
}

func newCounter[K comparable](limit int) *counter[K] {
	return &counter[K]{limit: limit, n: make(map[K]int)}
}

// take counts one more for k, unless the limit is reached.
func (c *counter[K]) take(k K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit > 0 && c.n[k] >= c.limit {
		return false
	}
	c.n[k]++
	return true
}

// give takes back one take.
func (c *counter[K]) give(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[k]--; c.n[k] <= 0 {
		delete(c.n, k)
	}
}

// clientKey is what a limit per client counts: an IPv4 address, or the /64 that
// one IPv6 customer has at least.
func clientKey(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
