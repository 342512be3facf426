package directory

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

func TestBrakeTrips(t *testing.T) {
	t.Parallel()
	b := Brake{Share: 0.1, Least: 10}
	tests := []struct {
		name            string
		brake           Brake
		n, missing, all int
		want            bool
	}{
		{"few", b, 10, 0, 20, false},
		{"more", b, 11, 0, 20, true},
		{"a small share", b, 100, 0, 1000, false},
		{"a large one", b, 101, 0, 1000, true},
		{"half of a few, compared", b, 3, 3, 6, false},
		{"more than half of a few, compared", b, 4, 4, 6, true},
		{"more than half of a few, one after the other", b, 4, 1, 6, false},
		{"more than half of a few, told", b, 4, 0, 6, false},
		{"two of two, compared", b, 2, 2, 2, false},
		{"never", Brake{Share: 1, Least: 1}, 1000, 1000, 1000, false},
	}
	for _, tt := range tests {
		if got := tt.brake.trips(tt.n, tt.missing, tt.all); got != tt.want {
			t.Errorf("%s: %d, %d of them missed, of %d: %t, want %t", tt.name, tt.n, tt.missing, tt.all, got, tt.want)
		}
	}
	for _, bad := range []Brake{{}, {Share: 1.5, Least: 1}, {Share: 0.5}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
	if err := DefaultBrake().Validate(); err != nil {
		t.Error(err)
	}
}

// numbered are the names of n people.
func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("p%03d", i)
	}
	return names
}

// counts are who is there, who has left, and what is held back in the database.
func counts(t *testing.T, db *postgres.DB, s *Snapshot) (there, left, braked int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), postgres.Background, "select count(*) from directory_braked").Scan(&braked); err != nil {
		t.Fatal(err)
	}
	for range s.All() {
		there++
	}
	for range s.Gone() {
		left++
	}
	return there, left, braked
}

// ask does what the commands do.
func ask(t *testing.T, db *postgres.DB, h *topics, what string) {
	t.Helper()
	if _, err := db.Exec(t.Context(), postgres.Background, "update directory_source set "+what+"_asked_at = now()"); err != nil {
		t.Fatal(err)
	}
	h.Publish(Topic, "")
}

// A wrong filter, as a comparison shows it: those whom it does not find stay, all
// else goes on, another feeder goes on so, and a release believes it.
func TestBrakeComparison(t *testing.T) {
	t.Parallel()
	db, h, a := testenv.Database(t), &topics{}, newScript("a")
	_, wait, stop := fed(t, db, h, a)
	all := numbered(100)
	full := func(names ...string) Batch {
		return Batch{Begin: true, Changes: named("a", names...), Complete: true, Vanish: true, At: time.Now()}
	}
	check := func(what string, there, left, braked int) {
		t.Helper()
		wait(what, func(s *Snapshot) bool {
			x, y, z := counts(t, db, s)
			return x == there && y == left && z == braked
		})
	}
	a.batches <- full(all...)
	check("all", 100, 0, 0)
	a.batches <- full(all[:95]...)
	check("five leave", 95, 5, 0)

	// With those five it is more than 10 %: the next are held, and new people come.
	a.batches <- full(append(slices.Clone(all[:89]), "new")...)
	check("six more are held", 96, 5, 6)
	a.batches <- full(append(slices.Clone(all[:40]), "new")...)
	check("most are held", 96, 5, 55)
	wait("held people go on", func(s *Snapshot) bool {
		e := s.ByKey("a:p094")
		return e != nil && e.LoginState(time.Now()) == StateActive
	})

	// Another node takes over; the entries are still held, and some are back.
	stop()
	b := newScript("a")
	_, wait, _ = fed(t, db, h, b)
	b.batches <- full(append(slices.Clone(all[:60]), "new")...)
	check("twenty are back", 96, 5, 35)

	// What is said of one that is held: it is there again, and gone again.
	b.batches <- Batch{Changes: named("a", "p090")}
	check("one is back", 96, 5, 34)

	ask(t, db, h, "release")
	check("released", 62, 39, 0)
	b.batches <- full(append(slices.Clone(all[:60]), "new", "p090")...)
	b.batches <- full(append(slices.Clone(all[:59]), "new", "p090")...)
	check("one by one it goes on", 61, 40, 0)
	b.batches <- full(append(slices.Clone(all), "new")...)
	check("all are back", 101, 0, 0)
	wait("and active", func(s *Snapshot) bool {
		e := s.ByKey("a:p099")
		return !e.IsGone() && e.LoginState(time.Now()) == StateActive && s.Resolve(addr("p099@corp.example")).OK()
	})
}

