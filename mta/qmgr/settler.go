package qmgr

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"dirpost/mta/queue"
)

// settler records outcomes for all workers. What comes within a moment, or while
// a statement is under way, goes together in one: many workers cost few commits.
// A worker does not wait for it, so a node that dies may have sent what it did
// within that moment without having said so.
type settler struct {
	queue *queue.Queue
	log   *slog.Logger
	in    chan batch
	// stuck is set while the database does not answer: what was sent could be
	// claimed again before it is recorded, once the database is back.
	stuck atomic.Bool
}

// batch is what one worker has to settle; done is called when that is durable, or
// when it is no use to try any longer: then the leases end by themselves.
type batch struct {
	settlements []queue.Settlement
	done        func()
}

const (
	// maxSettled bounds how much goes into one statement.
	maxSettled = 200
	// linger is how long the first waits for others.
	linger = 5 * time.Millisecond
	// settleFor is how long a settlement is tried while the database is away:
	// what a next hop has taken would be sent again otherwise.
	settleFor = 4 * time.Minute
)

func newSettler(q *queue.Queue, log *slog.Logger) *settler {
	return &settler{queue: q, log: log, in: make(chan batch, 256)}
}

// add has settlements recorded. It waits only when far too much is waiting.
func (s *settler) add(settlements []queue.Settlement, done func()) {
	if len(settlements) > 0 {
		s.in <- batch{settlements, done}
	}
}

// run records until in is closed and empty. ctx ends the attempts to reach a
// database that is away.
func (s *settler) run(ctx context.Context) {
	for first := range s.in {
		batches, all := []batch{first}, first.settlements
		wait := time.After(linger)
	collect:
		for len(all) < maxSettled {
			select {
			case b, ok := <-s.in:
				if !ok {
					break collect
				}
				batches, all = append(batches, b), append(all, b.settlements...)
			case <-wait:
				break collect
			}
		}
		s.record(ctx, all)
		for _, b := range batches {
			if b.done != nil {
				b.done()
			}
		}
	}
}

func (s *settler) record(ctx context.Context, all []queue.Settlement) {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	defer s.stuck.Store(false)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		lost, err := s.queue.Settle(ctx, all)
		if err == nil {
			for _, l := range lost {
				s.log.WarnContext(ctx, "outcome not recorded, the lease was lost", "queue_id", l.Attempt.QueueID.String(), "to", l.Attempt.Recipient.Address.String())
			}
			return
		}
		s.stuck.Store(true)
		select {
		case <-ctx.Done():
			s.log.ErrorContext(ctx, "outcomes not recorded, mail may be sent again", "nrcpt", len(all), "err", err)
			return
		case <-time.After(pause):
		}
	}
}
