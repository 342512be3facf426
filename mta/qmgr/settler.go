package qmgr

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"dirpost/mta/queue"
)

// settler records outcomes. What comes while a statement is under way goes
// together in the next one, so that many workers cost few commits and none
// waits longer than for two.
type settler struct {
	queue *queue.Queue
	log   *slog.Logger

	mu      sync.Mutex // guards the fields below
	busy    bool
	waiting []*batch
}

type batch struct {
	settlements []queue.Settlement
	done        chan struct{}
}

// maxSettled bounds how much goes into one statement.
const maxSettled = 500

// settle returns when settlements are durable, or when it is no use to try any
// longer: then their leases end by themselves.
func (s *settler) settle(ctx context.Context, settlements []queue.Settlement) {
	if len(settlements) == 0 {
		return
	}
	b := &batch{settlements: settlements, done: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, b)
	lead := !s.busy
	s.busy = true
	s.mu.Unlock()
	if lead {
		s.lead(ctx)
	}
	<-b.done
}

// lead settles for all until nobody waits.
func (s *settler) lead(ctx context.Context) {
	for {
		s.mu.Lock()
		n, count := 0, 0
		for n < len(s.waiting) && (n == 0 || count+len(s.waiting[n].settlements) <= maxSettled) {
			count += len(s.waiting[n].settlements)
			n++
		}
		if n == 0 {
			s.busy = false
			s.mu.Unlock()
			return
		}
		now := s.waiting[:n:n]
		s.waiting = s.waiting[n:]
		s.mu.Unlock()
		all := make([]queue.Settlement, 0, count)
		for _, b := range now {
			all = append(all, b.settlements...)
		}
		s.record(ctx, all)
		for _, b := range now {
			close(b.done)
		}
	}
}

// settleFor is how long a settlement is tried while the database is away: what a
// next hop has taken would be sent again otherwise.
const settleFor = 4 * time.Minute

func (s *settler) record(ctx context.Context, all []queue.Settlement) {
	// The leader settles for others too, so its own end must not stop it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleFor)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		lost, err := s.queue.Settle(ctx, all)
		if err == nil {
			for _, l := range lost {
				s.log.WarnContext(ctx, "outcome not recorded, the lease was lost", "queue_id", l.Attempt.QueueID.String(), "to", l.Attempt.Recipient.Address.String())
			}
			return
		}
		select {
		case <-ctx.Done():
			s.log.ErrorContext(ctx, "outcomes not recorded, mail may be sent again", "nrcpt", len(all), "err", err)
			return
		case <-time.After(pause):
		}
	}
}
