package reroute

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"dirpost/directory"
	"dirpost/mta/queue"

	"github.com/prometheus/client_golang/prometheus"
)

// The times of looking.
const (
	restFor    = 200 * time.Millisecond // after each look, so that a burst of changes is one
	againAfter = 2 * time.Second
	wholeEvery = 10 * time.Second // between looks at all that waits
)

// page is how many recipients are read at once.
const page = 5000

// fullMailbox is the enhanced status code of who waits for room (RFC 3463 §3.3).
const fullMailbox = "4.2.2"

// Rerouter makes mail due whose way is another one. Make one with New.
type Rerouter struct {
	live  *directory.Live
	queue *queue.Queue
	log   *slog.Logger
	moved prometheus.Counter

	againAfter, wholeEvery time.Duration

	wake chan struct{} // capacity 1: changed has something

	mu      sync.Mutex // guards what follows
	last    *directory.Snapshot
	changed changes
}

// changes are those of the directory that nobody has looked at yet.
type changes struct {
	before *directory.Snapshot // nil: there are none
	keys   map[directory.Key]struct{}
	more   bool // than keys says
}

// maxKeys is how many changed entries are kept apart.
const maxKeys = 2000

// New returns a Rerouter of the mail in q by what live says. It does nothing before Run.
func New(live *directory.Live, q *queue.Queue, log *slog.Logger) *Rerouter {
	return &Rerouter{
		live: live, queue: q, log: log, againAfter: againAfter, wholeEvery: wholeEvery, wake: make(chan struct{}, 1),
		moved: prometheus.NewCounter(prometheus.CounterOpts{Name: "dirpost_reroute_recipients_total", Help: "Recipients that waited and were made due, since the directory says something else of them."}),
	}
}

// Collectors are the metrics, to be registered by the caller.
func (r *Rerouter) Collectors() []prometheus.Collector { return []prometheus.Collector{r.moved} }

