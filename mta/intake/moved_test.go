package intake

import (
	"context"
	"slices"
	"strings"
	"testing"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/mta/queue"
)

// movedHouse is a house beside another system, which is the home of whom homeElsewhere
// names from the second snapshot on.
func movedHouse(t *testing.T) (h *house, move func(names ...string)) {
	h = newHouse(t)
	entries := func(elsewhere ...string) (all []*directory.Entry) {
		for _, name := range []string{"alice", "bob", "carol"} {
			all = append(all, person(name, func(e *directory.Entry) {
				e.Aliases = []envelope.Address{address(t, name+".alias@corp.example")}
				if slices.Contains(elsewhere, name) {
					e.Place = directory.PlaceElsewhere
				}
			}))
		}
		return append(all, group("sales", func(e *directory.Entry) {
			e.Members, e.Owners = []string{"cn=alice", "cn=bob"}, []string{"cn=carol"}
		}))
	}
	h.cfg.InTransaction = 1 // carol's, so that all others wait in the queue
	rules := directory.Rules{Domains: []string{"corp.example"}, NextHop: "exchange.corp.example:25"}
	h.Directory = directory.NewLive(directory.SnapshotOf(rules, entries()))
	return h, func(names ...string) {
		h.Directory = directory.NewLive(directory.SnapshotOf(rules, entries(names...)))
	}
}

