package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"dirpost/internal/store"

	"github.com/emersion/go-imap/v2"
)

// names returns the mailboxes of an account but those that it began with.
func (w *world) names(a store.Account) string {
	w.t.Helper()
	all, err := w.Mailboxes(w.t.Context(), a.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, m := range all {
		switch m.Name {
		case "INBOX", "Drafts", "Sent", "Junk", "Trash", "Archive":
		default:
			names = append(names, m.Name)
		}
	}
	return strings.Join(names, " ")
}

func TestCreateMailbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	for _, c := range []struct {
		name string
		err  error
	}{
		{"a/b/c", nil},
		{"a/b", store.ErrExists},
		{"trailing/", nil}, // RFC 9051 §6.3.4
		{"caf\u0065\u0301", nil},
		{"caf\u00e9", store.ErrExists}, // the same in NFC
		{"inbox", store.ErrExists},
		{"iNbOx/below", nil},
		{"a//b", store.ErrName},
		{"/a", store.ErrName},
		{"", store.ErrName},
		{"a*", store.ErrName},
		{"a%b", store.ErrName},
		{"a\x00b", store.ErrName},
		{"a\r\nb", store.ErrName},
		{"bad\xff", store.ErrName},
		{"Shared/x", store.ErrName},
		{"Users", store.ErrName},
		{"#news", store.ErrName},
		{strings.Repeat("x", 1001), store.ErrName},
		{strings.Repeat("x/", 32) + "x", store.ErrName},
	} {
		m, err := w.CreateMailbox(t.Context(), alice.ID, c.name, "")
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("create %q: %v, want %v", c.name, err, c.err)
		}
		if err == nil && (m.ID == 0 || m.UIDNext != 1) {
			t.Errorf("create %q: %+v", c.name, m)
		}
	}
	if got := w.names(alice); got != "INBOX/below a a/b a/b/c café trailing" {
		t.Errorf("mailboxes %q", got)
	}
	if m, err := w.CreateMailbox(t.Context(), alice.ID, "Important", imap.MailboxAttrFlagged); err != nil || m.SpecialUse != imap.MailboxAttrFlagged {
		t.Errorf("special use: %+v %v", m, err)
	}
}

// RFC 9051 §2.3.1.1: a mailbox of a name that was used before has a higher
// UIDVALIDITY.
func TestUIDValidityRises(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	last := uint32(0)
	for range 3 {
		m, err := w.CreateMailbox(t.Context(), alice.ID, "again", "")
		if err != nil {
			t.Fatal(err)
		}
		if m.UIDValidity <= last {
			t.Errorf("UIDVALIDITY %d after %d", m.UIDValidity, last)
		}
		last = m.UIDValidity
		w.commit(w.content("x", "x"), to(alice, "again"))
		if err := w.DeleteMailbox(t.Context(), alice.ID, "again"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Open(t.Context(), alice.ID, m.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("open what is deleted: %v", err)
		}
	}
	if err := w.DeleteMailbox(t.Context(), alice.ID, "again"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("delete twice: %v", err)
	}
	if err := w.DeleteMailbox(t.Context(), alice.ID, "Inbox"); !errors.Is(err, store.ErrInbox) {
		t.Errorf("delete INBOX: %v", err)
	}
	w.consistent()
}

func TestRenameMailbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	for _, name := range []string{"a/b/c", "ab", "other"} {
		if _, err := w.CreateMailbox(t.Context(), alice.ID, name, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Subscribe(t.Context(), alice.ID, "a/b/c"); err != nil {
		t.Fatal(err)
	}
	before := w.mailbox(alice, "a/b/c")
	rename := func(from, to string, want error) {
		t.Helper()
		if err := w.RenameMailbox(t.Context(), alice.ID, from, to); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("rename %s to %s: %v, want %v", from, to, err, want)
		}
	}
	rename("a", "other", store.ErrExists)
	rename("a", "a/x", store.ErrName)
	rename("none", "x", store.ErrNotFound)
	rename("a", "new/deep/z", nil)
	if got := w.names(alice); got != "ab new new/deep new/deep/z new/deep/z/b new/deep/z/b/c other" {
		t.Errorf("mailboxes %q", got)
	}
	if after := w.mailbox(alice, "new/deep/z/b/c"); after.ID != before.ID || after.UIDValidity != before.UIDValidity || !after.Subscribed {
		t.Errorf("renamed: %+v, was %+v", after, before)
	}

	// RFC 9051 §6.3.6: INBOX gives its messages away and stays.
	for range 3 {
		w.commit(w.content("x", "x"), to(alice, "INBOX", imap.FlagSeen))
	}
	rename("inbox", "new/old mail", nil)
	rename("inbox", "new/old mail", store.ErrExists)
	if in, old := w.mailbox(alice, "INBOX"), w.mailbox(alice, "new/old mail"); in.Messages != 0 || in.UIDNext != 4 || old.Messages != 3 || old.Unseen != 0 {
		t.Errorf("INBOX %+v, old mail %+v", in, old)
	}
	w.consistent()
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.account("alice")
	for _, name := range []string{"not/there", "not/there", "inbox"} {
		if err := w.Subscribe(t.Context(), alice.ID, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"Trash", "nothing"} {
		if err := w.Unsubscribe(t.Context(), alice.ID, name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.Subscriptions(t.Context(), alice.ID)
	if err != nil || fmt.Sprint(got) != "[Archive Drafts INBOX Junk Sent not/there]" {
		t.Errorf("subscriptions %v %v", got, err)
	}
	if w.mailbox(alice, "Trash").Subscribed {
		t.Error("Trash is still subscribed")
	}
	if err := w.DeleteMailbox(t.Context(), alice.ID, "Sent"); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.Subscriptions(t.Context(), alice.ID); len(got) != 6 { // RFC 9051 §6.3.7
		t.Errorf("subscriptions after DELETE: %v", got)
	}
}

func TestPoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.account("alice"), w.account("bob")
	known := map[store.MailboxKey]store.ModSeq{}
	for _, a := range []store.Account{alice, bob} {
		known[store.MailboxKey{Account: a.ID, Mailbox: store.Inbox}] = w.mailbox(a, "INBOX").ModSeq
	}
	if got, err := w.Poll(t.Context(), known); err != nil || len(got) != 0 {
		t.Errorf("nothing happened: %v %v", got, err)
	}
	out := w.commit(w.content("x", "x"), to(bob, "INBOX"))
	got, err := w.Poll(t.Context(), known)
	key := store.MailboxKey{Account: bob.ID, Mailbox: store.Inbox}
	if err != nil || len(got) != 1 || got[key] != out[0].Copies[0].ModSeq {
		t.Errorf("%v %v, want %v", got, err, out)
	}
}
