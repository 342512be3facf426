package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/postgres"
	"dirpost/internal/store"

	"github.com/emersion/go-imap/v2"
)

// fill puts n messages into a mailbox, by one statement.
func (w *world) fill(a store.Account, mb store.MailboxID, n int) {
	w.t.Helper()
	_, err := w.db.Exec(w.t.Context(), postgres.Background, `
with rows as (
  insert into mailbox_message (account_id, mailbox_id, uid, modseq, message_id, flags, size)
  select $1, $2, m.uidnext - 1 + i, m.modseq + i, -i, i % 7, 100
    from mailbox m, generate_series(1, $3::bigint) i
   where m.account_id = $1 and m.mailbox_id = $2
  returning flags, size
), mail as (
  insert into message (account_id, message_id, size, internal_date, body_size, message_hash, thread_id, body_lines, header_codec, body_codec,
                       prepend, header, envelope, structure, subject, sender, recipients, body)
  select $1, -i, 100, now(), 50, 0, 0, 1, 0, 0, '', repeat('h', 50)::bytea, '(NIL)', '', 'subject ' || i, '', '', repeat('b', 50)::bytea
    from generate_series(1, $3::bigint) i
), sums as (
  select count(*) n, count(*) filter (where flags & 1 = 0) unseen, count(*) filter (where flags & 8 <> 0) deleted, sum(size) bytes from rows
), box as (
  update mailbox m
     set uidnext = uidnext + n, modseq = modseq + n, messages = messages + n, unseen = m.unseen + s.unseen, deleted = m.deleted + s.deleted, bytes = m.bytes + s.bytes
    from sums s
   where m.account_id = $1 and m.mailbox_id = $2
)
update account c set used_bytes = used_bytes + s.bytes, used_messages = used_messages + n from sums s where c.account_id = $1`, a.ID, mb, n)
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open(a store.Account, mb store.MailboxID) *store.View {
	w.t.Helper()
	v, err := w.Open(w.t.Context(), a.ID, mb)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// uids writes UIDs with their flags.
func describe(v *store.View) string {
	var b strings.Builder
	for _, e := range v.All() {
		fmt.Fprintf(&b, "%d:%x ", e.UID, int64(e.Flags))
	}
	return strings.TrimSpace(b.String())
}

func TestViewFollowsTheMailbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	archive := w.mailbox(alice, "Archive").ID
	inbox := store.MailboxKey{Account: alice.ID, Mailbox: store.Inbox}
	check := func(want string, exists int) *store.View {
		t.Helper()
		v := w.open(alice, store.Inbox)
		cold, err := worldOn(t, w.db).Open(t.Context(), alice.ID, store.Inbox)
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(v); got != want || describe(cold) != want || v.Len() != exists {
			t.Fatalf("view\n got %s\ncold %s\nwant %s", got, describe(cold), want)
		}
		return v
	}
	check("", 0)
	for i := range 5 {
		w.commit(w.content(fmt.Sprint(i), "x\r\n"), to(alice, "INBOX"))
	}
	v1 := check("1:0 2:0 3:0 4:0 5:0", 5)
	if i, ok := v1.FirstUnseen(); !ok || i != 0 || v1.Unseen() != 5 || v1.UIDNext() != 6 {
		t.Errorf("first unseen %d %v, unseen %d, uidnext %d", i, ok, v1.Unseen(), v1.UIDNext())
	}
	res, err := w.StoreFlags(t.Context(), alice.ID, store.Inbox, []imap.UID{1, 2, 9}, store.FlagChange{Add: store.FlagSeen})
	if err != nil || fmt.Sprint(res.UIDs) != "[1 2]" {
		t.Fatalf("%+v %v", res, err)
	}
	v2 := check("1:1 2:1 3:0 4:0 5:0", 5)
	if i, ok := v2.FirstUnseen(); !ok || i != 2 || v2.HighestModSeq() != res.ModSeq || v2.ModSeq(1) != res.ModSeq {
		t.Errorf("first unseen %d %v, modseqs %d %d, want %d", i, ok, v2.HighestModSeq(), v2.ModSeq(1), res.ModSeq)
	}
	moved, err := w.Move(t.Context(), inbox, []imap.UID{2, 4, 7}, store.MailboxKey{Account: alice.ID, Mailbox: archive}, 0)
	if err != nil || fmt.Sprint(moved.Source, moved.Dest) != "[2 4] [1 2]" {
		t.Fatalf("%+v %v", moved, err)
	}
	copied, err := w.Copy(t.Context(), inbox, []imap.UID{1, 3}, inbox, 0)
	if err != nil || fmt.Sprint(copied.Source, copied.Dest) != "[1 3] [6 7]" {
		t.Fatalf("%+v %v", copied, err)
	}
	v3 := check("1:1 3:0 5:0 6:1 7:0", 5)
	if d := v3.Diff(v1); fmt.Sprint(d) != "{[2 4] [6 7] [1]}" {
		t.Errorf("diff %v", d)
	}
	if _, err := w.StoreFlags(t.Context(), alice.ID, store.Inbox, []imap.UID{3, 5}, store.FlagChange{Add: store.FlagDeleted | store.FlagSeen, Replace: true}); err != nil {
		t.Fatal(err)
	}
	gone, err := w.Expunge(t.Context(), alice.ID, store.Inbox, nil)
	if err != nil || fmt.Sprint(gone.UIDs) != "[3 5]" {
		t.Fatalf("%+v %v", gone, err)
	}
	check("1:1 6:1 7:0", 3)
	if gone, err = w.Expunge(t.Context(), alice.ID, store.Inbox, []imap.UID{1}); err != nil || gone.ModSeq != 0 || gone.UIDs != nil {
		t.Errorf("expunge without \\Deleted: %+v %v", gone, err)
	}
	if gone, err = w.Remove(t.Context(), alice.ID, store.Inbox, []imap.UID{1, 7}); err != nil || fmt.Sprint(gone.UIDs) != "[1 7]" {
		t.Errorf("%+v %v", gone, err)
	}
	check("6:1", 1)
	uids, complete, err := w.Vanished(t.Context(), alice.ID, store.Inbox, v1.HighestModSeq())
	if err != nil || !complete || fmt.Sprint(uids) != "[1 2 3 4 5 7]" {
		t.Errorf("vanished %v %v %v", uids, complete, err)
	}
	w.consistent()
}

// RFC 7162 §3.1.3: what has a higher modseq is left alone and reported.
func TestStoreUnchangedSince(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	for i := range 3 {
		w.commit(w.content(fmt.Sprint(i), "x\r\n"), to(alice, "INBOX"))
	}
	before := w.open(alice, store.Inbox).HighestModSeq()
	if _, err := w.StoreFlags(t.Context(), alice.ID, store.Inbox, []imap.UID{2}, store.FlagChange{Add: store.FlagFlagged}); err != nil {
		t.Fatal(err)
	}
	res, err := w.StoreFlags(t.Context(), alice.ID, store.Inbox, nil, store.FlagChange{Add: store.FlagSeen, UnchangedSince: before})
	if err != nil || fmt.Sprint(res.UIDs, res.Modified) != "[1 3] [2]" {
		t.Errorf("%+v %v", res, err)
	}
	if res, err = w.StoreFlags(t.Context(), alice.ID, store.Inbox, nil, store.FlagChange{Add: store.FlagSeen, UnchangedSince: -1}); err != nil || len(res.UIDs) != 0 || len(res.Modified) != 3 {
		t.Errorf("UNCHANGEDSINCE 0: %+v %v", res, err)
	}
	if res, err = w.StoreFlags(t.Context(), alice.ID, store.Inbox, []imap.UID{1}, store.FlagChange{Add: store.FlagSeen}); err != nil || res.ModSeq != 0 || res.UIDs != nil {
		t.Errorf("a change that changes nothing: %+v %v", res, err)
	}
	w.consistent()
}

// RFC 3501 §2.3.2: one session is told of a message as \Recent.
func TestClaimRecent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	for _, want := range []imap.UID{1, 2, 3} {
		w.commit(w.content("x", "x\r\n"), to(alice, "INBOX"))
		if first, err := w.FirstRecent(t.Context(), alice.ID, store.Inbox); err != nil || first != want {
			t.Errorf("first is %d %v, want %d", first, err, want)
		}
		for range 2 {
			first, next, err := w.ClaimRecent(t.Context(), alice.ID, store.Inbox)
			if err != nil || first != want || next != w.open(alice, store.Inbox).UIDNext() {
				t.Errorf("claimed from %d to %d %v, want from %d", first, next, err, want)
			}
			want++
		}
	}
}

