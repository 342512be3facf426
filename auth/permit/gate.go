package permit

import (
	"context"
	"sync"
)

// gates let one login at a time pass of those with the same password of the same
// person. Programs open several connections at once: their right password would
// take several permits where there may be one, and a wrong one would be judged
// several times where once is enough.
type gates struct {
	mu   sync.Mutex // guards open
	open map[sum]*gate
}

type gate struct {
	pass chan struct{} // capacity 1: holds who is through
	n    int           // who is through, and who waits
}

// maxGate is how many logins with the same password of the same person are in
// line.
const maxGate = 64

// enter waits until nobody else is through the gate of s. It returns what must be
// called to leave, nil if the line is too long or ctx ends.
func (g *gates) enter(ctx context.Context, s sum) (leave func()) {
	g.mu.Lock()
	one := g.open[s]
	if one == nil {
		one = &gate{pass: make(chan struct{}, 1)}
		g.open[s] = one
	}
	if one.n == maxGate {
		g.mu.Unlock()
		return nil
	}
	one.n++
	g.mu.Unlock()
	gone := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if one.n--; one.n == 0 {
			delete(g.open, s)
		}
	}
	select {
	case one.pass <- struct{}{}:
		return func() {
			<-one.pass
			gone()
		}
	case <-ctx.Done():
		gone()
		return nil
	}
}
