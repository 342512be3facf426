package auth

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
	"testing/synctest"
	"time"

	"dirpost/directory"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
)

// verifier is a directory in which every password is "right" and the uid of an
// entry says what else happens.
type verifier struct {
	mu    sync.Mutex
	binds int
}

var errAway = errors.New("connection refused")

func (v *verifier) Verify(_ context.Context, e *directory.Entry, password string) error {
	v.mu.Lock()
	v.binds++
	v.mu.Unlock()
	right := password == "right"
	switch uid := e.Logins[0]; {
	case uid == "away":
		return errAway
	case uid == "locked":
		return &directory.Refusal{Reason: directory.ReasonLocked}
	case !right:
		return &directory.Refusal{Reason: directory.ReasonPassword}
	case uid == "mia":
		return &directory.Refusal{Reason: directory.ReasonMustChange, Right: true}
	case uid == "hal":
		return &directory.Refusal{Reason: directory.ReasonHours, Right: true}
	}
	return nil
}

// events keeps the audit lines.
type events struct {
	mu    sync.Mutex
	lines []string
}

func (s *events) Emit(_ context.Context, e event.Event) {
	var b strings.Builder
	h := slog.NewTextHandler(&b, nil)
	r := slog.NewRecord(e.Time, e.Level, e.Msg, 0)
	r.AddAttrs(e.Attrs...)
	_ = h.Handle(context.Background(), r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, b.String())
}

func address(s string) envelope.Address {
	a, err := envelope.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func person(uid string, f func(*directory.Entry)) *directory.Entry {
	e := &directory.Entry{
		Key: directory.Key("corp:" + uid), Directory: "corp", DN: "uid=" + uid + ",dc=x", Kind: directory.KindPerson,
		Primary: address(uid + "@corp.example"), Logins: []string{uid, uid + "@corp.example"},
	}
	if f != nil {
		f(e)
	}
	return e
}

func people() []*directory.Entry {
	return []*directory.Entry{
		person("alice", func(e *directory.Entry) { e.Logins = append(e.Logins, `corp\alice`, "both") }),
		person("bob", func(e *directory.Entry) { e.Logins = append(e.Logins, "both") }),
		person("dave", func(e *directory.Entry) { e.Login = directory.StateDisabled }),
		person("eve", func(e *directory.Entry) { e.Expires = time.Unix(1, 0) }),
		person("gone", func(e *directory.Entry) { e.Login = directory.StateGrace }),
		person("mia", nil), person("hal", nil), person("locked", nil), person("away", nil),
		person("web", func(e *directory.Entry) { e.Services = []string{"http"} }),
		person("nomail", func(e *directory.Entry) { e.Primary = envelope.Address{} }),
		person("guest", func(e *directory.Entry) { e.Primary = address("guest@other.example") }),
		person("strange", func(e *directory.Entry) { e.Directory = "other" }),
		person("office", func(e *directory.Entry) { e.Kind = directory.KindShared }),
	}
}

// secret stands in no audit line.
const secret = "wr0ng-s3cret"

var client = Conn{Protocol: "imap", Client: netip.MustParseAddr("192.0.2.7"), TLS: true, Session: "s1"}

func newBridge(cfg Config) (*Bridge, *verifier, *directory.Live, *events) {
	live := directory.NewLive(directory.NewSnapshot([]string{"corp.example"}, people()))
	v, log := &verifier{}, &events{}
	return New(cfg, live, Parts{Verifiers: map[string]Verifier{"corp": v}}, log), v, live, log
}

func TestLogin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		user, pass string
		want       string // key, or IMAP response code
		binds      int
	}{
		{"alice", "right", "corp:alice", 1},
		{"ALICE@corp.example", "right", "corp:alice", 1},
		{`CORP\Alice`, "right", "corp:alice", 1},
		{"alice", secret, "AUTHENTICATIONFAILED", 1},
		{"alice", "", "AUTHENTICATIONFAILED", 0}, // RFC 4513 §5.1.2
		{"", "right", "AUTHENTICATIONFAILED", 0},
		{"nobody", "right", "AUTHENTICATIONFAILED", 0},
		{"both", "right", "AUTHENTICATIONFAILED", 0}, // of two people
		{"alice\x00", "right", "AUTHENTICATIONFAILED", 0},
		{"*", "right", "AUTHENTICATIONFAILED", 0},
		{"alice)(uid=*", "right", "AUTHENTICATIONFAILED", 0},
		{"office", "right", "AUTHENTICATIONFAILED", 0}, // shared: no login
		{"nomail", "right", "AUTHENTICATIONFAILED", 0},
		{"guest", "right", "AUTHENTICATIONFAILED", 0},
		{"dave", secret, "AUTHENTICATIONFAILED", 1},
		{"dave", "right", "CONTACTADMIN", 1},
		{"eve", secret, "AUTHENTICATIONFAILED", 1},
		{"eve", "right", "CONTACTADMIN", 1},
		{"gone", "right", "CONTACTADMIN", 1},
		{"mia", secret, "AUTHENTICATIONFAILED", 1},
		{"mia", "right", "EXPIRED", 1},
		{"hal", "right", "UNAVAILABLE", 1},
		{"locked", "right", "AUTHENTICATIONFAILED", 1},
		{"web", "right", "AUTHORIZATIONFAILED", 1},
		{"away", "right", "UNAVAILABLE", 1},
		{"away", secret, "UNAVAILABLE", 1},
		{"strange", "right", "UNAVAILABLE", 0},
	}
	for _, tt := range tests {
		t.Run(tt.user+"/"+tt.pass, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, v, _, log := newBridge(Config{FailureTime: 3 * time.Second})
				start := time.Now()
				id, err := b.Login(t.Context(), client, tt.user, tt.pass)
				took := time.Since(start)
				got, wantTook := "", time.Duration(0)
				if err != nil {
					got, wantTook = envelope.StatusOf(err).IMAP, 3*time.Second
				} else {
					got = string(id.Person)
				}
				if got != tt.want || took != wantTook || v.binds != tt.binds {
					t.Errorf("Login(%q, %q) = %s (%v) after %v with %d binds, want %s after %v with %d",
						tt.user, tt.pass, got, err, took, v.binds, tt.want, wantTook, tt.binds)
				}
				if len(log.lines) != 1 || tt.pass != "" && strings.Contains(log.lines[0], tt.pass) {
					t.Errorf("audit: %q", log.lines)
				}
			})
		})
	}
}

