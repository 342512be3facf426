package intake

import (
	"context"
	"testing"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/message"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/mta/queue"
)

// faultyPlanner has a bug that one person brings out.
type faultyPlanner struct {
	Planner
	of string
}

func (f faultyPlanner) Plan(ctx context.Context, r directory.LocalRecipient, m *message.Parsed) (store.Delivery, error) {
	if r.Recipient.Address.Local == f.of {
		panic("a bug")
	}
	return f.Planner.Plan(ctx, r, m)
}

// faultyRows has one that queue rows bring out.
type faultyRows struct{ *rows }

func (faultyRows) EnqueueTx(context.Context, postgres.Tx, *queue.Message, []queue.Recipient) error {
	panic("a bug")
}

// TestPanic: a bug in the plan of one recipient delays that one, and one in the
// commit is 451; the next message of the same client is taken.
func TestPanic(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.Planner = faultyPlanner{h.Planner, "bob"}
	acc, err := h.send(nil, "x@elsewhere.example", []string{"alice@corp.example", "bob@corp.example"}, "Subject: x\r\n\r\nx\r\n")
	if err != nil || acc.Delivered != 1 || acc.Queued != 1 || len(h.queue.rcpts) != 1 || h.queue.rcpts[0].Local != "test:bob" {
		t.Errorf("plan: %+v, %v, queued %+v", acc, err, h.queue.rcpts)
	}
	h.Queue = faultyRows{h.queue}
	_, err = h.send(h.as("alice"), "alice@corp.example", []string{"x@elsewhere.example"}, "Subject: x\r\n\r\nx\r\n")
	if envelope.StatusOf(err) != envelope.LocalError {
		t.Errorf("commit: %v, want 451", err)
	}
	h.Queue = h.queue
	if acc, err = h.send(nil, "x@elsewhere.example", []string{"carol@corp.example"}, "Subject: x\r\n\r\ny\r\n"); err != nil || acc.Delivered != 1 {
		t.Errorf("the next message: %+v, %v", acc, err)
	}
	said := 0
	for _, e := range h.said.all {
		if e.Msg == "panic" {
			said++
		}
	}
	if said != 2 {
		t.Errorf("%d panics said, want 2", said)
	}
}
