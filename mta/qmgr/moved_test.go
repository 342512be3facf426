package qmgr

import (
	"strings"
	"testing"
	"time"

	"dirpost/mta/queue"
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