// RFC 5530: all that is not the password's owner gets the same words.
func TestNeutralAnswer(t *testing.T) {
	t.Parallel()
	b, _, _, _ := newBridge(Config{FailureTime: time.Nanosecond})
	for _, user := range []string{"alice", "nobody", "both", "dave", "locked", "mia", "office", ""} {
		_, err := b.Login(t.Context(), client, user, secret)
		if !errors.Is(err, ErrCredentials) || envelope.StatusOf(err) != envelope.StatusCredentials {
			t.Errorf("%q: %v", user, envelope.StatusOf(err))
		}
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		loopback bool
		tls      bool
		client   string
		want     []string
	}{
		{"TLS", false, true, "192.0.2.7", []string{"PLAIN", "LOGIN"}},
		{"clear", false, false, "192.0.2.7", nil},
		{"clear from outside is never allowed", true, false, "192.0.2.7", nil},
		{"clear from loopback", false, false, "127.0.0.1", nil},
		{"clear from loopback, allowed", true, false, "127.0.0.1", []string{"PLAIN", "LOGIN"}},
		{"clear from loopback by IPv6, allowed", true, false, "::1", []string{"PLAIN", "LOGIN"}},
		{"clear from mapped loopback, allowed", true, false, "::ffff:127.0.0.1", []string{"PLAIN", "LOGIN"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, v, _, _ := newBridge(Config{PlaintextLoopback: tt.loopback, FailureTime: time.Nanosecond})
			c := Conn{Protocol: "smtp", Client: netip.MustParseAddr(tt.client), TLS: tt.tls}
			if got := b.Mechanisms(c); !slices.Equal(got, tt.want) {
				t.Errorf("Mechanisms = %v, want %v", got, tt.want)
			}
			_, err := b.Start(t.Context(), c, "plain")
			if _, lerr := b.Login(t.Context(), c, "alice", "right"); (err == nil) != (tt.want != nil) || (lerr == nil) != (tt.want != nil) {
				t.Errorf("Start: %v, Login: %v", err, lerr)
			}
			if tt.want == nil && (!errors.Is(err, ErrPolicy) || v.binds != 0) {
				t.Errorf("Start: %v, %d binds", err, v.binds)
			}
			if _, err := b.Start(t.Context(), c, "CRAM-MD5"); !errors.Is(err, ErrMechanism) {
				t.Errorf("Start(CRAM-MD5) = %v", err)
			}
		})
	}
}

