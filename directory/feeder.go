package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"dirpost/internal/postgres"
)

// Topic is the topic of hints that the replica has changed, or what nodes conclude
// from it.
const Topic = "directory"

// Hinter carries hints between nodes. Hints may get lost.
type Hinter interface {
	Publish(topic, payload string)
	Subscribe(topic string, f func(payload string)) (cancel func())
}

// The times of feeding. A dead feeder is replaced within leaseTime plus
// takeEvery.
const (
	leaseTime    = 6 * time.Second
	renewEvery   = 2 * time.Second
	takeEvery    = 2 * time.Second
	pollEvery    = 5 * time.Second // net under lost hints
	confirmEvery = time.Second     // how often "nothing new" is written down
	purgeEvery   = time.Hour
	historyKept  = 30 * 24 * time.Hour
	firstRetry   = 100 * time.Millisecond
	lastRetry    = 5 * time.Second
)

// Feeder keeps a Live up to date with the replica in the database, and, while
// this node holds the lease, the replica with the directories.
type Feeder struct {
	rows    rows
	live    *Live
	sources []Source
	hints   Hinter
	node    string
	log     *slog.Logger

	apply sync.Mutex // held while rows are applied
}

// NewFeeder returns a Feeder. A node without sources follows only. node names
// it for people.
func NewFeeder(db *postgres.DB, live *Live, sources []Source, hints Hinter, node string, log *slog.Logger) *Feeder {
	return &Feeder{rows: rows{db}, live: live, sources: sources, hints: hints, node: node, log: log}
}

// Load brings the snapshot to what the database holds now. Run does it too;
// call it before to serve from the first connection on.
func (f *Feeder) Load(ctx context.Context) error { return f.follow(ctx) }

