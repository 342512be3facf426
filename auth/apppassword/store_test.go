package apppassword

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/internal/event"
	"dirpost/internal/logging"
	"dirpost/internal/postgres"
	"dirpost/internal/testenv"
)

const alice, bob directory.Key = "corp:alice", "corp:bob"

// wire joins the nodes of a test: what one publishes all hear, at once.
type wire struct {
	mu   sync.Mutex
	all  []func(string)
	sent []string
	cut  bool // hints get lost
}

func (w *wire) Publish(_, payload string) {
	w.mu.Lock()
	w.sent = append(w.sent, payload)
	all := slices.Clone(w.all)
	if w.cut {
		all = nil
	}
	w.mu.Unlock()
	for _, f := range all {
		f(payload)
	}
}

func (w *wire) Subscribe(_ string, f func(string)) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, f)
	return func() {}
}

// world is a database with nodes on it.
type world struct {
	db   *postgres.DB
	wire *wire
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{db: testenv.Database(t), wire: &wire{}}
}

func (w *world) node(cfg Config) *Store {
	return New(cfg, w.db, w.wire, event.Discard, slog.New(slog.DiscardHandler))
}

func issue(t testing.TB, s *Store, r Request) (logging.Secret, *Password) {
	t.Helper()
	if r.Name == "" {
		r.Name = "Phone"
	}
	secret, p, err := s.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return secret, p
}

func TestIssueVerifyRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	here, there := w.node(Config{}), w.node(Config{})
	var told []string
	here.Issued = func(_ context.Context, p Password) { told = append(told, p.Name) }
	if _, err := there.Verify(t.Context(), alice, string(generate())); !errors.Is(err, ErrWrong) {
		t.Errorf("before there is any: %v, want %v", err, ErrWrong)
	}
	phone, p := issue(t, here, Request{Person: alice, Name: " Phone ", Services: []string{"submission", "imap"}, By: "alice"})
	tablet, q := issue(t, here, Request{Person: alice, Name: "Tablet", Services: directory.ServiceNames()})
	if !slices.Equal(told, []string{"Phone", "Tablet"}) {
		t.Errorf("told of %q", told)
	}
	for _, s := range []*Store{here, there} {
		for range 2 { // derived, then remembered
			for _, typed := range []string{string(phone), strings.ToUpper(strings.ReplaceAll(string(phone), "-", " "))} {
				got, err := s.Verify(t.Context(), alice, typed)
				if err != nil || got.ID != p.ID || got.Name != "Phone" || !got.Serves("imap") || got.Serves("pop3") || got.Serves("http") {
					t.Errorf("Verify = %+v, %v", got, err)
				}
			}
		}
		if got, err := s.Verify(t.Context(), alice, string(tablet)); err != nil || got.ID != q.ID || !got.Serves("pop3") || got.Serves("http") {
			t.Errorf("Verify = %+v, %v", got, err)
		}
		if _, err := s.Verify(t.Context(), bob, string(phone)); !errors.Is(err, ErrWrong) {
			t.Errorf("somebody else's: %v, want %v", err, ErrWrong)
		}
		if _, err := s.Verify(t.Context(), alice, string(generate())); !errors.Is(err, ErrWrong) {
			t.Errorf("another one: %v, want %v", err, ErrWrong)
		}
	}
	if err := here.Revoke(t.Context(), bob, "bob", p.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("bob revokes alice's: %v, want %v", err, ErrNotFound)
	}
	if err := here.Revoke(t.Context(), alice, "alice", p.ID); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{here, there} {
		if _, err := s.Verify(t.Context(), alice, string(phone)); !errors.Is(err, ErrWrong) {
			t.Errorf("revoked: %v, want %v", err, ErrWrong)
		}
		if _, err := s.Verify(t.Context(), alice, string(tablet)); err != nil {
			t.Errorf("the other one: %v", err)
		}
	}
	all, err := there.List(t.Context(), alice)
	if err != nil || len(all) != 1 || all[0].ID != q.ID || all[0].Services == nil || len(all[0].Services) != 0 {
		t.Errorf("List = %+v, %v", all, err)
	}
}

