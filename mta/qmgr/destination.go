package qmgr

import (
	"sync"
	"time"

	"dirpost/mta/queue"
)

// initialWindow is how many workers a destination gets that nothing is known of.
// It is small, since each may have to wait for hosts that do not answer.
const initialWindow = 2

// destinations is what is known of the places that mail goes to: how many
// workers each may have, and which of them cannot be reached at all.
type destinations struct {
	limit    int
	deadTime time.Duration

	mu     sync.Mutex // guards byName and what is in it
	byName map[string]*destination
}

// destination follows the feedback that Postfix found to work: each success
// lets in the reciprocal of the present number, each failure to speak to any
// host takes as much away; as many failures in a row as there are places mean
// that the destination is dead for a while.
type destination struct {
	active int
	window float64
	failed float64 // failures since the last success, each the reciprocal of window
	used   time.Time
	died   time.Time
	dead   time.Time   // until then
	reason queue.Reply // why it is dead
}

func newDestinations(limit int, deadTime time.Duration) *destinations {
	return &destinations{limit: limit, deadTime: deadTime, byName: make(map[string]*destination)}
}

func (d *destinations) getLocked(name string) *destination {
	x := d.byName[name]
	if x == nil {
		x = &destination{window: float64(min(initialWindow, d.limit))}
		d.byName[name] = x
	}
	x.used = time.Now()
	return x
}

// enter takes a place at a destination, and says why nothing can be sent there.
func (d *destinations) enter(name string) (reason queue.Reply, dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.getLocked(name)
	x.active++
	return x.reason, time.Now().Before(x.dead)
}

// leave gives the place back.
func (d *destinations) leave(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.getLocked(name).active--
}

// revive forgets that a destination is dead, if that is known from before the time at,
// and reports whether it was.
func (d *destinations) revive(name string, at time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.getLocked(name)
	if x.died.After(at) {
		return false
	}
	x.dead = time.Time{}
	return true
}

// isDead says why nothing can be sent to a destination now, if that is so.
func (d *destinations) isDead(name string) (reason queue.Reply, dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.getLocked(name)
	return x.reason, time.Now().Before(x.dead)
}

// heard takes the outcome of one attempt to speak to a destination.
func (d *destinations) heard(name string, o queue.Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.getLocked(name)
	if !o.Down {
		x.window, x.failed = min(x.window+1/x.window, float64(d.limit)), 0
		return
	}
	x.failed += 1 / x.window
	x.window = max(x.window-1/x.window, 1)
	if x.failed >= 1 {
		x.failed = 0
		x.died, x.reason = time.Now(), o.Reply
		x.dead = x.died.Add(d.deadTime)
	}
}

// full returns the destinations that must wait for a place, and forgets those
// that nobody has used for long.
func (d *destinations) full() (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := time.Now().Add(-2 * d.deadTime)
	for name, x := range d.byName {
		switch {
		case x.active >= int(x.window):
			names = append(names, name)
		case x.active == 0 && x.used.Before(old):
			delete(d.byName, name)
		}
	}
	return names
}