func TestExchange(t *testing.T) {
	t.Parallel()
	none := []byte(nil)
	tests := []struct {
		name      string
		mech      string
		responses [][]byte
		want      string // key, or SMTP code
	}{
		{"initial response", "PLAIN", [][]byte{[]byte("\x00alice\x00right")}, "corp:alice"},
		{"lower case", "plain", [][]byte{none, []byte("\x00alice\x00right")}, "corp:alice"},
		{"authzid of the same person", "PLAIN", [][]byte{[]byte("alice@corp.example\x00alice\x00right")}, "corp:alice"},
		{"authzid of another", "PLAIN", [][]byte{[]byte("bob\x00alice\x00right")}, "535"},
		{"authzid of nobody", "PLAIN", [][]byte{[]byte("nobody\x00alice\x00right")}, "535"},
		{"no NUL", "PLAIN", [][]byte{[]byte("alice right")}, "501"},
		{"too many NULs", "PLAIN", [][]byte{[]byte("\x00alice\x00right\x00")}, "501"},
		{"empty response", "PLAIN", [][]byte{{}}, "501"},
		{"too long", "PLAIN", [][]byte{[]byte("\x00alice\x00" + strings.Repeat("x", 48_000))}, "501"},
		{"LOGIN", "LOGIN", [][]byte{none, []byte("alice"), []byte("right")}, "corp:alice"},
		{"LOGIN with initial response", "LOGIN", [][]byte{[]byte("alice"), []byte("right")}, "corp:alice"},
		{"LOGIN wrong", "LOGIN", [][]byte{none, []byte("alice"), []byte("wrong")}, "535"},
		{"LOGIN NUL", "LOGIN", [][]byte{none, []byte("al\x00ice")}, "501"},
		{"LOGIN empty password", "LOGIN", [][]byte{none, []byte("alice"), {}}, "535"},
		{"LOGIN empty name", "LOGIN", [][]byte{none, {}, []byte("right")}, "535"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, _, _, _ := newBridge(Config{FailureTime: time.Nanosecond})
			x, err := b.Start(t.Context(), client, tt.mech)
			if err != nil {
				t.Fatal(err)
			}
			var done bool
			for i, r := range tt.responses {
				_, done, err = x.Next(t.Context(), r)
				if last := i == len(tt.responses)-1; !last && (done || err != nil) {
					t.Fatalf("response %d: done %v, %v", i, done, err)
				}
			}
			got := ""
			if err != nil {
				got = fmt.Sprint(envelope.StatusOf(err).Code)
			} else if done {
				got = string(x.Identity().Person)
			}
			if got != tt.want || (err != nil) == done {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
			if _, _, err := x.Next(t.Context(), []byte("\x00alice\x00right")); !errors.Is(err, ErrMalformed) {
				t.Errorf("an exchange that is over goes on: %v", err)
			}
		})
	}
}

