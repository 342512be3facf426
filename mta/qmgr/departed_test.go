package qmgr

import (
	"strings"
	"sync/atomic"
	"testing"

	"dirpost/mta/queue"
)

// Mail of somebody who has left waits for the administrator; that of others goes.
func TestDeparted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var asked atomic.Int32
	w.gone = func(author string) string {
		asked.Add(1)
		if author == "corp:mallory" {
			return "its author has left"
		}
		return ""
	}
	srv := next(t, nil)
	id := w.put(func(m *queue.Message) { m.Author = "corp:mallory" }, via(t, srv.Addr, "ok@a.example"), ours(t, "bob@corp.example"))
	w.put(func(m *queue.Message) { m.Author = "corp:alice" }, via(t, srv.Addr, "fine@a.example"))
	w.put(nil, via(t, srv.Addr, "open@a.example"))
	w.start()
	got := w.events.wait(t, 4)
	for _, want := range []string{"bob@corp.example held ", "fine@a.example sent ", "ok@a.example held ", "open@a.example sent "} {
		if !strings.Contains("\n"+got, "\n"+want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	before := asked.Load()
	if n, err := w.queue.Release(t.Context(), queue.ByID(id)); n != 2 || err != nil {
		t.Fatalf("released %d, %v", n, err)
	}
	w.events.wait(t, 6)
	w.empty()
	if asked.Load() != before {
		t.Error("the author of released mail was asked for")
	}
	if n := len(srv.Messages()); n != 3 {
		t.Errorf("%d messages sent, want 3", n)
	}
}
