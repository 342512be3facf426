package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dirpost/internal/event"
	"dirpost/internal/postgres"

	"github.com/prometheus/client_golang/prometheus"
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
	events  event.Sink // nil: the log
	panics  prometheus.Counter

	apply  sync.Mutex // held while rows are applied
	states atomic.Pointer[[]state]

	alarms sync.Mutex // guards what follows
	doubts int64      // of the snapshot that was looked at last
	told   map[string]struct{}
}

// NewFeeder returns a Feeder. A node without sources follows only. node names
// it for people.
func NewFeeder(db *postgres.DB, live *Live, sources []Source, hints Hinter, node string, log *slog.Logger) *Feeder {
	return &Feeder{rows: rows{db}, live: live, sources: sources, hints: hints, node: node, log: log, panics: newPanics()}
}

// Report has what is written told to events, instead of to the log. It is called
// before Run.
func (f *Feeder) Report(events event.Sink) { f.events = events }

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
	f.states.Store(&states)
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
	f.log.Info("feeding the directory", "node", f.node, "fence", l.token)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.forget(ctx)
	all := make([]*feeding, len(f.sources))
	for i, src := range f.sources {
		all[i] = &feeding{f: f, lease: l, source: src}
	}
	var wg sync.WaitGroup
	for _, g := range all {
		wg.Go(func() { f.source(ctx, g, cancel) })
	}
	wg.Go(func() { f.requests(ctx, all, cancel) })
	wg.Go(func() { f.purge(ctx, all) })
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

// forget makes rows for directories that are new, and drops the state of directories that are no longer configured. Their
// entries stay: nobody's mailbox ends because a line of the configuration is
// missing.
func (f *Feeder) forget(ctx context.Context) {
	names := make([]string, len(f.sources))
	for i, src := range f.sources {
		names[i] = src.Name()
	}
	gone, err := f.rows.configure(ctx, names)
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

// purge takes away what is past its time.
func (f *Feeder) purge(ctx context.Context, all []*feeding) {
	for sleep(ctx, purgeEvery) == nil {
		if err := f.rows.purge(ctx, historyKept); err != nil && ctx.Err() == nil {
			f.log.Warn("directory history not purged", "err", err)
		}
		for _, g := range all {
			if err := g.expire(ctx); err != nil && ctx.Err() == nil {
				f.log.Warn("former people and addresses not purged", "directory", g.source.Name(), "err", err)
			}
		}
	}
}

// requests does what administrators ask for in the database, on hints and, should
// these get lost, now and then.
func (f *Feeder) requests(ctx context.Context, all []*feeding, lost context.CancelCauseFunc) {
	hint := make(chan struct{}, 1)
	cancel := f.hints.Subscribe(Topic, func(string) {
		select {
		case hint <- struct{}{}:
		default:
		}
	})
	defer cancel()
	for {
		if err := f.answer(ctx, all); errors.Is(err, errLease) {
			lost(err)
			return
		} else if err != nil && ctx.Err() == nil {
			f.log.Warn("what was asked of the directory cannot be done now", "err", err)
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

// answer does what is asked for now.
func (f *Feeder) answer(ctx context.Context, all []*feeding) error {
	asked, err := f.rows.requests(ctx)
	if err != nil {
		return err
	}
	for _, a := range asked {
		i := slices.IndexFunc(all, func(g *feeding) bool { return g.source.Name() == a.Name })
		if i < 0 {
			continue
		}
		if a.Sync != nil {
			all[i].compareNow(*a.Sync)
		}
		if a.Release != nil {
			if err := all[i].release(ctx, *a.Release); err != nil {
				return err
			}
		}
	}
	return nil
}

// source follows one directory, with pauses after failures that grow.
func (f *Feeder) source(ctx context.Context, from *feeding, lost context.CancelCauseFunc) {
	wait := firstRetry
	if looker, ok := from.source.(Looker); ok {
		looker.Look(f.live)
	}
	var wg sync.WaitGroup
	wg.Go(func() { from.report(ctx) })
	defer wg.Wait()
	for ctx.Err() == nil {
		err := f.guard(from.source.Name(), func() error { return from.run(ctx) })
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errLease) {
			lost(err)
			return
		}
		from.restart = errors.Is(err, ErrRefresh)
		if err == nil || from.restart {
			f.log.Info("directory is compared from the start", "directory", from.source.Name(), "err", err)
		} else {
			from.problem(ctx, err)
		}
		if from.worked {
			wait = firstRetry
		}
		// Jitter: several nodes must not meet a server that comes back together.
		if sleep(ctx, wait/2+rand.N(wait/2+1)) != nil {
			return
		}
		wait = min(2*wait, lastRetry)
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
