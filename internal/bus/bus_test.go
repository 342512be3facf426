package bus

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"
)

// world is the truth that a poll looks at.
type world struct {
	mu  sync.Mutex // guards seq
	seq map[store.MailboxKey]store.ModSeq
}

func (w *world) set(key store.MailboxKey, seq store.ModSeq) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq[key] = seq
}

func (w *world) poll(_ context.Context, known map[store.MailboxKey]store.ModSeq) (map[store.MailboxKey]store.ModSeq, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	risen := make(map[store.MailboxKey]store.ModSeq)
	for key, seq := range known {
		if now := w.seq[key]; now > seq {
			risen[key] = now
		}
	}
	return risen, nil
}

// node is a bus that runs.
type node struct {
	*Bus
	stop func()
}

func start(t *testing.T, url string, w *world) *node {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url, AllowUnsafe: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b := New(db, slog.New(slog.DiscardHandler))
	listening := make(chan struct{}, 100)
	b.Subscribe("up", func(string) { listening <- struct{}{} })
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- b.Run(ctx, w.poll) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("Run: %v", err)
		}
		db.Close()
	})
	t.Cleanup(stop)
	<-listening
	return &node{b, stop}
}

// meet makes the nodes known to each other, as their first words do.
func meet(nodes ...*node) {
	for _, n := range nodes {
		for _, other := range nodes {
			n.receive(other.node + "\n" + topicHere)
		}
	}
}

func key(a, m int64) store.MailboxKey {
	return store.MailboxKey{Account: store.AccountID(a), Mailbox: store.MailboxID(m)}
}

func offline() *Bus { return New(nil, slog.New(slog.DiscardHandler)) }

func TestWithinTheProcess(t *testing.T) {
	t.Parallel()
	b := offline()
	var got, late []store.ModSeq
	cancel := b.WatchMailbox(7, 1, func(s store.ModSeq) { got = append(got, s) })
	b.Changed(7, 1, 5)
	b.Changed(7, 1, 5) // known
	b.Changed(7, 1, 4) // late
	b.Changed(7, 2, 9) // another
	b.Changed(8, 1, 9)
	cancelLate := b.WatchMailbox(7, 1, func(s store.ModSeq) { late = append(late, s) })
	b.tell(key(7, 1), 5, "polled")
	b.Changed(7, 1, 6)
	cancel()
	cancel()
	b.Changed(7, 1, 7)
	cancelLate()
	b.Changed(7, 1, 8)
	if want := []store.ModSeq{5, 6}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	if want := []store.ModSeq{5, 6, 7}; !slices.Equal(late, want) {
		t.Errorf("the second watcher was told %v, want %v", late, want)
	}
	if len(b.mailboxes) != 0 {
		t.Error("a mailbox that nobody watches is kept")
	}
}

func TestTopicsWithinTheProcess(t *testing.T) {
	t.Parallel()
	b := offline()
	var got []string
	cancel := b.Subscribe(TopicKill, func(p string) { got = append(got, p) })
	b.Publish(TopicKill, "corp:1")
	b.Publish(TopicDirectory, "17")
	b.Publish(TopicKill, strings.Repeat("x", maxPublish))
	cancel()
	b.Publish(TopicKill, "corp:2")
	if !slices.Equal(got, []string{"corp:1"}) {
		t.Errorf("got %q", got)
	}
}

func TestBetweenNodes(t *testing.T) {
	t.Parallel()
	url, w := testenv.PostgresURL(t), &world{seq: map[store.MailboxKey]store.ModSeq{}}
	a, b := start(t, url, w), start(t, url, w)
	meet(a, b)
	atA, atB := make(chan store.ModSeq, 10), make(chan store.ModSeq, 10)
	a.WatchMailbox(1, 1, func(s store.ModSeq) { atA <- s })
	b.WatchMailbox(1, 1, func(s store.ModSeq) { atB <- s })
	killed := make(chan string, 10)
	b.Subscribe(TopicKill, func(p string) { killed <- p })
	for s := store.ModSeq(1); s <= 3; s++ {
		a.Changed(1, 1, s)
	}
	for s := store.ModSeq(1); s <= 3; s++ {
		if got := <-atA; got != s {
			t.Errorf("within the node: %d, want %d", got, s)
		}
	}
	for <-atB != 3 { // coalesced: perhaps only the last
	}
	a.Publish(TopicKill, "corp:\"ü\n1")
	if got := <-killed; got != "corp:\"ü\n1" {
		t.Errorf("got %q", got)
	}
	nodes := func() int { b.mu.Lock(); defer b.mu.Unlock(); return len(b.nodes) }
	known := nodes()
	if err := Send(t.Context(), a.db, TopicKill, "corp:2"); err != nil {
		t.Fatal(err)
	}
	if got := <-killed; got != "corp:2" || nodes() != known {
		t.Errorf("a command's: got %q, %d nodes instead of %d", got, nodes(), known)
	}
	// The echo has come with the same notifications as what B got.
	select {
	case s := <-atA:
		t.Errorf("A was told again: %d", s)
	default:
	}
}

