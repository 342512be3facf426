package permit

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"dirpost/directory"
	"dirpost/internal/postgres"

	"github.com/prometheus/client_golang/prometheus"
)

// exchange is the way to the counter in the database. Requests that come while
// one transaction is underway go together in the next, in the order of the people
// they are about, so that nodes never wait for each other in a circle. A
// transaction has one round trip.
type exchange struct {
	db  *postgres.DB
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	waiting []*request
	ended   chan struct{} // closed when nothing is underway any more; nil: nothing is
	closed  bool

	seconds  prometheus.Histogram
	requests prometheus.Counter
}

// request is one statement about one person.
type request struct {
	person  directory.Key
	sql     string
	args    []any
	dest    []any      // of the one row
	durable bool       // must be on disk before it is answered
	done    chan error // capacity 1; nil: nobody waits, and it is tried until the deadline
	until   time.Time
}

const (
	maxBatch    = 64
	maxWaiting  = 20_000
	batchLimit  = 5 * time.Second
	retryAfter  = 250 * time.Millisecond
	settleLimit = time.Minute
)

// do sends r and waits for the answer.
func (x *exchange) do(ctx context.Context, r *request) error {
	r.done = make(chan error, 1)
	x.add(r)
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// later sends r some time, and waits for nothing.
func (x *exchange) later(r *request) {
	r.until = time.Now().Add(settleLimit)
	x.add(r)
}

func (x *exchange) add(r *request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || len(x.waiting) >= maxWaiting {
		if r.done != nil {
			r.done <- errBusy
		}
		return // a permit that is not settled counts as used
	}
	x.waiting = append(x.waiting, r)
	if x.ended == nil {
		x.ended = make(chan struct{})
		go x.run()
	}
}

// run sends what waits until nothing does.
func (x *exchange) run() {
	for {
		x.mu.Lock()
		if len(x.waiting) == 0 {
			close(x.ended)
			x.ended = nil
			x.mu.Unlock()
			return
		}
		n := min(len(x.waiting), maxBatch)
		batch := slices.Clone(x.waiting[:n])
		x.waiting = slices.Delete(x.waiting, 0, n)
		x.mu.Unlock()
		slices.SortStableFunc(batch, func(a, b *request) int { return strings.Compare(string(a.person), string(b.person)) })
		if err := x.send(batch); err != nil {
			x.failed(batch, err)
		}
	}
}

// send sends a batch as one transaction, and tells those who wait.
func (x *exchange) send(batch []*request) error {
	ctx, cancel := context.WithTimeout(context.Background(), batchLimit) // of many logins, some of whose clients may have gone
	defer cancel()
	start := time.Now()
	durable := slices.ContainsFunc(batch, func(r *request) bool { return r.durable })
	err := x.db.Transact(ctx, postgres.Interactive, func(b *postgres.Batch) {
		if !durable {
			b.Queue(`set local synchronous_commit = off`)
		}
		for _, r := range batch {
			b.Queue(r.sql, r.args...)
		}
	}, func(results postgres.BatchResults) error {
		if !durable {
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		for _, r := range batch {
			if err := results.QueryRow().Scan(r.dest...); err != nil {
				return err
			}
		}
		return nil
	})
	x.seconds.Observe(time.Since(start).Seconds())
	x.requests.Add(float64(len(batch)))
	if err != nil {
		return err
	}
	for _, r := range batch {
		if r.done != nil {
			r.done <- nil
		}
	}
	return nil
}

// failed tells those who wait, and keeps the others for another try.
func (x *exchange) failed(batch []*request, err error) {
	var again []*request
	now := time.Now()
	for _, r := range batch {
		switch {
		case r.done != nil:
			r.done <- err
		case now.Before(r.until):
			again = append(again, r)
		}
	}
	x.log.Debug("permits not exchanged with the database", "count", len(batch), "err", err)
	x.mu.Lock()
	if x.closed {
		again = nil
	}
	x.waiting = append(again, x.waiting...)
	x.mu.Unlock()
	if len(again) > 0 {
		time.Sleep(retryAfter)
	}
}

// close sends what waits, and takes nothing any more.
func (x *exchange) close(ctx context.Context) {
	for {
		x.mu.Lock()
		ended := x.ended
		if ended == nil || ctx.Err() != nil {
			x.closed = true
			x.waiting = nil
			x.mu.Unlock()
			return
		}
		x.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
}