func TestRemember(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, v, live, _ := newBridge(Config{Remember: time.Minute})
		login := func(pass string, wantBinds int) error {
			t.Helper()
			before := v.binds
			_, err := b.Login(t.Context(), client, "alice", pass)
			if got := v.binds - before; got != wantBinds {
				t.Errorf("%d binds, want %d", got, wantBinds)
			}
			return err
		}
		for want, pass := range []string{"right", "right"} {
			if err := login(pass, 1-want); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if login("wrong", 1) == nil {
				t.Error("a wrong password was right")
			}
		}
		time.Sleep(time.Minute)
		_ = login("right", 1)
		_ = login("right", 0)
		// Any change of the entry, seen or not, forgets.
		live.Apply(2, []directory.Change{{Key: "corp:alice", Entry: person("alice", func(e *directory.Entry) { e.Modified = time.Now() })}})
		_ = login("right", 1)
		_ = login("right", 0)
		live.Apply(3, []directory.Change{{Key: "corp:alice", Entry: person("alice", func(e *directory.Entry) { e.Login = directory.StateDisabled })}})
		if err := login("right", 1); !errors.Is(err, ErrDisabled) {
			t.Errorf("disabled: %v", err)
		}
		// Only the directory knows whether a lockout is over: it is asked each time.
		live.Apply(4, []directory.Change{{Key: "corp:alice", Entry: person("alice", func(e *directory.Entry) { e.Login = directory.StateLocked })}})
		for range 2 {
			if err := login("right", 1); err != nil {
				t.Errorf("locked, and the directory lets in: %v", err)
			}
		}
		live.Apply(5, []directory.Change{{Key: "corp:alice", Entry: person("alice", func(e *directory.Entry) { e.Login = directory.StateMustChange })}})
		for want := range 2 {
			if err := login("right", 1-want); !errors.Is(err, ErrExpired) {
				t.Errorf("must change: %v", err)
			}
		}
	})
}

func TestMemoryBounded(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	for i := range 100 {
		m.add(person("alice", nil), password(fmt.Sprint(i)), time.Now().Add(time.Hour))
	}
	if len(m.known) != 10 {
		t.Errorf("%d remembered, want 10", len(m.known))
	}
}

// The directory is away and the snapshot may lack people: nobody is told that
// the password is wrong.
func TestUnknownWhileStale(t *testing.T) {
	t.Parallel()
	live := directory.Open(directory.Rules{Domains: []string{"corp.example"}})
	b := New(Config{FailureTime: time.Nanosecond}, live, Parts{}, &events{})
	_, err := b.Login(t.Context(), client, "alice", "right")
	if st := envelope.StatusOf(err); st != envelope.StatusAuthAway {
		t.Errorf("got %v, want 454 4.7.0", st)
	}
}

func TestGuesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, v, _, _ := newBridge(Config{FailureTime: time.Nanosecond, Remember: time.Hour, GuessBurst: 3, GuessEvery: time.Minute})
		other := client
		other.Client = netip.MustParseAddr("192.0.2.8")
		try := func(c Conn, user, pass string) error {
			_, err := b.Login(t.Context(), c, user, pass)
			return err
		}
		if err := try(client, "bob", "right"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_ = try(client, "alice", "wrong")
		}
		_ = try(client, "nobody", "wrong") // counts as well
		binds := v.binds
		if err := try(client, "alice", "right"); !errors.Is(err, ErrCredentials) || v.binds != binds {
			t.Errorf("after too many guesses: %v, %d binds", err, v.binds-binds)
		}
		if err := try(client, "bob", "right"); err != nil {
			t.Errorf("a remembered password goes on: %v", err)
		}
		if err := try(other, "alice", "right"); err != nil {
			t.Errorf("another client: %v", err)
		}
		time.Sleep(time.Minute)
		if err := try(client, "mia", "right"); !errors.Is(err, ErrExpired) {
			t.Errorf("a minute later: %v", err)
		}
	})
}

func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _, live, _ := newBridge(Config{})
		reasons := map[string]string{}
		var mu sync.Mutex
		watch := func(uid string) func() {
			return b.Watch(&Identity{Person: directory.Key("corp:" + uid)}, func(reason string) {
				mu.Lock()
				defer mu.Unlock()
				reasons[uid] += reason
			})
		}
		for _, uid := range []string{"alice", "bob", "hal", "mia", "web", "away", "nobody"} {
			watch(uid)
		}
		watch("locked")()
		change := func(uid string, f func(*directory.Entry)) directory.Change {
			return directory.Change{Key: directory.Key("corp:" + uid), Entry: person(uid, f)}
		}
		live.Apply(2, []directory.Change{
			change("alice", func(e *directory.Entry) { e.Login = directory.StateDisabled }),
			change("bob", func(e *directory.Entry) { e.DisplayName = "Robert" }),
			{Key: "corp:hal"},
			change("mia", func(e *directory.Entry) { e.Login = directory.StateMustChange }),
			change("web", func(e *directory.Entry) { e.Expires = time.Now().Add(time.Hour) }),
			{Key: "corp:locked"},
		})
		live.Apply(3, []directory.Change{{Key: "corp:alice"}}) // told once
		time.Sleep(time.Hour)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := map[string]string{"alice": "account disabled", "hal": "account deleted", "web": "account expired", "nobody": "account deleted"}
		if fmt.Sprint(reasons) != fmt.Sprint(want) {
			t.Errorf("told %v, want %v", reasons, want)
		}
	})
}

