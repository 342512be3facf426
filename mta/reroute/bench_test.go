package reroute

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
	"dirpost/mta/queue"
)

// BenchmarkLook looks at what waits in a queue of 50,000 recipients: for those whom one
// change is about, and for all.
func BenchmarkLook(b *testing.B) {
	db := testenv.Database(b)
	q := queue.New(db, queue.Config{})
	const messages, each = 500, 100
	for m := range messages {
		var rcpts []queue.Recipient
		for i := range each {
			n := m*each + i
			r := queue.Recipient{Address: envelope.Address{Local: fmt.Sprintf("p%d", n), Domain: "corp.example"}, NextHop: other}
			if n%2 == 0 {
				r.Person = fmt.Sprintf("corp:%d", n)
			}
			rcpts = append(rcpts, r)
		}
		msg := &queue.Message{QueueID: envelope.QueueID(db.NewID()), Header: []byte("\r\n"), Body: blob.Body{Inline: []byte{}}}
		if err := db.InTx(b.Context(), postgres.Delivery, func(ctx context.Context, tx postgres.Tx) error { return q.EnqueueTx(ctx, tx, msg, rcpts) }); err != nil {
			b.Fatal(err)
		}
	}
	for _, sql := range []string{"update outq set next_at = now() + interval '1 hour'", "analyze outq"} {
		if _, err := db.Exec(b.Context(), postgres.Background, sql); err != nil {
			b.Fatal(err)
		}
	}
	live := directory.NewLive(directory.SnapshotOf(directory.Rules{Domains: []string{"corp.example"}, NextHop: other, UnknownElsewhere: true, Delimiter: "+"}, nil))
	r := New(live, q, slog.New(slog.DiscardHandler))
	one := directory.Affected{Keys: []directory.Key{"corp:4000"}, Addresses: []envelope.Address{{Local: "p4001", Domain: "corp.example"}}}
	b.Run("change", func(b *testing.B) {
		for b.Loop() {
			if err := r.named(b.Context(), []directory.Affected{one}, true); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			if err := r.all(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