// A node that has not heard of a new password takes it all the same.
func TestHintsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	here, there := w.node(Config{}), w.node(Config{})
	first, _ := issue(t, here, Request{Person: alice, Name: "first"})
	if _, err := there.Verify(t.Context(), alice, string(first)); err != nil {
		t.Fatal(err)
	}
	w.wire.cut = true
	second, _ := issue(t, here, Request{Person: alice, Name: "second"})
	if known, err := there.Candidates(t.Context(), alice, false); err != nil || len(known) != 2 {
		t.Errorf("%d candidates, %v: the hint was not lost", len(known), err)
	}
	if known, err := there.Candidates(t.Context(), alice, true); err != nil || len(known) != 4 {
		t.Errorf("%d candidates, %v, anew", len(known), err)
	}
	there.memory.forget("")
	if _, err := there.Verify(t.Context(), alice, string(first)); err != nil {
		t.Error(err)
	}
	third, _ := issue(t, here, Request{Person: alice, Name: "third"})
	for _, p := range []logging.Secret{second, third} {
		if _, err := there.Verify(t.Context(), alice, string(p)); err != nil {
			t.Errorf("one that was made a moment ago: %v", err)
		}
	}
}

// Nothing that the password could be read from is in the database.
func TestDatabaseKnowsNoPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secret, _ := issue(t, w.node(Config{}), Request{Person: alice})
	bare, _ := parse(string(secret))
	for _, table := range []string{"app_password", "app_password_scram"} {
		var text string
		if err := w.db.QueryRow(t.Context(), postgres.Interactive, `select string_agg(t::text, ' ') from `+table+` t`).Scan(&text); err != nil {
			t.Fatal(err)
		}
		if text == "" || strings.Contains(text, string(secret)) || strings.Contains(text, bare) || strings.Contains(text, fmt.Sprintf("%x", bare)) {
			t.Errorf("%s shows the password: %s", table, text)
		}
	}
}

// What SCRAM begins with is the same on all nodes, before and after there are
// passwords.
func TestFactors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	here, there := w.node(Config{}), w.node(Config{})
	factors := func(s *Store) *Factors {
		t.Helper()
		f, err := s.Factors(t.Context())
		if err != nil || len(f.Salt) != 16 || f.Iterations != 4096 {
			t.Fatalf("factors %+v, %v", f, err)
		}
		return f
	}
	before := factors(there)
	issue(t, here, Request{Person: alice})
	for _, s := range []*Store{here, there, w.node(Config{})} {
		if got := factors(s); !slices.Equal(got.Salt, before.Salt) {
			t.Errorf("salt %x, want %x", got.Salt, before.Salt)
		}
	}
	for person, want := range map[directory.Key]int{alice: 2, bob: 0} {
		if got, err := there.Candidates(t.Context(), person, false); err != nil || len(got) != want {
			t.Errorf("%s: %d candidates, %v, want %d", person, len(got), err, want)
		}
	}
}