// A connection is killed; what happens meanwhile is found out all the same.
func TestNothingMissedWhenTheConnectionBreaks(t *testing.T) {
	t.Parallel()
	url, w := testenv.PostgresURL(t), &world{seq: map[store.MailboxKey]store.ModSeq{}}
	a, b := start(t, url, w), start(t, url, w)
	meet(a, b)
	at := make(chan store.ModSeq, 100)
	b.WatchMailbox(1, 1, func(s store.ModSeq) { at <- s })
	again := make(chan struct{}, 100)
	b.Subscribe(TopicDirectory, func(p string) {
		if p == "" {
			again <- struct{}{}
		}
	})
	for round := store.ModSeq(1); round <= 5; round++ {
		tag, err := a.db.Exec(t.Context(), postgres.Background, `
select pg_terminate_backend(pid)
  from pg_stat_activity
 where datname = current_database()
   and application_name like '%listener'`)
		if err != nil || tag.RowsAffected() == 0 {
			t.Fatalf("killed %v, %v", tag, err)
		}
		w.set(key(1, 1), round)
		a.Changed(1, 1, round)
		for <-at != round {
		}
		<-again // topics are told to look
	}
}

// Hints are told when the database was away, and those of the last moment.
func TestKeptUntilSent(t *testing.T) {
	t.Parallel()
	url, w := testenv.PostgresURL(t), &world{seq: map[store.MailboxKey]store.ModSeq{}}
	a, b := start(t, url, w), start(t, url, w)
	meet(a, b)
	got := make(chan string, 10)
	b.Subscribe(TopicQueue, func(p string) { got <- p })
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	a.mu.Lock()
	a.pending.topic(TopicQueue, "first")
	a.mu.Unlock()
	if a.flush(cancelled) {
		t.Fatal("sent without a database")
	}
	a.Publish(TopicQueue, "second")
	a.stop()
	for _, want := range []string{"first", "second"} {
		if p := <-got; p != want {
			t.Errorf("got %q, want %q", p, want)
		}
	}
}

func TestManyMailboxes(t *testing.T) {
	t.Parallel()
	url, w := testenv.PostgresURL(t), &world{seq: map[store.MailboxKey]store.ModSeq{}}
	a, b := start(t, url, w), start(t, url, w)
	meet(a, b)
	const n = 5000
	at := make(chan int64, n)
	for i := range int64(n) {
		b.WatchMailbox(store.AccountID(math.MaxInt64-i), 1, func(store.ModSeq) { at <- i })
	}
	for i := range int64(n) {
		a.Changed(store.AccountID(math.MaxInt64-i), 1, 1)
	}
	seen := make(map[int64]bool)
	for len(seen) < n {
		seen[<-at] = true
	}
}

func TestPayloads(t *testing.T) {
	t.Parallel()
	var o outbox
	want := make(map[store.MailboxKey]store.ModSeq)
	for i := range int64(2000) {
		want[key(math.MaxInt64-i, i)] = store.ModSeq(i + 2)
		o.mailbox(key(math.MaxInt64-i, i), store.ModSeq(i+1))
		o.mailbox(key(math.MaxInt64-i, i), store.ModSeq(i+2))
		o.mailbox(key(math.MaxInt64-i, i), store.ModSeq(i))
	}
	for i := range 50 {
		o.topic("t", strings.Repeat("\x00", maxPublish-10)+fmt.Sprint(i))
		o.topic("t", strings.Repeat("\x00", maxPublish-10)+fmt.Sprint(i))
	}
	got, topics := make(map[store.MailboxKey]store.ModSeq), 0
	for _, p := range o.payloads("node") {
		if len(p) > maxPayload {
			t.Errorf("payload of %d octets", len(p))
		}
		r := parse(p)
		maps.Copy(got, r.mailboxes)
		topics += len(r.topics)
	}
	if !maps.Equal(got, want) || topics != 50 {
		t.Errorf("%d mailboxes, %d topics arrive", len(got), topics)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("node\nm 1y2p0ij32e8e7 1 5\nt \"kill\" \"corp:1\"\nh\ni")
	f.Add("node\nm 1 2\nm x y z\nt \"a\nt \"a\" b\nt \"a\"")
	f.Add("")
	f.Fuzz(func(t *testing.T, payload string) {
		r := parse(payload)
		o := outbox{mailboxes: r.mailboxes, topics: r.topics}
		for _, h := range r.topics {
			if len(h.topic)+len(h.payload) > maxPublish {
				return
			}
		}
		var back received
		back.mailboxes = make(map[store.MailboxKey]store.ModSeq)
		for _, p := range o.payloads("n") {
			r := parse(p)
			maps.Copy(back.mailboxes, r.mailboxes)
			back.topics = append(back.topics, r.topics...)
		}
		if !maps.Equal(back.mailboxes, r.mailboxes) {
			t.Errorf("%q: %v, then %v", payload, r.mailboxes, back.mailboxes)
		}
	})
}

func BenchmarkChangedUnwatched(b *testing.B) {
	bus := offline()
	b.ReportAllocs()
	for b.Loop() {
		bus.Changed(1, 1, 1)
	}
}
