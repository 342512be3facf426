package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/internal/logging"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

// script is a source that says what the test tells it to.
type script struct {
	name    string
	batches chan Batch
	fail    chan error
	cookies chan []byte // what each Follow began with
}

func newScript(name string) *script {
	return &script{name: name, batches: make(chan Batch), fail: make(chan error), cookies: make(chan []byte, 100)}
}

func (s *script) Name() string       { return s.name }
func (s *script) Lag() time.Duration { return 0 }

func (s *script) Follow(ctx context.Context, cookie []byte, emit func(context.Context, Batch) error) error {
	s.cookies <- cookie
	for {
		select {
		case b := <-s.batches:
			if err := emit(ctx, b); err != nil {
				return err
			}
		case err := <-s.fail:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// topics is a Hinter for the nodes of one test.
type topics struct {
	mu   sync.Mutex
	subs []func(string)
}

func (h *topics) Publish(_, payload string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.subs {
		f(payload)
	}
}

func (h *topics) Subscribe(_ string, f func(string)) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs = append(h.subs, f)
	return func() {}
}

// fed runs a node whose directory is a script.
func fed(t *testing.T, db *postgres.DB, h *topics, sources ...Source) (l *Live, wait func(what string, ok func(*Snapshot) bool), stop func()) {
	t.Helper()
	l = Open(Rules{Domains: []string{"corp.example"}})
	f := NewFeeder(db, l, sources, h, "test", slog.New(slog.DiscardHandler))
	changed := make(chan struct{}, 1)
	hint := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	l.Watch(func(*Snapshot, []Key) { hint() })
	h.Subscribe("", func(string) { hint() })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	wait = func(what string, ok func(*Snapshot) bool) {
		t.Helper()
		for !ok(l.Snapshot()) {
			select {
			case <-changed:
			case <-t.Context().Done():
				t.Fatalf("never: %s", what)
			}
		}
	}
	return l, wait, stop
}

func has(names ...string) func(*Snapshot) bool {
	return func(s *Snapshot) bool {
		var got []string
		for e := range s.All() {
			got = append(got, string(e.Key))
		}
		slices.Sort(got)
		return slices.Equal(got, names)
	}
}

func named(dir string, names ...string) []Change {
	var out []Change
	for _, n := range names {
		e := person(n)
		e.Key, e.Directory = Key(dir+":"+n), dir
		out = append(out, Change{e.Key, e})
	}
	return out
}

func TestFeederBatches(t *testing.T) {
	t.Parallel()
	db, a, b := testenv.Database(t), newScript("a"), newScript("b")
	l, wait, _ := fed(t, db, &topics{}, a, b)
	if c := <-a.cookies; c != nil {
		t.Errorf("first cookie %q", c)
	}
	a.batches <- Batch{Begin: true, Changes: named("a", "one", "two")}
	wait("half of a", has("a:one", "a:two"))
	if !l.Snapshot().Stale() {
		t.Error("fresh before the directory was complete")
	}
	a.batches <- Batch{Changes: named("a", "three"), Complete: true, Vanish: true, Cookie: []byte("1"), At: time.Now()}
	wait("a", has("a:one", "a:three", "a:two"))
	if !l.Snapshot().Stale() {
		t.Error("fresh before the other directory was complete")
	}
	b.batches <- Batch{Begin: true, Changes: named("b", "one"), Complete: true, Vanish: true, At: time.Now()}
	wait("b", func(s *Snapshot) bool { return s.ByKey("b:one") != nil && !s.Stale() })
	version := l.Snapshot().Version()

	// What is not different is no change.
	a.batches <- Batch{Changes: named("a", "one", "two")}
	a.batches <- Batch{Changes: []Change{{Key: "a:nobody"}}}
	a.batches <- Batch{Changes: []Change{{Key: "a:two"}, named("a", "two")[0]}} // gone and back: the last word counts
	a.batches <- Batch{Changes: named("a", "four")}
	wait("four", func(s *Snapshot) bool { return s.ByKey("a:four") != nil })
	if got := l.Snapshot().Version(); got != version+1 {
		t.Errorf("version %d, want %d", got, version+1)
	}

	// A comparison: what was not named vanishes, in this directory alone.
	a.batches <- Batch{Begin: true, Changes: named("a", "two"), Present: []Key{"a:three"}}
	a.batches <- Batch{Complete: true, Vanish: true, Cookie: []byte("2")}
	wait("vanished", has("a:three", "a:two", "b:one"))

	// A refresh that names only changes lets nobody vanish.
	a.batches <- Batch{Begin: true, Changes: named("a", "five")}
	a.batches <- Batch{Complete: true, Cookie: []byte("3")}
	wait("five", has("a:five", "a:three", "a:two", "b:one"))

	// It breaks, and goes on from its cookie; then the cookie is not taken.
	a.fail <- errors.New("broken")
	if c := <-a.cookies; string(c) != "3" {
		t.Errorf("cookie %q, want 3", c)
	}
	a.fail <- fmt.Errorf("x: %w", ErrRefresh)
	if c := <-a.cookies; c != nil {
		t.Errorf("cookie %q after ErrRefresh, want none", c)
	}
	wait("stale while a is away", (*Snapshot).Stale)
}

// The log of two nodes tells who fed the directory in which order.
func TestFeederTellsItsFence(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	lines := make(chan string, 100)
	log, _, err := logging.New(writes(lines), logging.Config{Format: "text", Level: "info"})
	if err != nil {
		t.Fatal(err)
	}
	for want := 1; want <= 3; want++ {
		if want == 3 { // the second was killed, and somebody knows
			_, err := db.Exec(t.Context(), postgres.Background, "update directory_lease set expires_at = now() + interval '1 hour'")
			if err := errors.Join(err, FreeLease(t.Context(), db)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = NewFeeder(db, Open(Rules{}), []Source{newScript("a")}, &topics{}, "test", log).Run(ctx)
		}()
		for line := range lines {
			if strings.Contains(line, "feeding the directory") {
				if !strings.Contains(line, fmt.Sprintf(" fence=%d", want)) {
					t.Errorf("the %d. node logs %q", want, line)
				}
				break
			}
		}
		cancel()
		<-done
	}
}

// writes is a writer of lines.
type writes chan string

func (w writes) Write(p []byte) (int, error) { w <- string(p); return len(p), nil }

// A node that has lost the lease writes nothing any more, whatever it still
// believes.
func TestFeederLeaseLost(t *testing.T) {
	t.Parallel()
	db, a := testenv.Database(t), newScript("a")
	_, wait, _ := fed(t, db, &topics{}, a)
	a.batches <- Batch{Begin: true, Changes: named("a", "one"), Complete: true, At: time.Now()}
	wait("one", has("a:one"))
	if _, err := db.Exec(t.Context(), postgres.Background, "update directory_lease set token = token + 1, holder = 'another', expires_at = now()"); err != nil {
		t.Fatal(err)
	}
	a.batches <- Batch{Changes: named("a", "two"), Cookie: []byte("x")}
	// The next Follow begins when the other's lease has run out.
	<-a.cookies
	<-a.cookies
	wait("one", has("a:one"))
	var cookie []byte
	if err := db.QueryRow(t.Context(), postgres.Background, "select cookie from directory_source").Scan(&cookie); err != nil || cookie != nil {
		t.Errorf("cookie %q, %v", cookie, err)
	}
}

// A damaged row leaves the entry as it was and everybody else alone.
func TestFeederDamagedRow(t *testing.T) {
	t.Parallel()
	db, a, h := testenv.Database(t), newScript("a"), &topics{}
	_, wait, stop := fed(t, db, h, a)
	a.batches <- Batch{Begin: true, Changes: named("a", "one", "two"), Complete: true, At: time.Now()}
	wait("both", has("a:one", "a:two"))
	for _, sql := range []string{
		"update directory_lease set version = version + 1",
		"update directory_entry set packed = 'x', version = version + 1 where key = 'a:one'",
	} {
		if _, err := db.Exec(t.Context(), postgres.Background, sql); err != nil {
			t.Fatal(err)
		}
	}
	h.Publish("", "")
	a.batches <- Batch{Changes: named("a", "three")}
	wait("three", has("a:one", "a:three", "a:two"))
	stop()
	_, wait, _ = fed(t, db, h) // a node that starts now cannot know a:one
	wait("started", has("a:three", "a:two"))
}

func TestFeederForgetsFormerDirectories(t *testing.T) {
	t.Parallel()
	db, h, a := testenv.Database(t), &topics{}, newScript("a")
	_, wait, stop := fed(t, db, h, a)
	a.batches <- Batch{Begin: true, Changes: named("a", "one"), Complete: true, At: time.Now()}
	wait("one", has("a:one"))
	stop()
	b := newScript("b")
	_, wait, _ = fed(t, db, h, b)
	b.batches <- Batch{Begin: true, Changes: named("b", "two"), Complete: true, Vanish: true, At: time.Now()}
	wait("fresh, and nobody lost", func(s *Snapshot) bool { return has("a:one", "b:two")(s) && !s.Stale() })
}

func TestPurge(t *testing.T) {
	t.Parallel()
	db, a := testenv.Database(t), newScript("a")
	_, wait, stop := fed(t, db, &topics{}, a)
	a.batches <- Batch{Begin: true, Changes: named("a", "one", "two"), Complete: true}
	a.batches <- Batch{Changes: []Change{{Key: "a:one"}}}
	wait("one gone", has("a:two"))
	stop()
	count := func() (n int) {
		t.Helper()
		if err := db.QueryRow(t.Context(), postgres.Background, "select (select count(*) from directory_entry) + (select count(*) from directory_history)").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	r := rows{db}
	if err := r.purge(t.Context(), time.Hour); err != nil || count() != 3 {
		t.Errorf("%v, %d rows, want 3", err, count())
	}
	// She has left and may come back: her entry stays, its history goes.
	if err := r.purge(t.Context(), -time.Second); err != nil || count() != 2 {
		t.Errorf("%v, %d rows, want 2", err, count())
	}
}

// An address that somebody got from a person who has left does not go back there
// when it is taken away again; the person's other addresses stay.
func TestFeederGivenAddress(t *testing.T) {
	t.Parallel()
	src := newScript("a")
	_, wait, _ := fed(t, testenv.Database(t), &topics{}, src)
	e := func(name string, addresses ...string) *Entry {
		e := person(name)
		e.Key, e.Directory = Key("a:"+name), "a"
		e.Primary, e.Aliases = addr(addresses[0]), addrs(addresses[1:]...)
		return e
	}
	leads := func(address string, to Key) func(*Snapshot) bool {
		return func(s *Snapshot) bool {
			r := s.Resolve(addr(address))
			return to == "" && r.Home == HomeNobody || r.Entry != nil && r.Entry.Key == to
		}
	}
	src.batches <- Batch{Begin: true, Complete: true, Vanish: true, Cookie: []byte("1"), At: time.Now(),
		Changes: []Change{{"a:one", e("one", "xx@corp.example", "one@corp.example")}, {"a:two", e("two", "two@corp.example")}}}
	wait("one has it", leads("xx@corp.example", "a:one"))
	src.batches <- Batch{Cookie: []byte("2"), At: time.Now(), Changes: []Change{{Key: "a:one"}}}
	wait("one has left, and gets it", func(s *Snapshot) bool {
		return s.ByKey("a:one") != nil && s.ByKey("a:one").IsGone() && leads("xx@corp.example", "a:one")(s)
	})
	src.batches <- Batch{Cookie: []byte("3"), At: time.Now(), Changes: []Change{{"a:two", e("two", "two@corp.example", "xx@corp.example")}}}
	wait("two has it", leads("xx@corp.example", "a:two"))
	src.batches <- Batch{Cookie: []byte("4"), At: time.Now(), Changes: []Change{{"a:two", e("two", "two@corp.example")}}}
	wait("nobody has it", leads("xx@corp.example", ""))
	wait("one gets the rest", leads("one@corp.example", "a:one"))
}
