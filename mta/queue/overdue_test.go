package queue

import (
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// TestOverdue: what is due and nobody takes, and neither what waits for its time nor
// what is held.
func TestOverdue(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	enqueue(t, q, to(t, "one@partner.example", "two@partner.example")...)
	held := enqueue(t, q, to(t, "three@partner.example")...)
	if n, err := q.Hold(t.Context(), Filter{QueueIDs: []envelope.QueueID{held}}); n != 1 || err != nil {
		t.Fatalf("held %d: %v", n, err)
	}
	overdue := func() (int64, time.Duration) {
		t.Helper()
		n, since, err := q.Overdue(t.Context(), 10*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return n, since
	}
	if n, _ := overdue(); n != 0 {
		t.Errorf("%d recipients that were just queued are overdue", n)
	}
	if _, err := q.db.Exec(t.Context(), postgres.Background, `update outq set next_at = next_at - interval '1 hour' where next_at <> 'infinity'`); err != nil {
		t.Fatal(err)
	}
	if n, since := overdue(); n != 2 || since < time.Hour || since > 2*time.Hour {
		t.Errorf("%d are overdue for %v", n, since)
	}
}
