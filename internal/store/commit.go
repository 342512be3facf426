package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// Limits of one transaction of a lane, and of its time.
const (
	maxLaneUnits  = 64
	maxLaneOctets = 1 << 20
	commitTimeout = 30 * time.Second
)

// A node begins with one lane. When a transaction takes longer than slowLane,
// because the disk is slow or somebody has locked an account, another lane is
// opened in its stead, until there are maxLanes.
const (
	slowLane = 2 * time.Millisecond
	maxLanes = 6
)

// Unit is what is committed together: an accepted message with all its local
// deliveries and what else belongs to it.
type Unit struct {
	Content    *Content
	Deliveries []Delivery
	// Also runs in the same transaction after the deliveries: queue rows,
	// the settlement of an attempt. It may run more than once, and once more
	// after a commit whose outcome was unknown: what it has done then, it
	// must find done and leave. nil: nothing else.
	Also func(ctx context.Context, tx postgres.Tx) error
}

// Commit makes u durable, announces it, and answers the deliveries in their
// order. When it fails, nothing of u has happened; over quota is
// *OverQuotaError.
//
// A unit of one mailbox without Also shares a transaction with what else the
// node commits at the moment (see lanes). Any other unit is a transaction of
// its own.
func (s *Store) Commit(ctx context.Context, u Unit) ([]Delivered, error) {
	if err := s.prepareUnless(ctx, u.Deliveries); errors.Is(err, ErrNotFound) {
		return nil, s.outdated(u.Deliveries, err)
	} else if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		parcels, err := s.resolve(ctx, u.Deliveries)
		if err != nil {
			return nil, err
		}
		w := &waiting{unit: &u, parcels: parcels, err: errUndone}
		s.commit(ctx, w)
		if w.err == nil {
			s.Announce(w.answers)
			return w.answers, nil
		}
		code, _ := postgres.State(w.err)
		switch {
		case code != stateNotFound:
			return nil, wrap("commit", w.err)
		case attempt == 3:
			return nil, s.outdated(u.Deliveries, w.err)
		}
		// A mailbox was deleted since resolve looked: look again, INBOX
		// stands in.
	}
}

// outdated is the error when what has been decided does not fit the database any
// more: another node has purged an account that this one remembers, and the
// person is back. Whether somebody exists is for the directory to say and never
// for the store, so it is temporary; the next attempt finds the new account.
func (s *Store) outdated(deliveries []Delivery, err error) error {
	for i := range deliveries {
		s.forgetAccount(deliveries[i].Account.Key)
	}
	return envelope.Because(envelope.LocalError, fmt.Errorf("commit to an account that is gone: %w", err))
}

// errUndone is the error of a unit whose leader broke down.
var errUndone = errors.New("commit broke off")

// commit commits w in the way that fits it.
func (s *Store) commit(ctx context.Context, w *waiting) {
	var one bool
	w.key, one = w.lane()
	switch {
	case w.unit.Also != nil:
		s.commitWith(ctx, w)
	case one:
		for i := range w.parcels {
			w.parcels[i].gently = true
		}
		s.commitInLane(ctx, w)
	case w.isEmpty(): // nothing to store
		w.answers, w.err = make([]Delivered, len(w.parcels)), nil
		for i := range w.parcels {
			w.answers[i].Account = w.parcels[i].delivery.Account.ID
		}
	default:
		ctx, cancel := committing(ctx)
		defer cancel()
		s.commitAlone(ctx, w)
	}
}

// prepareUnless is Prepare for those that need it.
func (s *Store) prepareUnless(ctx context.Context, deliveries []Delivery) error {
	for i := range deliveries {
		if !isPlain(&deliveries[i]) {
			return s.Prepare(ctx, deliveries[i:])
		}
	}
	return nil
}

// committing returns a context for a transaction that no longer depends on the
// client: in a lane it carries the mail of others, and to stop in the middle
// would only leave the outcome unknown.
func committing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
}

// waiting is a unit on its way to the disk.
type waiting struct {
	unit    *Unit
	parcels []parcel
	key     MailboxKey // where it is stored, if it goes in a lane
	answers []Delivered
	err     error

	done  chan struct{} // closed when the unit is done, or has to lead
	batch []*waiting    // what this one has to commit as leader, itself first
}

