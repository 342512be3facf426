package permit

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"dirpost/directory"
)

// tally counts what happens in this node until it is told to the others, and
// knows whether all of them together see an attack.
type tally struct {
	attack atomic.Bool

	mu       sync.Mutex // guards what follows
	people   map[directory.Key]count
	clients  map[netip.Prefix]count
	activity activity
}

// count is of wrong logins: all, and those refused without asking the directory.
type count struct{ wrong, refused int64 }

// activity is how logins went.
type activity struct{ entered, arrived, familiar, wrong, refused, repeated int64 }

// maxTally bounds what a node counts between two reports.
const maxTally = 1 << 16

func newTally() *tally {
	t := &tally{}
	t.clear()
	return t
}

func (t *tally) clear() {
	t.people, t.clients, t.activity = map[directory.Key]count{}, map[netip.Prefix]count{}, activity{}
}

// attacked reports whether strangers are slowed.
func (t *tally) attacked() bool { return t.attack.Load() }

// failed counts a login that did not let in, reason as of a Refusal, "" for one
// that the directory has judged. A device with an old password, which tries it again
// and again, counts apart.
func (t *tally) failed(person directory.Key, client netip.Prefix, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var refused int64
	if reason != "" && reason != ReasonUnknown {
		refused = 1
	}
	if reason == ReasonRepeated {
		t.activity.repeated++
		return
	}
	t.activity.wrong++
	t.activity.refused += refused
	add(t.people, person, refused)
	add(t.clients, client, refused)
}

// turnedAway counts a password that nobody looked at, for those who watch.
func (t *tally) turnedAway(person directory.Key, client netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	add(t.people, person, 1)
	add(t.clients, client, 1)
}

// add counts one wrong login of k, if there is room for one more k.
func add[K comparable](m map[K]count, k K, refused int64) {
	n, ok := m[k]
	if !ok && len(m) >= maxTally {
		return
	}
	m[k] = count{n.wrong + 1, n.refused + refused}
}

// entered counts somebody who was let in, arrived is 1 for who comes from where this
// node has not seen them lately.
func (t *tally) entered(arrived int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.activity.entered++
	t.activity.arrived += arrived
}

// home counts a password that was judged for somebody who was there before.
func (t *tally) home() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.activity.familiar++
}

// take returns what was counted since it was last called.
func (t *tally) take() (map[directory.Key]count, map[netip.Prefix]count, activity) {
	t.mu.Lock()
	defer t.mu.Unlock()
	people, clients, a := t.people, t.clients, t.activity
	t.clear()
	return people, clients, a
}

// putBack counts again what could not be told, as far as there is room.
func (t *tally) putBack(people map[directory.Key]count, clients map[netip.Prefix]count, a activity) {
	t.mu.Lock()
	defer t.mu.Unlock()
	merge(t.people, people)
	merge(t.clients, clients)
	t.activity.entered += a.entered
	t.activity.arrived += a.arrived
	t.activity.familiar += a.familiar
	t.activity.wrong += a.wrong
	t.activity.refused += a.refused
	t.activity.repeated += a.repeated
}

func merge[K comparable](to, from map[K]count) {
	for k, n := range from {
		had, ok := to[k]
		if !ok && len(to) >= maxTally {
			return
		}
		to[k] = count{had.wrong + n.wrong, had.refused + n.refused}
	}
}
