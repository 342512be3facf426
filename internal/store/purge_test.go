package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dirpost/internal/envelope"
	"dirpost/internal/postgres"
	"dirpost/internal/store"

	"github.com/emersion/go-imap/v2"
)

// later makes everything d older.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	for _, sql := range []string{
		`update expunged set expunged_at = expunged_at - make_interval(secs => $1)`,
		`update change_log set day = day - ($1 / 86400)::int`,
		`update repeat set seen_at = seen_at - $1::bigint`,
		`update deleted_mailbox set deleted_at = deleted_at - make_interval(secs => $1)`,
		`update account set closed_at = closed_at - make_interval(secs => $1)`,
		`update blob set last_use = last_use - $1::bigint`,
		`update blob_upload set started_at = started_at - $1::bigint`,
	} {
		if _, err := w.db.Exec(w.t.Context(), postgres.Background, sql, d.Seconds()); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) count(table string) (n int64) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), postgres.Background, `select count(*) from `+table).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) purge() store.PurgeResult {
	w.t.Helper()
	res, err := w.Purge(w.t.Context(), store.Retention{})
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

func TestPurgeTakesWhatIsPastItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	inbox := store.MailboxKey{Account: alice.ID, Mailbox: store.Inbox}
	large := strings.Repeat("large\r\n", 10_000)
	repeated := to(alice, "INBOX")
	repeated.Repeat = [16]byte{1}
	w.commit(w.content("keep", large), to(alice, "INBOX"))
	w.commit(w.content("expunge", strings.Repeat("other\r\n", 10_000)), to(alice, "INBOX"))
	w.commit(w.content("keep", "small\r\n"), repeated)
	w.commit(w.content("expunge, but a copy stays", "small\r\n"), to(alice, "INBOX"))
	if _, err := w.Copy(t.Context(), inbox, []imap.UID{4}, store.MailboxKey{Account: alice.ID, Mailbox: w.mailbox(alice, "Archive").ID}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Remove(t.Context(), alice.ID, store.Inbox, []imap.UID{2, 4}); err != nil {
		t.Fatal(err)
	}
	if res := w.purge(); res != (store.PurgeResult{}) {
		t.Errorf("purged what is fresh: %+v", res)
	}
	view := w.open(alice, store.Inbox)
	w.later(61 * 24 * time.Hour)
	if res, want := w.purge(), (store.PurgeResult{Expunged: 2, Messages: 1, Changes: 1, Repeats: 1, Blobs: 1}); res != want {
		t.Errorf("purged %+v, want %+v", res, want)
	}
	if n := w.count("message"); n != 3 {
		t.Errorf("%d messages left, want 3", n)
	}
	for m, err := range w.Messages(t.Context(), alice.ID, store.Inbox, nil, store.ItemHeader) {
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.OpenMessage(t.Context(), alice.ID, m)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if _, err := r.WriteTo(&b); err != nil || int64(b.Len()) != m.Size {
			t.Errorf("message %d: %d octets of %d, %v", m.UID, b.Len(), m.Size, err)
		}
	}
	if _, complete, err := w.Vanished(t.Context(), alice.ID, store.Inbox, view.HighestModSeq()-1); err != nil || complete {
		t.Errorf("the log claims to be complete (%v)", err)
	}
	if _, complete, err := w.Vanished(t.Context(), alice.ID, store.Inbox, view.HighestModSeq()); err != nil || !complete {
		t.Errorf("the log claims to be incomplete (%v)", err)
	}
	w.consistent()
}

func TestUndelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	if _, err := w.CreateMailbox(t.Context(), alice.ID, "Projects/Apollo", ""); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		w.commit(w.content(fmt.Sprint("inbox ", i), "x\r\n"), to(alice, "INBOX"))
		w.commit(w.content(fmt.Sprint("apollo ", i), "x\r\n"), to(alice, "Projects/Apollo", imap.FlagSeen, imap.FlagDeleted))
	}
	if _, err := w.Remove(t.Context(), alice.ID, store.Inbox, []imap.UID{1, 3}); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteMailbox(t.Context(), alice.ID, "projects/apollo"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("names are not folded: %v", err)
	}
	if err := w.DeleteMailbox(t.Context(), alice.ID, "Projects/Apollo"); err != nil {
		t.Fatal(err)
	}
	list, err := w.ListExpunged(t.Context(), alice.ID, time.Time{}, 100)
	if err != nil || len(list) != 5 {
		t.Fatalf("%d expunged, %v", len(list), err)
	}
	n, err := w.Undelete(t.Context(), alice.ID, list)
	if err != nil || n != 5 {
		t.Fatalf("undeleted %d, %v", n, err)
	}
	if got := describe(w.open(alice, store.Inbox)); got != "2:0 4:0 5:0" {
		t.Errorf("INBOX: %s", got)
	}
	if got := describe(w.open(alice, w.mailbox(alice, "Projects/Apollo").ID)); got != "1:1 2:1 3:1" {
		t.Errorf("Apollo: %s", got)
	}
	if n, err = w.Undelete(t.Context(), alice.ID, list); err != nil || n != 0 {
		t.Errorf("undeleted twice: %d %v", n, err)
	}
	w.consistent()
}

func TestPurgeClosedAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.account("alice"), w.account("bob")
	c := w.content("both", strings.Repeat("large\r\n", 10_000))
	w.commit(c, to(alice, "INBOX", "Keyword"), to(bob, "INBOX"))
	if err := w.CloseAccount(t.Context(), alice.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.later(80 * 24 * time.Hour)
	if res := w.purge(); res.Accounts != 0 {
		t.Errorf("purged within the grace: %+v", res)
	}
	w.later(20 * 24 * time.Hour)
	if res := w.purge(); res.Accounts != 1 || res.Blobs != 0 {
		t.Errorf("purged %+v", res)
	}
	if _, err := w.LookupAccount(t.Context(), "test:alice"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("alice: %v", err)
	}
	for table, want := range map[string]int64{"account": 1, "account_key": 1, "mailbox": 6, "message": 1, "mailbox_message": 1, "keyword": 0, "subscription": 6, "blob": 1, "dead_account": 0} {
		if n := w.count(table); n != want {
			t.Errorf("%s has %d rows, want %d", table, n, want)
		}
	}
	again := w.account("alice")
	if again.ID == alice.ID {
		t.Error("the account came back")
	}
	w.consistent()
}

// Another node has purged an account and the person is back. This node, which
// remembers the old account, must not say that there is no such person.
func TestDeliverToPurgedAccount(t *testing.T) {
	t.Parallel()
	for name, mailbox := range map[string]store.Target{
		"INBOX":           {Mailbox: "INBOX"},
		"mailbox to make": {Mailbox: "New", Create: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			other := worldOn(t, w.db)
			alice := w.account("alice")
			if err := other.CloseAccount(t.Context(), alice.ID, time.Now()); err != nil {
				t.Fatal(err)
			}
			other.later(100 * 24 * time.Hour)
			if res := other.purge(); res.Accounts != 1 {
				t.Fatalf("purged %+v", res)
			}
			d := store.Delivery{Account: w.account("alice"), Targets: []store.Target{mailbox}}
			_, err := w.Commit(t.Context(), store.Unit{Content: w.content("s", "x\r\n"), Deliveries: []store.Delivery{d}})
			if st := envelope.StatusOf(err); err == nil || !st.IsTemporary() {
				t.Errorf("answered %v, want a temporary error", err)
			}
			if again := w.account("alice"); again.ID == alice.ID {
				t.Error("the old account is still remembered")
			}
			w.commit(w.content("s", "x\r\n"), to(w.account("alice"), "INBOX"))
		})
	}
}

// A message that goes to another account has a copy of its own there.
func TestCopyToAnotherAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.account("alice"), w.account("bob")
	if _, err := w.FlagsOf(t.Context(), bob.ID, []imap.Flag{"First"}); err != nil {
		t.Fatal(err)
	}
	c := w.content("both", strings.Repeat("large\r\n", 10_000))
	w.commit(c, to(alice, "INBOX", "Work", imap.FlagFlagged), to(bob, "INBOX"))
	w.commit(w.content("small", "x\r\n"), to(alice, "INBOX"))
	src := store.MailboxKey{Account: alice.ID, Mailbox: store.Inbox}
	dst := store.MailboxKey{Account: bob.ID, Mailbox: w.mailbox(bob, "Archive").ID}
	res, err := w.Copy(t.Context(), src, []imap.UID{1}, dst, 0)
	if err != nil || fmt.Sprint(res.Source, res.Dest) != "[1] [1]" {
		t.Fatalf("%+v %v", res, err)
	}
	if res, err = w.Move(t.Context(), src, nil, dst, 0); err != nil || fmt.Sprint(res.Source, res.Dest) != "[1 2] [2 3]" {
		t.Fatalf("%+v %v", res, err)
	}
	var over *store.OverQuotaError
	back := store.MailboxKey{Account: bob.ID, Mailbox: store.Inbox}
	if _, err := w.Copy(t.Context(), dst, nil, store.MailboxKey{Account: alice.ID, Mailbox: store.Inbox}, 1); !errors.As(err, &over) || over.Account != alice.ID {
		t.Errorf("over quota: %v", err)
	}
	if _, err := w.Copy(t.Context(), back, nil, store.MailboxKey{Account: alice.ID, Mailbox: 4711}, 0); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("to no mailbox: %v", err)
	}
	v := w.open(bob, dst.Mailbox)
	k, err := w.Keywords(t.Context(), bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(k.Names(v.Flags(0)), k.Names(v.Flags(2))); got != `[\Flagged Work] []` {
		t.Errorf("flags %s", got)
	}
	w.later(365 * 24 * time.Hour)
	w.purge()
	n := 0
	for m, err := range w.Messages(t.Context(), bob.ID, dst.Mailbox, nil, 0) {
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.OpenMessage(t.Context(), bob.ID, m)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if _, err := r.WriteTo(&b); err != nil || int64(b.Len()) != m.Size {
			t.Errorf("message %d: %d octets of %d, %v", m.UID, b.Len(), m.Size, err)
		}
		n++
	}
	if n != 3 || w.open(alice, store.Inbox).Len() != 0 {
		t.Errorf("%d messages arrived", n)
	}
	w.consistent()
}
