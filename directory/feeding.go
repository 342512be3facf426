package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/event"
)

// feeding is one source under one lease.
type feeding struct {
	f       *Feeder
	lease   *lease
	source  Source
	restart bool      // begin without cookie
	worked  bool      // it has been complete since the last failure
	failed  bool      // a failure has been logged
	written time.Time // when "nothing new" was last written down

	mu       sync.Mutex // guards what follows, and held while something is written
	stop     context.CancelCauseFunc
	asked    *time.Time       // requests for a comparison that this run answers
	first    bool             // nothing is known of who had what before
	seen     map[Key]struct{} // named since Begin, nil outside of a comparison
	began    time.Time        // when the comparison did
	found    int              // changes since then
	deferred map[Key]*Entry   // taken away by it so far, as the source says
	braked   map[Key]bool     // held back; true: gone
	recent   [classes]map[Key]time.Time
}

// run follows the source from its cookie until it fails.
func (g *feeding) run(ctx context.Context) error {
	g.worked = false
	// What the last feeder wrote must be here before anything is compared.
	if err := g.f.follow(ctx); err != nil {
		return err
	}
	p, err := g.f.rows.position(ctx, g.source.Name())
	if err != nil {
		return err
	}
	if g.restart {
		p.cookie = nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	g.begin(p, stop)
	err = g.source.Follow(ctx, p.cookie, g.take)
	if cause := context.Cause(ctx); errors.Is(cause, ErrRefresh) {
		return cause
	}
	return err
}

// begin sets g to what the database says.
func (g *feeding) begin(p position, stop context.CancelCauseFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stop, g.asked, g.first = stop, p.asked, p.first
	g.seen, g.deferred = nil, nil
	known := g.braked != nil
	g.braked = make(map[Key]bool, len(p.braked))
	for _, b := range p.braked {
		g.braked[Key(b.Key)] = b.Packed == nil
	}
	if !known {
		g.remember(p.braked)
	}
}

// compareNow makes the source begin from the start, for who has asked for it.
func (g *feeding) compareNow(asked time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stop != nil && (g.asked == nil || g.asked.Before(asked)) {
		g.stop(fmt.Errorf("%w, since somebody has asked", ErrRefresh))
	}
}

// problem records and logs a failure, once until it works again.
func (g *feeding) problem(ctx context.Context, cause error) {
	if !g.failed {
		if g.f.live.Snapshot().Ready() {
			g.f.log.Error("directory cannot be followed; known people go on as before", "directory", g.source.Name(), "err", cause)
		} else {
			g.f.log.Error("directory cannot be read; all mail is deferred until it answers", "directory", g.source.Name(), "err", cause)
		}
		g.failed = true
	}
	if err := g.f.rows.lost(ctx, g.source.Name(), cause.Error()); err != nil {
		g.f.log.Debug("state of the directory not written", "err", err)
	}
	// Unknown addresses are deferred from now on, on all nodes.
	_ = g.f.follow(ctx)
	g.f.hints.Publish(Topic, "")
}

// take handles one batch of the source: what is different from the snapshot
// becomes rows, the rows become the next snapshot, and the other nodes hear of
// it.
func (g *feeding) take(ctx context.Context, b Batch) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	began := time.Now()
	changes, h := g.changes(b)
	written := time.Now()
	comparing := g.seen != nil
	if comparing {
		b.Cookie = nil // what the comparison takes away is not decided yet
	}
	quiet := len(changes) == 0 && h.empty() && b.Cookie == nil && !b.Complete
	if quiet && (b.At.IsZero() || time.Since(g.written) < confirmEvery) {
		return nil
	}
	g.found += len(changes)
	c := commit{source: g.source, batch: b, changes: changes, hold: h, found: g.found}
	if b.Complete && b.Vanish {
		c.synced = g.asked
	}
	version, err := g.write(ctx, c)
	if err != nil {
		return err
	}
	if !b.At.IsZero() {
		g.written = time.Now()
	}
	if b.Complete {
		g.first = false
	}
	g.log(ctx, b, comparing, recorded{version: version, changes: len(changes), span: event.Span{
		Name: "directory feed", Root: true, Took: time.Since(began),
		Steps: [3]event.Step{{Name: "plan", Took: written.Sub(began)}, {Name: "commit", Took: time.Since(written)}},
	}})
	return nil
}