// Somebody empties the base, as a directory tells it that says what changes: the
// first are believed, the others are held, in a window of time.
func TestBrakeTold(t *testing.T) {
	t.Parallel()
	db, h, a := testenv.Database(t), &topics{}, newScript("a")
	_, wait, stop := fed(t, db, h, a)
	all := numbered(50)
	a.batches <- Batch{Begin: true, Changes: named("a", all...), Complete: true, Vanish: true, At: time.Now()}
	wait("all", func(s *Snapshot) bool { return s.Len() == 50 })
	for i := range 30 {
		a.batches <- Batch{Changes: []Change{{Key: Key("a:" + all[i])}}, Cookie: []byte{byte(i)}}
	}
	check := func(what string, there, left, braked int) {
		t.Helper()
		wait(what, func(s *Snapshot) bool {
			x, y, z := counts(t, db, s)
			return x == there && y == left && z == braked
		})
	}
	check("10 are believed", 40, 10, 20)
	stop()
	b := newScript("a")
	_, wait, _ = fed(t, db, h, b)
	if c := <-b.cookies; len(c) != 1 || c[0] != 29 {
		t.Errorf("cookie %v: what is held is known, it need not come again", c)
	}
	b.batches <- Batch{Changes: []Change{{Key: "a:p030"}}}
	check("the next feeder holds on", 40, 10, 21)
	b.batches <- Batch{Changes: named("a", "p029", "p030")}
	check("two are back", 40, 10, 19)
}

// Addresses that are taken from many are held, too; who is disabled is out at once,
// however many there are.
func TestBrakeAddresses(t *testing.T) {
	t.Parallel()
	db, h, a := testenv.Database(t), &topics{}, newScript("a")
	l, wait, _ := fed(t, db, h, a)
	all := numbered(40)
	a.batches <- Batch{Begin: true, Changes: named("a", all...), Complete: true, Vanish: true, At: time.Now()}
	wait("all", func(s *Snapshot) bool { return s.Len() == 40 })
	with := func(f func(*Entry)) []Change {
		out := named("a", all...)
		for i := range out {
			f(out[i].Entry)
		}
		return out
	}
	// Both at once: in a comparison by two pages, and as news.
	without := with(func(e *Entry) { e.Primary, e.Login = addr(e.Primary.Local+"@elsewhere.example"), StateDisabled })
	a.batches <- Batch{Begin: true, Changes: without[:20]}
	wait("the first page disables", func(s *Snapshot) bool { return s.ByKey("a:p000").Login == StateDisabled })
	a.batches <- Batch{Changes: without[20:], Complete: true, Vanish: true, At: time.Now()}
	all40 := func(what string, ok func(*Snapshot, *Entry) bool) {
		t.Helper()
		wait(what, func(s *Snapshot) bool {
			n := 0
			for e := range s.All() {
				if ok(s, e) {
					n++
				}
			}
			return n == 40
		})
	}
	all40("disabled, and still theirs", func(s *Snapshot, e *Entry) bool {
		return e.Login == StateDisabled && e.Primary.Domain == "corp.example" && s.Resolve(e.Primary).OK()
	})
	if _, _, braked := counts(t, db, l.Snapshot()); braked != 40 {
		t.Errorf("%d are held", braked)
	}
	a.batches <- Batch{Changes: with(func(e *Entry) { e.Login = StateDisabled })}
	wait("back", func(s *Snapshot) bool { _, _, n := counts(t, db, s); return n == 0 })
	a.batches <- Batch{Changes: with(func(e *Entry) { e.Expires = time.Unix(1e9, 0) })}
	all40("expired", func(_ *Snapshot, e *Entry) bool {
		return e.LoginState(time.Now()) == StateExpired && e.Login == StateActive
	})
	a.batches <- Batch{Changes: without}
	all40("disabled, and held again", func(s *Snapshot, e *Entry) bool {
		return e.Login == StateDisabled && s.ByAddress(e.Primary) != nil && e.Primary.Domain == "corp.example"
	})
	ask(t, db, h, "release")
	all40("released", func(_ *Snapshot, e *Entry) bool { return e.Primary.Domain == "elsewhere.example" })
}

