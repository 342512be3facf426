package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"dirpost/internal/blob"
	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/store"
	"dirpost/internal/testenv"

	"github.com/emersion/go-imap/v2"
)

// world is a store on a database of its own.
type world struct {
	*store.Store
	db    *postgres.DB
	blobs *blob.Store
	t     testing.TB
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return worldOn(t, testenv.Database(t))
}

func worldOn(t testing.TB, db *postgres.DB) *world {
	blobs := blob.New(db)
	return &world{store.New(db, blobs, nil, slog.New(slog.DiscardHandler)), db, blobs, t}
}

func (w *world) account(key string) store.Account {
	w.t.Helper()
	a, err := w.Account(w.t.Context(), "test:"+key, store.KindPerson)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// content makes a message of a header and a body.
func (w *world) content(subject, body string) *store.Content {
	w.t.Helper()
	bw := w.blobs.NewWriter(w.t.Context())
	if _, err := bw.Write([]byte(body)); err != nil {
		w.t.Fatal(err)
	}
	b, err := bw.Finish(w.t.Context(), false)
	if err != nil {
		w.t.Fatal(err)
	}
	return &store.Content{
		QueueID:      envelope.QueueID(w.db.NewID()),
		InternalDate: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC),
		Header:       []byte("From: a@corp.example\r\nSubject: " + subject + "\r\n\r\n"),
		Body:         b,
		Envelope:     []byte("(NIL)"),
		Structure:    []byte{1},
		Index:        store.Index{Subject: strings.ToLower(subject), From: "a@corp.example"},
	}
}

func to(a store.Account, mailbox string, flags ...imap.Flag) store.Delivery {
	return store.Delivery{
		Account: a,
		Targets: []store.Target{{Mailbox: mailbox, Flags: flags}},
		Prepend: []byte("Return-Path: <x@y.example>\r\nDelivered-To: a@corp.example\r\n"),
	}
}

