package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// all is every shard.
var all = func() (s []int16) {
	for i := range int16(Shards) {
		s = append(s, i)
	}
	return s
}()

func newQueue(t testing.TB) *Queue {
	t.Helper()
	return New(testenv.Database(t), Config{})
}

func address(t testing.TB, s string) envelope.Address {
	t.Helper()
	a, err := envelope.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

func to(t testing.TB, addresses ...string) (rcpts []Recipient) {
	for _, s := range addresses {
		rcpts = append(rcpts, Recipient{Address: address(t, s), Original: s, OriginalType: "rfc822"})
	}
	return rcpts
}

// enqueue puts a small message into q and returns its id.
func enqueue(t testing.TB, q *Queue, rcpts ...Recipient) envelope.QueueID {
	t.Helper()
	m := &Message{
		QueueID: envelope.QueueID(q.db.NewID()), ReversePath: envelope.ReversePathOf(address(t, "alice@corp.example")),
		Header: []byte("Subject: test\r\n\r\n"), Body: blob.Body{Size: 4, Lines: 1, Inline: []byte("hi\r\n")},
	}
	put(t, q, m, rcpts)
	return m.QueueID
}

func put(t testing.TB, q *Queue, m *Message, rcpts []Recipient) {
	t.Helper()
	err := q.db.InTx(t.Context(), postgres.Delivery, func(ctx context.Context, tx postgres.Tx) error { return q.EnqueueTx(ctx, tx, m, rcpts) })
	if err != nil {
		t.Fatal(err)
	}
}

func claim(t testing.TB, q *Queue, c Claim) []Attempt {
	t.Helper()
	if c.Shards == nil {
		c.Shards = all
	}
	attempts, err := q.Claim(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return attempts
}

func settleAll(t testing.TB, q *Queue, v Verdict, pause time.Duration, attempts ...Attempt) []Settlement {
	t.Helper()
	var s []Settlement
	for _, a := range attempts {
		s = append(s, Settlement{Attempt: a, Verdict: v, Pause: pause, Reply: Reply{Code: 451, Enhanced: "4.0.0", Text: "later", Relay: "mx.example"}})
	}
	lost, err := q.Settle(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return lost
}

func rowsIn(t testing.TB, q *Queue, table string) int {
	t.Helper()
	var n int
	sql := map[string]string{"outq": `select count(*) from outq`, "outq_msg": `select count(*) from outq_msg`, "outq_author": `select count(*) from outq_author`}[table]
	if err := q.db.QueryRow(t.Context(), postgres.Background, sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// What goes in comes out: every field, with text of strangers in it.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	want := &Message{
		QueueID: envelope.QueueID(q.db.NewID()), ReversePath: envelope.ReversePathOf(envelope.Address{Local: "王伟 x", Domain: "corp.example"}),
		Origin: envelope.ReversePathOf(address(t, "alice@far.example")),
		Return: envelope.ReturnHeaders, EnvID: "env<1>", SMTPUTF8: true, Body8Bit: true, Client: "192.0.2.1", Author: "corp:alice",
		Header: []byte("Subject: \xff\x00\r\n\r\n"), Body: blob.Body{Size: 5, Lines: 1, Hash: [32]byte{1, 2, 3}, Codec: 1, Inline: []byte{0, 1}},
		Accepted: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Expires: time.Date(2026, 1, 7, 3, 4, 5, 0, time.UTC),
	}
	rcpts := []Recipient{
		{Address: address(t, "bob@a.example"), Original: "B\x00b\xff", OriginalType: "rfc822", Notify: envelope.NotifySuccess | envelope.NotifyFailure},
		{Address: address(t, "carol@corp.example"), Original: "carol@corp.example", OriginalType: "rfc822", Local: "main:1234"},
		{Address: address(t, `"two words"@b.example`), OriginalType: "utf-8", NextHop: "gw.example:2525", Notify: envelope.NotifyNever, Person: "corp:1234"},
		{Address: address(t, "held@a.example"), OriginalType: "rfc822", Held: true, Reason: "for the moderators"},
	}
	put(t, q, want, rcpts)
	got, entries, err := q.Get(t.Context(), want.QueueID)
	if err != nil {
		t.Fatal(err)
	}
	got.Accepted, got.Expires = got.Accepted.UTC(), got.Expires.UTC()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("message:\n got %+v\nwant %+v", got, want)
	}
	rcpts[0].Original = "B\uFFFDb\uFFFD" // the database takes neither NUL nor broken UTF-8
	for i, e := range entries {
		if e.N != int32(i) || !reflect.DeepEqual(e.Recipient, rcpts[i]) {
			t.Errorf("recipient %d:\n got %+v\nwant %+v", i, e.Recipient, rcpts[i])
		}
	}
	destinations := map[string]string{}
	for _, a := range claim(t, q, Claim{}) {
		destinations[a.Recipient.Address.String()] = a.Destination
		if a.Attempts != 1 || !reflect.DeepEqual(a.Recipient, rcpts[a.N]) {
			t.Errorf("attempt: %+v", a)
		}
	}
	if w := map[string]string{"bob@a.example": "a.example", "carol@corp.example": "", `"two words"@b.example`: ">gw.example:2525"}; !reflect.DeepEqual(destinations, w) {
		t.Errorf("destinations %v, want %v: the held one stays", destinations, w)
	}
}

// Two nodes may make the same id. The second message must not vanish as if it
// were a repetition of the first: its sender keeps it and tries again.
func TestIDTaken(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	id := enqueue(t, q, to(t, "a@a.example")...)
	for _, m := range []*Message{
		{QueueID: id, Header: []byte("Subject: other\r\n\r\n"), Body: blob.Body{Size: 4, Lines: 1, Inline: []byte("hi\r\n")}},
		{QueueID: id, Header: []byte("Subject: test\r\n\r\n"), Body: blob.Body{Size: 4, Lines: 1, Hash: [32]byte{1}, Inline: []byte("ho\r\n")}},
	} {
		err := q.db.InTx(t.Context(), postgres.Delivery, func(ctx context.Context, tx postgres.Tx) error {
			return q.EnqueueTx(ctx, tx, m, to(t, "b@a.example"))
		})
		if err == nil || !envelope.StatusOf(err).IsTemporary() {
			t.Errorf("another message under the same id: %v, want a temporary error", err)
		}
	}
	if n := rowsIn(t, q, "outq"); n != 1 {
		t.Errorf("%d recipients in the queue, want 1", n)
	}
}

// A message row lives as long as a recipient row and no longer.
func TestFinished(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	id := enqueue(t, q, to(t, "a@a.example", "b@a.example", "c@b.example")...)
	again, _, err := q.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	put(t, q, again, to(t, "again@a.example")) // repeated after an unknown COMMIT
	if n := rowsIn(t, q, "outq"); n != 3 {
		t.Fatalf("%d rows, want 3", n)
	}
	attempts := claim(t, q, Claim{})
	for i, a := range attempts {
		if there, err := q.Exists(t.Context(), id); err != nil || !there {
			t.Errorf("message gone before recipient %d: %v", i, err)
		}
		if lost := settleAll(t, q, Done, 0, a); lost != nil {
			t.Errorf("lease lost: %v", lost)
		}
	}
	if n := rowsIn(t, q, "outq") + rowsIn(t, q, "outq_msg"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// Whoever settles the last recipients of a message at the same time as somebody
// else must not leave the message behind.
func TestFinishedTogether(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	for range 20 {
		enqueue(t, q, to(t, "a@a.example", "b@b.example", "c@c.example", "d@d.example")...)
	}
	attempts := claim(t, q, Claim{Destinations: 10, Recipients: 100})
	if len(attempts) != 80 {
		t.Fatalf("%d attempts", len(attempts))
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for _, a := range attempts {
				if int(a.N) == i {
					settleAll(t, q, Done, 0, a)
				}
			}
		})
	}
	wg.Wait()
	if n := rowsIn(t, q, "outq_msg"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestClaimByDestination(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	for i := range 30 {
		enqueue(t, q, to(t, fmt.Sprintf("u%d@big.example", i))...)
	}
	for i := range 6 {
		enqueue(t, q, to(t, fmt.Sprintf("u@d%d.example", i))...)
	}
	count := func(attempts []Attempt) map[string]int {
		n := map[string]int{}
		for _, a := range attempts {
			n[a.Destination]++
		}
		return n
	}
	if got := count(claim(t, q, Claim{Destinations: 2, Recipients: 20})); got["big.example"] != 20 || len(got) != 2 {
		t.Errorf("first claim: %v, want 20 of the oldest destination and one more", got)
	}
	if got := count(claim(t, q, Claim{Destinations: 10, Skip: []string{"big.example"}})); got["big.example"] != 0 || len(got) != 5 {
		t.Errorf("second claim: %v, want the 5 small destinations", got)
	}
	if got := claim(t, q, Claim{Local: true}); len(got) != 0 {
		t.Errorf("claim of local ones: %v", got)
	}
	if got := claim(t, q, Claim{Shards: []int16{}}); len(got) != 0 {
		t.Errorf("claim without shards: %v", got)
	}
	if got := count(claim(t, q, Claim{})); len(got) != 1 || got["big.example"] != 10 {
		t.Errorf("third claim: %v, want the rest", got)
	}
	if got := claim(t, q, Claim{}); len(got) != 0 {
		t.Errorf("claimed twice: %v", got)
	}
}

// Behind a backlog that must wait, others of the same shard are found.
func TestClaimBehindBacklog(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	var rcpts []Recipient
	for i := range 300 {
		rcpts = append(rcpts, to(t, fmt.Sprintf("u%d@big.example", i))...)
	}
	enqueue(t, q, rcpts...)
	for i, n := 0, 0; n < 3; i++ {
		if d := fmt.Sprintf("d%d.example", i); shardOf(0, d) == shardOf(0, "big.example") {
			enqueue(t, q, to(t, "u@"+d)...)
			n++
		}
	}
	if got := claim(t, q, Claim{Skip: []string{"big.example"}, Destinations: 2}); len(got) != 2 {
		t.Errorf("first claim: %v", got)
	}
	if got := claim(t, q, Claim{Skip: []string{"big.example"}}); len(got) != 1 {
		t.Errorf("second claim: %v", got)
	}
	if got := claim(t, q, Claim{}); len(got) != 20 {
		t.Errorf("third claim: %d", len(got))
	}
}

// A lease that ran out belongs to whoever claims next, and the first holder
// changes nothing any more.
func TestLease(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	id := enqueue(t, q, to(t, "a@a.example")...)
	first := claim(t, q, Claim{Lease: time.Microsecond})
	second := claim(t, q, Claim{})
	if len(first) != 1 || len(second) != 1 || second[0].Attempts != 2 {
		t.Fatalf("claims %v, %v", first, second)
	}
	if n, err := q.Extend(t.Context(), first, time.Hour); n != 0 || err != nil {
		t.Errorf("extended a lost lease: %d, %v", n, err)
	}
	if n, err := q.Extend(t.Context(), second, time.Hour); n != 1 || err != nil {
		t.Errorf("extended %d, %v", n, err)
	}
	for _, v := range []Verdict{Done, Deferred, Final, Untried, Told} {
		if lost := settleAll(t, q, v, 0, first...); len(lost) != 1 {
			t.Errorf("verdict %d of a lost lease was taken", v)
		}
	}
	err := q.db.InTx(t.Context(), postgres.Delivery, func(ctx context.Context, tx postgres.Tx) error {
		return q.SettleTx(ctx, tx, []Settlement{{Attempt: first[0], Verdict: Done}})
	})
	if !errors.Is(err, ErrLease) {
		t.Errorf("SettleTx: %v", err)
	}
	if lost := settleAll(t, q, Deferred, time.Hour, second...); lost != nil {
		t.Errorf("lost %v", lost)
	}
	if lost := settleAll(t, q, Done, 0, second...); len(lost) != 1 {
		t.Error("a lease was settled twice")
	}
	_, entries, err := q.Get(t.Context(), id)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	e := entries[0]
	if pause := e.Next.Sub(q.db.Now()); e.State != StateWaiting || pause < 59*time.Minute || pause > time.Hour || e.Last != (Reply{451, "4.0.0", "later", "mx.example"}) {
		t.Errorf("after deferral: %+v, due in %v", e, pause)
	}
	if got := claim(t, q, Claim{}); len(got) != 0 {
		t.Errorf("due too early: %v", got)
	}
}

// N claimers, no lease twice, nothing left behind.
func TestClaimers(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	const messages, perMessage = 40, 10
	for i := range messages {
		var rcpts []Recipient
		for j := range perMessage {
			rcpts = append(rcpts, to(t, fmt.Sprintf("u%d@d%d.example", i, j))...)
		}
		enqueue(t, q, rcpts...)
	}
	var mu sync.Mutex
	seen := map[key]int{}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for {
				attempts, err := q.Claim(t.Context(), Claim{Shards: all, Recipients: 7})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, a := range attempts {
					seen[key{int64(a.QueueID), a.N}]++
				}
				n := len(seen)
				mu.Unlock()
				if len(attempts) > 0 {
					settleAll(t, q, Done, 0, attempts...)
				} else if n == messages*perMessage {
					return
				}
			}
		})
	}
	wg.Wait()
	for k, n := range seen {
		if n != 1 {
			t.Errorf("%v claimed %d times", k, n)
		}
	}
	if n := rowsIn(t, q, "outq_msg"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

// Final outcomes of a message wait for each other for a minute, or until there
// is nothing left to wait for.
func TestReports(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	report := func() []Attempt {
		t.Helper()
		attempts, err := q.ClaimReports(t.Context(), all, 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		return attempts
	}
	id := enqueue(t, q, to(t, "a@a.example", "b@b.example", "c@c.example")...)
	attempts := claim(t, q, Claim{})
	settleAll(t, q, Final, 0, attempts[0])
	if got := report(); len(got) != 0 {
		t.Fatalf("reported alone: %v", got)
	}
	settleAll(t, q, Done, 0, attempts[1])
	settleAll(t, q, Final, 0, attempts[2])
	got := report()
	if len(got) != 2 || got[0].QueueID != id || got[0].Last.Code != 451 {
		t.Fatalf("report: %+v", got)
	}
	if again := report(); len(again) != 0 {
		t.Errorf("claimed for a report twice: %v", again)
	}
	if c := claim(t, q, Claim{}); len(c) != 0 {
		t.Errorf("final recipients were claimed for an attempt: %v", c)
	}
	if lost := settleAll(t, q, Done, 0, got...); lost != nil || rowsIn(t, q, "outq_msg") != 0 {
		t.Errorf("lost %v", lost)
	}
}

// Untried gives a lease back as if it had never been.
func TestUntried(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	enqueue(t, q, to(t, "a@a.example")...)
	settleAll(t, q, Deferred, 0, claim(t, q, Claim{})...)
	settleAll(t, q, Untried, 0, claim(t, q, Claim{})...)
	got := claim(t, q, Claim{})
	if len(got) != 1 || got[0].Attempts != 2 || got[0].Last.Text != "later" || got[0].Token != 5 {
		t.Errorf("got %+v", got)
	}
	settleAll(t, q, Told, 0, got...)
	if got := claim(t, q, Claim{}); len(got) != 1 || !got[0].Told {
		t.Errorf("got %+v", got)
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	a := enqueue(t, q, to(t, "a@a.example", "b@b.example")...)
	b := enqueue(t, q, to(t, "c@a.example")...)
	c := enqueue(t, q, to(t, "d@d.example")...)
	want := func(what string, got int, err error, want int) {
		t.Helper()
		if got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", what, got, err, want)
		}
	}
	ctx := t.Context()
	n, err := q.Hold(ctx, Filter{Domain: "a.example"})
	want("hold", n, err, 2)
	want("claim", len(claim(t, q, Claim{})), nil, 2)
	n, err = q.Hold(ctx, ByID(c))
	want("hold what is being tried", n, err, 0)
	n, err = q.Release(ctx, ByID(b))
	want("release", n, err, 1)
	<-q.Woken()
	got := claim(t, q, Claim{})
	want("claim of the released", len(got), nil, 1)
	settleAll(t, q, Deferred, time.Hour, got...)
	n, err = q.Retry(ctx, Filter{})
	want("retry", n, err, 1)
	n, err = q.Delete(ctx, Filter{Sender: "<>"})
	want("delete by another sender", n, err, 0)
	n, err = q.Delete(ctx, Filter{QueueIDs: []envelope.QueueID{a}, States: []State{StateHeld}})
	want("delete the held one", n, err, 1)
	entries, err := q.List(ctx, Filter{}, Entry{}, 2)
	want("first page", len(entries), err, 2)
	rest, err := q.List(ctx, Filter{}, entries[1], 2)
	want("second page", len(rest), err, 1)
	n, err = q.Delete(ctx, Filter{Sender: "alice@corp.example"})
	want("delete all", n, err, 3)
	want("messages left", rowsIn(t, q, "outq_msg"), nil, 0)
	if _, _, err := q.Get(ctx, a); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
	counts, err := q.Counts(ctx)
	want("states", len(counts), err, 0)
}

// Shards are evened out among the nodes that live, and each has one owner.
func TestOwn(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	own := func(node string) []int16 {
		t.Helper()
		s, err := q.Own(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if n := len(own("a")); n != 64 {
		t.Errorf("alone: %d shards", n)
	}
	if n := len(own("b")); n != 0 {
		t.Errorf("second node took %d that the first one holds", n)
	}
	a, b := own("a"), own("b")
	if len(a) != 32 || len(b) != 32 {
		t.Errorf("two nodes: %d and %d", len(a), len(b))
	}
	owners := map[int16]int{}
	for _, s := range append(a, b...) {
		owners[s]++
	}
	if len(owners) != 64 {
		t.Errorf("%d shards have an owner", len(owners))
	}
	if err := q.Disown(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if n := len(own("b")); n != 64 {
		t.Errorf("after the other has left: %d", n)
	}
	if err := Free(t.Context(), q.db); err != nil { // b was killed
		t.Fatal(err)
	}
	if n := len(own("c")); n != 64 {
		t.Errorf("after all have died: %d", n)
	}
}

// A blob that a queued message needs is never collected.
func TestReferences(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	used, free := blob.ID{1}, blob.ID{2}
	m := &Message{QueueID: 1, Header: []byte("\r\n"), Body: blob.Body{Size: 1 << 20, Blob: used}}
	put(t, q, m, to(t, "a@a.example"))
	got, err := q.References(t.Context(), []blob.ID{used, free})
	if err != nil || !reflect.DeepEqual(got, []blob.ID{used}) {
		t.Errorf("got %v, %v", got, err)
	}
	messages, err := q.Messages(t.Context(), []envelope.QueueID{1, 2})
	if err != nil || len(messages) != 1 || messages[1].Body.Blob != used || !bytes.Equal(messages[1].Header, m.Header) || !messages[1].ReversePath.IsNull() {
		t.Errorf("got %+v, %v", messages, err)
	}
}
