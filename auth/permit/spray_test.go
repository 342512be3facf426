package permit

import (
	"fmt"
	"testing"
	"time"

	"dirpost/internal/testenv"
)

// TestSpray: a password that fails for many is refused to strangers at every
// node, and its owner goes on from home.
func TestSpray(t *testing.T) {
	t.Parallel()
	db, d, alice := testenv.Database(t), newDomain(5), entry("alice")
	one, two := newNode(t, db, d, testConfig(), testKey), newNode(t, db, d, testConfig(), testKey)
	one.want(alice, "right", home, "in")
	for i := range 5 { // one half at each node, and names that nobody has
		one.want(entry(fmt.Sprint("a", i)), "right?", away, "wrong")
		two.Unknown(t.Context(), Login{Name: fmt.Sprint("nobody", i), Password: "right?", Client: away})
	}
	for _, n := range []*node{one, two, one} {
		if err := n.share(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	one.want(entry("b"), "right?", away, ReasonSprayed)
	two.want(entry("c"), "right?", away, ReasonSprayed)
	two.want(entry("c"), "another", away, "wrong")
	// It is the password of somebody.
	for i := range 10 {
		two.Unknown(t.Context(), Login{Name: fmt.Sprint("nobody", i), Password: "right", Client: away})
	}
	two.want(alice, "right", away, ReasonSprayed)
	two.want(alice, "right", home, "in")
	top, err := ReadTop(t.Context(), db, one.cfg, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Sprayed) != 1 || top.Sprayed[0].Accounts != 10 || !top.Sprayed[0].Refused {
		t.Errorf("top shows %+v", top.Sprayed)
	}
}

// TestSprayBounded: what is guessed once never fills the memory, and does not
// drive out what is tried on many.
func TestSprayBounded(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	s, now := newSpray(c), time.Now()
	k := newKeyed([]byte("k"))
	for i := range 5 {
		s.failed(k.password("spray"), int64(i), now)
	}
	for i := range 2 * maxSprayed {
		s.failed(k.password(fmt.Sprint(i)), int64(i), now)
	}
	if len(s.seen) > maxSprayed {
		t.Errorf("%d passwords in memory", len(s.seen))
	}
	news := s.news()
	if len(news) != 1 || len(news[0].accounts) != 5 {
		t.Errorf("news %v", news)
	}
	if again := s.news(); len(again) != 0 {
		t.Errorf("told twice: %v", again)
	}
	if s.isRefused(k.password("spray"), now) {
		t.Error("refused after five")
	}
	for i := range 5 {
		s.failed(k.password("spray"), int64(5+i), now)
	}
	if !s.isRefused(k.password("spray"), now) || s.isRefused(k.password("spray"), now.Add(2*time.Hour)) {
		t.Error("not refused for an hour after ten")
	}
}