// write commits and publishes.
func (g *feeding) write(ctx context.Context, c commit) (version int64, err error) {
	if version, err = g.f.rows.commit(ctx, g.lease, c); err != nil {
		return 0, err
	}
	g.held(c.hold)
	if err := g.f.follow(ctx); err != nil {
		return 0, err
	}
	if version > 0 || c.batch.Complete || !c.hold.empty() {
		g.f.hints.Publish(Topic, fmt.Sprint(version))
	}
	g.f.alarm()
	return version, nil
}

// changes returns what of b is different from the snapshot, and what is held back
// of it or no longer.
func (g *feeding) changes(b Batch) (changes []Change, h hold) {
	s := g.f.live.Snapshot()
	if b.Begin {
		g.seen, g.deferred, g.began, g.found = map[Key]struct{}{}, map[Key]*Entry{}, time.Now(), 0
	}
	l := life{now: time.Now(), first: g.first, s: s}
	if g.seen != nil {
		l.now = g.began // of two that a comparison finds nobody was first
	}
	last := make(map[Key]int, len(b.Changes))
	for i, c := range b.Changes {
		last[c.Key] = i
		g.see(c.Key)
	}
	for _, key := range b.Present {
		g.see(key)
		if g.braked[key] {
			h.drop = append(h.drop, key)
			g.forgive(key)
		}
	}
	taken := map[Key]*Entry{} // as the source says
	for i, c := range b.Changes {
		if last[c.Key] != i {
			continue
		}
		delete(g.deferred, c.Key)
		old := s.ByKey(c.Key)
		next := l.merge(old, c.Entry)
		if s.takesAway(old, next) {
			taken[c.Key] = c.Entry
			continue
		}
		if _, ok := g.braked[c.Key]; ok {
			h.drop = append(h.drop, c.Key)
			g.forgive(c.Key)
		} else if old != nil && old.IsGone() {
			g.forgive(c.Key)
		}
		if change := (Change{c.Key, next}); !s.holds(change) {
			changes = append(changes, change)
		}
	}
	switch {
	case g.seen == nil:
		changes = append(changes, g.judge(l, taken, false, &h)...)
	case b.Complete:
		for key, e := range g.deferred {
			taken[key] = e
		}
		if b.Vanish {
			g.vanished(s, taken)
		}
		changes = append(changes, g.judge(l, taken, b.Vanish, &h)...)
		g.seen, g.deferred = nil, nil
	default: // how many there are shows at the end
		for key, e := range taken {
			g.deferred[key] = e
			changes = appendLogin(changes, l, key, e)
		}
	}
	return append(changes, given(s, changes)...), h
}

// given takes addresses from those who have left and whose addresses somebody else
// has got by changes. From then on these are that person's: mail must not go back to
// who had them before, also when they are taken away again.
func given(s *Snapshot, changes []Change) []Change {
	var order []Key
	left := make(map[Key]*Entry)
	changed := func(key Key) bool { return slices.ContainsFunc(changes, func(c Change) bool { return c.Key == key }) }
	for _, c := range changes {
		if c.Entry == nil || c.Entry.IsGone() {
			continue
		}
		for a := range c.Entry.addresses() {
			for _, found := range s.candidates(byFormer, a.Key()) {
				e := mustUnpack(found.node.packed)
				if l := left[e.Key]; l != nil {
					e = l
				}
				if !e.IsGone() || !e.hasAddress(a.Key()) || changed(e.Key) {
					continue
				}
				if left[e.Key] == nil {
					order = append(order, e.Key)
				}
				left[e.Key] = e.without(a.Key())
			}
		}
	}
	var out []Change
	for _, key := range order {
		out = append(out, Change{key, left[key]})
	}
	return out
}

