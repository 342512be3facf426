package reroute

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
	"dirpost/mta/queue"
)

const other = "exchange.corp.example:25"

// world is a queue on a real database, and a directory beside which another system has
// some of the mailboxes.
type world struct {
	t       *testing.T
	db      *postgres.DB
	queue   *queue.Queue
	live    *directory.Live
	version int64
}

func newWorld(t *testing.T, change func(*directory.Rules)) *world {
	t.Helper()
	db := testenv.Database(t)
	rules := directory.Rules{Domains: []string{"corp.example"}, NextHop: other, Delimiter: "+", StaleAfter: time.Hour}
	if change != nil {
		change(&rules)
	}
	w := &world{t: t, db: db, queue: queue.New(db, queue.Config{}), live: directory.Open(rules)}
	w.live.Confirm(time.Now())
	return w
}

func address(t *testing.T, s string) envelope.Address {
	t.Helper()
	a, err := envelope.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// person is somebody of the directory, changed by f.
func (w *world) person(name string, f func(*directory.Entry)) *directory.Entry {
	w.t.Helper()
	e := &directory.Entry{Key: directory.Key("corp:" + name), Directory: "corp", DN: "cn=" + name + ",dc=corp,dc=example", Kind: directory.KindPerson, Primary: address(w.t, name+"@corp.example")}
	if f != nil {
		f(e)
	}
	return e
}

func elsewhere(e *directory.Entry) { e.Place = directory.PlaceElsewhere }

// apply changes the directory.
func (w *world) apply(entries ...*directory.Entry) {
	w.version++
	changes := make([]directory.Change, len(entries))
	for i, e := range entries {
		changes[i] = directory.Change{Key: e.Key, Entry: e}
	}
	w.live.Apply(w.version, changes)
}

// run starts a Rerouter that ends with the test.
func (w *world) run(change func(*Rerouter)) {
	w.t.Helper()
	r := New(w.live, w.queue, slog.New(slog.DiscardHandler))
	r.againAfter = 50 * time.Millisecond
	if change != nil {
		change(r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

// here waits for a mailbox of ours, there for the other system.
func (w *world) here(key, to string) queue.Recipient {
	return queue.Recipient{Address: address(w.t, to), Local: key}
}

func (w *world) there(key, to string) queue.Recipient {
	return queue.Recipient{Address: address(w.t, to), Person: key, NextHop: other}
}

// claimed queues a message and leases its recipients.
func (w *world) claimed(rcpts ...queue.Recipient) []queue.Attempt {
	w.t.Helper()
	m := &queue.Message{QueueID: envelope.QueueID(w.db.NewID()), Header: []byte("\r\n"), Body: blob.Body{Inline: []byte{}}}
	if err := w.db.InTx(w.t.Context(), postgres.Delivery, func(ctx context.Context, tx postgres.Tx) error { return w.queue.EnqueueTx(ctx, tx, m, rcpts) }); err != nil {
		w.t.Fatal(err)
	}
	shards := make([]int16, queue.Shards)
	for i := range shards {
		shards[i] = int16(i)
	}
	all, err := w.queue.Claim(w.t.Context(), queue.Claim{Shards: shards})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// settle makes recipients wait for an hour.
func (w *world) settle(status string, attempts []queue.Attempt) {
	w.t.Helper()
	var all []queue.Settlement
	for _, a := range attempts {
		all = append(all, queue.Settlement{Attempt: a, Verdict: queue.Deferred, Pause: time.Hour, Reply: queue.Reply{Enhanced: status, Text: "later", Relay: "x"}})
	}
	if _, err := w.queue.Settle(w.t.Context(), all); err != nil {
		w.t.Fatal(err)
	}
}

// put queues a message whose recipients wait.
func (w *world) put(status string, rcpts ...queue.Recipient) {
	w.t.Helper()
	w.settle(status, w.claimed(rcpts...))
}

// due are those who need not wait, in order.
func (w *world) due() string {
	w.t.Helper()
	all, err := w.queue.List(w.t.Context(), queue.Filter{States: []queue.State{queue.StateWaiting}}, queue.Entry{}, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	now := w.db.Now()
	var due []string
	for _, e := range all {
		if e.Next.Before(now.Add(30 * time.Minute)) {
			due = append(due, e.Recipient.Address.Local)
		}
	}
	slices.Sort(due)
	return strings.Join(due, " ")
}

// want waits until exactly those are due.
func (w *world) want(what, locals string) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got := w.due()
		if got == locals {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: due are %q, want %q", what, got, locals)
		}
	}
}

// TestFollow: mail that waits follows each change that sends it another way, and no
// other; two nodes do it.
func TestFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	hold := func(e *directory.Entry) { e.Delivery = directory.StateHeld }
	small := func(e *directory.Entry) { e.Quota = 1 }
	w.apply(w.person("alice", elsewhere), w.person("bob", nil), w.person("carol", hold), w.person("dan", small), w.person("erik", elsewhere))
	w.put("4.4.1", w.there("corp:alice", "alice@corp.example"), w.there("corp:erik", "erik@corp.example"), w.there("", "frank+x@corp.example"), w.there("", "nobody@corp.example"))
	w.put("4.2.2", w.here("corp:bob", "bob@corp.example"), w.here("corp:dan", "dan@corp.example"))
	w.put("4.3.0", w.here("corp:dan", "dan.other@corp.example"))
	held := w.here("corp:carol", "carol@corp.example")
	held.Held, held.Reason = true, queue.HeldByDirectory
	byHand := w.here("corp:carol", "carol.other@corp.example")
	byHand.Held, byHand.Reason = true, "by hand"
	w.claimed(held, byHand)
	w.run(nil)
	w.run(nil)

	w.apply(w.person("alice", nil))
	w.want("alice is here", "alice")
	w.apply(w.person("bob", elsewhere))
	w.want("bob is there", "alice bob")
	w.apply(w.person("dan", func(e *directory.Entry) { e.Quota = 2 }))
	w.want("dan has room", "alice bob dan")
	w.apply(w.person("carol", nil))
	w.want("carol's mail is no longer held", "alice bob carol dan")
	w.apply(w.person("erik", func(e *directory.Entry) { elsewhere(e); e.DisplayName = "Erik" }))
	w.apply(w.person("frank", nil))
	w.want("frank is new", "alice bob carol dan frank+x")
	if out := w.due(); strings.Contains(out, "erik") || strings.Contains(out, "nobody") || strings.Contains(out, "other") {
		t.Errorf("due: %s", out)
	}
}

// TestFollowGroups: who comes into the group whose mailboxes are here gets what waits
// for the other system.
func TestFollowGroups(t *testing.T) {
	t.Parallel()
	group := func(w *world, members ...string) *directory.Entry {
		return w.person("moved", func(e *directory.Entry) {
			e.Kind = directory.KindList
			for _, m := range members {
				e.Members = append(e.Members, "cn="+m+",dc=corp,dc=example")
			}
		})
	}
	w := newWorld(t, func(r *directory.Rules) {
		r.Mailboxes = []directory.MailboxRule{{Directory: "corp", Groups: []string{"cn=moved,dc=corp,dc=example"}}}
	})
	w.apply(w.person("alice", nil), w.person("bob", nil), group(w, "bob"))
	w.put("4.4.1", w.there("corp:alice", "alice@corp.example"))
	w.put("4.2.2", w.here("corp:bob", "bob@corp.example"))
	w.run(nil)
	w.apply(group(w, "bob", "alice"))
	w.want("alice comes", "alice")
	w.apply(group(w, "alice"))
	w.want("bob goes", "alice bob")
}

// TestFollowFromTheStart: what changed while nobody looked is found when a node starts,
// and what names too many by a look at all, as does a domain that was confirmed.
func TestFollowFromTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(r *directory.Rules) { r.Confirm = true })
	w.put("4.4.1", w.there("corp:alice", "alice@corp.example"), w.there("corp:bob", "bob@corp.example"))
	w.put("4.3.5", w.there("", "frank@corp.example"))
	w.run(func(r *Rerouter) { r.wholeEvery = 50 * time.Millisecond })
	confirmed := func(placement string) { w.live.SetConfirmed(directory.Confirmed{"corp.example": placement}) }
	w.apply(w.person("alice", nil), w.person("bob", elsewhere), w.person("frank", nil)) // the first of all
	w.want("alice is here", "alice")
	rules := directory.Rules{Domains: []string{"corp.example"}, NextHop: other}
	confirmed(rules.Placement())
	w.want("frank's domain is confirmed", "alice frank")
}

// TestFollowWhileTried: who was being tried while the directory changed, and waits
// after that, is found too.
func TestFollowWhileTried(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(w.person("alice", elsewhere), w.person("bob", elsewhere))
	tried := w.claimed(w.there("corp:alice", "alice@corp.example"))
	w.put("4.4.1", w.there("corp:bob", "bob@corp.example"))
	w.run(func(r *Rerouter) { r.againAfter = time.Second })
	w.apply(w.person("alice", nil), w.person("bob", nil))
	w.want("bob is here", "bob")
	w.settle("4.4.1", tried)
	w.want("alice is here", "alice bob")
}