// Run follows the replica, and feeds it whenever no other node does, until ctx
// is done. Failures are logged and tried again.
func (f *Feeder) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { f.followAll(ctx) })
	if len(f.sources) > 0 {
		wg.Go(func() { f.feedAll(ctx) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

// followAll applies the rows of the feeding node, on its hints and, should
// these get lost, now and then.
func (f *Feeder) followAll(ctx context.Context) {
	hint := make(chan struct{}, 1)
	cancel := f.hints.Subscribe(Topic, func(string) {
		select {
		case hint <- struct{}{}:
		default:
		}
	})
	defer cancel()
	failed := false
	for {
		if err := f.follow(ctx); err != nil && ctx.Err() == nil {
			if !failed {
				f.log.Warn("directory replica cannot be read", "err", err)
			}
			failed = true
		} else if failed {
			f.log.Info("directory replica is read again")
			failed = false
		}
		t := time.NewTimer(pollEvery)
		select {
		case <-hint:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
	}
}

// follow applies the rows after the version of the snapshot and takes over how
// fresh they are.
func (f *Feeder) follow(ctx context.Context) error {
	f.apply.Lock()
	defer f.apply.Unlock()
	// The age first: rows that arrive in between make the snapshot newer than
	// it says, never older.
	at, err := f.confirmed(ctx)
	if err != nil {
		return err
	}
	domains, err := f.rows.confirmed(ctx)
	if err != nil {
		return err
	}
	f.live.SetConfirmed(domains)
	s := f.live.Snapshot()
	changes, version, damaged, err := f.rows.after(ctx, s.Version())
	if err != nil {
		return err
	}
	for _, d := range damaged {
		f.log.Error("directory entry in the database cannot be read, the last good one stays", "err", d)
	}
	if len(changes) > 0 || version > s.Version() {
		f.live.Apply(version, changes)
		f.log.Debug("directory applied", "version", version, "changes", len(changes))
	}
	f.live.Confirm(at)
	return nil
}

// confirmed returns when all directories were last known to have nothing new,
// the zero time if one is not known or was never read to its end.
func (f *Feeder) confirmed(ctx context.Context) (time.Time, error) {
	states, err := f.rows.states(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("read state of directories: %w", err)
	}
	known := make(map[string]struct{}, len(states))
	now := time.Now()
	var oldest time.Time
	for _, st := range states {
		if !st.Complete || st.Age == nil {
			return time.Time{}, nil
		}
		known[st.Name] = struct{}{}
		at := now.Add(-time.Duration(*st.Age * float64(time.Second)))
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	for _, src := range f.sources {
		if _, ok := known[src.Name()]; !ok {
			return time.Time{}, nil
		}
	}
	return oldest, nil
}

// feedAll takes the lease whenever it is free, and feeds as long as it holds
// it.
func (f *Feeder) feedAll(ctx context.Context) {
	for {
		l, err := f.rows.take(ctx, f.node, leaseTime)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			f.log.Warn("lease of the directory cannot be taken", "err", err)
		case l != nil:
			f.feed(ctx, l)
		}
		if sleep(ctx, takeEvery) != nil {
			return
		}
	}
}

// feed runs all sources under the lease l until it is lost or ctx is done.
func (f *Feeder) feed(ctx context.Context, l *lease) {
	f.log.Info("feeding the directory", "node", f.node, "token", l.token)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.forget(ctx)
	var wg sync.WaitGroup
	for _, src := range f.sources {
		wg.Go(func() { f.source(ctx, l, src, cancel) })
	}
	wg.Go(func() { f.purge(ctx) })
	f.renew(ctx, l, cancel)
	wg.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, errLease) {
		f.log.Warn("no longer feeding the directory", "err", cause)
		return
	}
	// The node shuts down; another one need not wait for the lease to run out.
	done, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer stop()
	if err := f.rows.drop(done, l); err != nil {
		f.log.Debug("lease of the directory not given back", "err", err)
	}
}

// forget drops the state of directories that are no longer configured. Their
// entries stay: nobody's mailbox ends because a line of the configuration is
// missing.
func (f *Feeder) forget(ctx context.Context) {
	names := make([]string, len(f.sources))
	for i, src := range f.sources {
		names[i] = src.Name()
	}
	gone, err := f.rows.forgetSources(ctx, names)
	if err != nil {
		f.log.Warn("state of former directories not forgotten", "err", err)
	}
	for _, name := range gone {
		f.log.Warn("directory is no longer configured; its people are kept as they were", "directory", name)
	}
}

// renew keeps the lease until ctx is done. When it cannot be renewed in time
// it is lost, whether or not somebody else has taken it.
func (f *Feeder) renew(ctx context.Context, l *lease, cancel context.CancelCauseFunc) {
	until := time.Now().Add(leaseTime)
	for sleep(ctx, renewEvery) == nil {
		begun := time.Now()
		limit, stop := context.WithDeadline(ctx, until)
		err := f.rows.renew(limit, l, leaseTime)
		stop()
		switch {
		case err == nil:
			until = begun.Add(leaseTime)
		case errors.Is(err, errLease), !time.Now().Before(until):
			cancel(fmt.Errorf("%w: %w", errLease, err))
			return
		}
	}
}

func (f *Feeder) purge(ctx context.Context) {
	for sleep(ctx, purgeEvery) == nil {
		if err := f.rows.purge(ctx, historyKept); err != nil && ctx.Err() == nil {
			f.log.Warn("directory history not purged", "err", err)
		}
	}
}

// source follows one directory, with pauses after failures that grow.
func (f *Feeder) source(ctx context.Context, l *lease, src Source, lost context.CancelCauseFunc) {
	wait := firstRetry
	from := &feeding{f: f, lease: l, source: src}
	if looker, ok := src.(Looker); ok {
		looker.Look(f.live)
	}
	var wg sync.WaitGroup
	wg.Go(func() { from.report(ctx) })
	defer wg.Wait()
	for ctx.Err() == nil {
		err := from.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errLease) {
			lost(err)
			return
		}
		from.restart = errors.Is(err, ErrRefresh)
		if err == nil || from.restart {
			f.log.Info("directory is compared from the start", "directory", src.Name(), "err", err)
		} else {
			if from.worked {
				wait = firstRetry
			}
			from.problem(ctx, err)
		}
		// Jitter: several nodes must not meet a server that comes back together.
		if sleep(ctx, wait/2+rand.N(wait/2+1)) != nil {
			return
		}
		wait = min(2*wait, lastRetry)
	}
}

// feeding is one source under one lease.
type feeding struct {
	f       *Feeder
	lease   *lease
	source  Source
	restart bool             // begin without cookie
	worked  bool             // it has been complete since the last failure
	failed  bool             // a failure has been logged
	seen    map[Key]struct{} // named since Begin
	braked  time.Time        // since when too many are missing to be believed, zero: they are not
	written time.Time        // when "nothing new" was last written down
}

// run follows the source from its cookie until it fails.
func (g *feeding) run(ctx context.Context) error {
	g.worked = false
	// What the last feeder wrote must be here before anything is compared.
	if err := g.f.follow(ctx); err != nil {
		return err
	}
	var cookie []byte
	if !g.restart {
		var err error
		if cookie, err = g.f.rows.cookie(ctx, g.source.Name()); err != nil {
			return err
		}
	}
	return g.source.Follow(ctx, cookie, g.take)
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
	changes := g.changes(b)
	quiet := len(changes) == 0 && b.Cookie == nil && !b.Complete
	if quiet && (b.At.IsZero() || time.Since(g.written) < confirmEvery) {
		return nil
	}
	version, err := g.f.rows.commit(ctx, g.lease, g.source, b, changes)
	if err != nil {
		return err
	}
	if !b.At.IsZero() {
		g.written = time.Now()
	}
	if err := g.f.follow(ctx); err != nil {
		return err
	}
	if version > 0 || b.Complete {
		g.f.hints.Publish(Topic, fmt.Sprint(version))
	}
	g.log(b, changes, version)
	return nil
}

// changes returns what of b is different from the snapshot. It is the one
// place where entries vanish that no source has said to be gone.
func (g *feeding) changes(b Batch) []Change {
	s := g.f.live.Snapshot()
	if b.Begin {
		g.seen = map[Key]struct{}{}
	}
	last := make(map[Key]int, len(b.Changes))
	for i, c := range b.Changes {
		last[c.Key] = i
		g.see(c.Key)
	}
	for _, key := range b.Present {
		g.see(key)
	}
	var changes []Change
	for i, c := range b.Changes {
		if last[c.Key] == i && !s.holds(c) {
			changes = append(changes, c)
		}
	}
	if b.Complete && b.Vanish {
		changes = append(changes, g.vanished(s)...)
	}
	if b.Complete {
		g.seen = nil
	}
	return changes
}

// A comparison by which more than vanishLeast entries and more than vanishShare of
// a directory are gone is believed when it still says so after vanishAfter: a
// filter that was changed, or rights that were taken from the account that reads,
// look the same, and mail for people who are still there must not be returned.
// Whoever really has left cannot log in meanwhile, and what the source itself
// tells to be gone is gone at once.
const (
	vanishLeast = 20
	vanishShare = 0.1
	vanishAfter = 24 * time.Hour
)

// vanished returns the end of the entries that the comparison has not named.
func (g *feeding) vanished(s *Snapshot) []Change {
	prefix := g.source.Name() + ":"
	var gone []Change
	all := 0
	for packed := range s.packed() {
		key := packedKey(packed)
		if !strings.HasPrefix(string(key), prefix) {
			continue
		}
		all++
		if _, named := g.seen[key]; !named {
			gone = append(gone, Change{Key: key})
		}
	}
	if len(gone) <= vanishLeast || float64(len(gone)) <= vanishShare*float64(all) {
		g.braked = time.Time{}
		return gone
	}
	if g.braked.IsZero() {
		g.braked = time.Now()
		g.f.log.Error("a comparison misses many entries of the directory; they are kept for a day, unless they come back: look at its filter, its base and the rights of its account",
			"directory", g.source.Name(), "missing", len(gone), "entries", all)
	}
	if time.Since(g.braked) < vanishAfter {
		return nil
	}
	return gone
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

// log writes the one line of a sync.
func (g *feeding) log(b Batch, changes []Change, version int64) {
	switch {
	case b.Complete && g.worked && len(changes) == 0:
	case b.Complete:
		if g.failed {
			g.f.log.Info("directory answers again", "directory", g.source.Name())
		}
		g.worked, g.failed, g.restart = true, false, false
		g.f.log.Info("directory complete", "directory", g.source.Name(), "changes", len(changes), "version", version, "entries", g.f.live.Snapshot().Len())
	case len(changes) > 0 && g.seen != nil: // on the way through a refresh
		g.f.log.Debug("directory changed", "directory", g.source.Name(), "changes", len(changes), "version", version)
	case len(changes) > 0:
		g.f.log.Info("directory changed", "directory", g.source.Name(), "changes", len(changes), "version", version)
	}
}

// sleep waits for d or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
