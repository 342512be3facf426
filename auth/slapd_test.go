package auth

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"dirpost/directory"
	"dirpost/directory/ldap"
	"dirpost/internal/envelope"
	"dirpost/internal/testenv"
)

// nobody carries no hints: there is one node.
type nobody struct{}

func (nobody) Publish(string, string)                       {}
func (nobody) Subscribe(string, func(string)) (stop func()) { return func() {} }

// corp is a bridge to Example Corp on a real slapd, fed through a real
// database.
func corp(t testing.TB, cfg Config) (*Bridge, *testenv.SlapdServer) {
	t.Helper()
	s := testenv.Slapd(t)
	ca, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ldap.New(ldap.Config{
		Name: "corp", URLs: []string{s.TLSURL}, Base: s.Base, CA: string(ca), BindDN: s.ServiceDN, BindPassword: s.ServicePassword,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	quiet := slog.New(slog.DiscardHandler)
	live := directory.Open(directory.Rules{Domains: []string{"corp.example"}})
	complete := make(chan struct{}, 1)
	live.Watch(func(*directory.Snapshot, []directory.Key) {
		select {
		case complete <- struct{}{}:
		default:
		}
	})
	f := directory.NewFeeder(testenv.Database(t), live, []directory.Source{c.Source(quiet)}, nobody{}, "test", quiet)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	for live.Snapshot().ByLogin("alice") == nil {
		select {
		case <-complete:
		case <-t.Context().Done():
			t.Fatal("the directory was never complete")
		}
	}
	return New(cfg, live, Parts{Verifiers: map[string]Verifier{"corp": c}}, silent{}), s
}

// Everything that a login needs, on the real parts.
func TestLoginAtSlapd(t *testing.T) {
	t.Parallel()
	b, s := corp(t, Config{FailureTime: time.Millisecond})
	login := func(user, pass string) error {
		_, err := b.Login(t.Context(), client, user, pass)
		return err
	}
	tests := []struct {
		user, pass string
		want       *envelope.Error // nil: in
	}{
		{"alice", s.UserPassword, nil},
		{"Alice@Corp.Example", s.UserPassword, nil},
		{"alice", "wrong", ErrCredentials},
		{"alice", "", ErrCredentials},
		{"a.example@corp.example", s.UserPassword, ErrCredentials}, // aliases log in only where it is configured
		{"dave", s.UserPassword, ErrDisabled},
		{"dave", "wrong", ErrCredentials},
		{"office", s.UserPassword, ErrCredentials},
		{"nobody", s.UserPassword, ErrCredentials},
		{"*", s.UserPassword, ErrCredentials},
		{"cn=admin," + s.Base, s.AdminPassword, ErrCredentials},
	}
	for _, tt := range tests {
		err := login(tt.user, tt.pass)
		if tt.want == nil && err != nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("Login(%q, %q) = %v, want %v", tt.user, tt.pass, err, tt.want)
		}
	}
	s.Stop()
	if err := login("alice", s.UserPassword); envelope.StatusOf(err) != envelope.StatusAuthAway {
		t.Errorf("directory away: %v, want 454 4.7.0", err)
	}
	s.Start(t)
	if err := login("alice", s.UserPassword); err != nil {
		t.Errorf("directory back: %v", err)
	}
}

// A password that was changed in the directory opens nothing any more, although
// it was remembered, as soon as the feed has seen the change.
func TestPasswordChangedAtSlapd(t *testing.T) {
	t.Parallel()
	b, s := corp(t, Config{FailureTime: time.Millisecond, Remember: time.Hour})
	changed := make(chan struct{}, 1)
	b.live.Watch(func(*directory.Snapshot, []directory.Key) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	id, err := b.Login(t.Context(), client, "alice", s.UserPassword)
	if err != nil {
		t.Fatal(err)
	}
	kicked := make(chan string, 1)
	b.Watch(id, func(reason string) { kicked <- reason })
	dn := "uid=alice,ou=people," + s.Base
	run(t, s, "dn: "+dn+"\nchangetype: modify\nreplace: userPassword\nuserPassword: another\n")
	for {
		_, err := b.Login(t.Context(), client, "alice", s.UserPassword)
		if errors.Is(err, ErrCredentials) {
			break
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("the old password goes on")
		}
	}
	if _, err := b.Login(t.Context(), client, "alice", "another"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	run(t, s, "dn: "+dn+"\nchangetype: modify\nreplace: dirpostEnabled\ndirpostEnabled: nologin\n")
	select {
	case reason := <-kicked:
		if reason != "account disabled" {
			t.Errorf("told %q", reason)
		}
	case <-t.Context().Done():
		t.Fatal("the session was not told")
	}
	if _, err := b.Login(t.Context(), client, "alice", "another"); !errors.Is(err, ErrDisabled) {
		t.Errorf("disabled: %v", err)
	}
}

// run has ldapmodify make a change, as an administrator would.
func run(t testing.TB, s *testenv.SlapdServer, ldif string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Need(t, "ldapmodify"), "-x", "-H", s.SocketURL, "-D", s.AdminDN, "-w", s.AdminPassword)
	cmd.Stdin = strings.NewReader(ldif)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ldapmodify: %v: %s", err, out)
	}
}

// BenchmarkLoginBind is a login with one bind at a real slapd, 16 clients.
func BenchmarkLoginBind(b *testing.B) {
	br, s := corp(b, Config{})
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := br.Login(b.Context(), client, "alice", s.UserPassword); err != nil {
				b.Fatal(err)
			}
		}
	})
}
