package bus_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"dirpost/internal/blob"
	"dirpost/internal/bus"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
)

// node is a store with its bus, as one process has them.
type node struct {
	*store.Store
	*bus.Bus
	db    *postgres.DB
	blobs *blob.Store
}

func newNode(t *testing.T, url string) *node {
	t.Helper()
	n := &node{db: testenv.OpenDatabase(t, url)}
	n.Bus = bus.New(n.db, slog.New(slog.DiscardHandler))
	n.blobs = blob.New(n.db)
	n.Store = store.New(n.db, n.blobs, n.Bus, slog.New(slog.DiscardHandler))
	listening := make(chan struct{}, 100)
	n.Bus.Subscribe("up", func(string) { listening <- struct{}{} })
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- n.Run(ctx, n.Poll) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	<-listening
	return n
}

func (n *node) deliver(t *testing.T, a store.Account, i int) store.ModSeq {
	t.Helper()
	w := n.blobs.NewWriter(t.Context())
	if _, err := w.Write([]byte("body\r\n")); err != nil {
		t.Fatal(err)
	}
	body, err := w.Finish(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	c := &store.Content{QueueID: envelope.QueueID(n.db.NewID()), InternalDate: n.db.Now(), Header: fmt.Appendf(nil, "Subject: %d\r\n\r\n", i), Body: body, Envelope: []byte("(NIL)"), Structure: []byte{1}}
	out, err := n.Commit(t.Context(), store.Unit{Content: c, Deliveries: []store.Delivery{{Account: a, Targets: []store.Target{{Mailbox: "INBOX"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return out[0].Copies[0].ModSeq
}

// What is delivered on one node is told to the sessions of all, though listening
// connections are killed all the time.
func TestDeliveriesReachAllNodes(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	a, b := newNode(t, url), newNode(t, url)
	account, err := a.Account(t.Context(), "corp:alice", store.KindPerson)
	if err != nil {
		t.Fatal(err)
	}
	var told [2]chan store.ModSeq
	for i, n := range []*node{a, b} {
		ch := make(chan store.ModSeq, 100)
		told[i] = ch
		n.WatchMailbox(account.ID, store.Inbox, func(s store.ModSeq) { ch <- s })
	}
	for i := range 5 {
		if i > 0 {
			_, err := a.db.Exec(t.Context(), postgres.Background, `
select pg_terminate_backend(pid)
  from pg_stat_activity
 where datname = current_database()
   and application_name like '%listener'`)
			if err != nil {
				t.Fatal(err)
			}
		}
		seq := []*node{a, b}[i%2].deliver(t, account, i)
		for k := range told {
			for <-told[k] < seq {
			}
		}
	}
}
