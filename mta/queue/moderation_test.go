package queue

import (
	"context"
	"errors"
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
)

// hold puts a message for a moderated list and, besides, for bob into q, and asks
// with the token t.
func hold(t *testing.T, q *Queue, token string, notify envelope.Notify, expires time.Duration) envelope.QueueID {
	t.Helper()
	list := Recipient{Address: address(t, "list@corp.example"), Original: "list@corp.example", Local: LocalExpand, Held: true, Reason: "waits", Notify: notify}
	id := enqueue(t, q, to(t, "bob@far.example")[0], list)
	inTx(t, q, func(ctx context.Context, tx postgres.Tx) error {
		x := Question{Token: token, QueueID: id, N: 1, List: "corp:1", Address: list.Address, Expires: expires}
		if err := q.AskTx(ctx, tx, x); err != nil {
			return err
		}
		return q.AskTx(ctx, tx, x) // the outcome of the first was not heard
	})
	return id
}

func inTx(t *testing.T, q *Queue, f func(context.Context, postgres.Tx) error) {
	t.Helper()
	if err := q.db.InTx(t.Context(), postgres.Delivery, f); err != nil {
		t.Fatal(err)
	}
}

func decide(t *testing.T, q *Queue, a Answer) error {
	t.Helper()
	return q.db.InTx(t.Context(), postgres.Delivery, func(ctx context.Context, tx postgres.Tx) error { return q.DecideTx(ctx, tx, a) })
}

// entryOf returns the row of the list, nil when it is gone.
func entryOf(t *testing.T, q *Queue, id envelope.QueueID) *Entry {
	t.Helper()
	entries, err := q.List(t.Context(), ByID(id), Entry{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if entries[i].Recipient.Local == LocalExpand {
			return &entries[i]
		}
	}
	return nil
}

// The first answer counts, and only that.
func TestDecide(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	id := hold(t, q, "yes", 0, time.Hour)
	if a, err := q.Asked(t.Context(), "yes"); err != nil || a.QueueID != id || a.List != "corp:1" || a.Address != "list@corp.example" || a.Decision != Undecided {
		t.Errorf("Asked = %+v, %v", a, err)
	}
	if _, err := q.Asked(t.Context(), "no"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Asked of an unknown token: %v", err)
	}
	if e := entryOf(t, q, id); e.State != StateHeld || e.Recipient.Reason != "waits" {
		t.Errorf("before: %+v", e)
	}
	first := Answer{Token: "yes", Decision: Approved, By: "carol@corp.example", QueueID: 7}
	for range 2 { // repeated, since the outcome of the first was not heard
		if err := decide(t, q, first); err != nil {
			t.Fatal(err)
		}
	}
	if e := entryOf(t, q, id); e.State != StateWaiting {
		t.Errorf("approved: %+v", e)
	}
	for _, d := range []Decision{Approved, Rejected} {
		if err := decide(t, q, Answer{Token: "yes", Decision: d, By: "dan@corp.example", QueueID: 8}); !errors.Is(err, ErrDecided) {
			t.Errorf("a second answer, %s: %v", d, err)
		}
	}
	if err := decide(t, q, Answer{Token: "unknown", Decision: Approved}); !errors.Is(err, ErrDecided) {
		t.Errorf("unknown token: %v", err)
	}
	if a, _ := q.Asked(t.Context(), "yes"); a.Decision != Approved || a.DecidedBy != "carol@corp.example" {
		t.Errorf("Asked = %+v", a)
	}
}

// What is rejected goes back with the words of the moderator, where the author is to
// be told at all.
func TestDecideReject(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	told, never := hold(t, q, "told", 0, time.Hour), hold(t, q, "never", envelope.NotifyNever, time.Hour)
	for _, token := range []string{"told", "never"} {
		if err := decide(t, q, Answer{Token: token, Decision: Rejected, By: "carol@corp.example", Words: "Not\nhere.", QueueID: 9}); err != nil {
			t.Fatal(err)
		}
	}
	if e := entryOf(t, q, told); e == nil || e.State != StateFinal || e.Last.Enhanced != "5.7.2" || e.Last.Relay != "moderator" {
		t.Errorf("%+v", e)
	}
	if e := entryOf(t, q, never); e != nil {
		t.Errorf("still there: %+v", e)
	}
	if reports, err := q.ClaimReports(t.Context(), all, 10, time.Minute); err != nil || len(reports) != 1 || reports[0].QueueID != told {
		t.Errorf("reports: %+v, %v", reports, err)
	}
	if n := rowsIn(t, q, "outq_msg"); n != 2 { // bob waits on
		t.Errorf("%d messages, want 2", n)
	}
}

// Nobody answers, or the administrator decides.
func TestReturnUnanswered(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	late, early, released := hold(t, q, "late", 0, -time.Second), hold(t, q, "early", 0, time.Hour), hold(t, q, "released", 0, -time.Second)
	if n, err := q.Release(t.Context(), ByID(released)); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if n, err := q.ReturnUnanswered(t.Context()); err != nil || n != 2 {
		t.Errorf("ReturnUnanswered = %d, %v", n, err)
	}
	if e := entryOf(t, q, late); e.State != StateFinal || e.Last.Text != unansweredWords {
		t.Errorf("late: %+v", e)
	}
	if e := entryOf(t, q, early); e.State != StateHeld {
		t.Errorf("early: %+v", e)
	}
	if e := entryOf(t, q, released); e.State != StateWaiting {
		t.Errorf("released: %+v", e)
	}
	for token, want := range map[string]Decision{"late": Unanswered, "early": Undecided, "released": DecidedQueue} {
		if a, err := q.Asked(t.Context(), token); err != nil || a.Decision != want {
			t.Errorf("%s: %s, %v, want %s", token, a.Decision, err, want)
		}
	}
	if n, err := q.Reject(t.Context(), ByID(early), "No."); err != nil || n != 1 {
		t.Errorf("Reject = %d, %v", n, err)
	}
	if err := decide(t, q, Answer{Token: "early", Decision: Approved, QueueID: 1}); !errors.Is(err, ErrDecided) {
		t.Errorf("after the administrator: %v", err)
	}
	if e := entryOf(t, q, early); e.State != StateFinal || e.Last.Text != "No." || e.Last.Relay != RelayModerator || e.Last.Enhanced != "5.7.2" {
		t.Errorf("rejected in the queue: %+v", e)
	}
	// What nobody was asked about is no list's.
	if n, err := q.Hold(t.Context(), ByID(released)); err != nil || n != 2 { // bob as well
		t.Fatal(n, err)
	}
	if n, err := q.Reject(t.Context(), ByID(released), "No."); err != nil || n != 2 {
		t.Errorf("Reject = %d, %v", n, err)
	}
	if e := entryOf(t, q, released); e.State != StateFinal || e.Last.Text != "No." || e.Last.Relay != RelayAdministrator || e.Last.Enhanced != "5.7.1" {
		t.Errorf("held by the administrator and rejected: %+v", e)
	}
}