// Groups are counted apart from people.
func TestBrakeGroups(t *testing.T) {
	t.Parallel()
	db, h, a := testenv.Database(t), &topics{}, newScript("a")
	_, wait, _ := fed(t, db, h, a)
	changes := named("a", numbered(200)...)
	for i := range 5 {
		g := list(fmt.Sprintf("g%d", i), 0)
		g.Key = Key("a:" + string(g.Key)[len("test:"):])
		changes = append(changes, Change{g.Key, g})
	}
	a.batches <- Batch{Begin: true, Changes: changes, Complete: true, Vanish: true, At: time.Now()}
	wait("all", func(s *Snapshot) bool { return s.Len() == 205 })
	a.batches <- Batch{Begin: true, Changes: changes[:199], Complete: true, Vanish: true, At: time.Now()}
	wait("groups are held, one person is not", func(s *Snapshot) bool {
		there, left, braked := counts(t, db, s)
		return there == 204 && left == 1 && braked == 5
	})
}

// What the command asks for: everything is compared, once, by whoever feeds.
func TestCompareNow(t *testing.T) {
	t.Parallel()
	db, h, a := testenv.Database(t), &topics{}, newScript("a")
	_, wait, _ := fed(t, db, h, a)
	<-a.cookies
	a.batches <- Batch{Begin: true, Changes: named("a", "one"), Complete: true, Vanish: true, Cookie: []byte("1"), At: time.Now()}
	wait("one", has("a:one"))
	ask(t, db, h, "sync")
	if c := <-a.cookies; c != nil {
		t.Errorf("cookie %q, want none", c)
	}
	pending := func() (n int) {
		if err := db.QueryRow(t.Context(), postgres.Background, "select count(*) from directory_source where sync_asked_at is not null").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	// It breaks in the middle: the question stands.
	a.batches <- Batch{Begin: true, Changes: named("a", "two")}
	a.fail <- errors.New("broken")
	if c := <-a.cookies; c != nil || pending() != 1 {
		t.Errorf("cookie %q, want none; %d requests", c, pending())
	}
	a.batches <- Batch{Begin: true, Changes: named("a", "one", "two", "three"), Complete: true, Vanish: true, Cookie: []byte("2"), At: time.Now()}
	wait("compared", func(s *Snapshot) bool { return s.Len() == 3 && pending() == 0 })
	var changes int64
	if err := db.QueryRow(t.Context(), postgres.Background, "select compared_changes from directory_source").Scan(&changes); err != nil || changes != 1 {
		t.Errorf("%d changes found, %v; want 1", changes, err)
	}
}

// A directory that is configured later takes no address from those before.
func TestLateDirectory(t *testing.T) {
	t.Parallel()
	db, h, a, b := testenv.Database(t), &topics{}, newScript("a"), newScript("b")
	_, wait, stop := fed(t, db, h, a)
	a.batches <- Batch{Begin: true, Changes: named("a", "one"), Complete: true, Vanish: true, At: time.Now()}
	wait("one", has("a:one"))
	stop()
	_, wait, _ = fed(t, db, h, a, b)
	b.batches <- Batch{Begin: true, Changes: named("b", "one"), Complete: true, Vanish: true, At: time.Now()}
	wait("both", has("a:one", "b:one"))
	wait("the first keeps it", func(s *Snapshot) bool {
		e := s.ByAddress(addr("one@corp.example"))
		return e != nil && e.Key == "a:one" && s.ByLogin("one") == nil
	})
}
