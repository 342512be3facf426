package store

import (
	"context"
	"sync"

	"dirpost/internal/postgres"
)

// Unit is what is committed together: an accepted message with all its local
// deliveries and what else belongs to it.
type Unit struct {
	Content    *Content
	Deliveries []Delivery
	// Also runs in the same transaction after the deliveries: queue rows,
	// the settlement of an attempt. It may run more than once, and after a
	// commit whose outcome was unknown it runs again: it must do nothing
	// the second time. nil: nothing else.
	Also func(ctx context.Context, tx postgres.Tx) error
}

// Commit makes u durable and announces it. Deliveries is answered in the same
// order. Over quota is *OverQuotaError: nothing of the unit has happened then.
func (s *Store) Commit(ctx context.Context, u Unit) ([]Delivered, error) {
	return nil, errUnfinished
}

// lines are the accounts that have a transaction under way.
type lines struct {
	mu      sync.Mutex // guards waiting
	waiting map[AccountID]*line
}

type line struct{}