func (w *world) commit(c *store.Content, ds ...store.Delivery) []store.Delivered {
	w.t.Helper()
	out, err := w.Commit(w.t.Context(), store.Unit{Content: c, Deliveries: ds})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) mailbox(a store.Account, name string) store.Mailbox {
	w.t.Helper()
	m, err := w.MailboxByName(w.t.Context(), a.ID, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// consistent fails the test unless the counters of all mailboxes and accounts
// agree with their rows.
func (w *world) consistent() {
	w.t.Helper()
	consistent(w.t, w.db)
}

const wrongCountersSQL = `
select format('mailbox %s of %s: %s messages, %s unseen, %s deleted, %s octets, uidnext %s; rows say %s, %s, %s, %s, %s',
              m.name, m.account_id, m.messages, m.unseen, m.deleted, m.bytes, m.uidnext, r.n, r.unseen, r.deleted, r.bytes, r.top)
  from mailbox m
  cross join lateral (
    select count(*) n, count(*) filter (where x.flags & 1 = 0) unseen, count(*) filter (where x.flags & 8 <> 0) deleted,
           coalesce(sum(x.size), 0) bytes, coalesce(max(x.uid), 0) top, coalesce(max(x.modseq), 0) modseq
      from mailbox_message x
     where x.account_id = m.account_id and x.mailbox_id = m.mailbox_id) r
 where (m.messages, m.unseen, m.deleted, m.bytes) <> (r.n, r.unseen, r.deleted, r.bytes)
    or m.uidnext <= r.top or m.modseq < r.modseq
union all
select format('account %s: %s messages, %s octets; mailboxes say %s, %s', c.account_id, c.used_messages, c.used_bytes, r.n, r.bytes)
  from account c
  cross join lateral (select coalesce(sum(m.messages), 0) n, coalesce(sum(m.bytes), 0) bytes from mailbox m where m.account_id = c.account_id) r
 where (c.used_messages, c.used_bytes) <> (r.n, r.bytes)
union all
select format('message %s of %s is missing', x.message_id, x.account_id)
  from mailbox_message x
 where not exists (select from message m where m.account_id = x.account_id and m.message_id = x.message_id)`

func consistent(t testing.TB, db *postgres.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rows, err := db.Query(ctx, postgres.Interactive, wrongCountersSQL)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := postgres.CollectValues[string](rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range wrong {
		t.Error(line)
	}
}

func TestAccountIsMadeOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := worldOn(t, w.db) // another node: its own caches
	if _, err := w.LookupAccount(t.Context(), "test:alice"); !errors.Is(err, store.ErrNotFound) || !errors.Is(err, envelope.ErrNotFound) {
		t.Errorf("unknown account: %v", err)
	}
	ids := make(chan store.AccountID)
	for i := range 8 {
		go func() {
			a, err := []*world{w, other}[i%2].Account(context.Background(), "test:alice", store.KindPerson)
			if err != nil {
				t.Error(err)
			}
			ids <- a.ID
		}()
	}
	first := <-ids
	for range 7 {
		if id := <-ids; id != first {
			t.Errorf("accounts %d and %d for one key", first, id)
		}
	}
	all, err := w.Mailboxes(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	validities := map[uint32]bool{}
	for _, m := range all {
		got = append(got, fmt.Sprint(m.Name, m.SpecialUse, " ", m.UIDNext, m.Subscribed))
		validities[m.UIDValidity] = true
	}
	want := `Archive\Archive 1 true Drafts\Drafts 1 true INBOX 1 true Junk\Junk 1 true Sent\Sent 1 true Trash\Trash 1 true`
	if s := strings.Join(got, " "); s != want {
		t.Errorf("mailboxes\n got %s\nwant %s", s, want)
	}
	if len(validities) != len(all) {
		t.Errorf("mailboxes share a UIDVALIDITY: %v", validities)
	}
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.account("alice"), w.account("bob")
	c := w.content("hello", "text\r\n")
	both := store.Delivery{Account: alice, Targets: []store.Target{
		{Mailbox: "Archive", Flags: []imap.Flag{imap.FlagSeen}},
		{Mailbox: "no such", Flags: []imap.Flag{imap.FlagFlagged, "$Important"}}, // INBOX stands in
		{Mailbox: "inbox"},
		{Mailbox: "Lists/Gophers", Create: true},
	}}
	refuse := envelope.StatusRefused
	out := w.commit(c, both, to(bob, "INBOX"), store.Delivery{Account: bob, Refuse: &refuse, Targets: []store.Target{{Mailbox: "INBOX"}}}, store.Delivery{Account: bob})
	if len(out) != 4 || len(out[0].Copies) != 3 || len(out[1].Copies) != 1 || len(out[2].Copies) != 0 || len(out[3].Copies) != 0 {
		t.Fatalf("answers: %+v", out)
	}
	if out[0].Account != alice.ID || out[1].Account != bob.ID || out[0].Copies[0].Mailbox != store.Inbox || out[1].Copies[0].UID != 1 {
		t.Errorf("answers: %+v", out)
	}
	for name, want := range map[string][3]int64{"INBOX": {1, 1, 2}, "Archive": {1, 0, 2}, "Lists/Gophers": {1, 1, 2}, "Lists": {0, 0, 1}} {
		m := w.mailbox(alice, name)
		if got := [3]int64{m.Messages, m.Unseen, int64(m.UIDNext)}; got != want {
			t.Errorf("%s: messages, unseen, uidnext %v, want %v", name, got, want)
		}
	}
	k, err := w.Keywords(t.Context(), alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := k.Lookup("$important"); !ok {
		t.Error("keyword of the delivery is not known")
	}

	// Done twice: the same answer, nothing more.
	again := w.commit(c, to(bob, "INBOX"))
	if again[0].Repeat || len(again[0].Copies) != 1 || again[0].Copies[0] != out[1].Copies[0] {
		t.Errorf("delivered twice: %+v, want %+v", again[0], out[1])
	}
	u, err := w.Usage(t.Context(), bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	if size := int64(len(c.Header)+len(to(bob, "").Prepend)) + c.Body.Size; u != (store.Usage{Bytes: size, Messages: 1}) {
		t.Errorf("usage %+v, want 1 message of %d octets", u, size)
	}
	w.consistent()
}

func TestDeliverRepeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	d := to(alice, "INBOX")
	d.Repeat = [16]byte(sha256.New().Sum(nil)[:16])
	first := w.commit(w.content("once", "text\r\n"), d)
	second := w.commit(w.content("once", "text\r\n"), d)
	if first[0].Repeat || !second[0].Repeat || len(second[0].Copies) != 0 {
		t.Errorf("first %+v, second %+v", first, second)
	}
	if _, err := w.db.Exec(t.Context(), postgres.Background, `update repeat set seen_at = seen_at - 86401`); err != nil {
		t.Fatal(err)
	}
	if third := w.commit(w.content("once", "text\r\n"), d); third[0].Repeat {
		t.Errorf("after 24 h: %+v", third)
	}
	if m := w.mailbox(alice, "INBOX"); m.Messages != 2 {
		t.Errorf("%d messages, want 2", m.Messages)
	}
	w.consistent()
}

func TestDeliverOverQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.account("alice"), w.account("bob")
	d := to(bob, "INBOX")
	d.Quota = 10
	_, err := w.Commit(t.Context(), store.Unit{Content: w.content("big", "text\r\n"), Deliveries: []store.Delivery{to(alice, "INBOX"), d}})
	var over *store.OverQuotaError
	if !errors.As(err, &over) || over.Account != bob.ID || !errors.Is(err, envelope.ErrOverQuota) {
		t.Fatalf("got %v, want bob over quota", err)
	}
	if envelope.StatusOf(err) != envelope.StatusOverQuota {
		t.Errorf("status %v", envelope.StatusOf(err))
	}
	if m := w.mailbox(alice, "INBOX"); m.Messages != 0 {
		t.Error("alice got the message although the unit failed")
	}
	w.consistent()
}

// One over quota in a lane does not harm those who wait with it.
func TestCommitInLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	const n = 200
	type answer struct {
		i   int
		d   []store.Delivered
		err error
	}
	answers := make(chan answer)
	for i := range n {
		c := w.content(fmt.Sprint("message ", i), "text\r\n")
		d := to(alice, "INBOX")
		switch i % 10 {
		case 3:
			d.Quota = 1
		case 5:
			d.Targets[0].Mailbox = "Archive"
		}
		go func() {
			out, err := w.Commit(context.Background(), store.Unit{Content: c, Deliveries: []store.Delivery{d}})
			answers <- answer{i, out, err}
		}()
	}
	seen := map[store.Copy]bool{}
	for range n {
		a := <-answers
		var over *store.OverQuotaError
		switch {
		case a.i%10 == 3:
			if !errors.As(a.err, &over) {
				t.Errorf("message %d: %v, want over quota", a.i, a.err)
			}
		case a.err != nil:
			t.Errorf("message %d: %v", a.i, a.err)
		case seen[a.d[0].Copies[0]]:
			t.Errorf("message %d: %+v was given twice", a.i, a.d[0].Copies[0])
		default:
			seen[a.d[0].Copies[0]] = true
		}
	}
	if m := w.mailbox(alice, "INBOX"); m.Messages != n*8/10 || int64(m.UIDNext) != n*8/10+1 {
		t.Errorf("INBOX has %d messages, uidnext %d", m.Messages, m.UIDNext)
	}
	if m := w.mailbox(alice, "Archive"); m.Messages != n/10 {
		t.Errorf("Archive has %d messages", m.Messages)
	}
	w.consistent()
}

// An account that somebody holds does not hold up the others.
func TestCommitBesideALockedAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.account("alice"), w.account("bob")
	late := make(chan error, 3)
	err := w.db.InTx(t.Context(), postgres.Background, func(ctx context.Context, tx postgres.Tx) error {
		if _, err := tx.Exec(ctx, `select from account where account_id = $1 for update`, alice.ID); err != nil {
			return err
		}
		for range cap(late) {
			c := w.content("late", "x")
			go func() {
				_, err := w.Commit(context.Background(), store.Unit{Content: c, Deliveries: []store.Delivery{to(alice, "INBOX")}})
				late <- err
			}()
		}
		for range 10 {
			if out := w.commit(w.content("beside", "x"), to(bob, "INBOX")); len(out[0].Copies) != 1 {
				t.Errorf("%+v", out)
			}
		}
		select {
		case err := <-late:
			t.Errorf("delivered to a locked account: %v", err)
		default:
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range cap(late) {
		if err := <-late; err != nil {
			t.Error(err)
		}
	}
	if m := w.mailbox(alice, "INBOX"); m.Messages != 3 {
		t.Errorf("%d messages, want 3", m.Messages)
	}
	w.consistent()
}

// Another message of the same id, given by chance, is not taken for one that is
// there: it fails for the moment instead of being lost.
func TestDeliverIDTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account("a")
	first, second := w.content("first", "one\r\n"), w.content("second", "two and three\r\n")
	second.QueueID = first.QueueID
	w.commit(first, to(a, "INBOX"))
	_, err := w.Commit(t.Context(), store.Unit{Content: second, Deliveries: []store.Delivery{to(a, "INBOX")}})
	if st := envelope.StatusOf(err); err == nil || st.Code/100 != 4 {
		t.Errorf("got %v (%v), want a temporary error", err, st)
	}
	if got := w.commit(first, to(a, "INBOX")); len(got[0].Copies) != 1 {
		t.Errorf("the first one again: %v", got)
	}
}