// A password is refused from the moment it expires, though it is remembered.
func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.node(Config{})
	secret, p := issue(t, s, Request{Person: alice, Expires: w.db.Now().Add(time.Hour)})
	if _, err := s.Verify(t.Context(), alice, string(secret)); err != nil {
		t.Fatal(err)
	}
	r, err := s.record(t.Context(), alice, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		now  time.Time
		want int
	}{{p.Expires.Add(-time.Second), 1}, {p.Expires, 0}} {
		if got := len(r.live(tt.now)); got != tt.want {
			t.Errorf("%d passwords at %s, want %d", got, tt.now, tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.node(Config{Max: 3, MaxLife: 48 * time.Hour})
	for _, r := range []Request{
		{Person: "", Name: "x"}, {Person: alice, Name: ""}, {Person: alice, Name: "  "}, {Person: alice, Name: strings.Repeat("ä", MaxName+1)},
		{Person: alice, Name: "a\nb"}, {Person: alice, Name: "\xff"}, {Person: alice, Name: "x", Services: []string{"http"}},
		{Person: alice, Name: "x", Expires: w.db.Now().Add(-time.Second)}, {Person: alice, Name: "x", Expires: w.db.Now().Add(72 * time.Hour)},
	} {
		if _, _, err := s.Issue(t.Context(), r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v, want %v", r, err, ErrInvalid)
		}
	}
	_, p := issue(t, s, Request{Person: alice, Name: strings.Repeat("ä", MaxName)})
	if left := p.Expires.Sub(w.db.Now()); left > 48*time.Hour || left < 47*time.Hour {
		t.Errorf("expires in %s", left)
	}
	if _, _, err := s.Issue(t.Context(), Request{Person: alice, Name: strings.Repeat("ä", MaxName)}); !errors.Is(err, ErrExists) {
		t.Errorf("the same name: %v, want %v", err, ErrExists)
	}
	issue(t, s, Request{Person: bob, Name: "Phone"})
	// Whoever asks at the same time does not get more.
	results := make(chan error)
	for i := range 8 {
		go func() {
			_, _, err := s.Issue(t.Context(), Request{Person: alice, Name: fmt.Sprint("device ", i)})
			results <- err
		}()
	}
	made := 0
	for range 8 {
		switch err := <-results; {
		case err == nil:
			made++
		case !errors.Is(err, ErrTooMany):
			t.Error(err)
		}
	}
	if made != 2 {
		t.Errorf("%d made beside the first, want 2", made)
	}
}

// sessions are the open ones of a node.
type sessions struct {
	mu    sync.Mutex
	open  map[ID]directory.Key
	ended []ID
}

func (s *sessions) AppPasswords() map[ID]directory.Key { return s.open }

func (s *sessions) EndAppPassword(_ directory.Key, id ID, _ string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, id)
}

// Sessions end with their password: by a hint at once, and by a look at the database
// where hints were lost or the password has expired.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	here, there := w.node(Config{}), w.node(Config{})
	_, hinted := issue(t, here, Request{Person: alice, Name: "a"})
	_, lost := issue(t, here, Request{Person: alice, Name: "b"})
	_, expired := issue(t, here, Request{Person: bob, Name: "c", Expires: w.db.Now().Add(time.Hour)})
	_, stays := issue(t, here, Request{Person: bob, Name: "d"})
	open := &sessions{open: map[ID]directory.Key{hinted.ID: alice, lost.ID: alice, expired.ID: bob, stays.ID: bob}}
	there.Follow(open)
	if err := here.Revoke(t.Context(), alice, "", hinted.ID); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(open.ended, hinted.ID) || len(open.ended) != 1 {
		t.Errorf("ended %v, want %v", open.ended, hinted.ID)
	}
	w.wire.cut = true
	if err := here.Revoke(t.Context(), alice, "", lost.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.db.Exec(t.Context(), postgres.Interactive, `update app_password set expires_at = now() where id = $1`, int64(expired.ID)); err != nil {
		t.Fatal(err)
	}
	if err := there.endSessions(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range []ID{lost.ID, expired.ID} {
		if !slices.Contains(open.ended, id) {
			t.Errorf("%v goes on", id)
		}
	}
	if slices.Contains(open.ended, stays.ID) {
		t.Error("one that is valid was ended")
	}
}

// What is written of last uses is the last one, and not again within a minute.
func TestLastUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.node(Config{})
	_, p := issue(t, s, Request{Person: alice})
	first, second := netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("2001:db8::2%eth0")
	look := func() Password {
		t.Helper()
		if err := s.writeUsed(t.Context()); err != nil {
			t.Fatal(err)
		}
		all, err := s.List(t.Context(), alice)
		if err != nil || len(all) != 1 {
			t.Fatalf("List = %+v, %v", all, err)
		}
		return all[0]
	}
	if got := look(); !got.LastUsed.IsZero() || got.LastClient.IsValid() {
		t.Errorf("used before use: %+v", got)
	}
	s.Used(p.ID, netip.Addr{}, "pop3")
	s.Used(p.ID, first, "imap")
	if got := look(); got.LastUsed.IsZero() || got.LastClient != first.Unmap() || got.LastService != "imap" {
		t.Errorf("after use: %+v", got)
	}
	s.Used(p.ID, second, "submission")
	if got := look(); got.LastClient != first.Unmap() {
		t.Errorf("within the minute: %+v", got)
	}
	if _, err := w.db.Exec(t.Context(), postgres.Interactive, `update app_password set last_used_at = now() - interval '2 minutes'`); err != nil {
		t.Fatal(err)
	}
	s.Used(p.ID, second, "submission")
	if got := look(); got.LastClient != second.WithZone("") || got.LastService != "submission" {
		t.Errorf("later: %+v", got)
	}
}

// Run writes what is left to write when it ends.
func TestRunWritesAtTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.node(Config{})
	_, p := issue(t, s, Request{Person: alice})
	s.Used(p.ID, netip.MustParseAddr("192.0.2.1"), "imap")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(t.Context(), alice); err != nil || all[0].LastUsed.IsZero() {
		t.Errorf("List = %+v, %v", all, err)
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.node(Config{})
	secret, _ := issue(t, s, Request{Person: alice, Name: "stays"})
	_, old := issue(t, s, Request{Person: alice, Name: "old", Expires: w.db.Now().Add(time.Hour)})
	_, lately := issue(t, s, Request{Person: alice, Name: "lately", Expires: w.db.Now().Add(time.Hour)})
	gone, _ := issue(t, s, Request{Person: bob})
	for id, age := range map[ID]string{old.ID: "31 days", lately.ID: "29 days"} {
		if _, err := w.db.Exec(t.Context(), postgres.Interactive, `update app_password set expires_at = now() - $2::interval where id = $1`, int64(id), age); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.purge(t.Context(), func(k directory.Key) bool { return k == alice }); err != nil {
		t.Fatal(err)
	}
	var names []string
	all, err := s.List(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"stays", "lately"}) {
		t.Errorf("left %q", names)
	}
	if _, err := s.Verify(t.Context(), alice, string(secret)); err != nil {
		t.Error(err)
	}
	if _, err := s.Verify(t.Context(), bob, string(gone)); !errors.Is(err, ErrWrong) {
		t.Errorf("of somebody who is gone: %v, want %v", err, ErrWrong)
	}
}

// What is forgotten while it is read is not remembered.
func TestMemory(t *testing.T) {
	t.Parallel()
	var m memory
	m.init()
	now := time.Now()
	kept := &record{until: now.Add(time.Minute)}
	_, version := m.get(alice, now)
	m.put(alice, kept, version)
	if got, _ := m.get(alice, now); got != kept {
		t.Error("not remembered")
	}
	if got, _ := m.get(alice, kept.until); got != nil {
		t.Error("remembered too long")
	}
	for i := range maxPersons {
		m.put(directory.Key(fmt.Sprint(i)), kept, version)
	}
	if len(m.persons) != maxPersons {
		t.Errorf("%d are remembered, want %d", len(m.persons), maxPersons)
	}
	m.forget(bob)
	m.put(bob, kept, version)
	if got, _ := m.get(bob, now); got != nil {
		t.Error("what was read before it changed is remembered")
	}
	m.learn(bob, "x", 1)
	if _, ok := m.knows(bob, "x"); ok {
		t.Error("a password of somebody who is not remembered is")
	}
}

func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	s := w.node(Config{})
	secret, _ := issue(b, s, Request{Person: alice})
	wrong := string(generate())
	b.Run("remembered", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Verify(b.Context(), alice, string(secret)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("wrong", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Verify(b.Context(), alice, wrong); !errors.Is(err, ErrWrong) {
				b.Fatal(err)
			}
		}
	})
}
