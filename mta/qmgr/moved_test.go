package qmgr

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dirpost/mta/queue"
	"dirpost/mta/route"
)

// Whose mailbox is here by now gets what waits for another system, although that is
// away; the others go on waiting for it, in the same message.
func TestMovedHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const away = "127.0.0.1:1"
	w.moved = func(r *queue.Recipient) string {
		if r.Person == "main:alice" {
			return r.Person
		}
		return ""
	}
	alice, bob := via(t, away, "alice@corp.example"), via(t, away, "bob@corp.example")
	alice.Person, bob.Person = "main:alice", "main:bob"
	w.put(nil, bob, alice, via(t, away, "nobody@corp.example"))
	w.start()
	got := w.events.wait(t, 3)
	for _, want := range []string{"alice@corp.example delivered 2.0.0 local", "bob@corp.example deferred 4.4.1", "nobody@corp.example deferred 4.4.1"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if d := w.door.delivered; len(d) != 1 || d[0] != "main:alice" {
		t.Errorf("delivered to %q", d)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if e := w.entries(); len(e) == 2 && e[0].Recipient.Local == "" && e[1].Recipient.Local == "" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("queued: %+v", e)
		}
	}
}

// Who moves here while the other system is being tried does not wait for the next
// attempt, whose time would come in minutes.
func TestMovedWhileTried(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var moved atomic.Bool
	w.router = straight{}
	w.to = scripted(func(_ context.Context, _ *route.Route, _ *queue.Message, attempts []queue.Attempt) []queue.Outcome {
		moved.Store(true)
		return same(attempts, queue.Outcome{Down: true, Reply: queue.Reply{Enhanced: "4.4.1", Text: "connection timed out", Relay: "none"}})
	})
	w.moved = func(r *queue.Recipient) string {
		if moved.Load() {
			return r.Person
		}
		return ""
	}
	alice := via(t, "away.example:25", "alice@corp.example")
	alice.Person = "main:alice"
	w.put(nil, alice)
	w.start()
	if got := w.events.wait(t, 2); got != "alice@corp.example deferred 4.4.1 none\nalice@corp.example delivered 2.0.0 local" {
		t.Errorf("events:\n%s", got)
	}
	w.empty()
}