// note takes a change from the goroutine that follows the directory.
func (r *Rerouter) note(s *directory.Snapshot, keys []directory.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s == r.last { // stale, or fresh again: it says the same
		return
	}
	c := &r.changed
	if c.before == nil {
		*c = changes{before: r.last, keys: map[directory.Key]struct{}{}}
	}
	r.last = s
	if c.more = c.more || len(keys) == 0; len(c.keys)+len(keys) > maxKeys { // no keys: it is about domains
		c.more, keys = true, nil
	}
	for _, k := range keys {
		c.keys[k] = struct{}{}
	}
	select {
	case r.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// take returns who is affected by what has changed since it was called last, and whether
// more are.
func (r *Rerouter) take() (a directory.Affected, more bool) {
	r.mu.Lock()
	c, now := r.changed, r.last
	r.changed = changes{}
	r.mu.Unlock()
	if c.before == nil {
		return a, false
	}
	keys := make([]directory.Key, 0, len(c.keys))
	for k := range c.keys {
		keys = append(keys, k)
	}
	a = now.Affected(c.before, keys)
	return a, c.more || a.Many
}

// Run follows the directory until ctx is done. Failures are logged and tried again.
func (r *Rerouter) Run(ctx context.Context) error {
	r.mu.Lock()
	r.last = r.live.Snapshot()
	r.mu.Unlock()
	defer r.live.Watch(r.note)()
	l := look{r: r, whole: 2}
	for {
		wait := time.NewTimer(l.do(ctx))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-r.wake:
			l.changed = true
		case <-wait.C:
		}
		wait.Stop()
	}
}

// look is what a Rerouter has to look at.
type look struct {
	r       *Rerouter
	changed bool // there is something to take
	rest    time.Time
	again   []seen
	whole   int // how often all that waits is to be looked at
	wholeAt time.Time
	failing bool
}

// seen is who was looked at once.
type seen struct {
	who directory.Affected
	at  time.Time
}

// idle is how long nothing is to be done when nothing changes.
const idle = time.Hour

// do looks at what is due to be looked at, and returns how long it may wait for the
// next time.
func (l *look) do(ctx context.Context) time.Duration {
	err := l.once(ctx)
	if e := l.twice(ctx); err == nil {
		err = e
	}
	if now := time.Now(); l.whole > 0 && !now.Before(l.wholeAt) && l.r.live.Snapshot().Ready() {
		if e := l.r.all(ctx); e == nil {
			l.whole--
		} else {
			err = e
		}
		l.wholeAt = now.Add(l.r.wholeEvery)
	}
	l.told(ctx, err)
	wait := idle
	if l.changed {
		wait = time.Until(l.rest)
	}
	if len(l.again) > 0 {
		wait = min(wait, time.Until(l.again[0].at.Add(l.r.againAfter)))
	}
	if l.whole > 0 && l.r.live.Snapshot().Ready() {
		wait = min(wait, time.Until(l.wholeAt))
	}
	return max(wait, 0)
}

// once looks for the first time at what has changed. What cannot be read then is left to
// the second time.
func (l *look) once(ctx context.Context) error {
	now := time.Now()
	if !l.changed || now.Before(l.rest) {
		return nil
	}
	l.changed, l.rest = false, now.Add(restFor)
	who, more := l.r.take()
	if more {
		l.whole = 2
	}
	if len(who.Keys)+len(who.Addresses) == 0 {
		return nil
	}
	l.again = append(l.again, seen{who, now})
	return l.r.named(ctx, []directory.Affected{who}, true)
}

// twice looks again at what was looked at before.
func (l *look) twice(ctx context.Context) error {
	now, n := time.Now(), 0
	var due []directory.Affected
	for n < len(l.again) && !now.Before(l.again[n].at.Add(l.r.againAfter)) {
		due = append(due, l.again[n].who)
		n++
	}
	if n == 0 {
		return nil
	}
	if err := l.r.named(ctx, due, false); err != nil {
		for i := range l.again[:n] {
			l.again[i].at = now
		}
		if len(l.again) > maxAgain { // the database is away: there is more to it than this
			l.again, l.whole = nil, 2
		}
		return err
	}
	l.again = l.again[n:]
	return nil
}

// maxAgain is how many looks are remembered while the database is away.
const maxAgain = 100

// told says once that the queue cannot be read.
func (l *look) told(ctx context.Context, err error) {
	if err != nil && !l.failing && ctx.Err() == nil {
		l.r.log.WarnContext(ctx, "waiting mail does not follow the directory now, it is tried again", "err", err)
	}
	l.failing = err != nil
}

// named looks at what waits for those who were affected, for the first time or again.
func (r *Rerouter) named(ctx context.Context, all []directory.Affected, first bool) error {
	s := r.live.Snapshot()
	var keys []string
	var unknown []queue.Unknown
	room := map[string]bool{}
	for _, a := range all {
		for _, k := range a.Keys {
			keys = append(keys, string(k))
		}
		for _, k := range a.Room {
			room[string(k)] = first
		}
		for _, address := range a.Addresses {
			low, high := s.Subaddresses(address)
			local, _, _ := strings.Cut(address.Key(), "@"+address.Domain)
			unknown = append(unknown, queue.Unknown{Local: local, Domain: address.Domain, Low: low, High: high})
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	return r.hasten(ctx, s, room, func(ctx context.Context, after queue.Waiting) ([]queue.Waiting, error) {
		return r.queue.WaitingFor(ctx, keys, unknown, after, page)
	})
}

// all looks at all that waits.
func (r *Rerouter) all(ctx context.Context) error {
	return r.hasten(ctx, r.live.Snapshot(), nil, func(ctx context.Context, after queue.Waiting) ([]queue.Waiting, error) {
		return r.queue.Waiting(ctx, after, page)
	})
}

// hasten makes due what goes another way by s, and what waits for room in the mailboxes
// of the keys in room.
func (r *Rerouter) hasten(ctx context.Context, s *directory.Snapshot, room map[string]bool, read func(context.Context, queue.Waiting) ([]queue.Waiting, error)) error {
	for after := (queue.Waiting{}); ; {
		all, err := read(ctx, after)
		if err != nil {
			return err
		}
		var due []queue.Waiting
		for i := range all {
			w := &all[i]
			if s.Reroutes(waiting(&w.Recipient)) || w.Last == fullMailbox && room[w.Recipient.Local] {
				due = append(due, *w)
			}
		}
		n, err := r.queue.Hasten(ctx, due)
		if err != nil {
			return err
		}
		if n > 0 {
			r.moved.Add(float64(n))
			r.log.InfoContext(ctx, "waiting mail follows the directory", "nrcpt", n)
		}
		if len(all) < page {
			return nil
		}
		after = all[len(all)-1]
	}
}

// waiting is a queued recipient as the directory takes it.
func waiting(r *queue.Recipient) directory.Waiting {
	w := directory.Waiting{K: directory.Key(r.Local), Address: r.Address, NextHop: r.NextHop, Held: r.Held}
	if r.NextHop != "" {
		w.K = directory.Key(r.Person)
	}
	return w
}
