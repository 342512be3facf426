package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dirpost/internal/postgres"
)

// Limits of one transaction of a line, and of its time.
const (
	maxLineUnits  = 64
	maxLineOctets = 1 << 20
	commitTimeout = 30 * time.Second
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
// A unit of one account without Also waits in the line of that account: what
// waits when the account is free goes as one transaction, so that one disk
// flush serves many. If the account is idle the unit goes at once. Any other
// unit is a transaction of its own.
func (s *Store) Commit(ctx context.Context, u Unit) ([]Delivered, error) {
	if err := s.prepareUnless(ctx, u.Deliveries); err != nil {
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
		if code, _ := postgres.State(w.err); code != stateNotFound || attempt == 3 {
			return nil, wrap("commit", w.err)
		}
		// A mailbox was deleted since resolve looked: look again, INBOX
		// stands in.
	}
}

// errUndone is the error of a unit whose leader broke down.
var errUndone = errors.New("commit broke off")

// commit commits w in the way that fits it.
func (s *Store) commit(ctx context.Context, w *waiting) {
	switch account, n := w.account(); {
	case w.unit.Also != nil:
		s.commitWith(ctx, w)
	case n == 0: // nothing to store
		w.answers, w.err = make([]Delivered, len(w.parcels)), nil
		for i := range w.parcels {
			w.answers[i].Account = w.parcels[i].delivery.Account.ID
		}
	case n == 1:
		s.commitInLine(ctx, account, w)
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
// client: in a line it carries the mail of others, and to stop in the middle
// would only leave the outcome unknown.
func committing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
}

// waiting is a unit on its way to the disk.
type waiting struct {
	unit    *Unit
	parcels []parcel
	answers []Delivered
	err     error

	done  chan struct{} // closed when the unit is done, or has to lead
	batch []*waiting    // what this one has to commit as leader, itself first
}

// account returns the account that w stores in, and the number of them.
func (w *waiting) account() (id AccountID, n int) {
	for i := range w.parcels {
		if len(w.parcels[i].places) == 0 {
			continue
		}
		if a := w.parcels[i].delivery.Account.ID; n == 0 || a != id {
			id = a
			n++
		}
	}
	return id, n
}

// octets returns about what w sends to the database.
func (w *waiting) octets() int {
	c := w.unit.Content
	return len(c.Header) + len(c.Body.Inline) + len(c.Envelope) + len(c.Structure)
}

// sameMailbox reports whether w and v store in one and the same mailbox. Only
// such units share a transaction: with a second mailbox its row would be locked
// after the account's.
func (w *waiting) sameMailbox(v *waiting) bool {
	m, ok := w.mailbox()
	n, ok2 := v.mailbox()
	return ok && ok2 && m == n
}

func (w *waiting) mailbox() (mb MailboxID, ok bool) {
	for i := range w.parcels {
		for _, pl := range w.parcels[i].places {
			if ok && pl.mailbox != mb {
				return 0, false
			}
			mb, ok = pl.mailbox, true
		}
	}
	return mb, ok
}

// lines are the accounts that have a transaction under way in this node, each
// with the units that wait for it.
type lines struct {
	mu      sync.Mutex // guards waiting
	waiting map[AccountID][]*waiting
}

// commitInLine commits w in the line of its account. The one that finds the
// account idle leads: it commits, in its own goroutine, and makes the first of
// those that came in the meantime the next leader.
func (s *Store) commitInLine(ctx context.Context, a AccountID, w *waiting) {
	s.lines.mu.Lock()
	queue, busy := s.lines.waiting[a]
	if busy {
		w.done = make(chan struct{})
		s.lines.waiting[a] = append(queue, w)
		s.lines.mu.Unlock()
		<-w.done // bounded by commitTimeout of those before us
		if w.batch == nil {
			return
		}
	} else {
		s.lines.waiting[a] = nil
		s.lines.mu.Unlock()
		w.batch = []*waiting{w}
	}
	batch := w.batch
	defer func() { // also after a panic: the line must go on
		s.next(a)
		for _, other := range batch[1:] {
			close(other.done)
		}
	}()
	ctx, cancel := committing(ctx)
	defer cancel()
	s.commitBatch(ctx, batch)
}

// next frees the line of an account: the first that waits leads the next batch.
func (s *Store) next(a AccountID) {
	s.lines.mu.Lock()
	defer s.lines.mu.Unlock()
	queue := s.lines.waiting[a]
	if len(queue) == 0 {
		delete(s.lines.waiting, a)
		return
	}
	leader := queue[0]
	n, octets := 1, leader.octets()
	for n < len(queue) && n < maxLineUnits && leader.sameMailbox(queue[n]) {
		if octets += queue[n].octets(); octets > maxLineOctets {
			break
		}
		n++
	}
	leader.batch = queue[:n:n]
	s.lines.waiting[a] = queue[n:]
	close(leader.done)
}

// commitBatch commits units of one account together, and each alone if that
// fails: then one of them is over quota, or the outcome is unknown.
func (s *Store) commitBatch(ctx context.Context, batch []*waiting) {
	if len(batch) == 1 {
		s.commitAlone(ctx, batch[0])
		return
	}
	err := s.transact(ctx, batch)
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
		w.err = s.transact(ctx, []*waiting{w})
		if !errors.Is(w.err, postgres.ErrUnknown) {
			return
		}
	}
}

// transact commits units in one transaction and one round trip.
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
			if err := w.read(results); err != nil {
				return err
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