// Who knows the password is told where to change it.
func TestChangeURL(t *testing.T) {
	t.Parallel()
	b, _, _, _ := newBridge(Config{FailureTime: time.Nanosecond, GuessBurst: 100, ChangeURL: "https://mail.corp.example/"})
	for pass, want := range map[string]string{"right": "Password expired, change it first: https://mail.corp.example/", secret: ErrCredentials.Status.Text} {
		_, err := b.Login(t.Context(), client, "mia", pass)
		if got := envelope.StatusOf(err); got.Text != want {
			t.Errorf("%s: %v", pass, got)
		}
	}
	if _, err := b.Login(t.Context(), client, "mia", "right"); !errors.Is(err, ErrExpired) {
		t.Errorf("%v", err)
	}
}

// An administrator ends the sessions of a person; what was remembered of the
// password goes with them.
func TestLogOut(t *testing.T) {
	t.Parallel()
	b, v, _, _ := newBridge(Config{Remember: time.Hour})
	var told []string
	watch := func(uid string) func() {
		return b.Watch(&Identity{Person: directory.Key("corp:" + uid)}, func(reason string) { told = append(told, uid+" "+reason) })
	}
	cancel := watch("alice")
	watch("alice")
	watch("bob")
	for range 2 {
		if _, err := b.Login(t.Context(), client, "alice", "right"); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.LogOut("corp:alice", "stolen laptop"); n != 2 || !slices.Equal(told, []string{"alice stolen laptop", "alice stolen laptop"}) {
		t.Errorf("%d sessions, told %q", n, told)
	}
	cancel()
	if n := b.LogOut("corp:alice", "again"); n != 0 || len(told) != 2 {
		t.Errorf("%d sessions were there twice, told %q", n, told)
	}
	if _, err := b.Login(t.Context(), client, "alice", "right"); err != nil || v.binds != 2 {
		t.Errorf("the next login: %v, %d binds, want 2", err, v.binds)
	}
}

func TestPasswordIsRedacted(t *testing.T) {
	t.Parallel()
	a := struct{ Pass password }{secret}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "pass", a.Pass)
	for _, s := range []string{fmt.Sprint(a.Pass), fmt.Sprintf("%v %+v %#v %s", a, a, a, a.Pass), b.String()} {
		if strings.Contains(s, secret) {
			t.Errorf("password in %q", s)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Config{{FailureTime: time.Hour}, {BindTimeout: -1}, {RememberMax: -1}, {GuessBurst: -1}, {Remember: 48 * time.Hour}} {
		if bad.Validate() == nil {
			t.Errorf("Validate(%+v) = nil", bad)
		}
	}
}

func BenchmarkLoginRemembered(b *testing.B) {
	br, _, _, _ := newBridge(Config{Remember: time.Hour})
	br.events = silent{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := br.Login(b.Context(), client, "alice", "right"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

type silent struct{}

func (silent) Emit(context.Context, event.Event) {}

// RFC 8265 §4.2: one form for what keyboards of different systems send.
func TestPrepared(t *testing.T) {
	t.Parallel()
	for in, want := range map[password]password{
		"Pa ss": "Pa ss", "e\u0301": "é", "é": "é", "a\u00a0b": "a b", "密码": "密码", "ＡＢ": "ＡＢ",
		"\x01": "\x01", "é\x01": "é\x01", "\xff": "\xff", "": "", "É": "É",
	} {
		if got := in.prepared(); got != want {
			t.Errorf("%q: %q, want %q", string(in), string(got), string(want))
		}
	}
}