// isEmpty reports whether w stores nothing.
func (w *waiting) isEmpty() bool {
	for i := range w.parcels {
		if len(w.parcels[i].places) > 0 {
			return false
		}
	}
	return true
}

// octets returns about what w sends to the database.
func (w *waiting) octets() int {
	c := w.unit.Content
	return len(c.Header) + len(c.Body.Inline) + len(c.Envelope) + len(c.Structure)
}

// lane returns the account and the mailbox of a unit that stores in one place,
// and whether it is one. With a second mailbox its row would be locked after
// the row of the account, in a transaction with others.
func (w *waiting) lane() (k MailboxKey, ok bool) {
	for i := range w.parcels {
		p := &w.parcels[i]
		if len(p.places) == 0 {
			continue
		}
		if ok || len(p.places) > 1 {
			return MailboxKey{}, false
		}
		k, ok = MailboxKey{p.delivery.Account.ID, p.places[0].mailbox}, true
	}
	return k, ok
}

// lanes are the transactions that a node has under way for units of one mailbox
// each. A unit that finds a lane free goes at once. Otherwise it waits, and what
// waits when a lane becomes free goes as one transaction, in the order of the
// accounts. An account is in one lane at a time: two would only wait for each
// other in the database.
//
// So the database is woken, and the disk waited for, once for many messages as
// soon as there are many: 32 sessions that deliver to 200 accounts cost a third
// of the processor time of a transaction each.
type lanes struct {
	mu    sync.Mutex // guards what follows
	free  int
	slow  int                // lanes that another was opened for
	busy  map[AccountID]bool // accounts in a lane
	under []*tenure          // the transactions under way
	queue []*waiting         // first come, first served, as far as accounts are free
}

// commitInLane commits w together with what else waits. Whoever finds a lane
// free leads: it commits in its own goroutine, and makes one of those that came
// in the meantime the next leader.
func (s *Store) commitInLane(ctx context.Context, w *waiting) {
	if !s.lanes.enter(w) {
		<-w.done // bounded by commitTimeout of those before us
		if w.batch == nil {
			return
		}
	}
	batch := w.batch
	tenure := s.lanes.begin()
	defer func() { // also after a panic: the others must go on
		s.lanes.leave(batch, tenure)
		for _, other := range batch {
			if other != w {
				close(other.done)
			}
		}
	}()
	ctx, cancel := committing(ctx)
	defer cancel()
	s.commitBatch(ctx, batch)
}

// enter gives w a lane if one is free, else it lines w up.
func (l *lanes) enter(w *waiting) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == 0 || l.busy[w.key.Account] {
		w.done = make(chan struct{})
		l.queue = append(l.queue, w)
		for _, t := range l.under {
			l.watchLocked(t)
		}
		return false
	}
	l.free--
	l.busy[w.key.Account] = true
	w.batch = []*waiting{w}
	return true
}