// without returns e without an address. Where that was the primary one, the next is.
func (e *Entry) without(address string) *Entry {
	less := *e
	less.packed = ""
	less.Aliases = slices.DeleteFunc(slices.Clone(e.Aliases), func(a envelope.Address) bool { return a.Key() == address })
	if e.Primary.Key() == address {
		less.Primary = envelope.Address{}
		if len(less.Aliases) > 0 {
			less.Primary, less.Aliases = less.Aliases[0], less.Aliases[1:]
		}
	}
	return &less
}

// vanished adds the entries that the comparison has not named.
func (g *feeding) vanished(s *Snapshot, taken map[Key]*Entry) {
	for packed := range s.packed() {
		key := packedKey(packed)
		if key.Directory() != g.source.Name() {
			continue
		}
		if _, named := g.seen[key]; !named && !mustUnpack(packed).IsGone() {
			taken[key] = nil
		}
	}
}

func (g *feeding) see(key Key) {
	if g.seen != nil {
		g.seen[key] = struct{}{}
	}
}

// holds reports whether c changes nothing.
func (s *Snapshot) holds(c Change) bool {
	n, ok := s.find(byKey, string(c.Key))
	if c.Entry == nil || !ok {
		return c.Entry == nil && !ok
	}
	return n.packed == c.Entry.pack()
}

// leftKept is how long an entry is kept after the mail of who has left was given
// up, so that whoever deletes the mail has seen that it may.
const leftKept = 7 * 24 * time.Hour

// expire drops who has left long ago, and addresses that were kept for a time.
func (g *feeding) expire(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.f.live.Snapshot()
	l := life{now: s.now(), s: s}
	var changes []Change
	for e := range s.Gone() {
		if e.Key.Directory() == g.source.Name() && l.now.After(e.Gone.Add(s.rules.KeepGone+leftKept)) {
			changes = append(changes, Change{Key: e.Key})
		}
	}
	for e := range s.All() {
		if len(e.Former) == 0 || e.Key.Directory() != g.source.Name() {
			continue
		}
		if change := (Change{e.Key, l.merge(e, e)}); !s.holds(change) {
			changes = append(changes, change)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	_, err := g.write(ctx, commit{source: g.source, changes: changes})
	return err
}

// recorded is a batch that is written.
type recorded struct {
	version int64
	changes int
	span    event.Span
}

// log writes the one line of a sync.
func (g *feeding) log(ctx context.Context, b Batch, comparing bool, s recorded) {
	switch {
	case b.Complete && g.worked && s.changes == 0:
	case b.Complete:
		if g.failed {
			g.f.log.Info("directory answers again", "directory", g.source.Name())
		}
		g.worked, g.failed, g.restart = true, false, false
		g.emit(ctx, "directory complete", s, slog.Int("changes", g.found), slog.Int("entries", g.f.live.Snapshot().Len()))
	case s.changes > 0 && comparing: // on the way through a refresh
		g.f.log.Debug("directory changed", "directory", g.source.Name(), "changes", s.changes, "version", s.version)
	case s.changes > 0:
		g.emit(ctx, "directory changed", s, slog.Int("changes", s.changes))
	}
}

// emit says that something was written, to who was named by Report or to the log.
func (g *feeding) emit(ctx context.Context, msg string, s recorded, attrs ...slog.Attr) {
	name := g.source.Name()
	attrs = append([]slog.Attr{slog.String("directory", name), slog.Int64("version", s.version)}, attrs...)
	if g.f.events == nil {
		g.f.log.LogAttrs(ctx, slog.LevelInfo, msg, attrs...)
		return
	}
	now := time.Now() // with the name it is this batch's alone: one node feeds
	g.f.events.Emit(ctx, event.Event{Time: now, Level: slog.LevelInfo, Room: "directory", Msg: msg, Trace: name + ":" + strconv.FormatInt(now.UnixMilli(), 36),
		Attrs: attrs, Span: s.span})
}
