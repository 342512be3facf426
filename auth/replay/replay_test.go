package replay

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// TestFirst: of all who come with a token at once, on two nodes, one is the first.
func TestFirst(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	nodes := []*Store{New(db, slog.New(slog.DiscardHandler)), New(db, slog.New(slog.DiscardHandler))}
	var firsts atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if nodes[i%2].First(t.Context(), [32]byte{1}) {
				firsts.Add(1)
			}
		})
	}
	all.Wait()
	if n := firsts.Load(); n != 1 {
		t.Errorf("%d were the first", n)
	}
	if !nodes[0].First(t.Context(), [32]byte{2}) {
		t.Error("another token was used before")
	}
	if _, err := db.Exec(t.Context(), postgres.Interactive, `update auth_ticket set used_at = now() - interval '1 day' where token = '\x01000000000000000000000000000000'`); err != nil {
		t.Fatal(err)
	}
	if err := nodes[1].purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if nodes[0].First(t.Context(), [32]byte{2}) || !nodes[0].First(t.Context(), [32]byte{1}) {
		t.Error("the purge has taken another one")
	}
}

// TestAway: without an answer a node goes by itself, and says so once.
func TestAway(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	db := testenv.Database(t)
	s := New(db, slog.New(slog.NewTextHandler(&log, nil)))
	db.Close()
	for range 3 {
		if !s.First(t.Context(), [32]byte{1}) {
			t.Error("refused")
		}
	}
	if n := strings.Count(log.String(), "is not known"); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
}

// BenchmarkFirst is what a login by a ticket costs more, with 16 clients.
func BenchmarkFirst(b *testing.B) {
	s := New(testenv.Database(b), slog.New(slog.DiscardHandler))
	var n atomic.Uint64
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			var token [32]byte
			for k := range 8 {
				token[k] = byte(i >> (8 * k))
			}
			if !s.First(b.Context(), token) {
				b.Fatal("used")
			}
		}
	})
}