// A copy that waits for a mailbox here follows the person to the other system,
// whatever it was addressed as, and is counted like all that goes there.
func TestQueuedFollowsToOtherSystem(t *testing.T) {
	h, move := movedHouse(t)
	if _, err := h.send(nil, "ann@example.net", []string{"carol@corp.example", "alice.alias@corp.example", "sales@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	type row struct {
		m *queue.Message
		r queue.Recipient
	}
	var waiting []row
	h.queue.messages = slices.Compact(h.queue.messages)
	if len(h.queue.messages) != 2 || len(h.queue.rcpts) != 2 {
		t.Fatalf("queued %d messages for %d recipients", len(h.queue.messages), len(h.queue.rcpts))
	}
	for i, r := range h.queue.rcpts {
		r.Notify = envelope.NotifySuccess
		waiting = append(waiting, row{h.queue.messages[i], r})
	}
	move("alice", "bob")
	for _, w := range waiting {
		h.queue.messages, h.queue.rcpts = nil, nil
		var onward []queue.Onward
		settle := func(_ context.Context, _ postgres.Tx, o []queue.Onward) error { onward = o; return nil }
		if err := h.DeliverQueued(t.Context(), w.m, []queue.Recipient{w.r}, settle); err != nil {
			t.Fatal(err)
		}
		want := "alice.alias@corp.example"
		if w.r.Local == "test:bob" {
			want = "bob@corp.example" // not the address of the list
		}
		if len(h.queue.rcpts) != 1 || h.queue.rcpts[0].Address.String() != want || h.queue.rcpts[0].NextHop != "exchange.corp.example:25" ||
			h.queue.rcpts[0].Local != "" || h.queue.rcpts[0].Original != w.r.Original || h.queue.rcpts[0].Notify != envelope.NotifySuccess {
			t.Errorf("%s goes on as %+v", w.r.Local, h.queue.rcpts)
			continue
		}
		m := h.queue.messages[0]
		if m.QueueID == w.m.QueueID || m.Expires != w.m.Expires || m.ReversePath != w.m.ReversePath {
			t.Errorf("%s goes on in %+v", w.r.Local, m)
		}
		if string(m.Header) != "Dirpost-Handed-Over: by mail.corp.example\r\n"+string(w.m.Header) {
			t.Errorf("header of %s:\n%s", w.r.Local, m.Header)
		}
		if len(onward) != 1 || onward[0] != (queue.Onward{Place: 0, QueueID: m.QueueID, NextHop: "exchange.corp.example:25"}) {
			t.Errorf("settled as %+v", onward)
		}
	}
	for _, name := range []string{"alice", "bob"} {
		if n := len(h.inbox(name)); n != 0 {
			t.Errorf("%s has %d messages here", name, n)
		}
	}
}

// Some stay and some have moved: each copy goes once, to the one or the other.
func TestQueuedPartlyMoved(t *testing.T) {
	h, move := movedHouse(t)
	if _, err := h.send(nil, "ann@example.net", []string{"carol@corp.example", "alice@corp.example", "bob@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	m, rcpts := h.queue.messages[0], h.queue.rcpts
	move("bob")
	h.queue.messages, h.queue.rcpts = nil, nil
	if err := h.DeliverQueued(t.Context(), m, rcpts, nil); err != nil {
		t.Fatal(err)
	}
	if len(h.queue.rcpts) != 1 || h.queue.rcpts[0].Address.String() != "bob@corp.example" || len(h.inbox("alice")) != 1 || len(h.inbox("bob")) != 0 {
		t.Errorf("queued %+v, alice has %d, bob has %d", h.queue.rcpts, len(h.inbox("alice")), len(h.inbox("bob")))
	}
}

// What the queue hands over has not been handed over too often (RFC 5321 §6.3).
func TestQueuedEndsRounds(t *testing.T) {
	h, move := movedHouse(t)
	text := strings.Repeat("Dirpost-Handed-Over: by mail.corp.example\r\n", maxHandedOver) + plain
	if _, err := h.send(nil, "ann@example.net", []string{"carol@corp.example", "bob@corp.example"}, text); err != nil {
		t.Fatal(err)
	}
	move("bob")
	if got := status(h.DeliverQueued(t.Context(), h.queue.messages[0], h.queue.rcpts, nil)); got != "5.4.6" {
		t.Errorf("answered %q, want 5.4.6", got)
	}
}

// A list that was released counts what it sends to the other system; a member that
// cannot have it there does not keep the others from it.
func TestReleasedListCounts(t *testing.T) {
	h, move := movedHouse(t)
	for _, rounds := range []int{0, maxHandedOver} {
		move("bob")
		text := strings.Repeat("Dirpost-Handed-Over: by mail.corp.example\r\n", rounds) + plain
		if _, err := h.send(nil, "ann@example.net", []string{"carol@corp.example", "alice@corp.example"}, text); err != nil {
			t.Fatal(err)
		}
		m := h.queue.messages[len(h.queue.messages)-1]
		h.queue.messages, h.queue.rcpts = nil, nil
		list := queue.Recipient{Address: address(t, "sales@corp.example"), Original: "sales@corp.example", Local: queue.LocalExpand}
		if err := h.DeliverQueued(t.Context(), m, []queue.Recipient{list}, nil); err != nil {
			t.Fatal(err)
		}
		if len(h.queue.rcpts) != 1 || h.queue.rcpts[0].Address.String() != "bob@corp.example" {
			t.Fatalf("after %d rounds: queued %+v", rounds, h.queue.rcpts)
		}
		refused := h.queue.rcpts[0].Local == queue.LocalExpand
		if counted := strings.Count(string(h.queue.messages[0].Header), "Dirpost-Handed-Over"); refused != (rounds > 0) || !refused && counted != 1 {
			t.Errorf("after %d rounds: refused %t, header\n%s", rounds, refused, h.queue.messages[0].Header)
		}
		if refused {
			if got := status(h.DeliverQueued(t.Context(), h.queue.messages[0], h.queue.rcpts, nil)); got != "5.4.6" {
				t.Errorf("then: %q, want 5.4.6", got)
			}
		}
	}
}

// What waits for the other system goes into the mailbox of a person who has one here
// by now, once, whatever it was addressed as; nobody else's goes along.
func TestQueuedFollowsHere(t *testing.T) {
	h, move := movedHouse(t)
	move("alice", "bob")
	if _, err := h.send(nil, "ann@example.net", []string{"carol@corp.example", "alice.alias@corp.example", "sales@corp.example"}, plain); err != nil {
		t.Fatal(err)
	}
	messages, rcpts := slices.Clone(h.queue.messages), slices.Clone(h.queue.rcpts)
	if len(rcpts) != 2 {
		t.Fatalf("queued %+v", rcpts)
	}
	for i := range rcpts {
		if key := h.Moved(&rcpts[i]); rcpts[i].Person == "" || key != "" {
			t.Errorf("%+v: nobody has moved, and it is for %q", rcpts[i], key)
		}
	}
	move("bob")
	h.queue.messages, h.queue.rcpts = nil, nil
	settled := 0
	settle := func(_ context.Context, _ postgres.Tx, onward []queue.Onward) error {
		settled++
		if len(onward) > 0 {
			t.Errorf("settled as %+v", onward)
		}
		return nil
	}
	for i, r := range rcpts {
		key := h.Moved(&r)
		if want := map[bool]string{true: "test:alice"}[r.Person == "test:alice"]; key != want {
			t.Errorf("%+v is for %q, want %q", r, key, want)
		}
		if key == "" {
			continue
		}
		r.Local = key
		for range 2 { // as if our COMMIT had got lost
			if err := h.DeliverQueued(t.Context(), messages[min(i, len(messages)-1)], []queue.Recipient{r}, settle); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(h.inbox("alice")); n != 1 || settled != 2 || len(h.queue.rcpts) != 0 {
		t.Errorf("alice has %d messages, %d were settled, %+v queued", n, settled, h.queue.rcpts)
	}
	if n := len(h.inbox("bob")); n != 0 {
		t.Errorf("bob has %d messages here", n)
	}
}
