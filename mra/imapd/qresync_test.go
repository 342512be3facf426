package imapd

import (
	"testing"

	"dirpost/internal/store"
	"dirpost/mra/imapd/wire"

	"github.com/emersion/go-imap/v2"
)

// RFC 7162 §3.2.10.1: when the log does not reach back, what is not there has
// vanished.
func TestAddMissing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if err := f.given(t, "p1", "INBOX: 10 messages"); err != nil {
		t.Fatal(err)
	}
	a, err := f.account(t.Context(), "p1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Remove(t.Context(), a.ID, store.Inbox, []imap.UID{1, 4, 5, 10}); err != nil {
		t.Fatal(err)
	}
	m := &mailbox{}
	if m.view, err = f.store.Open(t.Context(), a.ID, store.Inbox); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ranges []wire.Range
		want   string
	}{
		{[]wire.Range{{From: 1, To: 10}}, "1,4:5,10"},
		{[]wire.Range{{From: 1, To: 1<<32 - 1}}, "1,4:5,10"},
		{[]wire.Range{{From: 5, To: 9}}, "5"},
		{[]wire.Range{{From: 2, To: 3}}, ""},
		{[]wire.Range{{From: 1, To: 4}, {From: 9, To: 10}}, "1,4,10"},
		{[]wire.Range{{From: 11, To: 20}}, ""},
		{nil, ""},
	} {
		set := wire.NewSetBuilder(nil)
		m.addMissing(&set, tt.ranges)
		if got := string(set.Bytes()); got != tt.want {
			t.Errorf("missing of %v: %q, want %q", tt.ranges, got, tt.want)
		}
	}
}
