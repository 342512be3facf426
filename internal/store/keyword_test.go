package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"dirpost/internal/store"

	"github.com/emersion/go-imap/v2"
)

func TestKeywords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := worldOn(t, w.db)
	alice := w.account("alice")
	var wg sync.WaitGroup
	bits := make([]store.Flags, 40)
	for i := range bits {
		wg.Go(func() {
			f, err := []*world{w, other}[i%2].FlagsOf(context.Background(), alice.ID, []imap.Flag{imap.Flag(fmt.Sprint("kw", i/2)), imap.FlagSeen})
			if err != nil {
				t.Error(err)
			}
			bits[i] = f
		})
	}
	wg.Wait()
	seen := map[store.Flags]int{}
	for i, f := range bits {
		if f&store.FlagSeen == 0 || f != bits[i/2*2] {
			t.Errorf("keyword %d: bits %x and %x", i/2, f, bits[i/2*2])
		}
		if other, ok := seen[f]; ok && other != i/2 {
			t.Errorf("keywords %d and %d share a bit", other, i/2)
		}
		seen[f] = i / 2
	}
	var many []imap.Flag
	for i := range 35 {
		many = append(many, imap.Flag(fmt.Sprint("more", i)))
	}
	all, err := w.FlagsOf(t.Context(), alice.ID, many)
	if err != nil {
		t.Fatal(err)
	}
	k, err := w.Keywords(t.Context(), alice.ID)
	if err != nil || !k.Full() || len(k.All()) != 55 {
		t.Fatalf("%d keywords, full %v, %v", len(k.All()), k.Full(), err)
	}
	if got := fmt.Sprint(k.Names(all)); got != fmt.Sprint(many) {
		t.Errorf("names %s", got)
	}
	if _, err := w.FlagsOf(t.Context(), alice.ID, []imap.Flag{"KW1", "one-too-many"}); !errors.Is(err, store.ErrKeywords) {
		t.Errorf("keyword 56: %v", err)
	}
	// A delivery does without the keyword.
	if out := w.commit(w.content("x", "x"), to(alice, "INBOX", "one-too-many", "KW1")); len(out[0].Copies) != 1 {
		t.Errorf("%+v", out)
	}
	v := w.open(alice, store.Inbox)
	if got := fmt.Sprint(k.Names(v.Flags(0))); got != "[kw1]" && got != "[KW1]" {
		t.Errorf("flags %s", got)
	}
}