// begin begins the transaction of a batch that was given a lane.
func (l *lanes) begin() *tenure {
	t := &tenure{since: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under = append(l.under, t)
	if len(l.queue) > 0 {
		l.watchLocked(t)
	}
	return t
}

// watchLocked sees to it that t is relieved when it takes long. A transaction
// that nobody waits for needs no relief, and no timer, which costs the runtime a
// wake-up of another thread.
func (l *lanes) watchLocked(t *tenure) {
	if t.relief == nil {
		t.relief = time.AfterFunc(time.Until(t.since.Add(slowLane)), func() { l.relieve(t) })
	}
}

// leave frees the lane of a batch, and starts what can go now.
func (l *lanes) leave(batch []*waiting, t *tenure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range batch {
		delete(l.busy, w.key.Account)
	}
	t.over = true
	if t.relief != nil {
		t.relief.Stop()
	}
	l.under = slices.DeleteFunc(l.under, func(o *tenure) bool { return o == t })
	if t.relieved {
		l.slow--
	} else {
		l.free++
	}
	l.startLocked()
}

// tenure is the time of one transaction in a lane; guarded by lanes.mu.
type tenure struct {
	since          time.Time
	relief         *time.Timer // nil: nobody has waited yet
	relieved, over bool
}

// relieve opens another lane for one whose transaction takes long.
func (l *lanes) relieve(t *tenure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.over || l.slow == maxLanes-1 {
		return
	}
	t.relieved = true
	l.slow++
	l.free++
	l.startLocked()
}

// startLocked starts as many batches as there are lanes and accounts for.
func (l *lanes) startLocked() {
	for l.free > 0 {
		next := l.takeLocked()
		if next == nil {
			return
		}
		l.free--
		next[0].batch = next
		close(next[0].done)
	}
}

// takeLocked takes from the queue what goes as one transaction.
func (l *lanes) takeLocked() (batch []*waiting) {
	chosen := map[AccountID]MailboxID{}
	octets := 0
	rest := l.queue[:0]
	for _, w := range l.queue {
		mb, again := chosen[w.key.Account]
		if l.busy[w.key.Account] || again && mb != w.key.Mailbox || len(batch) == maxLaneUnits || octets > maxLaneOctets {
			rest = append(rest, w)
			continue
		}
		chosen[w.key.Account] = w.key.Mailbox
		octets += w.octets()
		batch = append(batch, w)
	}
	clear(l.queue[len(rest):])
	l.queue = rest
	for a := range chosen {
		l.busy[a] = true
	}
	slices.SortStableFunc(batch, func(a, b *waiting) int { return cmp.Compare(a.key.Account, b.key.Account) })
	return batch
}

// commitBatch commits units together, and each alone if that fails: then one of
// them cannot be stored, or the outcome is unknown.
func (s *Store) commitBatch(ctx context.Context, batch []*waiting) {
	if len(batch) == 1 {
		s.commitAlone(ctx, batch[0])
		return
	}
	err := s.transact(ctx, batch)
	if err == nil {
		return
	}
	code, _ := postgres.State(err)
	for _, w := range batch {
		if w.err = err; code != "" || errors.Is(err, postgres.ErrUnknown) {
			s.commitAlone(ctx, w)
		}
	}
}

// maxUnknown bounds how often a commit with an unknown outcome is repeated.
const maxUnknown = 3

// commitAlone commits one unit. When the outcome is unknown it does it again:
// what has happened is recognised by the ids of the messages.
func (s *Store) commitAlone(ctx context.Context, w *waiting) {
	for range maxUnknown {
		err := s.transact(ctx, []*waiting{w})
		if err == nil {
			return
		}
		if w.err = err; !errors.Is(err, postgres.ErrUnknown) {
			return
		}
	}
}

// transact commits units in one transaction and one round trip, and says in each
// what has become of it. An error is one of the transaction.
func (s *Store) transact(ctx context.Context, units []*waiting) error {
	now := s.db.Now().Unix()
	build := func(b *postgres.Batch) {
		for _, w := range units {
			for _, i := range lockOrder(w.parcels) {
				w.parcels[i].queue(b, w.unit.Content, now)
			}
		}
	}
	read := func(results postgres.BatchResults) error {
		for _, w := range units {
			w.err = w.read(results)
			var gently errGently
			if errors.As(w.err, &gently) {
				w.err = gently.over
			} else if w.err != nil {
				return w.err
			}
		}
		return nil
	}
	return s.db.Transact(ctx, postgres.Delivery, build, read)
}

// read reads the answers of w.
func (w *waiting) read(results postgres.BatchResults) (err error) {
	w.answers = make([]Delivered, len(w.parcels))
	for _, i := range lockOrder(w.parcels) {
		if w.answers[i], err = w.parcels[i].read(results); err != nil {
			return err
		}
	}
	return nil
}

// commitWith commits a unit with its Also.
func (s *Store) commitWith(ctx context.Context, w *waiting) {
	ctx, cancel := committing(ctx)
	defer cancel()
	for range maxUnknown {
		w.err = s.db.InTx(ctx, postgres.Delivery, func(ctx context.Context, tx postgres.Tx) (err error) {
			if w.answers, err = s.deliverTx(ctx, tx, w.unit.Content, w.parcels); err != nil {
				return err
			}
			if err := w.unit.Also(ctx, tx); err != nil {
				return fmt.Errorf("with the delivery: %w", err)
			}
			return nil
		})
		if !errors.Is(w.err, postgres.ErrUnknown) {
			return
		}
	}
}