func TestLargeView(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	w.fill(alice, store.Inbox, 20_000)
	v := w.open(alice, store.Inbox)
	if v.Len() != 20_000 || v.UIDAt(12_345) != 12_346 || v.Flags(12_345) != store.Flags(12_346%7) {
		t.Fatalf("%d messages, uid %d, flags %x", v.Len(), v.UIDAt(12_345), v.Flags(12_345))
	}
	var packed int64
	if err := w.db.QueryRow(t.Context(), postgres.Interactive, `select modseq from mailbox_index`).Scan(&packed); err != nil || packed != int64(v.HighestModSeq()) {
		t.Errorf("packed index as of %d (%v), want %d", packed, err, v.HighestModSeq())
	}
	if _, err := w.Remove(t.Context(), alice.ID, store.Inbox, []imap.UID{1, 2, 3, 777, 19_999}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.StoreFlags(t.Context(), alice.ID, store.Inbox, []imap.UID{5000, 5001}, store.FlagChange{Add: store.FlagDraft}); err != nil {
		t.Fatal(err)
	}
	w.commit(w.content("x", "x\r\n"), to(alice, "INBOX"))
	next := w.open(alice, store.Inbox)
	if d := next.Diff(v); fmt.Sprint(d) != "{[1 2 3 777 19999] [20001] [5000 5001]}" {
		t.Errorf("diff %v", d)
	}
	cold, err := worldOn(t, w.db).Open(t.Context(), alice.ID, store.Inbox) // from the packed index
	if err != nil || describe(cold) != describe(next) {
		t.Errorf("the packed index gives another view (%v)", err)
	}
	for _, uid := range []imap.UID{0, 1, 4, 777, 778, 12_346, 19_999, 20_001, 20_002, 1<<32 - 1} {
		i, ok := next.Index(uid)
		j := 0
		for j < next.Len() && next.UIDAt(j) < uid {
			j++
		}
		if i != j || ok != (j < next.Len() && next.UIDAt(j) == uid) {
			t.Errorf("index of %d: %d %v, want %d", uid, i, ok, j)
		}
	}

	// A damaged index is dropped, not believed.
	if _, err := w.db.Exec(t.Context(), postgres.Background, `update mailbox_index set packed = '\x01ffff'`); err != nil {
		t.Fatal(err)
	}
	if cold, err = worldOn(t, w.db).Open(t.Context(), alice.ID, store.Inbox); err != nil || describe(cold) != describe(next) {
		t.Errorf("with a damaged packed index: %v", err)
	}

	// Nor is one older than the log.
	if _, err := w.db.Exec(t.Context(), postgres.Background, `delete from change_log`); err != nil {
		t.Fatal(err)
	}
	if _, err := w.db.Exec(t.Context(), postgres.Background, `update mailbox set log_floor = modseq`); err != nil {
		t.Fatal(err)
	}
	w.commit(w.content("y", "y\r\n"), to(alice, "INBOX"))
	last := w.open(alice, store.Inbox)
	if d := last.Diff(next); fmt.Sprint(d) != "{[] [20002] []}" {
		t.Errorf("diff %v", d)
	}
}

// Deliveries, STORE, MOVE, COPY and EXPUNGE of several nodes at once: every view
// that a node opens is what the database held at one moment, and the changes
// that the views tell lead from the first to the last.
func TestViewUnderStress(t *testing.T) {
	t.Parallel()
	d := 1500 * time.Millisecond
	if os.Getenv("DIRPOST_SOAK") != "" {
		d = time.Minute
	}
	stress(t, d)
}

func stress(t *testing.T, d time.Duration) {
	first := newWorld(t)
	nodes := []*world{first, worldOn(t, first.db)}
	alice, bob := first.account("alice"), first.account("bob")
	var boxes []store.MailboxKey
	for _, a := range []store.Account{alice, bob} {
		for _, name := range []string{"INBOX", "Archive", "Junk"} {
			boxes = append(boxes, store.MailboxKey{Account: a.ID, Mailbox: first.mailbox(a, name).ID})
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			w := nodes[i%2]
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for ctx.Err() == nil {
				if err := act(w, r, boxes, alice, bob); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	opened := make([]int, len(boxes))
	for i, k := range boxes {
		wg.Go(func() { opened[i] = watch(ctx, t, nodes[i%2], k) })
	}
	wg.Wait()
	first.consistent()
	for _, k := range boxes {
		for _, w := range nodes {
			same(t, w, k)
		}
	}
	var deadlocks int64
	if err := first.db.QueryRow(t.Context(), postgres.Background, `select deadlocks from pg_stat_database where datname = current_database()`).Scan(&deadlocks); err != nil || deadlocks > 0 {
		t.Errorf("%d deadlocks (%v): somebody takes locks in another order", deadlocks, err)
	}
	t.Logf("views opened: %v", opened)
}

// act does one random thing.
func act(w *world, r *rand.Rand, boxes []store.MailboxKey, alice, bob store.Account) error {
	ctx := context.Background()
	k := boxes[r.IntN(len(boxes))]
	v, err := w.Open(ctx, k.Account, k.Mailbox)
	if err != nil {
		return err
	}
	var uids []imap.UID
	for i := 0; i < v.Len(); i += 1 + r.IntN(8) {
		uids = append(uids, v.UIDAt(i))
	}
	uids = uids[:min(len(uids), 6)]
	switch x := r.IntN(12); {
	case x < 4:
		c := w.content("x", "x\r\n")
		ds := []store.Delivery{to(alice, "INBOX"), to(bob, "Archive", imap.FlagSeen)}
		ds[0].Targets = append(ds[0].Targets, store.Target{Mailbox: "Junk"})
		_, err = w.Commit(ctx, store.Unit{Content: c, Deliveries: ds[:1+r.IntN(2)]})
	case x < 7:
		_, err = w.StoreFlags(ctx, k.Account, k.Mailbox, uids, store.FlagChange{Add: store.Flags(r.IntN(16)), Remove: store.Flags(r.IntN(16)), Replace: r.IntN(3) == 0})
	case x < 8:
		_, err = w.Move(ctx, k, uids, boxes[r.IntN(len(boxes))], 0)
	case x < 9:
		_, err = w.Copy(ctx, k, uids, boxes[r.IntN(len(boxes))], 0)
	case x < 10:
		_, err = w.Remove(ctx, k.Account, k.Mailbox, uids)
	default:
		_, err = w.Expunge(ctx, k.Account, k.Mailbox, nil)
	}
	return err
}

// watch opens a mailbox again and again, and replays what the views say.
func watch(ctx context.Context, t *testing.T, w *world, k store.MailboxKey) (opened int) {
	old, err := w.Open(context.Background(), k.Account, k.Mailbox)
	if err != nil {
		t.Error(err)
		return 0
	}
	replay := map[imap.UID]store.Entry{}
	for _, e := range old.All() {
		replay[e.UID] = e
	}
	for ctx.Err() == nil {
		v, err := w.Open(context.Background(), k.Account, k.Mailbox)
		if err != nil {
			t.Error(err)
			return opened
		}
		opened++
		d := v.Diff(old)
		for _, uid := range d.Vanished {
			delete(replay, uid)
		}
		for _, uid := range slices.Concat(d.New, d.Changed) {
			i, _ := v.Index(uid)
			replay[uid] = store.Entry{UID: uid, Flags: v.Flags(i), ModSeq: v.ModSeq(i)}
		}
		unseen, last := 0, imap.UID(0)
		for _, e := range v.All() {
			if e.Flags&store.FlagSeen == 0 {
				unseen++
			}
			if e.UID <= last || e.UID >= v.UIDNext() || e.ModSeq > v.HighestModSeq() || replay[e.UID] != e {
				t.Errorf("message %+v after %d, uidnext %d, modseq %d, replayed %+v", e, last, v.UIDNext(), v.HighestModSeq(), replay[e.UID])
				return opened
			}
			last = e.UID
		}
		if unseen != v.Unseen() || len(replay) != v.Len() {
			t.Errorf("%d unseen, %d replayed; view says %d, %d", unseen, len(replay), v.Unseen(), v.Len())
			return opened
		}
		old = v
	}
	return opened
}

// same compares a view with the table.
func same(t *testing.T, w *world, k store.MailboxKey) {
	t.Helper()
	rows, err := w.db.Query(context.Background(), postgres.Interactive, `
select uid, flags, modseq from mailbox_message where account_id = $1 and mailbox_id = $2 order by uid`, k.Account, k.Mailbox)
	if err != nil {
		t.Fatal(err)
	}
	want, err := postgres.CollectRows[store.Entry](rows)
	if err != nil {
		t.Fatal(err)
	}
	v, err := w.Open(context.Background(), k.Account, k.Mailbox)
	if err != nil {
		t.Fatal(err)
	}
	var got []store.Entry
	for _, e := range v.All() {
		got = append(got, e)
	}
	if !slices.Equal(got, want) {
		t.Errorf("mailbox %v: view has %d messages, table %d, or they differ", k, len(got), len(want))
	}
}

func TestSkipAfterRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	w.commit(w.content("x", "x"), to(alice, "INBOX"))
	before := w.open(alice, store.Inbox)
	if err := w.SkipAfterRestore(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.commit(w.content("y", "y"), to(alice, "INBOX"))
	after := w.open(alice, store.Inbox)
	if d := after.Diff(before); fmt.Sprint(d) != "{[] [100002] []}" || after.HighestModSeq() <= before.HighestModSeq()+1000000 {
		t.Errorf("diff %v, modseq %d after %d", d, after.HighestModSeq(), before.HighestModSeq())
	}
	if _, complete, err := w.Vanished(t.Context(), alice.ID, store.Inbox, before.HighestModSeq()); err != nil || complete {
		t.Errorf("the log claims to be complete (%v)", err)
	}
	w.consistent()
}

// RFC 6851 §3.3: a message that is moved to where it is gets a new UID.
func TestMoveToTheSameMailbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	w.fill(alice, store.Inbox, 3000)
	before := w.open(alice, store.Inbox)
	inbox := store.MailboxKey{Account: alice.ID, Mailbox: store.Inbox}
	res, err := w.Move(t.Context(), inbox, nil, inbox, 0)
	if err != nil || len(res.Source) != 3000 || res.Dest[0] != 3001 {
		t.Fatalf("%d moved, %v", len(res.Source), err)
	}
	after := w.open(alice, store.Inbox)
	if d := after.Diff(before); len(d.Vanished) != 3000 || len(d.New) != 3000 || after.Flags(7) != before.Flags(7) {
		t.Errorf("%d vanished, %d new", len(d.Vanished), len(d.New))
	}
	w.consistent()
}
