package queue

import (
	"testing"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
)

// Mail of somebody who has left is held as if it had never been tried, and once it
// is released nobody asks for its author again.
func TestHoldAttempts(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	m := &Message{QueueID: envelope.QueueID(q.db.NewID()), Author: "corp:alice", Header: []byte("Subject: x\r\n\r\n"), Body: blob.Body{Inline: []byte{}}}
	rcpts := []Recipient{{Address: address(t, "bob@a.example")}, {Address: address(t, "carol@a.example")}}
	put(t, q, m, rcpts)
	put(t, q, m, rcpts) // the caller did not hear: nothing more
	leased := claim(t, q, Claim{})
	if len(leased) != 2 || rowsIn(t, q, "outq_author") != 1 {
		t.Fatalf("%d leased, %d authors", len(leased), rowsIn(t, q, "outq_author"))
	}
	if n, err := q.HoldAttempts(t.Context(), leased, "its author has left"); err != nil || n != 2 {
		t.Fatalf("held %d, %v", n, err)
	}
	if n, err := q.HoldAttempts(t.Context(), leased, "again"); err != nil || n != 0 {
		t.Errorf("held %d with a lease that is over, %v", n, err)
	}
	_, entries, err := q.Get(t.Context(), m.QueueID)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if e.State != StateHeld || e.Attempts != 0 || e.Recipient.Reason != "its author has left" {
			t.Errorf("%+v", e)
		}
	}
	if got := claim(t, q, Claim{}); len(got) != 0 {
		t.Errorf("%d of what is held are claimed", len(got))
	}
	if n, err := q.Release(t.Context(), ByID(m.QueueID)); err != nil || n != 2 {
		t.Errorf("released %d, %v", n, err)
	}
	if got, _, err := q.Get(t.Context(), m.QueueID); err != nil || got.Author != "" {
		t.Errorf("the author of released mail: %q, %v", got.Author, err)
	}
	if got := claim(t, q, Claim{}); len(got) != 2 {
		t.Errorf("%d of what was released are claimed", len(got))
	}
}

func TestForgetAuthors(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	var ids []envelope.QueueID
	for range 2 {
		m := &Message{QueueID: envelope.QueueID(q.db.NewID()), Author: "corp:alice", Header: []byte("Subject: x\r\n\r\n"), Body: blob.Body{Inline: []byte{}}}
		put(t, q, m, []Recipient{{Address: address(t, "bob@a.example")}})
		ids = append(ids, m.QueueID)
	}
	if _, err := q.Delete(t.Context(), ByID(ids[0])); err != nil {
		t.Fatal(err)
	}
	if err := q.ForgetAuthors(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m, _, err := q.Get(t.Context(), ids[1]); err != nil || m.Author != "corp:alice" || rowsIn(t, q, "outq_author") != 1 {
		t.Errorf("%+v, %v, %d authors", m, err, rowsIn(t, q, "outq_author"))
	}
}
